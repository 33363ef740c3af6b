from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clbench.cli.command_pretrain import run as pretrain
from clbench.digest import state_digest
from clbench.errors import ClbenchError, ConfigError, LeakError
from clbench.models.checkpoint import read_certificate, read_weights
from clbench.models.classifier import build_classifier
from clbench.models.config import EMBEDDED, ModelConfig
from clbench.models.language import build_causal
from clbench.models.pretrained_vit import WEIGHTS, PretrainedViT
from clbench.opening import open_stream
from clbench.pretrain import merged
from clbench.record import Part, Phase, Selection
from clbench.run import Run, resolved_model
from clbench.scenario import scenarios
from clbench.strategy import strategies
from tests.learning import digits

SMALL = ["scenario=digits", "strategy.epochs=1", "model.name=small_vit", "model.width=8", "device=cpu"]


def evaluation(model: ModelConfig, part: Part, output: Path, swap: bool = False, scenario: str = "digits") -> Run:
    return Run(
        scenario=scenarios.load(scenario)[1](),
        strategy=strategies.load("naive")[1](),
        model=model,
        seed=0,
        phase=Phase.EVALUATION,
        part=part,
        selection=Selection(by="given"),
        protocol="single",
        device="cpu",
        output=output,
        swap=swap,
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "half.safetensors"
    assert pretrain([str(path), *SMALL]) == 0
    return path


def test_the_same_command_gives_the_same_bits(weights: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    pretrain([str(again), *SMALL])
    assert state_digest(read_weights(again)) == state_digest(read_weights(weights))


def test_the_weights_say_where_they_come_from_and_fit_a_model(weights: Path) -> None:
    certificate = read_certificate(weights)
    assert certificate is not None
    assert certificate["scenario"] == "digits"
    assert certificate["part"] == "tuning half"
    assert certificate["classes"] == 5
    assert certificate["recipe"]["epochs"] == 1
    assert certificate["command"].startswith("clbench pretrain ")
    build_classifier(ModelConfig("small_vit", weights, width=8), (1, 8, 8), "small_cnn")


def test_weights_remember_the_classes_of_the_weights_they_began_from(weights: Path, tmp_path: Path) -> None:
    later = tmp_path / "later.safetensors"
    pretrain([str(later), *SMALL, f"model.checkpoint={weights}", "--part", "evaluation_half"])
    certificate = read_certificate(later)
    assert certificate is not None
    assert certificate["class_ids"] == sorted(f"digits/{digit}" for digit in range(10))


def test_a_stream_with_task_identity_is_learnt_as_one_of_classes(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    assert pretrain([str(path), *SMALL, "scenario.setting=task_incremental"]) == 0
    assert all(bool(tensor.isfinite().all()) for tensor in read_weights(path).values())


TEXTS = ["scenario=instructions", "scenario.phase=pretraining", "scenario.train_per_task=64", "--part", "whole"]


def test_a_language_model_becomes_a_folder_that_says_where_it_comes_from(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = ["model.name=small_llama", "strategy.epochs=1", "strategy.batch_size=16", "device=cpu"]
    assert pretrain([str(tmp_path / "one"), *TEXTS, *recipe]) == 0
    assert "small_llama" not in capfd.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one"]
    certificate = read_certificate(tmp_path / "one")
    assert certificate is not None
    assert certificate["class_ids"] == ["instructions/pretraining"]
    assert certificate["training_examples"] == 64
    assert certificate["recipe"]["optimizer"] == "adamw"
    pretrain([str(tmp_path / "two"), *TEXTS, *recipe])
    models = [build_causal(ModelConfig(str(tmp_path / name)), 4).state_dict() for name in ("one", "two")]
    assert state_digest(models[0]) == state_digest(models[1])
    later = ["scenario.phase=alignment", f"model.name={tmp_path / 'one'}", *recipe[1:]]
    pretrain([str(tmp_path / "three"), *TEXTS, *later])
    certificate = read_certificate(tmp_path / "three")
    assert certificate is not None
    assert certificate["class_ids"] == ["instructions/alignment", "instructions/pretraining"]
    run = evaluation(ModelConfig(str(tmp_path / "three")), Part.WHOLE, tmp_path, scenario="instructions")
    assert len(open_stream(run).experiences) == 8
    told = scenarios.load("instructions")[1](phase=type(run.scenario.phase)("pretraining"))
    with pytest.raises(LeakError, match="was trained on 1 of the 1 classes that this run reports"):
        open_stream(replace(run, scenario=told))


def test_a_folder_that_is_there_and_adapters_are_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(ConfigError, match="there is there already; a language model is written to a folder that is"):
        pretrain([str(tmp_path / "there"), *TEXTS])
    with pytest.raises(ConfigError, match=r"is pre-trained as a whole; leave model\.adapter out"):
        pretrain([str(tmp_path / "new"), *TEXTS, "model.adapter.rank=4"])
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_place_that_cannot_be_written_is_named_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ClbenchError, match="cannot write to"):
        pretrain([str(tmp_path / "file" / "w.safetensors"), *SMALL, "strategy.epochs=100000"])


def test_the_embedded_certificate_names_the_classes_of_the_tuning_half() -> None:
    scenario, config = scenarios.load("glyphs")
    tuning, evaluation = (handle.open(0) for handle in scenario(config(train_per_class=2, test_per_class=1)).halves())
    assert not tuning.class_ids & evaluation.class_ids
    certificate = read_certificate(WEIGHTS)
    assert certificate is not None
    assert set(certificate["class_ids"]) == tuning.class_ids


def test_all_classes_are_learnt_at_once() -> None:
    stream = digits()
    (whole,) = merged(stream).experiences
    assert whole.classes == tuple(range(10))
    assert sorted(whole.train.rows.tolist()) == list(range(1437))


@pytest.mark.parametrize(
    ("part", "swap", "leaks"),
    [
        (Part.EVALUATION_HALF, False, False),
        (Part.EVALUATION_HALF, True, True),
        (Part.WHOLE, False, True),
    ],
)
def test_a_run_does_not_report_classes_that_its_weights_were_trained_on(
    weights: Path, tmp_path: Path, part: Part, swap: bool, leaks: bool
) -> None:
    run = evaluation(ModelConfig("small_vit", weights, width=8), part, tmp_path, swap)
    if leaks:
        with pytest.raises(LeakError, match=r"was trained on 5 of the (5|10) classes that this run reports"):
            open_stream(run)
    else:
        assert len(open_stream(run).experiences) == 3


def test_the_embedded_weights_may_not_report_the_characters_they_saw(tmp_path: Path) -> None:
    model = ModelConfig(EMBEDDED, pretrained=True)
    with pytest.raises(LeakError, match="trained on 50 of the 100 classes"):
        open_stream(evaluation(model, Part.WHOLE, tmp_path, scenario="glyphs"))
    open_stream(evaluation(model, Part.WHOLE, tmp_path))


def test_the_embedded_weights_are_those_of_the_certificate() -> None:
    certificate = read_certificate(WEIGHTS)
    assert certificate is not None
    assert (certificate["scenario"], certificate["part"], certificate["seed"]) == ("glyphs", "tuning half", 0)
    assert "/" not in certificate["command"]
    assert state_digest(read_weights(WEIGHTS))[:16] == "fa2ce16583063ffe"
    assert WEIGHTS.stat().st_size < 5_000_000


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 64, 48)])
def test_the_embedded_backbone_takes_grey_and_colour_of_any_size(shape: tuple[int, int, int]) -> None:
    assert PretrainedViT(shape)(torch.zeros(2, *shape)).shape == (2, 128)


