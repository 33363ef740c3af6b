"""Scenarios: streams of experiences, and what a learner is told about them.

A scenario is a function of its config and a seed. It hands out a `Stream`; `halves` splits it into two scenarios
without a common class, one to tune on and one to report. Data are found under ``data.root``, the environment variable
``CLBENCH_DATA``, or downloaded, as each scenario's file says.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from clbench.augment import Transform
from clbench.errors import IncompatibleError, LeakError
from clbench.models.classifier import build_classifier
from clbench.models.config import ModelConfig
from clbench.models.model import Model
from clbench.probe import Probe
from clbench.record import Part, Setting
from clbench.registry import Registry
from clbench.table import Source, Table
from clbench.texts.answers import Answers, ClassAnswers


class Modality(Enum):
    """What a stream's examples are."""

    IMAGES = "images"
    TEXTS = "texts"


@dataclass(frozen=True)
class Experience:
    """One step of a stream: what arrives together and is never seen again.

    Attributes:
        index: counted from 0.
        name: for people.
        train: examples to learn; columns ``image`` (or those of `clbench.texts.tokens`), ``label`` and ``task``, labels
            counted in order of arrival. A text's label is its task.
        test: held-out examples of the same classes.
        classes: labels that are new here.
        outputs: classes a learner may answer with once this experience has been learnt.
        shortened: how many of its texts, for training and test, were too long and lost a part.
    """

    index: int
    name: str
    train: Table
    test: Table
    classes: tuple[int, ...]
    outputs: int
    shortened: int = 0


@dataclass(frozen=True)
class Stream:
    """The experiences in their order, and how they are measured.

    Attributes:
        experiences: in the order of learning.
        setting: whether the learner is told an example's experience (column ``task``) when it predicts.
        transform: from stored examples to a network's input.
        shape: of one example as a network takes it: (C, H, W) of an image, (L,) of a text.
        digest: sha256 of the data and of the order, in hexadecimal.
        source_digest: of the data alone, whatever the order.
        class_ids: names of the classes that are the same in every scenario that shows them; none where unknown.
        answers: how a learner is asked and scored.
        probes: abilities that are never trained here, measured before, during and after.
        moments: numbers of experiences after which it is measured; None: after each. The start and the end always are.
        notes: what is known of the data and worth telling beside results, as JSON values.
        reference: texts of the kind that a language model was trained on, columns of `clbench.texts.tokens`, for
            statistics of what is to stay; none of them is an example or a question of this stream. None where there
            are none.
    """

    experiences: tuple[Experience, ...]
    setting: Setting
    transform: Transform
    shape: tuple[int, ...]
    digest: str
    source_digest: str = ""
    class_ids: frozenset[str] = frozenset()
    answers: Answers = field(default_factory=ClassAnswers)
    probes: tuple[Probe, ...] = ()
    moments: frozenset[int] | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    reference: Table | None = None

    def measured(self, after: int) -> bool:
        """Whether the stream is measured after so many experiences."""
        return self.moments is None or after in self.moments or after in (0, len(self.experiences))

    @property
    def task_of_class(self) -> tuple[int, ...]:
        """Index of the experience that brings each class, by label."""
        return tuple(e.index for e in self.experiences for _ in e.classes)


