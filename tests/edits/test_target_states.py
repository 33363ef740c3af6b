from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from clbench.edits.sites import sites_of
from clbench.edits.target_states import TargetConfig, _Search, target_states
from clbench.errors import ConfigError
from clbench.models.causal import CausalModel
from clbench.table import Batch
from clbench.texts.tokens import columns
from tests.language import BOS, EOS, PAD, network

KINDS = ["llama", "gpt2"]


def model_of(kind: str = "llama") -> CausalModel:
    return CausalModel(network(kind), PAD, EOS, 4).eval().requires_grad_(False)


def batch_of(rows: slice = slice(None)) -> Batch:
    """Edits of different lengths, their subjects at different places."""
    prompts = [[BOS, 5, 6, 7], [BOS, 8, 9], [BOS, 4, 4, 11, 12]]
    made = columns(prompts, [[13, 14, EOS], [9, EOS], [10, EOS]], PAD)
    made["tokens"] = made["tokens"].long()
    made["subject"] = torch.tensor([2, 2, 1])
    return {name: column[rows] for name, column in made.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_change_makes_what_is_wanted_likely(kind: str) -> None:
    model, batch = model_of(kind), batch_of()
    batch = {
        **batch,
        "subject": batch["prompt"].long() - 1,
        "length": batch["prompt"] + 1,
    }  # one token, after the subject
    (site,) = sites_of(model.inner, [1])
    config = TargetConfig(v_num_grad_steps=100, v_lr=0.5, clamp_norm_factor=50.0, kl_factor=0.0, v_weight_decay=0.0)
    change = target_states(model, site.block, batch, config)
    assert change.shape == (32, 3)
    before, _ = _Search(model, site.block, batch).losses(torch.zeros(3, 32))
    after, _ = _Search(model, site.block, batch).losses(change.T.float())
    assert (before > 1).all()
    assert (after < math.log(2)).all()  # likelier than all else together


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_those_of_the_paper(kind: str) -> None:
    """Against a network whose block's states are replaced by hand, row by row, without padding."""
    model, batch = model_of(kind), batch_of()
    (site,) = sites_of(model.inner, [0])
    change = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    surprise, divergence = _Search(model, site.block, batch).losses(change)
    for row in range(3):
        length, prompt, place = (int(batch[name][row]) for name in ("length", "prompt", "subject"))
        tokens = batch["tokens"][row : row + 1, :length]
        plain = model.network(input_ids=tokens).logits[0]

        def moved(_: Any, inputs: Any, made: Any, row: int = row, place: int = place) -> Any:
            states = (made[0] if isinstance(made, tuple) else made).clone()
            states[0, place] += change[row]
            return (states, *made[1:]) if isinstance(made, tuple) else states

        handle = site.block.register_forward_hook(moved)
        logits = model.network(input_ids=tokens).logits[0]
        handle.remove()
        expected = F.cross_entropy(logits[prompt - 1 : -1], tokens[0, prompt:])
        new, old = logits[place].softmax(0), plain[place].softmax(0)
        assert surprise[row].item() == pytest.approx(expected.item(), rel=1e-4)
        assert divergence[row].item() == pytest.approx((new * (new / old).log()).sum().item(), rel=1e-3)


def test_a_change_stays_within_its_norm() -> None:
    model, batch = model_of(), batch_of()
    (site,) = sites_of(model.inner, [0])
    change = target_states(model, site.block, batch, TargetConfig(clamp_norm_factor=0.3, v_lr=1.0))
    sizes = _Search(model, site.block, batch).start.norm(dim=1).double()
    assert (change.norm(dim=0) <= 0.3 * sizes * (1 + 1e-6)).all()
    assert (change.norm(dim=0) >= 0.29 * sizes).any()


def test_edits_do_not_influence_each_other() -> None:
    model = model_of()
    (site,) = sites_of(model.inner, [1])
    config = TargetConfig(v_stop=0.5, clamp_norm_factor=20.0)
    together = target_states(model, site.block, batch_of(), config)
    alone = [target_states(model, site.block, batch_of(slice(i, i + 1)), config) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone, 1), rtol=1e-3, atol=1e-4)


def test_what_is_learnt_already_stays_as_it_is() -> None:
    model = model_of()
    (site,) = sites_of(model.inner, [1])
    assert target_states(model, site.block, batch_of(), TargetConfig(v_stop=1e3)).abs().max() == 0


@pytest.mark.parametrize("field", ["v_num_grad_steps", "v_lr", "clamp_norm_factor"])
def test_a_value_out_of_range_is_named(field: str) -> None:
    with pytest.raises(ConfigError, match=f"strategy.{field} must be"):
        TargetConfig(**{field: 0})
