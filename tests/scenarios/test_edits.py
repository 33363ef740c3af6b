from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from clbench.edits import world
from clbench.edits.edits import Edit
from clbench.edits.rows import table_of
from clbench.edits.world_edits import world_edits
from clbench.engine import learn
from clbench.errors import ConfigError, DataError, IncompatibleError
from clbench.examination import examine, probe
from clbench.models.config import EMBEDDED_WORLD, ModelConfig
from clbench.models.language import tokenizer_of
from clbench.record import Part, Setting
from clbench.scenario import Stream
from clbench.scenarios.edits import Edits, EditsConfig, Origin
from clbench.strategy import strategies
from clbench.table import Table
from clbench.texts.prompts import Rows, Shorten
from tests.learning import edits, strategy
from tests.texts_on_disk import make_edits, real_folder, write

OBJECT = {thing: relation.name for relation in world.RELATIONS for thing in relation.objects}
CPU = torch.device("cpu")


def read(table: Table) -> list[tuple[str, str]]:
    """Prompts and targets in words; the first begins with BOS, the second ends in EOS."""
    words = tokenizer_of(ModelConfig(EMBEDDED_WORLD))
    parts = zip(*(table.column(name).tolist() for name in ("tokens", "prompt", "length")), strict=True)
    rows = [(tokens[:prompt], tokens[prompt:length]) for tokens, prompt, length in parts]
    assert all(asked[0] == words.start[0] and said[-1] == words.eos for asked, said in rows)
    return list(zip(*(words.decode(part) for part in zip(*rows, strict=True)), strict=True))


def told(stream: Stream) -> list[tuple[str, str]]:
    return [row for experience in stream.experiences for row in read(experience.train)]


def probes(stream: Stream) -> dict[str, Any]:
    return {one.name: one for one in stream.probes}


def asked_of(one: Any) -> list[tuple[str, str]]:
    """What an answer probe asks, and the answers that are right."""
    return [(example.input, example.references[0]) for example, _ in one.answers.asked]


def test_each_edit_changes_a_fact_to_another_object_of_its_relation() -> None:
    stream = edits().stream(0)
    known = {fact.asked(0): fact.object for fact in world.facts()}
    assert stream.setting is Setting.EDITING
    assert len(told(stream)) == 12
    for prompt, target in told(stream):
        assert known[prompt] != target
        assert OBJECT[known[prompt]] == OBJECT[target]
    for experience in stream.experiences:
        assert read(experience.train) == read(experience.test)


@pytest.mark.parametrize(
    ("per_experience", "sizes", "names"),
    [
        (5, [5, 5, 2], ["edits 1-5", "edits 6-10", "edits 11-12"]),
        (1, [1] * 12, [f"edits {i}-{i}" for i in range(1, 13)]),
        (None, [12], ["edits 1-12"]),
        (50, [12], ["edits 1-12"]),
    ],
)
def test_so_many_arrive_together(per_experience: int | None, sizes: list[int], names: list[str]) -> None:
    stream = edits(per_experience=per_experience).stream(0)
    assert [len(e.train) for e in stream.experiences] == [len(e.test) for e in stream.experiences] == sizes
    assert [e.name for e in stream.experiences] == names
    assert told(stream) == told(edits(per_experience=4).stream(0))  # the draw is the same however they arrive
    assert len({id(e.train.source) for e in stream.experiences}) == 1


def test_a_seed_draws_the_edits_their_order_and_their_targets() -> None:
    first, same, other = (edits().stream(seed) for seed in (3, 3, 4))
    assert told(first) == told(same)
    assert first.digest == same.digest != other.digest
    assert told(first) != told(other)
    prompts = [{prompt for prompt, _ in told(stream)} for stream in (first, other)]
    assert prompts[0] != prompts[1]
    everything = [told(edits(edits=None).stream(seed)) for seed in (0, 1)]
    assert sorted(p for p, _ in everything[0]) == sorted(p for p, _ in everything[1])
    assert [p for p, _ in everything[0]] != [p for p, _ in everything[1]]
    assert dict(everything[0]) != dict(everything[1])


