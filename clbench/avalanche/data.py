"""Our tables as Avalanche's datasets, experiences and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from avalanche.benchmarks.scenarios.dataset_scenario import DatasetExperience
from avalanche.benchmarks.scenarios.generic_scenario import CLScenario, EagerCLStream
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.benchmarks.utils.classification_dataset import TaskAwareSupervisedClassificationDataset
from avalanche.benchmarks.utils.data_attribute import DataAttribute, TaskLabels
from avalanche.benchmarks.utils.transform_groups import TransformGroups
from torch import Tensor

from clbench import augment
from clbench.freezer import Coder, Freeze
from clbench.record import Setting
from clbench.scenario import Experience, Scenario, Stream
from clbench.table import Source, Table

ROW = "row"
"""Data attribute of every dataset made here: the example's row in its source."""


class Images:
    """Where datasets look images up: a source that may be put in place after the datasets were made."""

    def __init__(self, source: Source | None = None) -> None:
        self._source: Source | None = None
        if source is not None:
            self.put(source)

    def put(self, source: Source) -> None:
        """Look up in ``source`` from now on. Avalanche collates single examples, so its images stay on the CPU."""
        if source is not self._source:
            self._source, self._column = source, source.columns["image"].cpu()

    def __getitem__(self, row: int) -> Tensor:
        """One stored image, (C, H, W) uint8."""
        return self._column[row]


class Pictures(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Images and labels, one example at a time, untransformed.

    Args:
        images: where images are looked up.
        rows: of the examples.
        labels: of the examples.
    """

    def __init__(self, images: Images, rows: Sequence[int], labels: Sequence[int]) -> None:
        self.images, self.rows, self.targets = images, rows, labels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[self.rows[index]], self.targets[index]


class Transform:
    """A transform of ours for one image; what it draws comes from torch's global state, as Avalanche's own does."""

    def __init__(self, transform: augment.Transform, training: bool) -> None:
        self.transform, self.training = transform, training

    def __call__(self, image: Tensor) -> Tensor:
        """From (C, H, W) uint8 to float32."""
        batch = {"image": image[None]}
        if self.training:
            return self.transform.train(batch, torch.default_generator)["image"][0]
        return self.transform.evaluate(batch)["image"][0]


def dataset(
    images: Images, rows: Sequence[int], labels: Sequence[int], tasks: Sequence[int], transform: augment.Transform
) -> Any:
    """An Avalanche dataset of (image, label, task), with our transform in its ``train`` and ``eval`` groups."""
    attributes = [DataAttribute(labels, "targets"), TaskLabels(tasks), DataAttribute(rows, ROW)]
    groups = {"train": Transform(transform, training=True), "eval": Transform(transform, training=False)}
    return TaskAwareSupervisedClassificationDataset(
        [Pictures(images, rows, labels)],
        data_attributes=attributes,
        transform_groups=TransformGroups(groups),
    )


def of_table(images: Images, table: Table, setting: Setting, transform: augment.Transform) -> Any:
    """The examples of a table whose source ``images`` looks up; the task is 0 throughout in class-incremental ones."""
    labels, tasks = table.column("label").tolist(), table.column("task").tolist()
    if setting is Setting.CLASS_INCREMENTAL:
        tasks = [0] * len(labels)
    return dataset(images, table.rows.tolist(), labels, tasks, transform)


def experience(data: Any, ours: Experience) -> Any:
    """One Avalanche experience with its data, its classes and its task labels."""
    made = DatasetExperience(dataset=data, current_experience=ours.index)
    made.classes_in_this_experience = sorted(ours.classes)
    made.previous_classes = list(range(ours.classes[0]))
    made.classes_seen_so_far = list(range(ours.classes[-1] + 1))
    made.task_labels = sorted(data.targets_task_labels.uniques)
    made.task_label = made.task_labels[0]
    return made


def benchmark(scenario: Scenario | Stream, seed: int = 0) -> Any:
    """A scenario as an Avalanche benchmark, with ``train_stream`` and ``test_stream``.

    Labels count classes in order of arrival, an experience's task label is its index where the setting is
    task-incremental and 0 elsewhere, and both transform groups are the scenario's.

    Args:
        scenario: any clbench scenario, or one of its streams.
        seed: of the scenario's stream; without meaning for a stream.
    """
    stream = scenario if isinstance(scenario, Stream) else scenario.stream(seed)
    streams = []
    for name in ("train", "test"):
        tables: list[Table] = [getattr(ours, name) for ours in stream.experiences]
        images = Images(tables[0].source)
        experiences = []
        for ours, table in zip(stream.experiences, tables, strict=True):
            data = of_table(images, table, stream.setting, stream.transform)
            made = experience(data if name == "train" else data.eval(), ours)
            made.future_classes = list(range(ours.classes[-1] + 1, len(stream.task_of_class)))
            experiences.append(made)
        streams.append(EagerCLStream(name, experiences))
    return CLScenario(streams)


class DatasetCoder(Coder):
    """A dataset made here, or cut and joined from such, as its row numbers.

    Args:
        images: where thawed datasets look images up.
        transform: of thawed datasets.
    """

    kind = AvalancheDataset

    def __init__(self, images: Images, transform: augment.Transform) -> None:
        self.images, self.transform = images, transform

    def freeze(self, value: Any, freeze: Freeze) -> Any:
        """Rows, labels and tasks (N,) int64, and further attributes.

        Raises:
            TypeError: the dataset holds examples that are no rows of ours.
        """
        if not len(value):
            return {"rows": torch.empty(0, dtype=torch.int64)}
        attributes = dict(value._data_attributes)
        if not {ROW, "targets", "targets_task_labels"} <= attributes.keys():
            raise TypeError(f"a dataset with the attributes {', '.join(attributes)} only")
        own = {name: torch.tensor(list(attributes.pop(name))) for name in (ROW, "targets", "targets_task_labels")}
        return {
            "rows": own[ROW],
            "labels": own["targets"],
            "tasks": own["targets_task_labels"],
            "group": value._flat_data._transform_groups.current_group,
            "more": [[name, a.use_in_getitem, freeze(list(a))] for name, a in attributes.items()],
        }

    def thaw(self, plain: Any, thaw: Freeze) -> Any:
        """The dataset, empty or of the class that `dataset` makes."""
        if not len(plain["rows"]):
            return AvalancheDataset([])
        rows, labels, tasks = (plain[name].tolist() for name in ("rows", "labels", "tasks"))
        made = dataset(self.images, rows, labels, tasks, self.transform).with_transforms(plain["group"])
        more = [DataAttribute(thaw(values), name, in_item) for name, in_item, values in plain["more"]]
        return type(made)([made], data_attributes=more) if more else made
