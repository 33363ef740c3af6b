"""The benchmarks run, and their arms do the same work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def carry_out(script: str, *words: str) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("workload", ["tiny", "adapters", "texts"])
def test_the_floor_takes_the_same_steps_with_the_same_parameters(workload: str, tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    shown = carry_out("loop.py", "--quick", "--workloads", workload, "--arms", "clbench", "floor", "--json", str(told))
    arms = {measured["arm"]: measured["result"] for measured in json.loads(told.read_text())}
    assert arms["clbench"]["steps"] == arms["floor"]["steps"] > 0
    assert arms["clbench"]["state_bytes"] == arms["floor"]["state_bytes"] > 0
    assert all(0 < arm["accuracy"] <= 100 for arm in arms.values())
    assert "clbench / floor: training" in shown


def test_a_study_is_carried_out_and_learns_with_avalanche_too() -> None:
    pytest.importorskip("avalanche", reason="needs avalanche-lib")
    shown = carry_out("study.py", "--quick", "--arms", "clbench-one", "avalanche-together").splitlines()
    accuracies = {line.split()[0]: float(line.split()[3]) for line in shown[2:]}
    assert set(accuracies) == {"clbench-one", "avalanche-together"}
    assert min(accuracies.values()) > 40  # chance is 20
