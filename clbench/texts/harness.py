"""Tasks of EleutherAI's lm-evaluation-harness (pip install 'clbench[harness]') as probes, run by its own code.

``TASK`` or ``TASK:METRIC``: a name that the harness lists (``lm-eval ls tasks``), or a task's YAML file. The metric is
``acc`` where the task has it, else its first one, with all that belongs to the task: its prompts, its few-shot
examples, its data, which the harness downloads or finds itself.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import functools
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clbench.errors import ConfigError, DataError, IncompatibleError, UnknownNameError
from clbench.probe import Probe, Probed, Unit

ROWS = 8  # requests that a model answers at a time


def check_tasks(tasks: Sequence[str]) -> None:
    """See that the harness is installed and knows all tasks, without loading their data.

    Raises:
        ConfigError: it is not installed.
        UnknownNameError: it has no such task.
    """
    for task in tasks:
        name, _ = _parts(task)
        known = _manager(name).all_tasks
        if name not in known and not Path(name).is_file():
            close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            hint = f" Did you mean {' or '.join(close)}?" if close else ""
            raise UnknownNameError(
                f"lm-evaluation-harness has no task {name!r}.{hint} `lm-eval ls tasks` lists them; a YAML file will do"
            )


def title(task: str) -> str:
    """What tables call a task: as it is named, a YAML file by its stem."""
    name, metric = _parts(task)
    stem = Path(name).stem if Path(name).is_file() else name
    return f"{stem}:{metric}" if metric else stem


class HarnessProbe(Probe):
    """A task of the harness.

    Args:
        task: ``TASK`` or ``TASK:METRIC``.
        fast: the model's tokenizer, of transformers.
        size: examples, the first ones; None: all.
    """

    unit = Unit.ACCURACY

    def __init__(self, task: str, fast: Any, size: int | None = None) -> None:
        self.name, self.task, self.fast, self.size = title(task), task, fast, size

    def measure(self, strategy: Any, after: int = 0) -> Probed:
        """The metric times the examples, over the examples.

        Raises:
            IncompatibleError: the strategy has no single network, or the metric is no share.
            DataError: the harness cannot run the task.
        """
        model: Any = getattr(strategy, "model", None)
        if not hasattr(model, "network") or getattr(model, "routed", False):
            raise IncompatibleError(
                f"{self.name} asks one network, and {type(strategy).__name__} has none or several; leave "
                "scenario.probe_harness out"
            )
        model.eval()
        name, metric = _parts(self.task)
        found = self._evaluated(name, model.network)
        size = sum(int(counts["effective"]) for counts in found["n-samples"].values())
        return Probed(size * _share(self.name, _chosen(found, name), metric), size)

    def _evaluated(self, name: str, network: Any) -> Mapping[str, Any]:
        with _quiet():
            from lm_eval import simple_evaluate
            from lm_eval.models.huggingface import HFLM

            try:
                # The harness may give its tokenizer a padding token.
                asked = HFLM(pretrained=network, tokenizer=copy.deepcopy(self.fast), batch_size=ROWS)
                found: Mapping[str, Any] = simple_evaluate(
                    asked,
                    tasks=[name],
                    limit=self.size,
                    bootstrap_iters=0,
                    log_samples=False,
                    task_manager=_manager(name),
                )
            except Exception as error:  # of the hub, the data, the task's own code: each has exceptions of its own
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise DataError(f"lm-evaluation-harness cannot run {name!r}: {reason}") from error
        return found


def _parts(task: str) -> tuple[str, str]:
    name, _, metric = task.partition(":")
    return name, metric


def _chosen(found: Mapping[str, Any], name: str) -> dict[str, float]:
    """The metrics of a task, or of a group of tasks."""
    results = {**found["results"], **found.get("groups", {})}
    # A YAML file names its task itself.
    values = results[name] if name in results else next(iter(results.values()))
    return {key: value for key, value in values.items() if "," in key and "_stderr" not in key}


def _share(task: str, values: Mapping[str, float], metric: str) -> float:
    fitting = [key for key in values if metric in (key, key.partition(",")[0])]
    if metric and not fitting:
        raise IncompatibleError(f"{task}: there is no such metric; there are {', '.join(values)}")
    usual = [key for key in values if key.startswith("acc,")]
    key = [*fitting, *usual, *values][0]
    if not 0 <= values[key] <= 1:
        raise IncompatibleError(f"{task}: {key} is {values[key]:g}, no share in [0, 1]; name another, TASK:METRIC")
    return values[key]


def _manager(name: str) -> Any:
    """What knows a task; a YAML file needs no index of the harness's own ten thousand."""
    return _index(not Path(name).is_file())


@functools.cache
def _index(defaults: bool) -> Any:
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise ConfigError(
            f"scenario.probe_harness needs a package ({error}): pip install 'clbench[harness]'"
        ) from error
    with _quiet():
        return TaskManager(include_defaults=defaults)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the harness's bars and warnings, nor what the programs that it calls have to say."""
    logger, shown = logging.getLogger("lm_eval"), os.dup(2)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with Path(os.devnull).open("w") as nothing, warnings.catch_warnings():
            os.dup2(nothing.fileno(), 2)
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(shown, 2)
        os.close(shown)
        logger.setLevel(level)
