from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clbench.engine import learn
from clbench.errors import ConfigError
from clbench.memory import MemoryConfig
from clbench.record import Setting
from clbench.strategies import coda_prompt
from clbench.strategies.coda_prompt import CodaPromptConfig
from tests.learning import OF_CLASSES, digits, problem, shortened, strategy


def drawn(*shapes: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=draws, dtype=torch.float64) for shape in shapes]


def test_new_rows_are_orthonormal_and_orthogonal_to_earlier_ones_that_are_not() -> None:
    (earlier,) = drawn((5, 20))
    rows = coda_prompt.orthonormal(earlier, 6, torch.Generator().manual_seed(1)).double()
    assert torch.allclose(rows @ rows.T, torch.eye(6, dtype=torch.float64), atol=1e-5)
    assert (rows @ earlier.T).abs().max() < 1e-5
    assert (earlier @ earlier.T - torch.eye(5)).abs().max() > 1


@pytest.mark.parametrize(("earlier", "count", "among_themselves"), [(18, 6, True), (0, 20, True), (3, 24, False)])
def test_where_dimensions_run_out_new_rows_stay_of_length_one(earlier: int, count: int, among_themselves: bool) -> None:
    (given,) = drawn((earlier, 20))
    rows = coda_prompt.orthonormal(given, count, torch.Generator().manual_seed(1)).double()
    products = rows @ rows.T
    assert rows.shape == (count, 20)
    assert torch.allclose(products.diagonal(), torch.ones(count, dtype=torch.float64), atol=1e-5)
    assert torch.allclose(products, torch.eye(count, dtype=torch.float64), atol=1e-5) is among_themselves


def test_shares_are_cosines_of_attended_queries_with_keys_and_so_are_their_gradients() -> None:
    query, attentions, keys, slope = drawn((3, 6), (4, 6), (4, 6), (3, 4))
    gradients = []
    for written_out in (False, True):
        leaves = [t.clone().requires_grad_() for t in (attentions, keys)]
        got = coda_prompt.mixture(query, *leaves)
        if written_out:
            cosines = [[F.cosine_similarity(q * a, k, dim=0) for a, k in zip(*leaves, strict=True)] for q in query]
            wanted = torch.stack([torch.stack(row) for row in cosines])
            assert torch.allclose(got, wanted, atol=1e-12)
            got = wanted
        gradients.append(torch.autograd.grad(got, leaves, slope))
    for found, wanted in zip(*gradients, strict=True):
        assert torch.allclose(found, wanted, atol=1e-12)


def test_orthogonality_is_the_mean_squared_distance_of_products_from_those_of_orthonormal_rows() -> None:
    (rows,) = drawn((3, 4))
    terms = [(float(rows[i] @ rows[j]) - (i == j)) ** 2 for i in range(3) for j in range(3)]
    assert abs(float(coda_prompt.orthogonality(rows)) - sum(terms) / 9) < 1e-12


def feature_by_hand(net: Any, image: Tensor) -> Tensor:
    """One image, component by component."""
    vit = net.transformer
    query, tokens = vit(image[None])[0], vit.embed(image[None])
    for layer in range(vit.depth):
        prefix = None
        if layer < net.layers:
            prompt = torch.zeros(net.length, vit.width)
            for prompts, keys, attentions in zip(net.prompts, net.keys, net.attentions, strict=True):
                for p, k, a in zip(prompts[layer], keys[layer], attentions[layer], strict=True):
                    prompt = prompt + F.cosine_similarity(query * a, k, dim=0) * p.view(net.length, vit.width)
            half = net.length // 2
            prefix = prompt[None, :half], prompt[None, half:]
        tokens = vit.attend(layer, tokens, prefix)
        tokens = tokens + vit.feed(layer, tokens)
    feature: Tensor = vit.finish(tokens)[0, 0]
    return feature


