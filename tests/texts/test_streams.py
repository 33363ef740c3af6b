from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from clbench import probe as probes
from clbench.errors import CheckpointError, ConfigError, IncompatibleError
from clbench.models import small_llama
from clbench.models.config import ModelConfig
from clbench.models.tokenizer import Tokenizer
from clbench.probe import AnswerProbe, LikelihoodProbe, Unit
from clbench.record import Part, Setting
from clbench.scenario import Stream
from clbench.table import Batch, Source
from clbench.texts import streams as text
from clbench.texts.corpora import TextExample, TextTask
from clbench.texts.prompts import Rows, Shorten
from clbench.texts.streams import Order, TextAnswers, TextConfig, TextScenario, digest_of

NAMES = ["pear", "fig", "apple", "plum"]
WORDS = Tokenizer(small_llama.tokenizer(), "characters")
ALL = torch.device("cpu")


def example(name: str, number: int, answer: str | None = None) -> TextExample:
    return TextExample(f"{name}: ", f"{number}", (answer or f"{name[0]}{number}",))


def task(name: str, train: int = 5, test: int = 3) -> TextTask:
    return TextTask(
        name,
        "exact_match",
        tuple(example(name, i) for i in range(train)),
        tuple(example(name, 50 + i) for i in range(test)),
    )


class Fruit(TextScenario):
    """Four tasks."""

    def names(self) -> list[str]:
        return NAMES

    def tasks(self, seed: int) -> Sequence[TextTask]:
        return [task(name) for name in NAMES]


def config(**values: Any) -> TextConfig:
    settings: dict[str, Any] = {"template": "{instruction}{input}=", "max_answer": 8} | values
    return TextConfig(**settings)


def fruit(model: str = "small_llama", **values: Any) -> Fruit:
    return Fruit(config(**values), model=ModelConfig(model))


def order(stream: Stream) -> list[str]:
    return [experience.name for experience in stream.experiences]


def read(batch: Batch) -> list[tuple[str, str]]:
    """Prompts and answers in words."""
    rows = zip(batch["tokens"].tolist(), batch["prompt"].tolist(), batch["length"].tolist(), strict=True)
    parts = [(row[:prompt], row[prompt:length]) for row, prompt, length in rows]
    assert all(asked[0] == WORDS.start[0] and said[-1] == WORDS.eos for asked, said in parts)
    return list(
        zip(WORDS.decode([asked for asked, _ in parts]), WORDS.decode([said for _, said in parts]), strict=True)
    )


def test_each_experience_is_one_task_in_words() -> None:
    stream = fruit().stream(0)
    assert stream.setting is Setting.INSTRUCTION
    assert order(stream) == NAMES
    for label, (name, experience) in enumerate(zip(NAMES, stream.experiences, strict=True)):
        train, test = (next(rows.batches(10)) for rows in (experience.train, experience.test))
        assert read(train) == [(f"{name}: {i}=", f"{name[0]}{i}") for i in range(5)]
        assert read(test) == [(f"{name}: {50 + i}=", f"{name[0]}{50 + i}") for i in range(3)]
        assert experience.classes == (label,)
        assert train["label"].tolist() == [label] * 5
    assert stream.class_ids == {f"test_streams/{name}" for name in NAMES}


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        (Order.LISTED, ["pear", "fig", "apple", "plum"]),
        (Order.REVERSED, ["plum", "apple", "fig", "pear"]),
        (Order.ALPHABETICAL, ["apple", "fig", "pear", "plum"]),
    ],
)
def test_tasks_arrive_in_the_order_that_is_asked_for_whatever_the_seed(how: Order, wanted: list[str]) -> None:
    scenario = fruit(order=how)
    assert order(scenario.stream(0)) == order(scenario.stream(1)) == wanted
    halves = [order(scenario.stream(0, part)) for part in (Part.TUNING_HALF, Part.EVALUATION_HALF)]
    assert halves == [[n for n in wanted if n in NAMES[:2]], [n for n in wanted if n in NAMES[2:]]]