def test_a_pretrained_strategy_gets_the_embedded_model_and_names_what_has_no_weights() -> None:
    scenario, strategy = scenarios.load("digits")[1](), strategies.load("mos")[1]()
    assert resolved_model(ModelConfig(), scenario, strategy) == ModelConfig(EMBEDDED, pretrained=True)
    with pytest.raises(ConfigError, match=r"mos starts .* and model.name=small_vit comes without"):
        resolved_model(ModelConfig("small_vit"), scenario, strategy)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["weights.pth"], "weights are written as .safetensors"),
        (["w.safetensors", "strategy.lr=0.1,0.2"], "one model is trained at a time"),
        (["w.safetensors", "scenario=digit"], "unknown scenario 'digit'"),
    ],
)
def test_mistakes_are_said_in_one_line(words: list[str], said: str) -> None:
    with pytest.raises(Exception, match=said):
        pretrain([*words, *(w for w in SMALL if w.partition("=")[0] not in {x.partition("=")[0] for x in words})])


def test_options_and_keys_may_be_mixed(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    assert pretrain([str(path), *SMALL[:2], "--part", "evaluation_half", *SMALL[2:]]) == 0


def test_a_run_with_other_embedded_weights_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ModelConfig(EMBEDDED, pretrained=True)
    before = evaluation(model, Part.WHOLE, tmp_path).identity
    other = tmp_path / "other.safetensors"
    other.write_bytes(WEIGHTS.read_bytes() + b" ")
    monkeypatch.setattr("clbench.run.WEIGHTS", other)
    assert evaluation(model, Part.WHOLE, tmp_path).identity != before
