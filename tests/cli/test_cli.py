"""The command line as a user meets it: real processes, real text."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import subprocess
import sys
from dataclasses import MISSING, fields, is_dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest

from clbench import __version__
from clbench.cli.fields import comments
from clbench.cli.main import run
from clbench.cli.manual import manual
from clbench.config import DataConfig, jobs, registries
from clbench.memory import MemoryConfig
from clbench.models.config import AdapterConfig, ModelConfig
from clbench.record import write
from clbench.scenario import scenarios
from tests.conftest import MakeRecord
from tests.learning import skip_without_package
from tests.pictures import make_folder

ROOT = Path(__file__).parent.parent.parent
TEXTS, EDITS = ("scenario=instructions",), ("scenario=edits",)
SMALL = ("strategy.epochs=1", "protocol.trials=2", "protocol.seeds=[0,1]", "protocol.tuning_seeds=[100]")


def clbench(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "OMP_NUM_THREADS": "1"} | environment
    command = [sys.executable, "-m", "clbench", *words]
    return subprocess.run(command, cwd=cwd, env=surroundings, capture_output=True, text=True)


def test_a_study_from_plan_to_tables(tmp_path: Path) -> None:
    first = clbench("run", "strategy=naive,replay", *SMALL, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    for text in ("tuning half, 2 draws of lr, weight_decay", "at a time: about", "Forgetting", "written to runs"):
        assert text in first.stdout
    finished = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("record.json")}
    assert len(finished) == 2 * (2 + 2)
    again = clbench("run", "strategy=naive,replay", *SMALL, cwd=tmp_path)
    assert again.returncode == 0
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("record.json")} == finished
    for format_, text in {"table": "replay", "csv": "replay,", "latex": r"\toprule", "markdown": "| replay"}.items():
        report = clbench("report", "runs", "--format", format_, cwd=tmp_path)
        assert report.returncode == 0, report.stderr
        assert text in report.stdout
        assert report.stderr == ""
    plots = clbench("plot", "runs", "--output", "drawn", "--format", "svg", cwd=tmp_path)
    assert (plots.returncode, plots.stderr) == (0, "")
    drawn = sorted(path.relative_to(tmp_path) for path in (tmp_path / "drawn").iterdir())
    assert len(drawn) == 4
    assert {f"  {path}" for path in drawn} < set(plots.stdout.splitlines())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("rnu",), "unknown command 'rnu'. Did you mean run?"),
        (("run", "strategy=niave"), "unknown strategy 'niave'. Did you mean naive?"),
        (("run", "scenario=cifar10"), "unknown scenario 'cifar10'. Did you mean cifar100"),
        (("run", "protocol=twophase"), "unknown protocol 'twophase'. Did you mean two_phase?"),
        (("run", "strategy=hft,nave"), "unknown strategy 'nave'"),
        (("run", "strategy.lrr=1"), "unknown key 'strategy.lrr'. Did you mean strategy.lr"),
        (("run", "strategy.memory.capacty=1"), "Did you mean strategy.memory.capacity"),
        (("run", "foo=1"), "unknown key 'foo'"),
        (("run", "+foo=1"), "'+foo=1': keys cannot be added or removed"),
        (("run", "~strategy"), "'~strategy': keys cannot be added or removed"),
        (("run", "hydra.run.dir=x"), "Hydra itself is not configured here"),
        (("run", "strategy"), "cannot read 'strategy': expected key=value"),
        (("run", "strategy.lr=fast"), "strategy.lr: Value 'fast' of type 'str' could not be converted to Float"),
        (("run", "strategy.lr=-1"), "strategy.lr must be > 0, got -1.0"),
        (("run", "strategy=hft", "strategy.ratio=2"), "strategy.ratio must be in (0, 1], got 2.0"),
        (("run", "strategy.memory.policy=lifo"), "must be one of reservoir, class_balanced, ring, herding, got 'lifo'"),
        (("run", "protocol.sampler=grid"), "protocol.sampler must be one of random, tpe, got 'grid'"),
        (("run", "scenario.increment=7"), "scenario.increment must be in 1 .. 5, got 7"),
        (("run", "protocol.tuning_seeds=[0,9]"), "must have no seed in common, got [0]"),
        (("run", "executor=ray"), "unknown executor 'ray'"),
        (("run", "scenario.increment=5"), "5 classes cannot be cut into two or more experiences"),
        (
            ("run", "strategy=joint", "strategy.memory.capacity=9"),
            "strategy.memory.capacity must be 0 for joint, got 9",
        ),
        (("run", "scenario=folder"), "scenario.path=FOLDER is missing"),
        (("run", "scenario=folder", "scenario.path=/no/such"), "no folder '/no/such'"),
        (("run", "scenario=imagenet100", "data.root=/no/such"), "no ImageNet under /no/such"),
        (("run", "scenario=imagenet100", "scenario.list=imagenet"), "must be one of podnet, lucir, cmc, folder"),
        (("run", "strategy=avalanche", "strategy.name=EWX"), "unknown Avalanche strategy 'EWX'. Did you mean EWC?"),
        (("run", "strategy=avalanche", "strategy.arguments.mem=1"), "Avalanche's Naive takes no argument 'mem'"),
        (("run", "strategy=avalanche", "strategy.argument.mem=1"), "Did you mean strategy.arguments"),
        (("run", "strategy=avalanche", "strategy.arguments=3"), "strategy.arguments: Cannot assign int to Dict"),
        (("run", "scenario=avalanche"), "scenario=avalanche needs scenario.name, e.g. SplitMNIST"),
        (("run", "output=/dev/null/x"), "cannot write to output=/dev/null/x (Not a directory)"),
        (("run", "device=tpu"), "device must be cpu, cuda or auto, got 'tpu'"),
        (("run", "model.name=resnet33"), "unknown model 'resnet33'. Did you mean resnet32"),
        (("run", "model.checkpoint=/no/file.pth"), "no weights file '/no/file.pth'"),
        (("run", *TEXTS, "strategy=mos"), "strategy mos learns images only, and instructions is a stream of texts"),
        (("run", *TEXTS, "strategy=simplecil"), "strategy simplecil learns images only"),
        (("run", "strategy=lora"), "strategy lora learns texts only, and digits is a stream of images"),
        (("run", "model.adapter.rank=4"), "model.adapter goes with language models only"),
        (
            ("run", *TEXTS, "model.name=/no/such/model"),
            "no language model '/no/such/model': it is neither a folder nor",
        ),
        (("run", *TEXTS, "model.name=."), "of transformers cannot load ., which needs config.json"),
        (("run", *TEXTS, "model.checkpoint=w.pt"), "model.name=w.pt in place of model.checkpoint"),
        (("run", *TEXTS, "model.adapter.routing=nearest"), "routing needs adapters; add model.adapter.rank=8"),
        (("run", *TEXTS, "strategy=lora", "model.adapter.targets=[attn]"), "attn is no matrix of this network; there"),
        (
            ("run", *TEXTS, "strategy=olora", "model.adapter.routing=nearest"),
            "strategy olora cannot run here: it has one set of adapters at a time",
        ),
        (("run", *TEXTS, "model.dtype=float8"), "model.dtype must be one of float32, bfloat16, got 'float8'"),
        (("run", *TEXTS, "scenario.chat=true"), "has no chat template; leave scenario.chat out"),
        (("run", *TEXTS, "scenario.max_answer=1"), "scenario.max_answer must be >= 2, got 1"),
        (
            ("run", *TEXTS, "scenario.max_answer=3", "scenario.shorten=nothing"),
            "of answer; there is room for 124 and 3: raise scenario.longest or scenario.max_answer",
        ),
        (("run", *TEXTS, "scenario.longest=8"), "scenario.max_answer=7 leaves no room for a prompt in 8 tokens"),
        (("run", *TEXTS, "scenario.phase=alignment"), "1 tasks leave none for the tuning half; use protocol=single"),
        (("run", *TEXTS, "scenario.order=random"), "must be one of listed, reversed, alphabetical, shuffled"),
        (("run", *TEXTS, "strategy.accumulate=0"), "strategy.accumulate must be >= 1, got 0"),
        (("run", *EDITS, "scenario.edits=801"), "the tuning half has 800 edits, and scenario.edits=801 are asked for"),
        (("run", *EDITS, "scenario.source=file"), "scenario.path=FILE goes with scenario.source=file; give both or"),
        (("run", *EDITS, "scenario.source=file", "scenario.path=no.json"), "no file 'no.json' (looked from: here)"),
        (("run", *EDITS, "scenario.source=zsre"), "no file 'zsre_3k.json' (looked from: here); put it into edits/"),
        (("run", *EDITS, "scenario.source=mquake"), "must be one of world, zsre, counterfact, wikibigedit, file, got"),
        (("run", *EDITS, "scenario.per_experience=0"), "scenario.per_experience must be >= 1 or null, got 0"),
        (("run", *EDITS, "strategy=icarl"), "strategy icarl learns images only, and edits is a stream of texts"),
        (("run", "strategy=ft_m"), "strategy ft_m learns texts only, and digits is a stream of images"),
        (("run", *EDITS, "strategy=locft_bf", "strategy.layer=4"), "strategy.layer=4: the model has blocks 0 to 3"),
        (("run", *EDITS, "strategy=ft_m", "strategy.location=model.layers.0.mpl"), "under 'model.layers.0' there are"),
        (("run", *EDITS, "strategy=ft_m", "model.adapter.rank=4"), "are; leave model.adapter out"),
        (("run", *EDITS, "strategy=locft_bf", "strategy.access=replay"), "goes with strategy.memory.capacity >= 1"),
        (("run", *EDITS, "strategy=locft_bf", "strategy.access=all"), "must be one of no_replay, replay, cumulative"),
        (("run", "--fast"), "unknown option '--fast'"),
        (("convert", "/no/ckpt.pt", "t.bin", "model"), "no weights file '/no/ckpt.pt'"),
        (("report", "/no/folder"), "no folder '/no/folder' to read runs from"),
        (("plot", "/no/folder"), "no folder '/no/folder' to read runs from"),
    ],
)
def test_a_mistake_gets_one_line_and_status_2(
    words: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "strategy=avalanche" in words:
        skip_without_package("avalanche")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CLBENCH_DATA", raising=False)
    assert run(list(words)) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert len(shown.err.splitlines()) == 1
    assert shown.out == ""
    assert not list(tmp_path.rglob("record.json"))


def test_a_study_on_texts_from_start_to_table(tmp_path: Path) -> None:
    words = ("scenario=instructions", "scenario.train_per_task=16", "scenario.test_per_task=4", "strategy=naive,lora")
    single = ("protocol=single", "protocol.part=evaluation_half", "protocol.seeds=[0]", "executor=in_process")
    done = clbench("run", *words, *single, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for text in ("instruction tuning, evaluation half, 4 experiences", "Facts at the end", "adapter.rank=8", "Probes,"):
        assert text in done.stdout
    report = clbench("report", "runs", "--columns", "last_accuracy_macro", "probe.facts", cwd=tmp_path)
    assert (report.returncode, report.stderr) == (0, "")
    assert report.stdout.count("instruction tuning") == 1  # one table for both
    assert re.search(r"^ *naive .*\n.*\n? *lora ", report.stdout, re.MULTILINE)


def test_a_study_on_edits_from_plan_to_table(tmp_path: Path) -> None:
    small = ("scenario.edits=6", "scenario.per_experience=3", "scenario.questions=6", "scenario.unedited=6")
    words = (*EDITS, *small, "strategy.epochs=15", "executor=in_process")
    plan = clbench("run", *words, "strategy=locft_bf", "--plan", cwd=tmp_path)
    assert (plan.returncode, plan.stderr) == (0, "")
    assert "tuning half, 8 draws of lr, module, depth" in plan.stdout
    assert not list(tmp_path.rglob("record.json"))
    single = ("protocol=single", "protocol.seeds=[0]", "strategy=locft_bf")
    done = clbench("run", *words, *single, "strategy.access=no_replay,cumulative_from_base", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for text in ("edits, editing, all edits, 2 experiences", "Reliability", "Access", "cumulative"):
        assert text in done.stdout
    report = clbench("report", "runs", "--format", "markdown", cwd=tmp_path)
    assert (report.returncode, report.stderr) == (0, "")
    heads = next(line for line in report.stdout.splitlines() if line.startswith("| Strategy"))
    for head in ("Reliability", "Generalisation", "Locality near", "Locality far", "Capability", "Access"):
        assert head in heads
    assert "| no replay |" in report.stdout
    assert "| cumulative from base |" in report.stdout
    found = [json.loads(path.read_text()) for path in tmp_path.rglob("record.json")]
    assert {record["access"] for record in found} == {"no replay", "cumulative from base"}
    assert all(record["notes"]["stream"]["edits"] == 6 for record in found)
    tuned = [f"model.layers.3.mlp.{part}_proj.weight" for part in ("down", "gate", "up")]
    assert all(record["notes"]["1"]["tuned"] == tuned for record in found)
    (whole,) = (record for record in found if record["access"] == "cumulative from base")
    assert sum(entry["correct"] for entry in whole["measurements"] if entry["after"] == 2) >= 3


def test_damaged_data_get_one_line(tmp_path: Path) -> None:
    (tmp_path / "cifar-100-python").mkdir()
    (tmp_path / "cifar-100-python" / "train").write_bytes(b"half a file")
    done = clbench("run", "scenario=cifar100", f"data.root={tmp_path}", cwd=tmp_path)
    assert done.returncode == 2
    assert re.search(r"cifar-100-python/train is damaged \(its md5 differs\)", done.stderr)
    assert len(done.stderr.splitlines()) == 1


def test_an_unreadable_image_stops_the_command_before_training(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "birds", ["crow", "owl", "wren", "tit"])
    (root / "train" / "owl" / "1.jpg").write_bytes(b"half a file")
    words = ("run", "scenario=folder", "scenario.path=birds", "scenario.increment=1", "scenario.size=16")
    small = ("model.name=small_cnn", "model.width=4", "protocol=single", "strategy.epochs=1", "executor=in_process")
    refused = clbench(*words, *small, cwd=tmp_path)
    assert refused.returncode == 2
    assert "1 of 12 images under birds cannot be read: train/owl/1.jpg (no image)" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert not list(tmp_path.rglob("record.json"))
    (root / "train" / "owl" / "1.jpg").unlink()
    done = clbench(*words, *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "4 experiences" in done.stdout
    assert done.stderr == ""


def test_a_single_experience_is_reported_without_forgetting(tmp_path: Path) -> None:
    make_folder(tmp_path / "birds", ["crow", "owl", "wren"])
    words = ("scenario=folder", "scenario.path=birds", "scenario.base=3", "scenario.size=16", "scenario.store=24")
    small = ("model.name=small_cnn", "model.width=4", "protocol=single", "strategy.epochs=1", "executor=in_process")
    done = clbench("run", *words, *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 experience" in done.stdout
    for format_ in ("table", "csv", "latex", "markdown", "svg"):
        report = clbench("report", "runs", "--format", format_, cwd=tmp_path)
        assert (report.returncode, report.stderr) == (0, "")


def test_a_checkpoint_of_another_architecture_gets_one_line(tmp_path: Path) -> None:
    import torch

    torch.save({"layer.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    done = clbench("run", "model.checkpoint=other.pth", cwd=tmp_path)
    assert done.returncode == 2
    assert "holds weights of another architecture than small_cnn" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_checkpoint_of_llama2c_becomes_a_folder_or_one_line(tmp_path: Path) -> None:
    import torch

    from tests.models.test_llama2c import SIZES, drawn_weights
    from tests.models.test_llama2c_tokenizer import drawn_vocabulary

    pieces, scores = drawn_vocabulary(random.Random(0))
    torch.save({"model": drawn_weights(), "model_args": SIZES}, tmp_path / "ckpt.pt")
    (tmp_path / "tokenizer.json").write_text(json.dumps({"pieces": pieces, "scores": scores}))
    done = clbench("convert", "ckpt.pt", "tokenizer.json", "model", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("model: ")
    assert (tmp_path / "model" / "model.safetensors").is_file()
    again = clbench("convert", "ckpt.pt", "tokenizer.json", "model", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr == "clbench: model is there and is no empty folder; choose another folder\n"
    other = clbench("convert", "tokenizer.json", "ckpt.pt", "other", cwd=tmp_path)
    assert other.returncode == 2
    assert "weights files end in .pth, .pt, .th, .bin, .safetensors, got '.json'" in other.stderr
    assert len(other.stderr.splitlines()) == 1
    assert not (tmp_path / "other").exists()


class Unclosed(HTMLParser):
    """Elements of a page that are open and not yet closed, and the text that is shown."""

    EMPTY = ("meta", "link", "br", "input", "col")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.shown: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements += [] if tag in self.EMPTY else [tag]

    def handle_endtag(self, tag: str) -> None:
        assert self.elements.pop() == tag

    def handle_data(self, data: str) -> None:
        self.shown.add(data.strip())


def test_a_page_of_finished_runs_is_whole_and_names_them(make_record: MakeRecord, tmp_path: Path) -> None:
    for strategy, seed in itertools.product(("naive", "replay", "joint"), (0, 1)):
        made = make_record(strategy=strategy, seed=seed)
        write(tmp_path / "runs" / made.run, made)
    done = clbench("report", "runs", "--format", "html", "--bold", "significant", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("<!DOCTYPE html>")
    assert done.stdout.endswith("</html>")
    page = Unclosed(done.stdout)
    assert page.elements == []
    assert {"naive", "replay", "joint"} < page.shown
    assert any("clbench report runs --format html --bold significant" in text for text in page.shown)
    wrong = clbench("report", "runs", "--format", "html", "--columns", "last_acuracy", cwd=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert re.fullmatch(r"clbench: unknown column 'last_acuracy'\. Did you mean last_accuracy.*\n", wrong.stderr)


def test_an_empty_folder_has_nothing_to_report(tmp_path: Path) -> None:
    done = clbench("report", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2
    assert "no finished evaluation runs" in done.stderr


def test_help_teaches(tmp_path: Path) -> None:
    overview = clbench("--help", cwd=tmp_path).stdout
    assert {"run", "list", "report", "plot", "data", "convert"} <= set(overview.split())
    shown = clbench("run", "--help", "strategy=ewc", cwd=tmp_path).stdout
    assert re.search(
        r"strategy\.strength=10\.0 +stiffness.*\[searched: 0\.1 to 10000, logarithmically\]", shown, re.DOTALL
    )
    assert re.search(r"strategy\.memory\.policy=class_balanced .*reservoir", shown, re.DOTALL)
    assert "clbench convert stories260K.pt" in clbench("convert", "--help", cwd=tmp_path).stdout
    names = scenarios.names()
    assert {"avalanche", "cifar100", "digits", "folder", "imagenet100", "instructions"} <= set(names)
    assert f"scenario=digits   (there are: {', '.join(names)})" in shown
    assert clbench("--version", cwd=tmp_path).stdout.strip() == f"clbench {__version__}"


def test_help_shows_what_learners_begin_with_in_the_scenario() -> None:
    def row(key: str, *words: str) -> str:
        text = manual([*words]).replace("\n" + 45 * " ", " ")
        (line,) = [line for line in text.splitlines() if line.lstrip().startswith(f"strategy.{key}=")]
        return line

    texts = ("scenario=instructions", "strategy=ewc")
    assert "strategy.lr=0.0015" in row("lr", *texts)
    assert "[searched: 0.0001 to 0.01, logarithmically]" in row("lr", *texts)
    assert "strategy.optimizer=adamw" in row("optimizer", *texts)
    assert "strategy.weight_decay=0.0 " in row("weight_decay", *texts)
    assert "searched" not in row("weight_decay", *texts)
    assert "[searched: 0.1 to 10000, logarithmically]" in row("strength", *texts)
    assert "strategy.lr=0.05" in row("lr", "strategy=ewc")
    assert "[searched: 0.001 to 0.5, logarithmically]" in row("lr", "strategy=ewc")


def test_what_the_user_gives_wins_over_what_the_scenario_begins_with() -> None:
    (job,) = jobs(["scenario=instructions", "strategy=lwf", "strategy.lr=0.3", "strategy.weight_decay=0.1"])
    given = job.config.strategy
    assert (given.lr, given.weight_decay) == (0.3, 0.1)
    assert (given.batch_size, given.epochs, given.clip, given.warmup) == (16, 1, 1.0, 0.1)
    assert given.temperature == 2.0
    (plain,) = jobs(["strategy=lwf"])
    assert (plain.config.strategy.lr, plain.config.strategy.batch_size) == (0.05, 32)


def test_every_field_of_every_plugin_has_a_word_of_explanation() -> None:
    configs = [registry.load(name)[1] for registry in registries().values() for name in registry.names()]
    nested = set[type]()
    for config in [*configs, DataConfig, ModelConfig]:
        nested |= unexplained(config)
    assert nested == {MemoryConfig, AdapterConfig}
    assert not any(unexplained(config) for config in nested)


def unexplained(config: type) -> set[type]:
    """Dataclasses in the fields of ``config``, which explain themselves field by field; every other one has a word."""
    made = {f.name: f.default_factory() for f in fields(config) if f.default_factory is not MISSING}
    nested = {name: type(value) for name, value in made.items() if is_dataclass(value)}
    explained = comments(config)
    assert [f.name for f in fields(config) if not explained.get(f.name) and f.name not in nested] == []
    return set(nested.values())


def test_list_names_everything_even_a_broken_plugin(tmp_path: Path) -> None:
    listed = clbench("list", cwd=tmp_path).stdout
    for name in ("digits", "cifar100", "naive", "hft", "ewc", "lwf", "replay", "joint", "two_phase", "single"):
        assert re.search(rf"^\w+ +{name} +\w", listed, re.MULTILINE)
    assert "strategy" not in clbench("list", "scenario", cwd=tmp_path).stdout


def test_config_and_plan_compute_nothing(tmp_path: Path) -> None:
    config = clbench("run", "strategy=hft", "strategy.lr=0.3", "--config", cwd=tmp_path)
    assert "lr: 0.3" in config.stdout
    assert "ratio: 0.5" in config.stdout
    told = clbench("run", "scenario.setting=task_incremental", "strategy.optimizer=adamw", "--config", cwd=tmp_path)
    assert "setting: task_incremental" in told.stdout
    assert "optimizer: adamw" in told.stdout
    plan = clbench("run", "strategy=naive,joint", "--plan", cwd=tmp_path)
    assert plan.stdout.count("tuning half, 8 draws") == 2
    assert not list(tmp_path.rglob("record.json"))


def test_data_says_what_is_there(tmp_path: Path) -> None:
    done = clbench("data", "digits", cwd=tmp_path)
    assert (done.returncode, done.stdout.split()) == (0, ["digits", "ready"])
    (tmp_path / "cifar-100-python").mkdir()
    broken = clbench("data", "cifar100", "--root", str(tmp_path), cwd=tmp_path)
    assert broken.returncode == 1
    assert "not ready" in broken.stdout


def test_data_lists_every_scenario_where_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "cifar-100-python").mkdir()  # or it would be downloaded
    done = clbench("data", cwd=tmp_path, CLBENCH_DATA=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, ""), "nothing that was asked for is missing"
    found = dict(re.findall(r"^(\w+) +(ready|not ready)(?: |$)", done.stdout, re.MULTILINE))
    assert list(found) == scenarios.names()
    assert {found[name] for name in ("digits", "edits", "instructions")} == {"ready"}
    assert {found[name] for name in ("cifar100", "folder", "trace")} == {"not ready"}
    assert re.search(r"^folder +not ready  scenario\.path=FOLDER is missing", done.stdout, re.MULTILINE)
    assert all(line.startswith((*found, "   ")) for line in done.stdout.splitlines()), (
        "what is broken stays in its column"
    )


def test_a_run_that_fails_is_named_and_the_others_are_finished(tmp_path: Path) -> None:
    code = """