def test_a_shuffled_order_is_drawn_from_the_seed_and_from_the_part_s_tasks() -> None:
    scenario = fruit(order=Order.SHUFFLED)
    orders = [order(scenario.stream(seed)) for seed in range(12)]
    assert orders[3] == order(scenario.stream(3))
    assert {tuple(sorted(names)) for names in orders} == {tuple(sorted(NAMES))}
    assert len({tuple(names) for names in orders}) > 5
    assert {tuple(sorted(order(scenario.stream(s, Part.TUNING_HALF)))) for s in range(4)} == {("fig", "pear")}


def test_the_halves_can_be_drawn_and_exchanged_and_share_no_task() -> None:
    scenario, cuts = fruit(), set()
    for split in range(6):
        first, second = (set(order(handle.open(0))) for handle in scenario.halves(split))
        assert not first & second
        assert first | second == set(NAMES)
        assert [set(order(handle.open(0))) for handle in scenario.halves(split, swap=True)] == [second, first]
        cuts.add(frozenset(first))
    assert len(cuts) > 1


def test_one_task_has_no_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fruit, "names", lambda self: ["pear"])
    with pytest.raises(IncompatibleError, match=r"leave none for the tuning half; use protocol=single"):
        fruit().check(Part.TUNING_HALF)
    fruit().check(Part.WHOLE)


def test_the_digest_knows_the_texts_and_their_order_and_no_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    first = fruit().stream(0)
    assert fruit().stream(7).digest == first.digest
    assert fruit(order=Order.REVERSED).stream(0).digest != first.digest
    assert fruit(train_per_task=4).stream(0).digest != first.digest
    assert fruit(test_per_task=2).stream(0).digest != first.digest
    other = small_llama.tokenizer()
    other.add_tokens(["pear"])
    monkeypatch.setattr(text, "tokenizer_of", lambda _: Tokenizer(other, "another"))
    retold = fruit().stream(0)
    assert retold.experiences[0].train.column("length").tolist() != first.experiences[0].train.column("length").tolist()
    assert (retold.digest, retold.source_digest) == (first.digest, first.source_digest)
    assert repr(retold.transform) != repr(first.transform)


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "other"},
        {"score": "rouge_l"},
        {"train": (example("pear", 0, "x"),)},
        {"test": (TextExample("another: ", "50", ("p50",)),)},
        {"test": (TextExample("pear: ", "50", ("p50", "also right")),)},
    ],
)
def test_the_digest_sees_every_part_of_a_task(changed: dict[str, Any]) -> None:
    plain = task("pear", 1, 1)
    assert digest_of([plain], config()) != digest_of([replace(plain, **changed)], config())


def test_fewer_examples_are_the_first_ones_and_keep_their_answers() -> None:
    stream = fruit(train_per_task=2, test_per_task=1).stream(0)
    assert [len(e.train) for e in stream.experiences] == [2] * 4
    for name, experience in zip(NAMES, stream.experiences, strict=True):
        batch = next(experience.test.batches(9))
        assert read(batch) == [(f"{name}: 50=", f"{name[0]}50")]
        right = torch.tensor(WORDS.encode([f"{name[0]}50"]))
        assert list(stream.answers.scores(right, batch)) == [1.0]


def test_an_answer_that_is_too_long_names_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    long = [task("pear"), replace(task("fig"), train=(example("fig", 1, "a" * 8),))]
    monkeypatch.setattr(Fruit, "tasks", lambda self, seed: [*long, task("apple"), task("plum")])
    message = (
        r"^a row of fig has 7 tokens of prompt and 9 of answer; there is room for 119 and 8: raise scenario.longest"
    )
    with pytest.raises(IncompatibleError, match=message):
        fruit(shorten=Shorten.NOTHING).stream(0)
    fruit(shorten=Shorten.NOTHING, max_answer=9).stream(0)
    cut = fruit().stream(0).experiences[1]
    assert cut.shortened == 1
    row = next(cut.train.batches(1))
    assert WORDS.decode([row["tokens"][0, int(row["prompt"][0]) : int(row["length"][0])].tolist()]) == ["aaaaaaaa"]


def test_a_prompt_without_room_loses_its_beginning_alike_in_training_and_test() -> None:
    stream = fruit(longest=16, template="0123456789{input}=").stream(0)
    train, test = (next(rows.batches(9)) for rows in (stream.experiences[0].train, stream.experiences[0].test))
    assert read(train)[3] == ("567893=", "p3")
    assert read(test)[0] == ("678950=", "p50")
    assert train["prompt"].tolist() == [8] * 5  # 16, less 8 for an answer


