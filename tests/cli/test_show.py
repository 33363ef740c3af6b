"""Cards: what they say is what the files, the classes and the results say."""

from __future__ import annotations

from pathlib import Path

import pytest

from clbench import record
from clbench.cli.card import RESULTS, card, measured, papers, published, settings
from clbench.cli.main import run
from clbench.cli.manual import manual
from clbench.config import jobs, registries
from clbench.metrics import average_incremental_accuracy, interval
from clbench.record import Phase, Setting
from clbench.strategy import strategies
from tests.conftest import MakeRecord
from tests.learning import settings as contract
from tests.learning import skip_without_package

PLUGINS = [(kind, name) for kind, registry in registries().items() for name in registry.names()]


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_every_plugin_has_a_card_whose_command_can_be_read(kind: str, name: str) -> None:
    skip_without_package(name)
    shown = card(kind, name)
    assert shown.certificate.partition("\n")[0] == registries()[kind].summary(name)
    assert all(key.text and key.name.startswith(f"{kind}.") for key in shown.keys)
    (job,) = jobs(shown.command.split()[2:])
    assert registries()[kind].name_of(getattr(job.config, kind)) == name
    text = manual(shown.command.split()[2:])  # as learners begin in the scenario that the card names
    for key in shown.keys:
        assert f"  {key.name}={key.default} " in text or f"  {key.name}={key.default}\n" in text


def test_a_card_says_what_the_class_declares() -> None:
    shown = card("strategy", "mos")
    facts = dict(shown.facts)
    assert facts["learns"] == "images"
    assert facts["settings"] == "class-incremental, task-incremental"
    assert facts["starts from"].startswith("a pre-trained model")
    assert facts["condition"] == "It needs a vision transformer and a linear head"
    assert facts["devices"] == "one"
    (lr,) = [key for key in shown.keys if key.name == "strategy.lr"]
    assert (lr.type, lr.default, lr.range) == ("float", "0.03", "0.003 to 0.1, logarithmically")
    (merge,) = [key for key in shown.keys if key.name == "strategy.merge"]
    assert merge.choices == ("step", "task_end", "none", "reference")
    assert "sharding=full" in dict(card("strategy", "hft").facts)["devices"]
    assert dict(card("scenario", "instructions").facts)["shows"] == "texts"
    assert "lr 0.0001 to 0.01" in dict(card("scenario", "instructions").facts)["searched here"]


@pytest.mark.parametrize("name", strategies.names())
def test_the_settings_of_a_card_are_those_that_the_contract_is_tested_in(name: str) -> None:
    skip_without_package(name)
    assert set(contract(name)) <= set(settings(strategies.load(name)[0]))


def test_what_was_measured_is_what_the_records_say(tmp_path: Path, make_record: MakeRecord) -> None:
    runs = tmp_path / "measured" / "mine" / "runs"
    for name, seed, first in (("ewc", 0, 90), ("ewc", 1, 80), ("lwf", 0, 99)):
        found = make_record(((first,), (60, 80)), strategy=name, seed=seed)
        record.write(runs / "digits" / name / "evaluation" / found.run, found)
    tuning = make_record(((10,), (10, 10)), strategy="ewc", phase=Phase.TUNING)
    record.write(runs / "digits" / "ewc" / "tuning" / tuning.run, tuning)
    (mine,) = measured("strategy", "ewc", tmp_path)
    ((line,),) = mine.board.groups
    assert (mine.study, line.label, line.extras[-1]) == ("measured/mine", "ewc", "2")
    scores = [average_incremental_accuracy(make_record(((first,), (60, 80)))) for first in (90, 80)]
    assert line.cells[0].mean == f"{interval(scores).mean:.1f}"
    assert line.cells[0].place == 2  # lwf is better, and has no line on this card
    (scenario,) = measured("scenario", "digits", tmp_path)
    assert [line.label for group in scenario.board.groups for line in group] == ["lwf", "ewc"]
    assert measured("strategy", "naive", tmp_path) == []
    assert measured("scenario", "cifar100", tmp_path) == []
    assert len(measured("protocol", "single", tmp_path)) == 1
    assert measured("protocol", "two_phase", tmp_path) == []


def test_what_was_reported_is_shown_with_its_source(tmp_path: Path) -> None:
    path = tmp_path / "reported" / "paper.csv"
    path.parent.mkdir()
    rows = [
        "paper,table,scenario,strategy,model,protocol,metric,value,spread,n,source,read_how,note",
        "1234.5678,2,digits,ewc lr=0.1,small_cnn,single,last_accuracy,1.5,0.25,3,there,read,",
        "1234.5678,2,digits,ewc lr=0.1,small_cnn,single,seen_accuracy_after_1,9.5,,,there,read,",
        "1234.5678,2,digits,ewc_2,small_cnn,single,last_accuracy,2.5,,,there,read,",
    ]
    path.write_text("\n".join(rows) + "\n")
    found = published("ewc", tmp_path)
    assert found is not None
    assert found.rows == (("ewc lr=0.1", "digits", "small_cnn", "last_accuracy", "1.5 ± 0.25", "3", "1234.5678", "2"),)
    assert "results/reported/paper.csv" in found.source
    assert published("lwf", tmp_path) is None
    ((name, whole),) = papers(tmp_path)
    assert (name, len(whole.rows)) == ("paper", 2)


def test_a_card_in_the_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert run(["show", "strategy", "ewc"]) == 0
    shown = capsys.readouterr().out
    assert "strategy.strength" in shown
    assert "searched: 0.1 to 10000, logarithmically" in " ".join(shown.split())
    assert "clbench run strategy=ewc protocol=single" in shown
    assert "results/measured/digits" in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_without_results_a_card_says_where_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("clbench.cli.sheet.RESULTS", tmp_path / "none")
    assert run(["show", "strategy", "naive"]) == 0
    assert "results/ comes with a clone of the repository" in capsys.readouterr().out
    assert RESULTS.is_dir()


def test_a_kind_without_a_name_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "protocol"]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == registries()["protocol"].names()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["strategy", "moss"], "unknown strategy 'moss'. Did you mean mos"),
        (["strategies"], "unknown kind 'strategies'. Did you mean strategy"),
        (["mos"], "'mos' is a strategy; say `clbench show strategy mos`"),
    ],
)
def test_a_mistake_gets_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", *words]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert len(shown.err.splitlines()) == 1
    assert shown.out == ""


def test_an_editor_is_shown_on_edits() -> None:
    assert card("strategy", "ft_m").command == "clbench run scenario=edits strategy=ft_m protocol=single"
    assert settings(strategies.load("lora")[0]) == (Setting.INSTRUCTION, Setting.EDITING)