import sys
from clbench.strategy import strategies
cls, _ = strategies.load("naive")
cls.end = lambda self, experience: 1 / (self.problem.seed - 1)
from clbench.cli.main import run
sys.exit(run(sys.argv[1:]))
"""
    words = ["run", "protocol=single", "protocol.seeds=[0,1,2]", "strategy.epochs=1", "executor=in_process"]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "1 of 3 runs failed" in done.stderr
    assert len(list(tmp_path.rglob("error.txt"))) == 1
    finished = [p for p in tmp_path.rglob("record.json") if '"finished"' in p.read_text()]
    assert len(finished) == 2


def test_want_of_memory_is_one_line_and_the_next_study_goes_on(tmp_path: Path) -> None:
    code = """
import sys, torch
from clbench.strategy import strategies
cls, _ = strategies.load("naive")
def end(self, experience):
    if self.problem.seed == 1:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
cls.end = end
from clbench.cli.main import run
sys.exit(run(sys.argv[1:]))
"""
    words = ["run", "strategy=naive,hft", "protocol=single", "protocol.seeds=[0,1,2]", "strategy.epochs=1"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "executor=in_process"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.startswith("clbench:")]
    assert len(said) == 1
    assert said[0].startswith("clbench: naive: the GPU's memory is too small for ")
    finished = [p for p in tmp_path.rglob("record.json") if '"finished"' in p.read_text()]
    assert len(finished) == 5
