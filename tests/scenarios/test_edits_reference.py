from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clbench.edits import world
from clbench.errors import ConfigError, DataError
from clbench.models.world_llama import tokenizer
from clbench.record import Part
from clbench.scenario import Stream, scenarios
from clbench.table import Table
from tests.learning import edits as editing


def told(table: Table, whole: bool = True) -> list[str]:
    """Rows in words, without BOS and EOS; with their answers or up to the end of their prompts."""
    columns = [table.column(name).tolist() for name in ("tokens", "length" if whole else "prompt")]
    words = tokenizer()
    return [words.decode(tokens[1 : end - whole]) for tokens, end in zip(*columns, strict=True)]


def stream_of(seed: int, part: Part) -> Stream:
    return editing(edits=60, per_experience=10, unedited=200, questions=300).stream(seed, part)


@pytest.mark.parametrize("part", [Part.WHOLE, Part.TUNING_HALF])
def test_reference_texts_of_the_world_hold_nothing_that_is_edited_or_measured(part: Part) -> None:
    stream = stream_of(3, part)
    assert stream.reference is not None
    prompts = set(told(stream.reference, whole=False))
    edited = {prompt for e in stream.experiences for prompt in told(e.train, whole=False)}
    asked = {prompt for probe in stream.probes for prompt in told(probe.table, whole=False)}  # type: ignore[attr-defined]
    assert {probe.name for probe in stream.probes} >= {"locality_near", "locality_far", "generalisation", "capability"}
    assert len(prompts) > 300
    assert not prompts & (edited | asked)
    people = {person for person in world.people() if any(person in prompt for prompt in edited)}
    assert not [prompt for prompt in prompts if any(person in prompt for person in people)]


def test_facts_that_are_measured_are_not_told_in_other_words() -> None:
    stream = stream_of(3, Part.WHOLE)
    assert stream.reference is not None
    (far,) = (probe.table for probe in stream.probes if probe.name == "locality_far")  # type: ignore[attr-defined]
    asked = set(told(far, whole=False))
    wordings = [fact.asked(i) for fact in world.facts() if fact.asked(0) in asked for i in range(4)]
    assert len(wordings) == 4 * 200
    assert not set(wordings) & set(told(stream.reference, whole=False))


def test_reference_texts_of_the_world_are_right_and_in_all_wordings() -> None:
    stream = stream_of(0, Part.WHOLE)
    assert stream.reference is not None
    texts = set(told(stream.reference))
    right = {f"{fact.asked(i)} {fact.object}": (fact, i) for fact in world.facts() for i in range(4)}
    found = [right[text] for text in texts if text in right]
    assert {i for _, i in found} == set(range(4))
    assert len(found) > 1000
    assert any(text.startswith("reverse") for text in texts)


def file_of_edits(folder: Path, **values: Any) -> Stream:
    edits = [
        {
            "prompt": "anna abbott lives in",
            "target_new": "old harbor",
            "subject": "anna abbott",
            "loc": "boris dunn owns",
        }
    ]
    (folder / "edits.json").write_text(json.dumps(edits))
    return editing(source=origin("file"), path=folder / "edits.json", edits=1, per_experience=1, **values).stream(0)


def origin(name: str) -> Any:
    return type(scenarios.load("edits")[1]().source)(name)


def test_texts_of_a_file_that_hold_a_prompt_are_left_out(tmp_path: Path) -> None:
    texts = [
        "clara dunn owns grey cat",
        "well anna abbott lives in quiet castle",
        "boris dunn owns red soup",
        "add 1 2 : 3",
    ]
    path = tmp_path / "reference.txt"
    path.write_text("<|endoftext|>".join(texts))
    stream = file_of_edits(tmp_path, reference=path)
    assert stream.reference is not None
    kept = {text.split()[0] for text in told(stream.reference)}
    assert kept == {"clara", "add"}
    path.write_text("<|endoftext|>".join(texts[:2]))
    assert file_of_edits(tmp_path, reference=path).digest != stream.digest


def test_a_file_of_edits_has_no_reference_texts_of_its_own(tmp_path: Path) -> None:
    assert file_of_edits(tmp_path).reference is None


def test_a_reference_that_cannot_be_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"leave scenario\.reference out"):
        editing(reference=tmp_path / "texts.txt")
    with pytest.raises(DataError, match="no file"):
        file_of_edits(tmp_path, reference=Path("nowhere.txt"))
