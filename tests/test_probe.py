from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from clbench.models.causal import CausalModel
from clbench.probe import AnswerProbe, ArrivingProbe, Probed, TeacherForcedProbe, Unit
from clbench.table import Batch, Source
from clbench.texts.tokens import columns
from tests.language import BOS, EOS, PAD, editor, edits_to_learn, network


class Numbered(ArrivingProbe):
    """Each row's score is its own number / 10; notes which rows were asked."""

    def __init__(self, arrivals: Tensor | None, count: int = 6) -> None:
        super().__init__("numbered", Source({"row": torch.arange(count)}), Unit.GAIN, arrivals)
        self.seen: list[int] = []

    def scores(self, strategy: Any, batch: Batch) -> list[float]:
        self.seen += batch["row"].tolist()
        return [row / 10 for row in batch["row"].tolist()]


@pytest.mark.parametrize("after", range(5))
def test_rows_are_asked_about_once_they_have_arrived_and_all_before_any_training(after: int) -> None:
    arrivals = [2, 0, 1, 0, 3, 1]
    probe = Numbered(torch.tensor(arrivals))
    wanted = [row for row, when in enumerate(arrivals) if after == 0 or when < after]
    assert probe.measure(None, after) == Probed(pytest.approx(sum(wanted) / 10), len(wanted))  # type: ignore[arg-type]
    assert probe.seen == wanted


def test_without_arrivals_all_rows_are_always_asked_about() -> None:
    assert [Numbered(None).measure(None, after).size for after in (0, 1, 9)] == [6, 6, 6]


def test_where_nothing_has_arrived_nothing_is_counted() -> None:
    assert Numbered(torch.full((6,), 3)).measure(None, 2) == Probed(0, 0)


def likeliest(made: Any, prompt: list[int], target: list[int]) -> float:
    """The share of a target's tokens, EOS aside, that are the likeliest after the prompt and the right ones before."""
    right = 0
    for place, token in enumerate(target):
        logits = made(input_ids=torch.tensor([prompt + target[:place]])).logits
        right += int(logits[0, -1].argmax()) == token
    return right / len(target)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("pad", [PAD, EOS])
@torch.no_grad()
def test_teacher_forcing_counts_the_likeliest_tokens_after_the_right_ones(kind: str, pad: int) -> None:
    made = network(kind)
    draws = torch.Generator().manual_seed(0)
    prompts, targets = [], []
    for row in range(24):
        prompt = [BOS, *torch.randint(3, 20, (1 + row % 4,), generator=draws).tolist()]
        first = made(input_ids=torch.tensor([prompt])).logits[0, -1].argmax().item()
        random = torch.randint(3, 20, (1 + row % 3,), generator=draws).tolist()
        prompts.append(prompt)
        targets.append([first, *random[1:]] if row % 2 else random)  # some tokens are right
    rows = columns(prompts, [[*target, EOS] for target in targets], pad)
    arrivals = torch.arange(24) // 8
    learner = editor("ft_m", made, pad)
    expected = [likeliest(made, prompt, target) for prompt, target in zip(prompts, targets, strict=True)]
    assert 0 < sum(expected) < 24
    assert len(set(expected)) > 2
    probe = TeacherForcedProbe("teacher_forced", Source(rows), Unit.GAIN, arrivals)
    for after, count in ((0, 24), (1, 8), (2, 16), (3, 24)):
        assert probe.measure(learner, after) == Probed(pytest.approx(sum(expected[:count])), count)  # type: ignore[arg-type]


def test_teacher_forcing_flatters_an_answer_that_is_wrong_when_it_is_generated() -> None:
    """A wrong first token costs one token under teacher forcing, and the whole answer without it."""
    made = network()
    with torch.no_grad():
        best = made(input_ids=torch.tensor([[BOS, 5]])).logits[0, -1].argmax().item()
        wrong = next(token for token in range(3, 20) if token != best)
        rest: list[int] = []
        for _ in range(3):
            logits = made(input_ids=torch.tensor([[BOS, 5, wrong, *rest]])).logits
            rest.append(int(logits[0, -1, 3:].argmax()) + 3)
            if int(logits[0, -1].argmax()) != rest[-1]:
                rest.pop()
                break
    target = [wrong, *rest]
    rows = columns([[BOS, 5]], [[*target, EOS]], PAD)
    model = CausalModel(made, PAD, EOS, 6)
    batch = {**rows, "tokens": rows["tokens"].long()}
    assert model.token_matches(batch).item() == pytest.approx(len(rest) / len(target))
    assert model.predict({**batch, "tokens": batch["tokens"][:, :2]})[0, 0].item() == best


class Echo:
    """Answers right about rows of an even first token."""

    def question(self, batch: Batch) -> Batch:
        return batch

    def scores(self, predictions: Tensor, batch: Batch) -> list[float]:
        return (predictions == batch["tokens"][:, 1]).double().tolist()


def test_an_answer_probe_scores_what_has_arrived() -> None:
    (experience,) = edits_to_learn((5,))
    source = experience.train.source
    probe = AnswerProbe("echo", source, Echo(), Unit.GAIN, torch.tensor([0, 1, 0, 1, 2]))  # type: ignore[arg-type]

    class Learner:
        def predict(self, batch: Batch) -> Tensor:
            first = batch["tokens"][:, 1]
            return torch.where(first % 2 == 0, first, -1)

    firsts = source.columns["tokens"][:, 1].tolist()
    assert firsts == [5, 10, 14, 17, 9]
    assert probe.measure(Learner(), 0) == Probed(2.0, 5)
    assert probe.measure(Learner(), 1) == Probed(1.0, 2)
    assert probe.measure(Learner(), 2) == Probed(2.0, 4)