class Scenario(ABC):
    """A family of streams: one per seed."""

    version: ClassVar[int] = 1
    """Raised when the same config and seed come to mean another stream; a part of every run's identity."""

    modality: ClassVar[Modality] = Modality.IMAGES

    training: ClassVar[dict[str, Any]] = {}
    """Values of strategy fields, by name, that learners start with here where the user names none. One made by
    `clbench.space.searched` is searched in its range, a plain one is not searched."""

    default_model: ClassVar[str] = "small_cnn"
    """The backbone used where the user names none."""

    pretrained_model: ClassVar[str] = "pretrained_vit"
    """The backbone used where the user names none and the strategy starts from a pre-trained one."""

    criterion: ClassVar[str] = "average_incremental_accuracy"
    """The metric by which hyper-parameters are chosen where the user names none."""

    def __init__(
        self,
        config: Any,
        root: Path | None = None,
        device: torch.device | str = "cpu",
        model: ModelConfig | None = None,
    ) -> None:
        self.config, self.root, self.device = config, root, torch.device(device)
        self.model = ModelConfig() if model is None else model

    def build_model(self, stream: Stream) -> Model:
        """The model that a run learns this stream with, freshly initialised or with the weights that are named."""
        tasks = stream.task_of_class if stream.setting is Setting.TASK_INCREMENTAL else None
        shape = cast("tuple[int, int, int]", stream.shape)
        model = build_classifier(self.model, shape, self.default_model, tasks)
        # With task identity all outputs stand from the start: forward transfer asks them before they are trained.
        model.grow(len(tasks or ()))
        return model

    @abstractmethod
    def check(self, part: Part) -> None:
        """Say early what would go wrong: a missing file, a half that cannot be cut into experiences.

        Raises:
            ClbenchError: in one line.
        """

    @abstractmethod
    def stream(self, seed: int, part: Part = Part.WHOLE, split_seed: int | None = None, swap: bool = False) -> Stream:
        """The stream of one part under one seed."""

    def halves(self, split_seed: int | None = None, swap: bool = False) -> tuple[Handle, Handle]:
        """The tuning half and the evaluation half: the same configuration, no class in common.

        Args:
            split_seed: draws the halves at random; by class number, the first half for tuning, where None.
            swap: exchange the two.
        """
        return (
            Handle(self, Part.TUNING_HALF, split_seed, swap),
            Handle(self, Part.EVALUATION_HALF, split_seed, swap),
        )


class Handle:
    """The right to open one part of a scenario, and no other: all that a run is given."""

    def __init__(self, scenario: Scenario, part: Part, split_seed: int | None = None, swap: bool = False) -> None:
        self._scenario, self.part, self.split_seed, self.swap = scenario, part, split_seed, swap

    def open(self, seed: int, part: Part | None = None) -> Stream:
        """The stream under ``seed``.

        Raises:
            LeakError: ``part`` names another part than this handle's.
        """
        if part is not None and part is not self.part:
            raise LeakError(f"this run may open the {self.part.value} only, not the {part.value}")
        return self._scenario.stream(seed, self.part, self.split_seed, self.swap)


scenarios: Registry[Scenario] = Registry("scenario", "clbench.scenarios")


def class_order(count: int, seed: int) -> list[int]:
    """The order in which classes arrive, as the class-incremental field draws it.

    ``numpy.random.RandomState(seed).permutation(count)``; seed 1993 is the order of most published tables.
    """
    return [int(c) for c in np.random.RandomState(seed).permutation(count)]