def test_halves_share_no_subject_and_ask_about_none_of_the_other_s() -> None:
    scenario = edits(edits=400)
    parts = {part: scenario.stream(0, part) for part in (Part.TUNING_HALF, Part.EVALUATION_HALF)}
    people = {}
    for part, stream in parts.items():
        texts = [prompt for prompt, _ in told(stream)]
        texts += [
            p for one in stream.probes if one.name != "capability" and hasattr(one, "answers") for p, _ in asked_of(one)
        ]
        people[part] = {person for person in world.people() if any(person in text for text in texts)}
    assert all(150 < len(found) <= 200 for found in people.values())
    assert not people[Part.TUNING_HALF] & people[Part.EVALUATION_HALF]


def test_a_stream_is_measured_at_its_moments() -> None:
    def moments(**values: Any) -> list[int]:
        stream = edits(**values).stream(0)
        return [after for after in range(len(stream.experiences) + 1) if stream.measured(after)]

    assert moments(per_experience=1, moments=3) == [0, 4, 8, 12]
    assert moments(per_experience=1, moments=1) == [0, 12]
    assert moments(per_experience=1, moments=5) == [0, 2, 4, 7, 9, 12]
    assert moments(per_experience=4, moments=10) == [0, 1, 2, 3]
    assert moments(per_experience=None) == [0, 1]


def test_some_edits_are_asked_about_and_all_are_made() -> None:
    stream = edits(asked=5).stream(0)
    assert len(told(stream)) == 12
    tested = [(e.index, row) for e in stream.experiences for row in read(e.test)]
    assert len(tested) == 5
    assert all(row in read(stream.experiences[index].train) for index, row in tested)
    assert stream.notes["edits"] == 12
    assert stream.notes["asked"] == 5
    found = probes(stream)
    targets = dict(row for _, row in tested)
    known = {fact.asked(i): fact for fact in world.facts() for i in range(4)}
    asked = asked_of(found["generalisation"])
    assert len(asked) == 15
    assert {known[prompt].asked(0) for prompt, _ in asked} == set(targets)
    assert all(answer == targets[known[prompt].asked(0)] for prompt, answer in asked)
    assert len(found["teacher_forced"].table) == len(asked_of(found["old_answer"])) == 5
    other = [row for e in edits(asked=5).stream(1).experiences for row in read(e.test)]
    assert {p for p, _ in other} != set(targets)


def test_what_is_asked_after_is_what_has_arrived() -> None:
    stream = edits().stream(0)
    learner = strategy("ft_m", stream, steps=1)
    arrived = {"reliability": [12, 4, 8, 12], "generalisation": [36, 12, 24, 36], "teacher_forced": [12, 4, 8, 12]}
    arrived |= {"generalisation_prefix": [12, 4, 8, 12], "old_answer": [12, 4, 8, 12]}
    fixed = {"locality_far": 8, "capability": 6}
    for after in range(4):
        sizes = {found.probe: found.count for found in probe(learner, stream, after)}
        assert {name: sizes[name] for name in fixed} == fixed
        assert {name: sizes[name] for name in arrived if name in sizes} == {
            name: counts[after] for name, counts in arrived.items() if name in sizes
        }
        assert sum(found.total for found in examine(learner, stream, after)[0]) == arrived["reliability"][after]
    near = probes(stream)["locality_near"]
    made = [[prompt for prompt, _ in read(experience.train)] for experience in stream.experiences]
    persons = [[p for p in world.people() if any(p in prompt for prompt in prompts)] for prompts in made]
    for (prompt, _), when in zip(asked_of(near), near.arrivals.tolist(), strict=True):
        assert any(person in prompt for person in persons[when])
        assert prompt not in dict(told(stream))


def test_the_unedited_model_knows_the_old_keeps_all_that_is_near_and_far_and_no_edit() -> None:
    stream = edits(edits=40, per_experience=None, questions=60).stream(0)
    learner = strategy("ft_m", stream)
    found = {one.probe: 100 * one.total / one.count for one in probe(learner, stream, 0)}
    assert found["locality_near"] == found["locality_far"] == 100
    assert found["old_answer"] > 95
    assert found["capability"] > 95
    assert found["generalisation"] < 5
    (before,) = examine(learner, stream, 0)[0]
    assert before.correct <= 1


