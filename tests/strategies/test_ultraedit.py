from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from clbench.engine import learn
from clbench.errors import ConfigError, DivergedError, IncompatibleError
from clbench.models.causal import CausalModel
from clbench.record import Setting
from clbench.strategies.ultraedit import UltraEdit, UltraEditConfig, chosen, merged, no_rows, normalised, traced, update
from clbench.strategy import Problem
from clbench.texts.tokens import TokenTransform, answered, columns
from tests.language import BOS, EOS, PAD, network
from tests.learning import edits, strategy

BATCH = {
    name: column.long() for name, column in columns([[BOS, 5, 6, 7], [BOS, 7]], [[8, EOS], [9, 9, 4, EOS]], PAD).items()
}


@pytest.mark.parametrize(("count", "inputs"), [(40, 6), (5, 12)])
def test_the_update_is_the_least_squares_solution_with_a_ridge_of_one(count: int, inputs: int) -> None:
    draws = np.random.default_rng(0)
    rows, wanted = 3 * draws.standard_normal((count, inputs)), draws.standard_normal((count, 4))
    stacked = np.concatenate((rows, np.eye(inputs))), np.concatenate((wanted, np.zeros((inputs, 4))))
    solution = np.linalg.lstsq(*stacked, rcond=None)[0]
    found = update(torch.from_numpy(rows), torch.from_numpy(wanted))
    np.testing.assert_allclose(found.numpy(), solution, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sizes", [[30], [10, 10, 10], [1, 2, 27], [1] * 30])
def test_the_normaliser_knows_mean_and_deviation_of_all_rows_in_any_batching(sizes: list[int]) -> None:
    draws = np.random.default_rng(1)
    rows = 1e3 + draws.standard_normal((30, 5)) * np.array([1e-6, 1e-3, 1.0, 10.0, 100.0])
    seen = no_rows(5, torch.device("cpu"))
    for part in torch.from_numpy(rows).split(sizes):
        seen = merged(seen, part)
    np.testing.assert_allclose(seen.mean.numpy(), rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose((seen.squares / seen.seen).sqrt().numpy(), rows.std(0), rtol=1e-6)
    wanted = (rows - rows.mean(0)) / rows.std(0)
    np.testing.assert_allclose(normalised(torch.from_numpy(rows), seen).numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_a_feature_that_never_changes_is_zero() -> None:
    rows = torch.tensor([[2.0, 1.0], [2.0, 3.0]])
    assert normalised(rows, merged(no_rows(2, rows.device), rows)).tolist() == [[0.0, -1.0], [0.0, 1.0]]


@pytest.mark.parametrize(("kind", "part"), [("llama", "mlp.down_proj"), ("gpt2", "mlp.c_fc")])
def test_inputs_and_gradients_give_the_gradient_of_the_matrix(kind: str, part: str) -> None:
    model = CausalModel(network(kind), PAD, EOS, 4)
    layers = chosen(model.inner, [f"{part}:0-1"])
    weights = [layer.get_parameter("weight") for layer in layers.values()]
    logits = model.network(input_ids=BATCH["tokens"]).logits[:, :-1]
    surprise = -torch.log_softmax(logits, 2).gather(2, BATCH["tokens"][:, 1:, None])[..., 0]
    wanted = answered(BATCH)
    loss = sum(surprise[row][wanted[row]].mean() for row in range(2))
    gradients = torch.autograd.grad(torch.as_tensor(loss), weights)
    found = traced(model.requires_grad_(False), layers, BATCH)
    for (inputs, slopes), gradient in zip(found.values(), gradients, strict=True):
        assert len(inputs) == len(slopes) == int(BATCH["length"].sum())  # padding has no row
        product = inputs.T @ slopes
        torch.testing.assert_close(product if kind == "gpt2" else product.T, gradient, atol=1e-5, rtol=1e-4)
    assert not any(layer._forward_hooks for layer in layers.values())


def editor(**values: Any) -> tuple[Any, Any]:
    stream = edits(edits=20, per_experience=10).stream(0)
    return strategy("ultraedit", stream, **values), stream


def likelihood(learner: Any, batch: dict[str, Tensor]) -> float:
    totals, counts = learner.log_likelihoods(batch)
    return float((totals / counts).mean())


def test_one_pass_makes_targets_likelier_and_changes_the_chosen_matrices_only() -> None:
    learner, stream = editor(rate=1e-3)
    batch = next(stream.experiences[0].train.batches(10))
    before = {name: p.clone() for name, p in learner.model.inner.named_parameters()}
    likely = likelihood(learner, batch)
    learn(learner, stream.experiences[0])
    assert likelihood(learner, batch) > likely + 0.5
    changed = {name for name, p in learner.model.inner.named_parameters() if not torch.equal(p, before[name])}
    assert changed == set(learner.changed())
    assert changed == {f"model.layers.{n}.mlp.{part}_proj.weight" for n in (2, 3) for part in ("gate", "up")}


@pytest.mark.parametrize(("kind", "part"), [("llama", "self_attn.o_proj"), ("gpt2", "attn.c_proj")])  # both square
def test_the_change_is_what_the_formula_says(kind: str, part: str) -> None:
    def fresh() -> CausalModel:
        return CausalModel(network(kind), PAD, EOS, 4)

    transform, device = TokenTransform("", "", 16), torch.device("cpu")
    config = UltraEditConfig(rate=1e-2, modules=[f"{part}:1-1"])
    learner = UltraEdit(config, Problem(fresh, transform, Setting.EDITING, device, 0))
    (weight,) = learner.changed().values()
    before = weight.double().numpy().copy()
    ((inputs, slopes),) = (
        [t.double().numpy() for t in pair] for pair in traced(learner.model, learner.layers, BATCH).values()
    )
    learner.edit(BATCH)
    plain, slope = ((rows - rows.mean(0)) / rows.std(0).clip(1e-12) for rows in (inputs, slopes))
    wanted = -1e-2 * (plain**2).sum(1, keepdims=True) * slope
    change = np.linalg.inv(inputs.T @ inputs + np.eye(inputs.shape[1])) @ inputs.T @ wanted
    found = weight.double().numpy() - before
    np.testing.assert_allclose(found if kind == "gpt2" else found.T, change, rtol=1e-3, atol=1e-5)
    assert abs(change).max() > 1e-2


def test_published_matrices_are_known_and_others_get_the_upper_half() -> None:
    shape = {"hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 8, "vocab_size": 8}
    import transformers

    llama = transformers.LlamaForCausalLM(transformers.LlamaConfig(num_hidden_layers=32, **shape))
    found = {tuple(name.split(".")[2:]) for name in chosen(llama, [])}
    gates = {(str(n), "mlp", "gate_proj") for n in range(11, 16)}
    assert found == gates | {(str(n), "mlp", "up_proj") for n in range(18, 25)}
    assert list(chosen(network("gpt2"), [])) == ["transformer.h.1.mlp.c_fc"]
    assert isinstance(chosen(network("qwen2"), ["self_attn.q_proj:0-0"])["model.layers.0.self_attn.q_proj"], nn.Linear)


@pytest.mark.parametrize("entry", ["mlp.c_fc:0-1", "mlp.up_proj:0-2", "input_layernorm:0-1"])
def test_matrices_that_the_model_does_not_have_are_named_with_those_it_has(entry: str) -> None:
    with pytest.raises(IncompatibleError) as error:
        chosen(network(), [entry])
    assert str(error.value) == (
        f"strategy.modules=[{entry}] does not fit: the model has blocks 0-1 with the matrices self_attn.q_proj, "
        "self_attn.k_proj, self_attn.v_proj, self_attn.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj; name some of "
        "them: strategy.modules=[mlp.down_proj:0-1]"
    )


@pytest.mark.parametrize("entry", ["mlp.up_proj", "mlp.up_proj:3", "mlp.up_proj:3-2"])
def test_entries_without_a_range_of_blocks_are_refused(entry: str) -> None:
    with pytest.raises(ConfigError, match=r"strategy\.modules must be like \[mlp\.up_proj:18-24\], got"):
        UltraEditConfig(modules=[entry])


def test_a_rate_that_destroys_the_model_is_a_divergence() -> None:
    learner, stream = editor(rate=1e38)
    with pytest.raises(DivergedError):
        learn(learner, stream.experiences[0])


def test_what_it_keeps_does_not_grow_with_the_edits() -> None:
    learner, stream = editor()
    learn(learner, stream.experiences[0])
    kept = learner.stored_bytes()
    assert kept == 4 * (1 + 2 * (96 + 256)) * 8  # of four matrices: a count, and two numbers per input and output
    learn(learner, stream.experiences[1])
    assert learner.stored_bytes() == kept