@pytest.mark.parametrize("setting", OF_CLASSES)
def test_features_and_loss_are_the_papers_with_two_experiences_components(setting: Setting) -> None:
    stream = digits(setting)
    learner: Any = strategy("coda_prompt", stream, components=3, layers=2, ortho=0.2)
    net = learner.prefixed
    batch = stream.transform.evaluate(next(stream.experiences[1].test.batches(6)))
    with torch.no_grad():
        assert torch.equal(net(batch["image"]), net.transformer(batch["image"]))  # before any experience
    learner.model.grow(stream.experiences[1].outputs)
    for experience in stream.experiences[:2]:
        learner.begin(experience)
    features = torch.stack([feature_by_hand(net, image) for image in batch["image"]])
    assert torch.allclose(net(batch["image"]), features, atol=1e-5)
    assert not torch.allclose(net.transformer(batch["image"]), features, atol=1e-2)
    with torch.no_grad():
        net.keys[1] *= 2  # so that there is something to make orthogonal
    ortho = 0.0
    for kind in (net.prompts, net.keys, net.attentions):
        for layer in range(2):
            rows = torch.cat([part[layer] for part in kind]).double()
            ortho += float((rows @ rows.T - torch.eye(6)).detach().square().sum() / 36)
    local = learner.model.head(features)[:, 2:4].log_softmax(1)
    wanted = -float(local.gather(1, batch["label"][:, None] - 2).detach().mean()) + 0.2 * ortho
    assert abs(float(learner.loss(batch).detach()) - wanted) < 1e-5
    assert ortho > 0.1


def test_earlier_components_and_the_transformer_keep_their_bits_and_newer_ones_are_found_at_right_angles() -> None:
    stream = digits()
    learner: Any = strategy("coda_prompt", stream, components=3, length=4, weight_decay=0.1, lr=0.01, ortho=0.1)
    net = learner.prefixed
    learn(learner, shortened(stream.experiences[0], 64))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    whole, trained = learner.parameters()
    begun: list[Tensor] = []
    add = net.add

    def watched(*arguments: Any) -> None:
        add(*arguments)
        begun.append(net.prompts[1].detach().clone())

    net.add = watched
    learn(learner, shortened(stream.experiences[1], 64))
    after = net.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not torch.equal(after["prompts.1"], begun[0])
    for old, new in zip(before["prompts.0"], begun[0], strict=True):
        assert torch.allclose(new @ new.T, torch.eye(3), atol=1e-5)
        assert (new @ old.T).abs().max() < 1e-5
    # blocks * components * (4 tokens, a key and an attention), and the new rows of the head
    slice_, row = 4 * 3 * 6 * net.features_out, net.features_out + 1
    assert [b - a for a, b in zip((whole, trained), learner.parameters(), strict=True)] == [slice_ + 2 * row, 2 * row]
    assert trained == slice_ + 2 * row
    assert learner.stored_bytes() == 0


def test_a_transformer_with_fewer_blocks_has_prompts_in_all() -> None:
    net = strategy("coda_prompt", digits()).prefixed
    assert (net.layers, net.transformer.depth) == (4, 4)


def test_experiences_of_one_class_can_be_learnt() -> None:
    stream = digits(increment=1)
    learner: Any = strategy("coda_prompt", stream)
    for experience in stream.experiences[:2]:
        learn(learner, shortened(experience, 40))
    assert all(p.isfinite().all() for p in learner.model.parameters())


def test_a_backbone_without_attention_is_refused() -> None:
    skip = coda_prompt.CodaPrompt.skip
    assert "not a plain vision transformer" in str(skip(CodaPromptConfig(), problem(digits())))
    assert skip(CodaPromptConfig(), problem(digits(), model="small_vit")) is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"memory": MemoryConfig(capacity=5)}, r"strategy\.memory\.capacity must be 0 for coda_prompt, got 5"),
        ({"length": 5}, r"strategy\.length must be even and >= 2, got 5"),
        ({"components": 0}, r"strategy\.components must be >= 1, got 0"),
        ({"ortho": -1.0}, r"strategy\.ortho must be >= 0, got -1.0"),
    ],
)
def test_values_out_of_range_name_field_rule_and_value(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CodaPromptConfig(**values)
