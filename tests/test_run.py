from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from clbench.models.config import ModelConfig
from clbench.record import Part, Selection
from clbench.run import weights_of
from tests.runs import make, make_texts


def test_a_language_model_is_known_by_its_files(tmp_path: Path) -> None:
    from tests.language import folder

    folder(tmp_path / "model")
    (tmp_path / "small_cnn").mkdir()  # no language model: a name of ours
    run = replace(make_texts(tmp_path), model=ModelConfig(str(tmp_path / "model")))
    first = run.identity
    assert replace(run).identity == first
    folder(tmp_path / "model", seed=1)
    assert replace(run).identity != first
    assert weights_of(ModelConfig(str(tmp_path / "small_cnn"))) is None


def test_the_identity_names_what_determines_the_result_and_nothing_else(tmp_path: Path) -> None:
    run = make(tmp_path)
    same = replace(run, output=tmp_path / "elsewhere", root=tmp_path, asked=(("strategy", "replay"),))
    assert same.identity == run.identity
    others = [
        replace(run, seed=1),
        replace(run, strategy=replace(run.strategy, lr=0.1)),
        replace(run, model=replace(run.model, width=5)),
        replace(run, scenario=replace(run.scenario, increment=5)),
        replace(run, device="cuda"),
        replace(run, part=Part.EVALUATION_HALF),
        replace(run, selection=Selection(by="somebody")),
    ]
    assert len({run.identity, *(other.identity for other in others)}) == 8


def test_the_identity_sees_another_checkpoint_under_the_same_name(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    identities = []
    for content in (b"one", b"other"):
        weights.write_bytes(content)
        run = make(tmp_path)
        identities.append(replace(run, model=replace(run.model, checkpoint=weights)).identity)
    assert identities[0] != identities[1]