@pytest.mark.parametrize(("longest", "fits"), [(8, False), (9, False), (10, True), (500, True)])
def test_answers_must_leave_room_for_a_prompt(longest: int, fits: bool) -> None:
    scenario = fruit(longest=longest)
    if fits:
        rows = scenario.stream(0).experiences[0].train
        assert int(rows.column("length").max()) <= min(longest, 128)
        return
    with pytest.raises(ConfigError, match=rf"^scenario.max_answer=8 leaves no room for a prompt in {longest} tokens"):
        scenario.stream(0)


def test_a_row_in_which_nothing_is_asked_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = small_llama.tokenizer()
    bare.bos_token = None
    monkeypatch.setattr(text, "tokenizer_of", lambda _: Tokenizer(bare, "bare"))
    with pytest.raises(IncompatibleError, match=r"^a prompt of task pear is empty, .* see scenario.template$"):
        fruit(template="").stream(0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"template": "{question}"}, r"may name {instruction} and {input} only, got '{question}'"),
        ({"template": "{input.text}"}, "may name"),
        ({"template": "{0}"}, "may name"),
        ({"template": "{input"}, "may name"),
        ({"max_answer": 1}, "scenario.max_answer must be >= 2, got 1"),
        ({"train_per_task": 0}, "scenario.train_per_task must be >= 1 or null, got 0"),
        ({"test_per_task": 0}, "scenario.test_per_task must be >= 1 or null, got 0"),
        ({"longest": 0}, "scenario.longest must be >= 1 or null, got 0"),
    ],
)
def test_fields_out_of_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TextConfig(**values)


def test_checking_looks_at_the_model_that_is_asked_for(tmp_path: Path) -> None:
    fruit().check(Part.TUNING_HALF)
    with pytest.raises(CheckpointError, match="no language model '/no/such/model'"):
        fruit("/no/such/model").check(Part.WHOLE)
    with pytest.raises(ConfigError, match=r"has no chat template; leave scenario\.chat out"):
        fruit(chat=True).check(Part.WHOLE)
    with pytest.raises(ConfigError, match=r"in place of model\.checkpoint"):
        Fruit(config(), model=ModelConfig("small_llama", checkpoint=tmp_path)).check(Part.WHOLE)


def rows(**values: Any) -> Rows:
    told = config(**values)
    words = Tokenizer(small_llama.tokenizer(), "characters")
    return Rows(words, told.template, told.chat, told.shorten, 40, told.max_answer)


def test_a_chat_puts_the_template_s_text_into_the_tokenizer_s_own() -> None:
    made = rows(chat=True)
    made.words.fast.chat_template = "{{ bos_token }}{% for m in messages %}user {{ m['content'] }} answer{% endfor %}"
    assert made.prompt("pear: ", "3") == "user pear: 3= answer"
    batch = made.columns([example("pear", 3)], ["pear"])
    assert read({name: column for name, column in batch.items() if name != "instruction"}) == [
        ("user pear: 3= answer", "p3")
    ]


def test_instructions_are_numbered_as_they_come() -> None:
    made = rows()
    first = made.source([("a", [example("pear", 1), example("fig", 2)])], ALL)
    second = made.source([("b", [example("fig", 3), example("plum", 4)])], ALL)
    assert first.columns["instruction"].tolist() == [0, 1]
    assert second.columns["instruction"].tolist() == [1, 2]
    assert list(made.instructions) == ["pear: ", "fig: ", "plum: "]


def answers(found: Sequence[TextExample], score: str = "exact_match") -> TextAnswers:
    return TextAnswers(WORDS, tuple((one, score) for one in found), config())


def said(*texts: str, end: bool = True) -> Tensor:
    """Token ids of answers, each with what stands behind its end."""
    made = [[*row, *([WORDS.eos] if end else [])] for row in WORDS.encode(texts)]
    width = max(map(len, made)) + 1
    return torch.tensor([[*row, *WORDS.encode(["z" * (width - len(row))])[0]] for row in made])


