from __future__ import annotations

import re
from typing import Any, cast

import pytest

from clbench.errors import IncompatibleError
from clbench.examination import measure, probe
from clbench.models import small_llama
from clbench.models.checkpoint import read_certificate
from clbench.models.llama import SPECIAL
from clbench.probe import AnswerProbe
from clbench.record import Part
from clbench.scenario import scenarios
from clbench.space import LogUniform, ranges
from clbench.strategies.naive import NaiveConfig
from clbench.texts.corpora import TextExample
from clbench.texts.grouping import Codebooks
from clbench.texts.streams import TextAnswers
from tests.learning import instructions, strategy

Instructions: Any
Config: Any
Instructions, Config = scenarios.load("instructions")
TASKS = ["reverse", "add", "sort", "count", "shift", "lookup", "swap", "largest"]
PHASES = {member.value: member for member in Config().phase.__class__}
PLAIN, FAMILIES = (member for member in Config().style.__class__)


def made(phase: str = "stream", seed: int = 0, **values: Any) -> Any:
    return Instructions(Config(**{"phase": PHASES[phase], "train_per_task": 200} | values)).tasks(seed)


def table(text: str) -> dict[str, str]:
    """What stands behind each letter: ``a3,b7`` or ``a3 b7``."""
    return {pair[0]: pair[1] for pair in re.findall(r"[a-j]\d", text)}


