from __future__ import annotations

import json
from pathlib import Path

import pytest

from clbench.edits.edits import FIELDS, Edit, Faults, faults_of, read_edits
from clbench.errors import DataError
from tests.texts_on_disk import real_folder, write

ZSRE = {
    "subject": "Charity Creek",
    "src": "Which river system contains Charity Creek?",
    "rephrase": "What river system is Charity Creek in?",
    "alt": "Chichester River",
    "pred": "Parramatta River",
    "answers": ["Parramatta River"],
    "loc": "nq question: how many moons has mars",
    "loc_ans": "2",
}
COUNTERFACT = {
    "case_id": 1884,
    "prompt": "Reedy Glacier is in",
    "target_new": "Asia",
    "subject": "Reedy Glacier",
    "ground_truth": "Antarctica",
    "rephrase_prompt": "It is cold. Reedy Glacier is located in",
    "locality_prompt": "Mount Erebus, in",
    "locality_ground_truth": "Antarctica",
}
WIKIBIGEDIT = {name: COUNTERFACT[name] for name in ("prompt", "target_new", "subject", "rephrase_prompt")} | {
    "locality_prompt": "Mount Erebus, in",
    "locality_ground_truth": "Antarctica",
}


@pytest.mark.parametrize(
    ("record", "old"), [(ZSRE, "Parramatta River"), (COUNTERFACT, "Antarctica"), (WIKIBIGEDIT, "")]
)
def test_the_fields_of_three_releases_are_known(record: dict[str, object], old: str, tmp_path: Path) -> None:
    (edit,) = read_edits(write(tmp_path / "edits.json", [record]))
    zsre = record is ZSRE
    assert edit.prompt == record["src" if zsre else "prompt"]
    assert edit.target == record["alt" if zsre else "target_new"]
    assert edit.subject == record["subject"]
    assert edit.paraphrases == (record["rephrase" if zsre else "rephrase_prompt"],)
    assert edit.near == (record["loc" if zsre else "locality_prompt"],)
    assert edit.old == old
    (prefixed,) = edit.prefixed
    assert prefixed.endswith(f". {edit.prompt}")


def test_a_record_needs_its_prompt_and_its_target_only(tmp_path: Path) -> None:
    path = tmp_path / "edits.jsonl"
    path.write_text('{"prompt": "a b", "target_new": "c"}\n\n{"src": "d", "alt": 7, "rephrase": null}\n')
    first, second = read_edits(path)
    assert (first.subject, first.paraphrases, first.old, first.near) == ("", (), "", ())
    assert first.group == "a b"
    assert (second.prompt, second.target, second.paraphrases) == ("d", "7", ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"prompt": "a", "target_new": "b"}, {"prompt": "a", "target_new": " "}]', r"row 2: an edit needs a target"),
        ('{"prompt": "a", "target_new": "b"}\n{"target_new": "b"}', r"line 2: an edit needs a prompt \(field prompt"),
        ('[{"prompt": "a"}]', r"needs a target \(field target_new or alt\); give one or remove the record"),
        ('[{"prompt": "a", "target_new": ["b"]}]', r"row 1: field 'target_new' must hold text, got \['b'\]"),
        ('[{"prompt": "a", ', r"line 1: broken JSON"),
        ("[]", r"holds no edits; a list of objects with prompt and target_new was expected"),
        ("", r"is empty"),
        ("[3]", r"row 1 must be a JSON object"),
    ],
)
def test_a_file_that_holds_no_edits_gets_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "edits.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_edits(path)
    assert len(str(caught.value).splitlines()) == 1


def edit(prompt: str, target: str, *paraphrases: str) -> Edit:
    return Edit(prompt, target, paraphrases=paraphrases)


def test_faults_are_counted_edit_by_edit() -> None:
    stream = [
        *(edit("a", "1"), edit("a", "1"), edit("a", "2"), edit("a", "1")),  # the last repeats and contradicts
        *(edit("b", "1", "a"), edit("c", "1", "c"), edit("d", "1", "e", "b"), edit("f", "1", "g")),
    ]
    assert faults_of(stream) == Faults(repeated=2, contradicting=2, leaking=3)
    assert faults_of([]) == Faults(0, 0, 0)


@pytest.mark.parametrize(
    ("name", "faults", "prompts"),
    [
        ("zsre", Faults(0, 0, 37), 0),
        ("counterfact", Faults(0, 7, 0), 5),  # two of the five prompts have three targets
        ("wikibigedit", Faults(0, 0, 2), 0),  # their own prompts
    ],
)
def test_the_released_files_have_these_faults(name: str, faults: Faults, prompts: int) -> None:
    path = real_folder() / "edits" / f"{name}_3k.json"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    found = read_edits(path)
    assert faults_of(found) == faults
    targets: dict[str, set[str]] = {}
    for one in found:
        targets.setdefault(one.prompt, set()).add(one.target)
    assert sum(len(each) > 1 for each in targets.values()) == prompts
    assert all(one.subject and one.subject in one.prompt for one in found)
    assert all(len(one.paraphrases) == len(one.near) == 1 for one in found)
    raw = json.loads(path.read_text(encoding="utf-8"))
    assert len(found) == len(raw) == 3000
    for names in (FIELDS["prompt"], FIELDS["target"]):
        assert len({name for name in names if name in raw[0]}) == 1