def test_what_is_behind_the_end_is_not_said() -> None:
    asked = answers([example("pear", 1)])
    assert asked.said(said("p1", "", "p 1")) == ["p1", "", "p 1"]
    assert asked.said(said("p1", end=False)) == ["p1z"]


def test_answers_are_scored_under_their_own_task_s_score() -> None:
    tale = TextExample("", "source", ("the cat sat down", "a dog"))
    asked = TextAnswers(WORDS, ((tale, "rouge_l"), (example("pear", 1), "exact_match")), config())
    batch = {"example": torch.tensor([1, 0, 0, 1])}
    scores = asked.scores(said("p1", "the cat", "a dog", "p2"), batch)
    assert scores == pytest.approx([1.0, 2 * 1 * 0.5 / 1.5, 1.0, 0.0])


def test_a_question_is_the_prompt_and_its_instruction_alone() -> None:
    stream = fruit().stream(0)
    batch = next(stream.experiences[1].test.batches(9))
    asked = stream.answers.question(batch)
    assert asked.keys() == {"tokens", "prompt", "length", "instruction"}
    assert not (asked["tokens"] == WORDS.eos).any()
    shown = [row[:length] for row, length in zip(asked["tokens"].tolist(), asked["length"].tolist(), strict=True)]
    assert WORDS.decode(shown) == ["fig: 50=", "fig: 51=", "fig: 52="]
    assert all(
        token == WORDS.pad
        for row, kept in zip(asked["tokens"].tolist(), shown, strict=True)
        for token in row[len(kept) :]
    )


def test_the_transcript_shows_what_was_asked_said_and_right() -> None:
    asked = answers([example("pear", 1), example("fig", 2)])
    assert asked.transcript(said("p9", "f2"), {"example": torch.tensor([0, 1])}) == [
        {"instruction": "pear: ", "input": "1", "answer": "p9", "reference": "p1"},
        {"instruction": "fig: ", "input": "2", "answer": "f2", "reference": "f2"},
    ]


def test_the_conditions_say_how_answers_came_about() -> None:
    told = answers([example("pear", 1)]).conditions()
    assert told["decoding"] == {"method": "greedy", "max_new_tokens": 8}
    assert told["template"] == "{instruction}{input}="
    assert told["template_sha256"] == hashlib.sha256(b"{instruction}{input}= False").hexdigest()
    assert told["tokenizer_sha256"] == WORDS.digest
    assert json.loads(json.dumps(told)) == told


class Parrot:
    """A strategy that answers the same to everything and gives each token of an answer a likelihood."""

    def __init__(self, answer: str) -> None:
        self.answer, self.batches = answer, list[int]()

    def predict(self, batch: Batch) -> Tensor:
        self.batches.append(len(batch["tokens"]))
        return said(self.answer).repeat(len(batch["tokens"]), 1)

    def log_likelihoods(self, batch: Batch) -> tuple[Tensor, Tensor]:
        lengths = batch["length"] - batch["prompt"]
        self.batches.append(len(lengths))
        return -0.25 * lengths.float() * (1 + batch["instruction"]), lengths


def test_an_answer_probe_counts_right_answers_over_all_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "BATCH", 4)
    found = [example("pear", i % 3) for i in range(10)]
    probe = AnswerProbe("fruit", rows().source([("fruit", found)], ALL, numbered=True), answers(found))
    parrot = Parrot("p1")
    assert probe.measure(parrot) == (3.0, 10)
    assert parrot.batches == [4, 4, 2]
    assert (probe.name, probe.unit) == ("fruit", Unit.ACCURACY)


def test_a_likelihood_probe_sums_nats_and_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "BATCH", 2)
    made = rows()
    source = Source(made.columns([example("pear", 1), example("fig", 20), example("fig", 3)], ["any"] * 3))
    ease, parrot = LikelihoodProbe("ease", source), Parrot("")
    total, count = ease.measure(parrot)
    assert count == 3 + 4 + 3  # p1, f20 and f3 with their ends
    assert total == pytest.approx(-0.25 * (3 * 1 + 4 * 2 + 3 * 2))
    assert ease.unit is Unit.LOG_LIKELIHOOD