def half_of_classes(count: int, part: Part, split_seed: int | None = None, swap: bool = False) -> list[int]:
    """Class numbers of a part: all, the first half (tuning) or the second half (evaluation), sorted.

    Without a ``split_seed`` the cut is by number, 0 .. count/2 - 1 and the rest (GTEP, arXiv 2403.09066, released
    code); with one, of a permutation drawn from it.
    """
    if part is Part.WHOLE:
        return list(range(count))
    classes = list(range(count)) if split_seed is None else class_order(count, split_seed)
    first = (part is Part.TUNING_HALF) is not swap
    return sorted(classes[: count // 2] if first else classes[count // 2 :])


def increments(count: int, base: int, increment: int) -> list[int]:
    """Classes per experience: ``base`` first (0: none apart), then ``increment`` each, then what is left.

    A base of all classes is a single experience: what joint training on everything at once can reach.

    Raises:
        IncompatibleError: fewer than two experiences come out otherwise, or base is more than there are.
    """
    sizes = [base] if base else []
    while sum(sizes) + increment <= count:
        sizes.append(increment)
    if sum(sizes) < count:
        sizes.append(count - sum(sizes))
    if base > count or (len(sizes) < 2 and base != count):
        raise IncompatibleError(
            f"{count} classes cannot be cut into two or more experiences with base={base} and increment={increment}; "
            "lower scenario.base or scenario.increment, or use protocol=single, which does not halve the classes"
        )
    return sizes


def class_stream(
    train: Source | Table,
    test: Source | Table,
    classes: Sequence[int],
    sizes: Sequence[int],
    seed: int,
    setting: Setting,
    transform: Transform,
    digest: str,
    names: Sequence[str] = (),
    order: Sequence[int] | None = None,
    family: str = "",
) -> Stream:
    """A stream of new classes, cut out of one training and one test source.

    Args:
        train: columns ``image`` (N, C, H, W) uint8 (or another that the transform reads) and ``label`` (N,) int64, the
            parent's class numbers; all rows, or those of a table.
        test: likewise.
        classes: the parent's class numbers that take part.
        sizes: classes per experience.
        seed: of the class order.
        setting: with or without task identity.
        transform: from stored examples to a network's input.
        digest: of the parent's data.
        names: of the parent's classes, for people.
        order: in which ``classes`` arrive; drawn from the seed where None.
        family: of data sets that share classes, for `Stream.class_ids`.

    Returns:
        A stream whose labels count classes in order of arrival.
    """
    order = [classes[i] for i in class_order(len(classes), seed)] if order is None else list(order)
    called = [names[c] for c in order] if names else []
    learnt, asked = (_relabelled(data, order, sizes) for data in (train, test))
    experiences = tuple(_experiences(learnt, asked, sizes, called, setting))
    text = f"{digest} {order} {list(sizes)} {setting.value}"
    stored = tuple(learnt.source.columns[transform.reads].shape[1:])
    return Stream(
        experiences=experiences,
        setting=setting,
        transform=transform,
        shape=transform.output_shape(stored),
        digest=hashlib.sha256(text.encode()).hexdigest(),
        source_digest=digest,
        class_ids=frozenset(f"{family}/{name}" for name in called or order) if family else frozenset(),
        answers=ClassAnswers(told=setting is Setting.TASK_INCREMENTAL),
    )


def _relabelled(data: Source | Table, order: Sequence[int], sizes: Sequence[int]) -> Table:
    """The same images, with labels counted in order of arrival (-1: takes no part) and each label's experience."""
    table = data if isinstance(data, Table) else Table(data)
    source, label = table.source, table.source.columns["label"]
    arrival: Tensor = torch.full((int(label.max()) + 1,), -1, device=label.device)
    arrival[torch.tensor(order, device=label.device)] = torch.arange(len(order), device=label.device)
    tasks = [task for task, size in enumerate(sizes) for _ in range(size)]
    task_of = torch.tensor([*tasks, -1], device=label.device)
    new = arrival[label]
    columns = {**source.columns, "label": new, "task": task_of[new]}
    return Table(Source(columns, source.device, source.mapped, source.layout), table.rows)


def _experiences(
    train: Table, test: Table, sizes: Sequence[int], names: Sequence[str], setting: Setting
) -> Iterator[Experience]:
    """Tables whose labels count classes in order of arrival, cut at so many classes each; names in that order."""
    labels = [table.column("label") for table in (train, test)]
    stop = 0
    for index, size in enumerate(sizes):
        start, stop = stop, stop + size
        rows = [((y >= start) & (y < stop)).nonzero()[:, 0] for y in labels]
        yield Experience(
            index=index,
            name=", ".join(names[start:stop]) or f"classes {start}-{stop - 1}",
            train=train.select(rows[0]),
            test=test.select(rows[1]),
            classes=tuple(range(start, stop)),
            outputs=stop if setting is Setting.CLASS_INCREMENTAL else sum(sizes),
        )
