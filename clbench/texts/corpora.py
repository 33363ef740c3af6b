"""Text tasks on disk: an instruction, an input and the answers that count as right, as the suites publish them.

Everything is kept as it is in the files, faults included; those that are known stand beside their reader. The scores
are by name of `clbench.texts.scoring`.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clbench.errors import DataError
from clbench.registry import unknown
from clbench.texts.rows import Row, checked, holds_object, hub_rows, read_object, read_rows
from clbench.texts.scoring import SCORES
from clbench.texts.suites import LONG_SEQUENCE_ORDERS, SUPERNI_ORDERS, TRACE_ORDER, TRACE_SCORES


@dataclass(frozen=True)
class TextExample:
    """A question and its answers.

    Attributes:
        instruction: what is asked of every input of the task; may be empty.
        input: what it is asked of; the source text of scores that want one.
        references: the right answers, at least one.
        rejected: an answer that is not preferred, where preferences are learnt.
    """

    instruction: str
    input: str
    references: tuple[str, ...]
    rejected: str | None = None


@dataclass(frozen=True)
class TextTask:
    """One task of a stream.

    Attributes:
        name: as its suite has it.
        score: a name in `clbench.texts.scoring.SCORES`.
        train: at least one.
        test: at least one.
    """

    name: str
    score: str
    train: tuple[TextExample, ...]
    test: tuple[TextExample, ...]

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise unknown("score", self.score, list(SCORES))
        for part, examples in (("training", self.train), ("test", self.test)):
            if not examples:
                raise DataError(f"text task {self.name!r} has no {part} examples; it needs both training and test")


@dataclass(frozen=True)
class Fields:
    """Which fields of a row are read."""

    instruction: str | None = None  # null: no instruction
    input: str | None = "input"  # null: no input
    output: str = "output"  # an answer or a list of answers; numbers and truth values are read as text
    rejected: str | None = None  # of training rows: an answer that is not preferred; null: there is none

    @property
    def asked(self) -> Fields:
        """What is read of test rows."""
        return replace(self, rejected=None)


INPUT_OUTPUT, PROMPT_ANSWER = Fields(), Fields(input="prompt", output="answer")
PARTS = ("train", "test", "Instances")
"""What a file with all of a task calls its rows."""


def read_superni(folder: Path, name: str) -> TextTask:
    """A task of Super-NaturalInstructions (arXiv 2204.07705), scored as SAPT's code does.

    ``<folder>/<name>.json`` in one of `read_task`'s layouts, or ``<folder>/<name>/train.json`` and ``test.json`` as
    SAPT has them (its ``dev.json`` is a copy of ``test.json`` and is not read). Six training answers of
    task511_reddit_tifu_long_text_summarization are empty. SAPT scores against one answer that it draws; here all count.

    Raises:
        DataError: the task is not there, or a file is not what it should be.
    """
    return _of_suite(folder, name, "rouge_l_stemmed", SUPERNI_ORDERS[1])


def read_long_sequence(folder: Path, name: str) -> TextTask:
    """A classification task of O-LoRA's 15 (arXiv 2310.14152), laid out as for `read_superni`.

    Known faults: copa has no definition; seven test rows of mnli have the label "-". The file of qqp lists the labels
    True and False, while its definition asks for yes or no and its rows answer so; the list is not read.

    Raises:
        DataError: the task is not there (the message says which of the 15 are missing), or a file is not what it should
            be.
    """
    return _of_suite(folder, name, "exact_match_normalised", LONG_SEQUENCE_ORDERS[4])


def read_trace(folder: Path, name: str) -> TextTask:
    """A task of TRACE (arXiv 2310.06762): ``<folder>/<name>/train.json`` and ``test.json``, rows of prompt and answer.

    The prompt holds the instruction and becomes the input, for SARI too, as in TRACE's code. ``eval.json`` is not read.

    Raises:
        DataError: TRACE has no such task, it is not there, or a file is not what it should be.
    """
    if name not in TRACE_SCORES:
        raise DataError(f"TRACE has no task {name!r}.{_near(name, TRACE_ORDER)} It has: {', '.join(TRACE_ORDER)}")
    if not (folder / name).is_dir():
        raise _missing(folder, name, f"{name}/train.json", TRACE_ORDER)
    train, test = (read_rows(folder / name / f"{part}.json") for part in ("train", "test"))
    return TextTask(
        name, TRACE_SCORES[name], _examples(train, PROMPT_ANSWER, empty=True), _examples(test, PROMPT_ANSWER)
    )


def read_task(path: Path, score: str, name: str | None = None, fields: Fields = INPUT_OUTPUT) -> TextTask:
    """One file with a definition and all rows, each with ``input`` and ``output`` (an answer or a list).

    Either ``{"definition", "train", "test"}`` or, as Natural Instructions has it, ``{"Definition", "Instances"}``, of
    which a test set is held out (`hold_out`). Training answers may be empty, as some published ones are.

    Args:
        path: of the file.
        score: a name in `clbench.texts.scoring.SCORES`.
        name: of the task; the file's stem where None.
        fields: what is read of each row; its instruction is the definition where they name none.

    Raises:
        DataError: the file is not there, is in neither layout, or has a row that is not as it should be.
    """
    data = read_object(path)
    if "train" in data:
        train, test = (
            _part(data, "train", path, fields, empty=True),
            _part({"test": [], **data}, "test", path, fields.asked),
        )
    else:
        train, test = hold_out(_part(data, "Instances", path, fields, empty=True), str(path))
    return TextTask(name or path.stem, score, train, test)


def read_file(
    path: Path, fields: Fields = INPUT_OUTPUT, score: str = "exact_match", name: str | None = None
) -> TextTask:
    """One file: `read_task`'s, or rows, a JSON list of objects or an object per line, with a test set held out.

    Args:
        path: of the file.
        fields: what is read of each row.
        score: a name in `clbench.texts.scoring.SCORES`.
        name: of the task; the file's stem where None.

    Raises:
        DataError: the file is not there, or has a line or a row that is not as it should be.
    """
    if holds_object(path, PARTS):
        return read_task(path, score, name, fields)
    train, test = hold_out(_examples(read_rows(path), fields), str(path))
    return TextTask(name or path.stem, score, train, test)


def read_files(
    train: Path, test: Path, fields: Fields = INPUT_OUTPUT, score: str = "exact_match", name: str | None = None
) -> TextTask:
    """As `read_file`, with the test rows in a file of their own; the task is named after the training file."""
    rows = read_rows(train), read_rows(test)
    return TextTask(name or train.stem, score, _examples(rows[0], fields), _examples(rows[1], fields.asked))


def read_questions(path: Path) -> tuple[TextExample, ...]:
    """Questions of one file to be asked only: the test rows of `read_task`'s layouts, or all rows of a plain file.

    Raises:
        DataError: the file is not there, has no such rows, or one that is not as it should be.
    """
    if not holds_object(path, PARTS):
        found = _examples(read_rows(path), INPUT_OUTPUT)
    else:
        data = read_object(path)
        found = _part(data, "Instances" if "Instances" in data else "test", path)
    if not found:
        raise DataError(f"{path} has no questions; give some or leave it out")
    return found


def read_hub(
    name: str,
    subset: str | None = None,
    split: str = "train",
    test_split: str | None = "test",
    fields: Fields = INPUT_OUTPUT,
    score: str = "exact_match",
) -> TextTask:
    """A data set of the Hugging Face hub, or a local folder that ``datasets.load_dataset`` takes.

    Args:
        name: of the data set, or a folder's path.
        subset: its configuration, where it has several.
        split: rows to train on.
        test_split: rows to test on; a part of ``split`` (`hold_out`) where None.
        fields: what is read of each row; class labels become their names.
        score: a name in `clbench.texts.scoring.SCORES`.

    Raises:
        ConfigError: the package datasets is not installed.
        DataError: the data set cannot be had, or a row is not as it should be.
    """
    title = Path(name).name if Path(name).is_dir() else "/".join(filter(None, (name, subset)))
    rows = _examples(hub_rows(name, subset, split), fields)
    if test_split is None:
        return TextTask(title, score, *hold_out(rows, f"{title}, {split}"))
    return TextTask(title, score, rows, _examples(hub_rows(name, subset, test_split), fields.asked))


def hold_out(examples: Sequence[TextExample], place: str) -> tuple[tuple[TextExample, ...], tuple[TextExample, ...]]:
    """Training and test part: a tenth of the different questions, at least one, is for the test.

    Which ones does not depend on the order of the rows: those whose instruction and input have the lowest sha256. Equal
    questions stay together, and questions with an empty answer are for training.

    Args:
        examples: all there are.
        place: where they are from, for messages.

    Raises:
        DataError: there are fewer than two questions with answers.
    """
    keys = [hashlib.sha256(f"{e.instruction}\n{e.input}".encode()).hexdigest() for e in examples]
    unanswered = {key for key, e in zip(keys, examples, strict=True) if not all(map(str.strip, e.references))}
    questions = sorted(set(keys) - unanswered)
    if len(questions) < 2:
        raise DataError(f"{place}: {len(questions)} different questions are too few to hold a test set out; give one")
    tested = set(questions[: max(1, len(questions) // 10)])
    train = tuple(e for key, e in zip(keys, examples, strict=True) if key not in tested)
    return train, tuple(e for key, e in zip(keys, examples, strict=True) if key in tested)


def _of_suite(folder: Path, name: str, score: str, published: Sequence[str]) -> TextTask:
    whole, parts = folder / f"{name}.json", folder / name
    if whole.is_file():
        return read_task(whole, score, name)
    if not parts.is_dir():
        raise _missing(folder, name, f"{name}.json or {name}/train.json", published)
    train, test = parts / "train.json", parts / "test.json"
    trained = _part(read_object(train), "Instances", train, empty=True)
    return TextTask(name, score, trained, _part(read_object(test), "Instances", test))


def _missing(folder: Path, name: str, wanted: str, published: Sequence[str]) -> DataError:
    """The error for a task that is not there: what was looked for, near names, what else the folder lacks."""
    if not folder.is_dir():
        return DataError(f"no folder {str(folder)!r}; {wanted} was looked for in it")
    there = {entry.stem if entry.suffix == ".json" else entry.name for entry in folder.iterdir()}
    lacking = [task for task in published if task not in there]
    more = f" Of the {len(published)} published tasks it lacks: {', '.join(lacking)}." if lacking else ""
    return DataError(
        f"{folder} has no task {name!r} ({wanted}).{_near(name, [*there, *published])}{more} "
        "Put the task there or leave it out"
    )


def _near(name: str, known: Iterable[str]) -> str:
    names = {task.lower(): task for task in known if task != name}
    close = [names[found] for found in difflib.get_close_matches(name.lower(), names, n=2, cutoff=0.5)]
    return f" Did you mean {' or '.join(close)}?" if close else ""


def _part(
    data: dict[str, Any], key: str, path: Path, fields: Fields = INPUT_OUTPUT, empty: bool = False
) -> tuple[TextExample, ...]:
    """The rows under one key, with the file's definition as their instruction."""
    if key not in data:
        wanted = "test rows" if key == "test" else "train and test rows"
        raise DataError(f"{path} holds neither {wanted} nor Instances; it has: {', '.join(data)}")
    definition = data.get("definition", data.get("Definition")) or ""
    instruction = definition[0] if isinstance(definition, list) else definition
    return _examples(checked(data[key], f"{path}, {key} row"), fields, str(instruction), empty)


def _examples(
    rows: Iterable[Row], fields: Fields, instruction: str = "", empty: bool = False
) -> tuple[TextExample, ...]:
    return tuple(_example(row, fields, instruction, empty) for row in rows)


def _example(row: Row, fields: Fields, instruction: str, empty: bool) -> TextExample:
    asked = instruction if fields.instruction is None else row.text(fields.instruction)
    references = row.texts(fields.output)
    if not empty and not all(map(str.strip, references)):
        raise DataError(f"{row.place}: field {fields.output!r} is an empty answer; give one or remove the row")
    given = "" if fields.input is None else row.text(fields.input)
    return TextExample(asked, given, references, None if fields.rejected is None else row.text(fields.rejected))
