from __future__ import annotations

import pytest

from clbench.workers import visible_gpu


@pytest.mark.parametrize(
    ("workers", "gpus", "visible", "seen"),
    [
        (3, 1, "", ["0", "0", "0"]),
        (5, 2, "", ["0", "1", "0", "1", "0"]),
        (4, 2, "6,2", ["6", "2", "6", "2"]),
        (3, 2, "6, 2,-1,4", ["6", "2", "6"]),  # CUDA itself looks no further than a number that is none
        (2, 2, "GPU-aa,MIG-bb", ["GPU-aa", "MIG-bb"]),
    ],
)
def test_gpus_are_dealt_evenly_under_the_names_that_they_have_outside(
    workers: int, gpus: int, visible: str, seen: list[str]
) -> None:
    assert [visible_gpu(n, gpus, visible) for n in range(workers)] == [{"CUDA_VISIBLE_DEVICES": one} for one in seen]
