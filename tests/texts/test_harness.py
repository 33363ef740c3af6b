"""The bridge to lm-evaluation-harness, on a task of our own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from clbench.errors import ClbenchError, ConfigError, DataError, IncompatibleError, UnknownNameError
from clbench.models.config import AdapterConfig, ModelConfig, Routing
from clbench.models.language import build_causal, tokenizer_of
from clbench.probe import Probed, Unit
from clbench.texts import harness
from clbench.texts.harness import HarnessProbe, check_tasks, title
from tests.texts_on_disk import EMBEDDED

QUESTIONS = [
    ("fact abcd=", ["xy", "q7", "aa"], 0),
    ("copy abcba:", ["abcba", "bbbbb"], 0),
    ("next 7=", ["8", "z"], 1),
    ("sort cab=", ["abc", "cab"], 0),
    ("add 12+34=", ["46", "99", "00"], 2),
    ("zzz zzz", ["z", " z"], 0),
]
TASK = """
task: ours
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
target_delimiter: ""
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}{more}]
"""


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return written(tmp_path)


def written(folder: Path, more: str = "") -> str:
    found = [{"question": question, "choices": choices, "answer": n} for question, choices, n in QUESTIONS]
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, found)))
    (folder / "ours.yaml").write_text(TASK.format(data=folder / "data.jsonl", more=more))
    return str(folder / "ours.yaml")


def learner(config: ModelConfig = EMBEDDED) -> Any:
    return SimpleNamespace(model=build_causal(config, 8))


def right(network: Any, asked: int = len(QUESTIONS)) -> int:
    """How many of the questions have their right choice as the likeliest, by a plain forward pass each.

    As the harness asks: with the special tokens that the tokenizer adds by itself, of which this one has none.
    """
    words, count = tokenizer_of(EMBEDDED), 0
    for question, choices, answer in QUESTIONS[:asked]:
        found = []
        for choice in choices:
            start, ids = words.encode([question, question + choice])
            with torch.no_grad():
                logits = network(torch.tensor([ids])).logits[0].double().log_softmax(-1)
            found.append(float(sum(logits[i - 1, ids[i]] for i in range(len(start), len(ids)))))
        count += found.index(max(found)) == answer
    return count


def test_a_task_s_accuracy_is_that_of_the_likeliest_choices(task: str) -> None:
    strategy, fast = learner(), tokenizer_of(EMBEDDED).fast
    probe = HarnessProbe(task, fast)
    assert (probe.name, probe.unit) == ("ours", Unit.ACCURACY)
    network = strategy.model.network
    assert probe.measure(strategy) == pytest.approx(Probed(right(network), 6))
    assert HarnessProbe(task, fast, 4).measure(strategy) == pytest.approx(Probed(right(network, 4), 4))


def test_asking_changes_neither_tokenizer_nor_network(task: str) -> None:
    strategy, words = learner(), tokenizer_of(EMBEDDED)
    before = words.digest, {name: tensor.clone() for name, tensor in strategy.model.state_dict().items()}
    HarnessProbe(task, words.fast, 3).measure(strategy)
    assert words.digest == before[0]
    assert all(torch.equal(tensor, before[1][name]) for name, tensor in strategy.model.state_dict().items())


def adapt(network: Any, seed: int) -> None:
    """Adapters that do something."""
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            if "lora_B" in name:
                tensor.normal_(generator=torch.Generator().manual_seed(seed))


def test_a_network_with_adapters_is_asked_with_them(task: str) -> None:
    strategy = learner(ModelConfig(EMBEDDED.name, adapter=AdapterConfig(rank=2)))
    network = strategy.model.network
    untouched = right(network)
    for seed in range(20):
        adapt(network, seed)
        if right(network) != untouched:
            break
    else:
        pytest.fail("no adapters changed what the network answers")
    asked = HarnessProbe(task, tokenizer_of(EMBEDDED).fast).measure(strategy)
    assert asked.total == pytest.approx(right(network)) != pytest.approx(untouched)


def test_the_metric_can_be_named(task: str, tmp_path: Path) -> None:
    fast = tokenizer_of(EMBEDDED).fast
    more = ", {metric: acc_norm, aggregation: mean, higher_is_better: true}"
    named = f"{written(tmp_path, more)}:acc_norm"
    assert title(named) == "ours:acc_norm"
    check_tasks([named])
    assert HarnessProbe(named, fast, 3).measure(learner()).size == 3
    with pytest.raises(IncompatibleError, match="there is no such metric; there are acc,none, acc_norm,none"):
        HarnessProbe(f"{task}:f1", fast, 3).measure(learner())


def test_a_task_that_cannot_be_run_is_one_line(task: str, tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").unlink()
    with pytest.raises(DataError, match=r"lm-evaluation-harness cannot run '.*ours\.yaml': ") as error:
        HarnessProbe(task, tokenizer_of(EMBEDDED).fast).measure(learner())
    assert "\n" not in str(error.value)


def test_an_unknown_task_is_one_line(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "_manager", lambda name: SimpleNamespace(all_tasks=["arc_easy", "hellaswag"]))
    check_tasks(["hellaswag", "arc_easy:acc_norm"])
    with pytest.raises(UnknownNameError, match=r"has no task 'hellaswagg'\. Did you mean hellaswag\?"):
        check_tasks(["hellaswagg"])


@pytest.mark.parametrize("model", [None, SimpleNamespace(network=None, routed=True)])
def test_a_learner_without_one_network_is_refused(model: Any) -> None:
    with pytest.raises(IncompatibleError, match="hellaswag asks one network, and SimpleNamespace has none or several"):
        HarnessProbe("hellaswag", None).measure(SimpleNamespace(model=model))


def test_routed_adapters_are_several_networks() -> None:
    routed = ModelConfig(EMBEDDED.name, adapter=AdapterConfig(rank=2, routing=Routing.NEAREST))
    with pytest.raises(IncompatibleError, match="none or several"):
        HarnessProbe("hellaswag", None).measure(learner(routed))


def test_without_the_package_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    harness._index.cache_clear()
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    with pytest.raises(ConfigError, match=r"pip install 'clbench\[harness\]'") as error:
        check_tasks(["hellaswag"])
    assert isinstance(error.value, ClbenchError)
    harness._index.cache_clear()
