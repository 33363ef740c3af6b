"""What the README promises is true."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from clbench.engine import learn
from clbench.strategy import strategies
from tests.learning import digits, problem, shortened

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_strategy_of_the_readme_works_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code) == 1
    path = tmp_path / "l2.py"
    path.write_text(code[0])
    spec = importlib.util.spec_from_file_location("l2", path)
    assert spec is not None
    assert spec.loader is not None
    monkeypatch.setattr(strategies, "_members", dict(strategies._members))
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    cls, config = strategies.load("l2")
    moved = []
    for strength in (0.0, 10.0):
        stream = digits()
        learner = cls(config(epochs=1, lr=0.01, strength=strength), problem(stream))
        for experience in stream.experiences[:2]:
            learn(learner, shortened(experience, 64))
        start, end = learner.start, list(learner.model.parameters())  # type: ignore[attr-defined]
        moved.append(sum(float((a - b.detach()).square().sum()) for a, b in zip(start, end, strict=True)))
    assert moved[1] < moved[0]


def test_every_run_command_of_the_readme_can_be_read() -> None:
    from clbench.config import jobs

    blocks = "\n".join(re.findall(r"```console\n(.*?)```", README, re.DOTALL)).replace("\\\n", " ")
    commands = [shlex.split(line, comments=True) for line in blocks.splitlines() if line.startswith("clbench run")]
    assert len(commands) >= 6
    for words in commands:
        assert jobs([word for word in words[2:] if not word.startswith("--")])


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(((?!http)[^)]+)\)", README))))
def test_what_the_readme_links_to_is_there(path: str) -> None:
    assert (Path(__file__).parent.parent / path).exists()
