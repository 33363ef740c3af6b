"""Avalanche's benchmarks as our sources: called, read example by example, checked."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import io
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks import classic
from torch import Tensor

from clbench import seeding
from clbench.errors import ConfigError, DataError, IncompatibleError
from clbench.record import Setting
from clbench.registry import unknown
from clbench.table import Source

SEED, EXPERIENCES = 0, 5  # what a benchmark's function is told where it asks and the user has not said


@dataclass(frozen=True)
class Parent:
    """All that a benchmark holds.

    Attributes:
        train: columns ``image`` (N, C, H, W) uint8 and ``label`` (N,) int64, in the benchmark's order and numbers.
        test: likewise, of the same classes.
        order: class numbers as the benchmark's experiences bring them, sorted within each.
        sizes: classes per experience.
        setting: task-incremental where each experience has a task label of its own.
    """

    train: Source
    test: Source
    order: tuple[int, ...]
    sizes: tuple[int, ...]
    setting: Setting


def load(name: str, arguments: dict[str, Any], root: Path) -> Parent:
    """The benchmark called ``name``, read as a whole.

    Args:
        name: of a classic benchmark, e.g. ``SplitMNIST``, or ``module:function`` for one that returns a benchmark.
        arguments: of the function. ``n_experiences``, ``seed`` and ``dataset_root`` are filled in where it takes them.
        root: where data are looked for or downloaded to.

    Raises:
        UnknownNameError: there is no such classic benchmark.
        ConfigError: there is no such function, or it does not take the arguments.
        DataError: its data cannot be had, or are no images.
        IncompatibleError: a class comes more than once.
    """
    function = find(name)
    settled = _settled(function, name, arguments, root)
    silenced = contextlib.redirect_stdout(io.StringIO())
    try:
        with seeding.isolated(SEED, "benchmark"), warnings.catch_warnings(), silenced:
            warnings.simplefilter("ignore")
            benchmark = function(**settled)
    except (OSError, RuntimeError) as error:
        said = str(error).strip().replace("\n", " ")
        raise DataError(f"the data of {name} are not under {root} and cannot be had ({said})") from error
    except (AssertionError, TypeError, ValueError) as error:
        raise ConfigError(f"{name} refuses its arguments {settled}: {str(error).partition(chr(10))[0]}") from error
    return read(benchmark, name)


def find(name: str) -> Callable[..., Any]:
    """The function that makes the benchmark."""
    module, colon, function = name.partition(":")
    if not colon:
        known = [n for n, made in vars(classic).items() if inspect.isfunction(made) and n[0].isupper()]
        if name not in known:
            raise unknown("Avalanche benchmark", name, [*sorted(known), "and yours as module:function"])
        return getattr(classic, name)  # type: ignore[no-any-return]
    try:
        with _working_folder():
            found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"scenario.name={name} cannot be imported: {error}") from error
    if not callable(found):
        raise ConfigError(f"scenario.name={name} is no function, but of type {type(found).__name__}")
    return found  # type: ignore[no-any-return]


@contextlib.contextmanager
def _working_folder() -> Iterator[None]:
    """Import from the working folder too, as ``python -m`` does and an installed command does not."""
    sys.path.append(str(Path.cwd()))
    try:
        yield
    finally:
        sys.path.pop()


def _settled(function: Callable[..., Any], name: str, given: dict[str, Any], root: Path) -> dict[str, Any]:
    taken = inspect.signature(function).parameters
    anything = any(p.kind is p.VAR_KEYWORD for p in taken.values())
    for key in given:
        if key not in taken and not anything:
            near = difflib.get_close_matches(key, taken, n=2, cutoff=0.5)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise ConfigError(f"{name} takes no argument {key!r}.{hint} It takes: {', '.join(taken) or '-'}")
    needed = [k for k, p in taken.items() if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    filled = {"seed": SEED, "dataset_root": str(root)} | {k: EXPERIENCES for k in needed if k == "n_experiences"}
    settled = {key: value for key, value in filled.items() if key in taken} | given
    for key in needed:
        if key not in settled:
            raise ConfigError(f"{name} needs scenario.arguments.{key}=...")
    return settled


def read(benchmark: Any, name: str = "the benchmark") -> Parent:
    """All examples of a benchmark's train and test streams, untransformed.

    Raises:
        IncompatibleError: it has no such streams, or a class comes more than once.
        DataError: an example is no image of whole values, or a class has no test example.
    """
    try:
        trains = [experience.dataset for experience in benchmark.train_stream]
        tests = [experience.dataset for experience in benchmark.test_stream]
    except AttributeError as error:
        raise IncompatibleError(f"{name} is no benchmark with train_stream and test_stream: {error}") from error
    order, sizes = _classes(trains, name)
    train, test = _source(trains, name), _source(tests, name)
    untested = set(order) - set(test.columns["label"].tolist())
    if untested:
        raise DataError(f"{name} has no test example of class {min(untested)}")
    return Parent(train, test, tuple(order), tuple(sizes), _setting(trains))


def _classes(datasets: list[Any], name: str) -> tuple[list[int], list[int]]:
    """Class numbers in their order, and how many each experience brings."""
    order: list[int] = []
    sizes = []
    for index, data in enumerate(datasets):
        classes = sorted({int(label) for label in data.targets})
        again = set(order) & set(classes)
        if again:
            raise IncompatibleError(
                f"experience {index} of {name} brings class {min(again)} a second time; "
                "clbench takes class- and task-incremental benchmarks, where each class comes once"
            )
        order += classes
        sizes.append(len(classes))
    return order, sizes


def _setting(datasets: list[Any]) -> Setting:
    tasks = [set(getattr(data, "targets_task_labels", [0])) for data in datasets]
    apart = len(tasks) > 1 and all(len(t) == 1 for t in tasks) and len(set().union(*tasks)) == len(tasks)
    return Setting.TASK_INCREMENTAL if apart else Setting.CLASS_INCREMENTAL


def _source(datasets: list[Any], name: str) -> Source:
    images, labels = [], []
    for data in datasets:
        bare = data.remove_current_transform_group()
        images += [stored(bare[i][0], name) for i in range(len(bare))]
        labels += [int(label) for label in data.targets]
    shapes = {tuple(image.shape) for image in images}
    if len(shapes) != 1:
        raise DataError(f"the images of {name} must all have one shape, got {', '.join(map(str, sorted(shapes)[:3]))}")
    return Source({"image": torch.stack(images), "label": torch.tensor(labels)})


def stored(image: Any, name: str) -> Tensor:
    """An image as (C, H, W) uint8: from PIL, or an array or tensor of bytes, or one of bytes divided by 255.

    Raises:
        DataError: its values are no bytes.
    """
    value = image if isinstance(image, Tensor) else torch.from_numpy(np.array(image))
    if not isinstance(image, Tensor) and value.ndim == 3:
        value = value.permute(2, 0, 1)
    value = value[None] if value.ndim == 2 else value
    if value.is_floating_point():
        scaled = value * 255
        if float((scaled - scaled.round()).abs().max()) < 1e-3 and 0 <= float(value.min()) <= float(value.max()) <= 1:
            value = scaled.round().to(torch.uint8)
    if value.dtype is not torch.uint8 or value.ndim != 3:
        raise DataError(
            f"{name} holds {value.dtype} of shape {tuple(value.shape)}; clbench stores images of bytes: "
            "leave normalising to the transform groups, so that it can be taken off"
        )
    return value.contiguous()
