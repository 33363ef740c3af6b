from __future__ import annotations

import logging

import pytest
import torch

from clbench.errors import ConfigError, IncompatibleError
from clbench.kernels import dispatch
from tests.kernels.paths import by, needs_gpu

HERE = [torch.zeros(1)]


@pytest.fixture(autouse=True)
def _anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(dispatch, "_taken", {})
    dispatch._log.cache_clear()


def test_tensors_on_the_cpu_take_the_reference_and_this_can_be_told() -> None:
    assert not dispatch.by_triton("one", HERE, "too odd")
    assert not by("torch", dispatch.by_triton, "other", HERE)
    assert dispatch.paths() == {"one": ["torch: on cpu"], "other": ["torch: asked for"]}
    dispatch.begin()
    assert dispatch.paths() == {}


def test_an_operation_s_own_rules_hold_where_a_kernel_could_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_obstacle", lambda asked, tensors: "")
    monkeypatch.setattr(dispatch, "_version", lambda: "3.9.0")
    assert dispatch.by_triton("one", HERE)
    assert not dispatch.by_triton("one", HERE, "too odd")
    assert dispatch.paths() == {"one": ["torch: too odd", "triton 3.9.0"]}


def test_a_fallback_is_logged_once_per_operation_and_reason(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_obstacle", lambda asked, tensors: "")
    with caplog.at_level(logging.INFO, "clbench.kernels.dispatch"):
        for operation, reason in (("one", "no"), ("one", "no"), ("one", "too odd"), ("two", "no"), ("one", "too odd")):
            dispatch.by_triton(operation, HERE, reason)
        dispatch.begin()
        dispatch.by_triton("one", HERE, "no")
    assert caplog.messages == [
        "one takes the path torch: no",
        "one takes the path torch: too odd",
        "two takes the path torch: no",
    ]


def test_a_kernel_that_is_asked_for_and_cannot_run_is_one_line() -> None:
    with pytest.raises(IncompatibleError) as raised:
        by("triton", dispatch.by_triton, "one", HERE)
    assert str(raised.value) == "one has no Triton path here: on cpu; set CLBENCH_KERNELS=auto or torch"


def test_another_word_is_one_line() -> None:
    with pytest.raises(ConfigError) as raised:
        by("tritno", dispatch.by_triton, "one", HERE)
    assert str(raised.value) == "CLBENCH_KERNELS must be one of auto, torch, triton, got 'tritno'"


def test_without_triton_there_is_only_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_version", lambda: "")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(IncompatibleError, match="Triton is not installed"):
        by("triton", dispatch.by_triton, "one", HERE)


@needs_gpu
def test_tensors_on_a_gpu_take_the_kernel_but_not_together_with_others() -> None:
    there = [torch.zeros(1, device="cuda")]
    assert dispatch.by_triton("one", there)
    assert not dispatch.by_triton("two", there + HERE)
    assert not by("torch", dispatch.by_triton, "three", there)