def test_locality_is_what_the_unedited_model_says_be_it_right_or_wrong(tmp_path: Path) -> None:
    people = world.people()[:6]
    records = [{"prompt": f"{p} owns", "target_new": "wild goat", "locality_prompt": f"well {p}"} for p in people]
    write(tmp_path / "edits.json", records)
    config = EditsConfig(source=Origin.FILE, path=tmp_path / "edits.json", edits=4, per_experience=2, max_answer=5)
    stream = Edits(config).stream(0)
    found = probes(stream)
    model = Edits(config).build_model(stream).eval()
    for name, count in (("locality_near", 4), ("locality_far", 2)):
        one = found[name]
        assert len(asked_of(one)) == count
        for batch in one.table.batches(8):
            said = one.answers.said(model.predict(one.answers.question(batch)))
            assert said == [answer for _, answer in asked_of(one)]
    assert "capability" not in found  # of the world only
    assert "generalisation" not in found
    assert "old_answer" not in found


def rows_of(fast: Any, shorten: Shorten = Shorten.NOTHING, longest: int = 128) -> Rows:
    from clbench.models.tokenizer import Tokenizer

    return Rows(Tokenizer(fast, "test"), "{input}", False, shorten, longest, 4 if shorten is Shorten.INPUT else 60)


def byte_pairs() -> Any:
    """A byte-level BPE tokenizer whose words are of several tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options: Any = {"special_tokens": ["<end>"], "initial_alphabet": alphabet, "show_progress": False}
    trainer = trainers.BpeTrainer(vocab_size=300, **options)
    made.train_from_iterator([edit.prompt for edit in world_edits()], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>")


def gpt2() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder = real_folder() / "tokenizers" / "gpt2"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    made = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    ends = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **ends)


SUBJECTS = [
    Edit("Reedy Glacier is in", "Asia", "Reedy Glacier"),
    Edit("Who wrote Bäckermeister Świt?", "me", "Bäckermeister Świt"),
    Edit("The home of Ann-Marie O'Neil's dog", "here", "Ann-Marie O'Neil"),
    Edit("What is 日本語?", "x", "日本語"),
    Edit("Nobody is meant", "y", ""),
    Edit("Another is meant", "z", "Somebody"),
]


@pytest.mark.parametrize("kind", ["embedded", "byte pairs", "gpt2"])
def test_the_subject_s_last_token_is_where_its_prefix_s_last_token_is(kind: str) -> None:
    fast = {"byte pairs": byte_pairs, "gpt2": gpt2}.get(kind, lambda: tokenizer_of(ModelConfig(EMBEDDED_WORLD)).fast)()
    rows = rows_of(fast)
    made = list(world_edits()[::40]) if kind == "embedded" else [*SUBJECTS, *world_edits()[::200]]
    table = table_of(rows, made, torch.zeros(len(made), dtype=torch.int64), CPU)
    places, tokens = table.column("subject").tolist(), table.column("tokens").tolist()
    for edit, place, row in zip(made, places, tokens, strict=True):
        if not edit.subject or edit.subject not in edit.prompt:
            assert place == -1
            continue
        before, through = (rows.words.decode([row[:end]])[0] for end in (place, place + 1))
        told_of = edit.prompt[: edit.prompt.index(edit.subject) + len(edit.subject)]
        assert through.startswith(told_of)
        assert not before.startswith(told_of)


def test_the_subject_is_found_in_prompts_that_lost_their_beginning() -> None:
    rows = rows_of(tokenizer_of(ModelConfig(EMBEDDED_WORLD)).fast, Shorten.INPUT, longest=8)
    person = world.people()[0]
    late = Edit(f"well so then {person} owns", "red soup", person)
    early = Edit(f"{person} well so then owns", "red soup", person)
    table = table_of(rows, [late, early], torch.zeros(2, dtype=torch.int64), CPU)
    tokens, (place, gone) = table.column("tokens").tolist(), table.column("subject").tolist()
    assert rows.shortened["edits"] == 2
    assert rows.words.decode([[tokens[0][place]]]) == [person.split()[1]]
    assert gone == -1


def test_answers_are_parted_from_prompts_by_a_space() -> None:
    made = [Edit("a b", "c"), Edit("a b", " c")]
    rows = rows_of(byte_pairs())
    table = table_of(rows, made, torch.zeros(2, dtype=torch.int64), CPU)
    shown = zip(table.column("tokens").tolist(), table.column("length").tolist(), strict=True)
    texts = rows.words.decode([row[:length] for row, length in shown])
    assert texts == ["a b c", "a b c"]


def test_a_strategy_for_all_texts_learns_edits() -> None:
    stream = edits(edits=8, per_experience=None).stream(0)
    learner = strategy("ft_m", stream)
    scenario = edits(edits=8, per_experience=None)
    method, config = strategies.load("naive")
    naive = method(config(lr=2e-3, epochs=30, batch_size=8, optimizer=scenario.training["optimizer"]), learner.problem)
    learn(naive, stream.experiences[0])
    (after,) = examine(naive, stream, 1)[0]
    assert after.correct == 8


def test_a_mistake_in_the_config_gets_one_line() -> None:
    with pytest.raises(ConfigError, match=r"scenario.path=FILE goes with scenario.source=file; give both or neither"):
        EditsConfig(source=Origin.FILE)
    with pytest.raises(ConfigError, match=r"scenario.path=FILE goes with"):
        EditsConfig(path=Path("edits.json"))
    for name in ("edits", "per_experience", "asked", "moments", "questions"):
        with pytest.raises(ConfigError, match=rf"scenario.{name} must be >= 1( or null)?, got 0"):
            EditsConfig(**cast("dict[str, Any]", {name: 0}))
    with pytest.raises(ConfigError, match=r"scenario.unedited must be >= 0, got -1"):
        EditsConfig(unedited=-1)


def test_more_edits_than_there_are_get_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLBENCH_DATA", raising=False)
    with pytest.raises(IncompatibleError, match=r"the source has 1600 edits, and scenario.edits=1601 are asked for"):
        edits(edits=1601).check(Part.WHOLE)
    with pytest.raises(
        IncompatibleError, match=r"the tuning half has 800 edits, .*=801 are asked for; lower it, or use"
    ):
        edits(edits=801).check(Part.TUNING_HALF)
    make_edits(tmp_path / "edits.json")
    config = EditsConfig(source=Origin.FILE, path=Path("edits.json"), edits=17)
    with pytest.raises(IncompatibleError, match=r"has 16 edits"):
        Edits(config, tmp_path).check(Part.WHOLE)
    with pytest.raises(DataError, match=r"no file 'zsre_3k.json' \(looked from"):
        Edits(EditsConfig(source=Origin.ZSRE), tmp_path / "elsewhere").check(Part.WHOLE)


@pytest.mark.parametrize("source", [Origin.ZSRE, Origin.COUNTERFACT, Origin.WIKIBIGEDIT])
def test_released_files_become_streams(source: Origin, tmp_path: Path) -> None:
    path = real_folder() / "edits" / f"{source.value}_3k.json"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    records = json.loads(path.read_text(encoding="utf-8"))[:40]
    write(tmp_path / "edits" / path.name, records)
    model = bpe_model(tmp_path / "model")
    config = EditsConfig(source=source, edits=12, per_experience=6, unedited=5, max_answer=64)
    scenario = Edits(config, tmp_path, model=model)
    scenario.check(Part.WHOLE)
    stream = scenario.stream(0)
    assert [len(e.train) for e in stream.experiences] == [6, 6]
    expected = {"generalisation", "generalisation_prefix", "teacher_forced", "locality_near", "locality_far"}
    assert set(probes(stream)) == expected | ({"old_answer"} if source is not Origin.WIKIBIGEDIT else set())
    halves = [handle.open(0) for handle in replace_edits(scenario, None).halves()]
    assert sum(half.notes["edits"] for half in halves) == 40


def bpe_model(folder: Path) -> ModelConfig:
    """A small random GPT-2 with byte pairs, in a folder."""
    import transformers

    words = byte_pairs()
    sizes = {"vocab_size": len(words), "n_positions": 256, "n_embd": 8, "n_layer": 2, "n_head": 2}
    made = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, eos_token_id=0, bos_token_id=None))
    made.save_pretrained(folder)
    words.save_pretrained(folder)
    return ModelConfig(str(folder))


def replace_edits(scenario: Edits, count: int | None) -> Edits:
    return Edits(replace(scenario.config, edits=count), scenario.root, model=scenario.model)
