"""Tuning at one location, against loops over bare torch."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from clbench import seeding
from clbench.edits.located import Average, LocatedConfig, Pipeline
from clbench.edits.location import Module
from clbench.engine import learn
from clbench.errors import ConfigError, IncompatibleError
from clbench.models.causal import CausalModel
from clbench.table import Batch, Table
from tests.language import EOS, PAD, editor, edits_to_learn, network

WEIGHT = "model.layers.1.mlp.down_proj.weight"
AT: dict[str, Any] = {"location": WEIGHT}


def rows(table: Table) -> list[tuple[list[int], list[int]]]:
    """Prompts and targets with EOS, no padding."""
    parts = zip(*(table.column(name).tolist() for name in ("tokens", "prompt", "length")), strict=True)
    return [(tokens[:prompt], tokens[prompt:length]) for tokens, prompt, length in parts]


def token_losses(made: Any, prompt: list[int], target: list[int]) -> Tensor:
    """Minus the log-probability of each token of one target, EOS included."""
    logits = made(input_ids=torch.tensor([[*prompt, *target]])).logits[0]
    scores = torch.log_softmax(logits, -1)[len(prompt) - 1 : -1]
    return -scores[torch.arange(len(target)), torch.tensor(target)]


def mean_loss(made: Any, edits: list[tuple[list[int], list[int]]]) -> Tensor:
    return torch.stack([token_losses(made, *edit).mean() for edit in edits]).mean()


def at_location(made: Any) -> Any:
    made = copy.deepcopy(made).requires_grad_(False)
    return made, made.get_parameter(WEIGHT).requires_grad_(True)


def shown(learner: Any, table: Table) -> Batch:
    batch: Batch = learner.problem.transform.evaluate(table.source.take(table.rows))
    return batch


@pytest.mark.parametrize("pad", [PAD, EOS])  # many tokenizers have no other
@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
def test_the_loss_is_the_mean_over_edits_of_the_mean_over_each_target_with_its_eos(kind: str, pad: int) -> None:
    made = network(kind)
    (experience,) = edits_to_learn(pad=pad)
    exact = copy.deepcopy(made).double()
    each = [token_losses(exact, *edit) for edit in rows(experience.train)]
    assert [len(losses) for losses in each] == [4, 2, 3, 3, 4]
    wanted = {
        Average.SAMPLE: torch.stack([losses.mean() for losses in each]).mean(),
        Average.TOKEN: torch.cat(each).mean(),
    }
    found = {}
    for average in Average:
        learner = editor("locft_bf", made, pad, average=average, module=Module.DOWN, layer=1)
        found[average] = learner.loss(shown(learner, experience.train)).item()
        assert found[average] == pytest.approx(wanted[average].item(), rel=1e-5)
    assert abs(found[Average.SAMPLE] - found[Average.TOKEN]) > 1e-2


def test_the_first_token_of_a_target_and_its_eos_are_learnt_where_rows_are_filled_with_eos() -> None:
    (experience,) = edits_to_learn(pad=EOS)
    learner = editor("locft_bf", pad=EOS, epochs=200, module=Module.ALL)
    learn(learner, experience)
    answers = learner.predict(shown(learner, experience.train)).tolist()
    for answer, (_, target) in zip(answers, rows(experience.train), strict=True):
        assert answer[: len(target)] == target
        assert target[-1] == EOS


@pytest.mark.parametrize("name", ["ft_m", "locft_bf"])
def test_depth_first_is_a_loop_over_edits_with_a_new_adam_for_each(name: str) -> None:
    made = network()
    (experience,) = edits_to_learn()
    pipeline: dict[str, Any] = {"pipeline": Pipeline.DEPTH_FIRST} if name == "locft_bf" else {}
    learner = editor(name, made, steps=25, stop=1.0, lr=5e-2, **AT, **pipeline)
    learn(learner, experience)
    other, weight = at_location(made)
    steps = 0
    for edit in rows(experience.train):
        adam = torch.optim.Adam([weight], lr=5e-2)
        for _ in range(25):
            loss = mean_loss(other, [edit])
            if loss.item() < 1.0:
                break
            adam.zero_grad()
            loss.backward()
            adam.step()
            steps += 1
    assert 5 < steps < 5 * 25, "some edits must end early for this to test the rule"
    torch.testing.assert_close(learner.tuned[WEIGHT].detach(), weight.detach(), rtol=0, atol=1e-5)
    assert learner.notes() == {"tuned": [WEIGHT], "epochs": learner.notes()["epochs"], "steps": steps}


def test_an_adam_that_stays_would_end_elsewhere() -> None:
    made, (experience,) = network(), edits_to_learn()
    learner = editor("ft_m", made, steps=5, stop=0.0, **AT)
    learn(learner, experience)
    other, weight = at_location(made)
    adam = torch.optim.Adam([weight], lr=1e-2)
    for edit in rows(experience.train):
        for _ in range(5):
            adam.zero_grad()
            mean_loss(other, [edit]).backward()
            adam.step()
    assert (learner.tuned[WEIGHT] - weight).detach().abs().max().item() > 1e-3


@pytest.mark.parametrize("batch_size", [2, 6])
def test_breadth_first_is_a_loop_over_shuffled_epochs_that_leaves_learnt_batches_out(batch_size: int) -> None:
    made = network()
    (experience,) = edits_to_learn((6,))
    learner = editor("locft_bf", made, batch_size=batch_size, epochs=60, stop=0.7, lr=5e-2, **AT)
    learn(learner, experience)
    other, weight = at_location(made)
    edits, order = rows(experience.train), seeding.generator(0, "order", 0)
    adam = torch.optim.Adam([weight], lr=5e-2)
    skipped = steps = epochs = 0
    for _ in range(60):
        epochs += 1
        shuffled = torch.randperm(6, generator=order).tolist()
        total = 0.0
        for start in range(0, 6, batch_size):
            batch = [edits[i] for i in shuffled[start : start + batch_size]]
            loss = mean_loss(other, batch)
            total += loss.item() * len(batch)
            if loss.item() < 0.7:
                skipped += 1
                continue
            adam.zero_grad()
            loss.backward()
            adam.step()
            steps += 1
        if total / 6 < 0.7:
            break
    assert epochs < 60
    assert skipped > (6 // batch_size if batch_size == 2 else 0)
    torch.testing.assert_close(learner.tuned[WEIGHT].detach(), weight.detach(), rtol=0, atol=1e-5)
    assert learner.notes() == {"tuned": [WEIGHT], "epochs": epochs, "steps": steps}


@pytest.mark.parametrize("pipeline", list(Pipeline))
def test_what_is_known_already_leaves_every_weight_untouched(pipeline: Pipeline) -> None:
    made, (experience,) = network(), edits_to_learn()
    learner = editor("locft_bf", made, pipeline=pipeline, stop=1e9, weight_decay=0.1, **AT)
    learn(learner, experience)
    for name, before in made.named_parameters():
        assert torch.equal(learner.model.inner.get_parameter(name), before)
    assert learner.notes()["steps"] == 0
    assert learner.notes()["epochs"] == (1 if pipeline is Pipeline.BREADTH_FIRST else 5)


def test_training_ends_by_the_mean_over_edits_and_not_over_batches() -> None:
    learner = editor("locft_bf", stop=0.01, **AT)
    three, one = ({"tokens": torch.zeros(n, 4)} for n in (3, 1))
    assert learner.settled(torch.tensor(0.005), three)
    assert not learner.settled(torch.tensor(0.02), one)
    assert learner.finished()  # (3 x 0.005 + 0.02) / 4
    assert learner.settled(torch.tensor(0.005), one)
    assert not learner.settled(torch.tensor(0.02), three)
    assert not learner.finished()  # (0.005 + 3 x 0.02) / 4, and the epoch before is forgotten


def test_nothing_but_the_location_changes_or_is_kept() -> None:
    made, experiences = network(), edits_to_learn((3, 2))
    learner = editor("locft_bf", made, **AT)
    for experience in experiences:
        learn(learner, experience)
    after = dict(learner.model.inner.named_parameters())
    assert [name for name, p in made.named_parameters() if not torch.equal(after[name], p)] == [WEIGHT]
    assert list(learner.state()["model"]) == [WEIGHT]
    assert learner.parameters() == (sum(p.numel() for p in made.parameters()), after[WEIGHT].numel())


def test_no_weight_moves_further_than_the_clamp_at_each_edit() -> None:
    made, experiences = network(), edits_to_learn((1, 1, 1))
    learner = editor("ft_m", made, clamp=5e-3, steps=10, stop=0.0, **AT)
    before = start = made.get_parameter(WEIGHT).detach().clone()
    for experience in experiences:
        learn(learner, experience)
        after = learner.tuned[WEIGHT].detach().clone()
        assert float((after - before).abs().max()) == pytest.approx(5e-3, rel=1e-3)
        before = after
    assert float((before - start).abs().max()) > 6e-3  # around where each edit found it, not around the start


def test_the_clamp_is_around_each_edit_of_an_experience() -> None:
    made = network()
    apart, together = (editor("ft_m", made, clamp=5e-3, steps=10, stop=0.0, **AT) for _ in range(2))
    for experience in edits_to_learn((1, 1, 1)):
        learn(apart, experience)
    learn(together, edits_to_learn((3,))[0])
    torch.testing.assert_close(apart.tuned[WEIGHT], together.tuned[WEIGHT], rtol=0, atol=1e-6)


LOCATIONS = [
    {"module": Module.DOWN, "layer": 1},
    {"module": Module.LAYER, "layer": 0},
    {"module": Module.ATTENTION, "layer": 1},
    {"module": Module.ALL},
    {"location": "model.embed_tokens.weight"},
    {"location": "transformer.wpe"},
]


@pytest.mark.parametrize(
    ("kind", "where"),
    [("qwen2", where) for where in LOCATIONS[:5]] + [("gpt2", w) for w in (*LOCATIONS[:4], LOCATIONS[5])],
)
def test_in_a_bfloat16_model_tuned_weights_stay_exact_and_small_updates_are_kept(
    kind: str, where: dict[str, Any]
) -> None:
    made = network(kind).to(torch.bfloat16)
    (experience,) = edits_to_learn()
    learner = editor("locft_bf", made, lr=1e-6, epochs=1, stop=0.0, **where)
    batch = shown(learner, experience.train)
    plain = CausalModel(copy.deepcopy(made), PAD, EOS, 6)
    with torch.no_grad():
        wanted = -torch.div(*plain.log_likelihoods(batch)).mean()
    assert learner.loss(batch).item() == pytest.approx(wanted.item(), rel=0.03)
    learn(learner, experience)
    modules = {name.rpartition(".")[0] for name in learner.tuned}
    others = [p for n, p in learner.model.inner.named_parameters() if n.rpartition(".")[0] not in modules]
    assert {p.dtype for p in others} <= {torch.bfloat16}
    moved = 0.0
    for name, parameter in learner.tuned.items():
        assert parameter.dtype is torch.float32
        change = (parameter.detach() - made.get_parameter(name).detach().float()).abs()
        assert change.max().item() < 2e-6
        moved = max(moved, change.max().item())
    assert moved > 5e-7  # bfloat16 would have rounded it away
    assert learner.predict(batch).dtype is torch.int64


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, r"strategy.steps must be >= 1, got 0"),
        ({"stop": -1.0}, r"strategy.stop must be >= 0, got -1.0"),
        ({"depth": 0.0}, r"strategy.depth must be in \(0, 1\] or null, got 0.0"),
        ({"clamp": 0.0}, r"strategy.clamp must be > 0 or null, got 0.0"),
        ({"clamp": 0.1}, r"strategy.clamp bounds what one edit changes, .* set strategy.pipeline=depth_first, got"),
    ],
)
def test_values_out_of_range_get_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LocatedConfig(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layer": 2}, r"strategy.layer=2: the model has blocks 0 to 1"),
        ({"location": "model.layers.1.mpl"}, r"under 'model.layers.1' there are input_layernorm, mlp"),
    ],
)
def test_a_location_that_the_model_lacks_gets_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(IncompatibleError, match=message):
        editor("locft_bf", **values)
