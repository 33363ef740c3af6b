from __future__ import annotations

import pytest
import torch

from clbench import engine, examination


def test_of_many_answers_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.learning import instructions, strategy

    monkeypatch.setattr(examination, "KEPT", 3)
    monkeypatch.setattr(examination, "BATCH", 5)
    stream = instructions().stream(0)
    measured, kept = examination.examine(strategy("naive", stream), stream, 0)
    assert [m.total for m in measured] == [8] * 8
    assert [row["experience"] for row in kept] == [e.name for e in stream.experiences for _ in range(3)]
    shown = [
        stream.answers.transcript(torch.zeros(3, 1, dtype=torch.int64), b)
        for e in stream.experiences
        for b in [next(e.test.batches(3))]
    ]
    assert [row["input"] for row in kept] == [row["input"] for rows in shown for row in rows]


def test_measuring_in_one_pass_is_measuring_each_experience() -> None:
    from tests.learning import digits, strategy

    stream = digits()
    learner = strategy("naive", stream)
    for experience in stream.experiences[:3]:
        engine.learn(learner, experience)
    for measured in examination.measure(learner, stream, 3):
        test = stream.experiences[measured.experience].test
        correct = sum(int((learner.predict({"image": b["image"]}) == b["label"]).sum()) for b in test.batches(7))
        assert (measured.correct, measured.total) == (correct, len(test))