def right(asked: str) -> str:
    """The answer to a prompt, worked out from its words alone."""
    task, found, said = asked.partition(": ")
    if found:
        task = task.partition(", answer with")[0]
        if task == "add numbers":
            return str(sum(map(int, said.split("+"))))
        if task == "find key":
            entries, _, key = said.partition("?")
            return table(entries)[key] * 3
        return {
            "reverse the word": "".join(reversed(said)),
            "sort the letters": "".join(c * said.count(c) for c in "abcdefghij"),
            "count of a": str(len(re.findall("a", said))),
            "shift each letter": said.translate(str.maketrans("abcdefghij", "defghijklm")),
            "swap halves": said[len(said) // 2 :] + said[: len(said) // 2],
            "largest digit": "max" + next((d for d in "9876543210" if d in said), ""),
        }[task]
    if asked.startswith("copy "):
        return asked[5:]
    if asked.startswith("next "):
        alphabet = "abcdefghijklmnopqrstuvwxyz"
        start = alphabet.index(asked[5]) + 1
        return alphabet[start : start + int(asked[6])]
    if asked.endswith(" backwards"):
        return asked.split()[0][::-1]
    if asked.endswith(" ordered"):
        return "".join(sorted(asked.split()[0]))
    if " plus " in asked:
        return str(sum(map(int, asked.split(" plus "))))
    entries, at, key = asked.partition(" at ")
    assert at, asked
    return table(entries)[key]


def asked(example: TextExample) -> str:
    return example.instruction + example.input


def answers(stream: Any, number: int) -> list[TextExample]:
    """What a probe asks."""
    found = cast(AnswerProbe, stream.probes[number])
    return [example for example, _ in cast(TextAnswers, found.answers).asked]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("style", [PLAIN, FAMILIES])
def test_every_answer_is_right(phase: str, style: Any) -> None:
    checked = 0
    for task in made(phase, style=style, train_per_task=1000):
        for example in (*task.train, *task.test):
            if not example.input.startswith("fact "):
                assert example.references == (right(asked(example)),), asked(example)
                checked += 1
    assert checked > 700
    for example in answers(instructions().stream(0), 1):
        assert example.references == (right(asked(example)),)


def test_eight_tasks_and_their_order() -> None:
    assert [task.name for task in made()] == TASKS
    assert [e.name for e in instructions().stream(0).experiences] == TASKS
    halves = [[e.name for e in handle.open(0).experiences] for handle in instructions().halves()]
    assert halves == [TASKS[:4], TASKS[4:]]


def questions(examples: Any) -> set[str]:
    """What is asked, whatever the style."""
    return {re.sub(", answer with [a-z]+", "", asked(e)) for e in examples if not e.input.startswith("fact ")}


def test_questions_of_tests_and_probes_are_trained_on_by_no_seed_in_no_phase() -> None:
    tested, trained = set[str](), set[str]()
    for phase in PHASES:
        for style in (PLAIN, FAMILIES):
            for seed in range(3):
                for task in made(phase, seed, style=style, train_per_task=2000):
                    trained |= questions(task.train)
                    tested |= questions(task.test)
    probed = questions(answers(instructions().stream(0), 1))
    assert len(probed) > 200
    assert len(tested) > 900
    assert len(trained) > 5000
    assert not trained & (tested | probed)


def test_the_seed_draws_what_is_learnt_and_not_what_is_asked() -> None:
    first, same, other = made(seed=0), made(seed=0), made(seed=1)
    assert first == same
    for one, another in zip(first, other, strict=True):
        assert one.test == another.test
        assert one.train != another.train
        assert len({example.input for example in one.test}) == len(one.test) == 50
        assert len(one.train) == 200


def test_facts_are_the_same_for_everybody_and_trained_in_the_phases_before_only() -> None:
    facts = answers(instructions().stream(0), 0)
    assert facts == answers(instructions(train_per_task=9).stream(5), 0)
    assert len({example.input for example in facts}) == 120
    assert all(re.fullmatch("fact [a-z]{4}", e.input) and re.fullmatch("[a-z]{2}", e.references[0]) for e in facts)
    for phase, least in (("pretraining", 300), ("alignment", 150), ("stream", 0)):
        known = [example for task in made(phase, train_per_task=1000) for example in task.train if example in facts]
        assert (len(known) > least) if least else not known


def kind(example: TextExample) -> str:
    words = ("fact", "copy", "next", "backwards", "ordered", "plus", "at")
    return example.instruction or next(word for word in words if re.search(rf"\b{word}\b", example.input))


def test_the_phases_before_mix_everything_and_ask_everything() -> None:
    for phase, kinds in (("pretraining", 6), ("alignment", 6 + 8 + 6)):  # two tasks are worded alike in both styles
        (task,) = made(phase, train_per_task=2200)
        assert len(task.train) == 2200
        for examples in (task.train[:300], task.test[:100]):  # in no order
            assert len(set(map(kind, examples))) >= kinds - 3, phase
    with pytest.raises(IncompatibleError, match="use protocol=single"):
        instructions(phase=PHASES["alignment"]).check(Part.TUNING_HALF)


@pytest.mark.parametrize(("style", "wanted"), [(PLAIN, range(7, 9)), (FAMILIES, range(3, 5))])
@pytest.mark.parametrize("turned", [False, True])
def test_families_make_few_groups_of_like_instructions(style: Any, wanted: range, turned: bool) -> None:
    codebooks = Codebooks()
    tasks = made(style=style)
    groups = {
        task.name: codebooks.assign([task.train[0].instruction], 0.3)[0] for task in tasks[:: -1 if turned else 1]
    }
    assert len(set(groups.values())) in wanted
    if style is FAMILIES:
        assert groups["reverse"] == groups["sort"] == groups["shift"] == groups["swap"]
        assert groups["add"] == groups["lookup"]
        assert len({groups[name] for name in ("reverse", "add", "count", "largest")}) == 4


def test_the_embedded_model_reads_every_character_and_begins_able() -> None:
    scenario = instructions(test_per_task=40)
    stream = scenario.stream(0)
    unknown = SPECIAL.index("<unk>")
    for experience in stream.experiences:
        assert not (experience.train.column("tokens") == unknown).any()
    learner = strategy("naive", stream)
    accuracies = [100 * m.correct / m.total for m in measure(learner, stream, 0)]
    assert sum(accuracies) / 8 > 50
    probes = {one.probe: one for one in probe(learner, stream, 0)}
    assert list(probes) == ["facts", "skills", "pretraining_answers"]
    assert probes["facts"].total > 0.9 * probes["facts"].count
    assert probes["skills"].total > 0.5 * probes["skills"].count
    told = [examples for number in (0, 1) for examples in answers(stream, number)]
    assert probes["pretraining_answers"].count == sum(len(e.references[0]) + 1 for e in told)
    assert -probes["pretraining_answers"].total / probes["pretraining_answers"].count < 1.0  # nats; 4 by guessing


def test_the_embedded_model_says_where_it_comes_from() -> None:
    certificate = read_certificate(small_llama.WEIGHTS)
    assert certificate is not None
    assert certificate["scenario"] == "instructions"
    assert "instructions/alignment" in certificate["class_ids"]
    assert not instructions().stream(0).class_ids & set(certificate["class_ids"])


def test_learners_begin_with_what_suits_a_small_language_model() -> None:
    searched = ranges(NaiveConfig(), Instructions.training)
    assert searched == {"lr": LogUniform(1e-4, 1e-2)}
    stream = instructions().stream(0)
    assert isinstance(stream.answers, TextAnswers)
    assert strategy("naive", stream).config.optimizer.value == "adamw"
