from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import pytest

from clbench.record import (
    Cost,
    Environment,
    ExperienceInfo,
    Measurement,
    Part,
    Phase,
    Record,
    Selection,
    Setting,
    Status,
)

ENVIRONMENT = Environment("0.1.0", "abc1234", "3.12", {"torch": "2.5"}, "Linux", "cpu", 1)
MATRIX = ((90,), (60, 80), (50, 70, 90))


class MakeRecord(Protocol):
    def __call__(
        self,
        matrix: Sequence[Sequence[int]] = ...,
        *,
        totals: Sequence[int] | None = ...,
        before: Sequence[int] = ...,
        classes: Sequence[int] | None = ...,
        **fields: Any,
    ) -> Record: ...


@pytest.fixture(scope="session")
def make_record() -> MakeRecord:
    """Makes a record of right answers: one row per experience learnt, as long as what was measured; 100 tests each."""
    return _make


def _make(
    matrix: Sequence[Sequence[int]] = MATRIX,
    *,
    totals: Sequence[int] | None = None,
    before: Sequence[int] = (),
    classes: Sequence[int] | None = None,
    **fields: Any,
) -> Record:
    size = len(totals or classes or matrix)
    totals, classes = totals or [100] * size, classes or [2] * size
    settled: dict[str, Any] = {
        "status": Status.FINISHED,
        "scenario": "digits",
        "scenario_config": {"increment": 2},
        "scenario_version": 1,
        "part": Part.WHOLE,
        "split_seed": None,
        "swapped": False,
        "setting": Setting.CLASS_INCREMENTAL,
        "strategy": "naive",
        "strategy_config": {"lr": 0.1},
        "strategy_version": 1,
        "model_config": {"name": "small_cnn"},
        "asked": {},
        "protocol": "single",
        "phase": Phase.EVALUATION,
        "selection": Selection(by="given"),
        "seed": 0,
        "access": "no replay",
        "transform": "",
        "environment": ENVIRONMENT,
        "started": "2025-01-01T00:00:00+00:00",
        "experiences": tuple(
            ExperienceInfo(f"experience {j}", n, 500, total)
            for j, (n, total) in enumerate(zip(classes, totals, strict=True))
        ),
        "measurements": tuple(
            Measurement(after, j, correct, totals[j])
            for after, row in enumerate([before, *matrix])
            for j, correct in enumerate(row)
        ),
        "costs": tuple(Cost(t, 1.5, 1.4, 0.1, 0.1, 2_000_000, 64_000, 12_345, 12_345) for t in range(len(matrix))),
    }
    settled |= fields
    identity = f"{settled['strategy']}-{sorted(settled['strategy_config'].items())}-{settled['seed']}"
    return Record(**{"run": identity, "data_digest": f"data {settled['seed']}"} | settled)


@pytest.fixture(autouse=True, scope="session")
def _caches_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
