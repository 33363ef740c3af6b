from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clbench.engine import learn
from clbench.errors import ConfigError
from clbench.memory import MemoryConfig
from clbench.record import Setting
from clbench.strategies import l2p
from clbench.strategies.l2p import L2PConfig
from tests.learning import OF_CLASSES, digits, problem, shortened, strategy


def images(count: int) -> Tensor:
    stream = digits()
    return stream.transform.evaluate(next(stream.experiences[0].test.batches(count)))["image"]


def chosen_by_hand(net: Any, image: Tensor) -> tuple[list[int], list[float]]:
    """Prompts in the order of their cosines with the query, and these cosines."""
    query = net.transformer(image[None])[0]
    cosines = [float(F.cosine_similarity(query, key, dim=0)) for key in net.keys.detach()]
    best = sorted(range(len(cosines)), key=lambda m: -cosines[m])[: net.top_k]
    return best, [cosines[m] for m in best]


def feature_by_hand(net: Any, image: Tensor, chosen: list[int]) -> Tensor:
    vit = net.transformer
    tokens = vit.embed(image[None])[0]
    prompts = [token for m in chosen for token in net.prompts[m]]
    tokens = torch.stack([tokens[0], *prompts, *tokens[1:]])[None]
    for layer in range(vit.depth):
        tokens = vit.attend(layer, tokens)
        tokens = tokens + vit.feed(layer, tokens)
    mean: Tensor = sum(vit.finish(tokens)[0, 1 : 1 + len(prompts)]) / len(prompts)
    return mean


@torch.no_grad()
def test_a_feature_is_the_mean_of_an_images_own_prompts_whatever_else_is_in_the_batch() -> None:
    net = strategy("l2p", digits(), top_k=2, length=3).prompted
    batch = images(24)
    features, near = net.features(batch)
    chosen = [chosen_by_hand(net, image) for image in batch]
    assert len({tuple(sorted(best)) for best, _ in chosen}) > 1
    for i, (best, cosines) in enumerate(chosen):
        assert torch.allclose(features[i], feature_by_hand(net, batch[i], best), atol=1e-5)
        assert torch.allclose(near[i], torch.tensor(cosines), atol=1e-5)
        assert torch.allclose(net(batch[i : i + 1])[0], features[i], atol=1e-5)


@torch.no_grad()
def test_batchwise_the_most_frequent_prompts_of_a_batch_serve_all_of_it() -> None:
    net = strategy("l2p", digits(), top_k=2, length=3, batchwise_prompt=True).prompted
    batch = images(24)
    votes = Counter(m for image in batch for m in chosen_by_hand(net, image)[0])
    most = sorted(votes, key=lambda m: (-votes[m], m))[:2]
    features = net(batch)
    alone = torch.cat([net(image[None]) for image in batch])
    for i, image in enumerate(batch):
        assert torch.allclose(features[i], feature_by_hand(net, image, most), atol=1e-5)
    assert not torch.allclose(features, alone, atol=1e-2)


@pytest.mark.parametrize("setting", OF_CLASSES)
def test_the_loss_is_the_papers_over_the_new_outputs_alone(setting: Setting) -> None:
    stream = digits(setting)
    learner: Any = strategy("l2p", stream, pull=0.3)
    learner.model.grow(stream.experiences[1].outputs)
    learner.begin(stream.experiences[1])
    batch = stream.transform.evaluate(next(stream.experiences[1].test.batches(8)))
    wanted = 0.0
    for image, label in zip(batch["image"], batch["label"].tolist(), strict=True):
        best, cosines = chosen_by_hand(learner.prompted, image)
        logits = learner.model.head(feature_by_hand(learner.prompted, image, best)[None])[0, 2:4].double()
        wanted += float(-logits.log_softmax(0)[label - 2].detach()) / 8 - 0.3 * sum(cosines) / 8
    assert abs(float(learner.loss(batch).detach()) - wanted) < 1e-5


def test_prompts_that_no_image_chose_old_outputs_and_the_transformer_keep_their_bits() -> None:
    stream = digits()
    learner: Any = strategy("l2p", stream, top_k=1)
    learn(learner, shortened(stream.experiences[0], 64))
    net, second = learner.prompted, shortened(stream.experiences[1], 64)
    with torch.no_grad():
        net.keys[:3] = -net.transformer(images(64)).mean(0)  # away from all images: these cannot be chosen
    before = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
    learn(learner, second)
    after = learner.model.state_dict()
    assert torch.equal(after["backbone.prompts"][:3], before["backbone.prompts"][:3])
    assert not torch.equal(after["backbone.prompts"][3:], before["backbone.prompts"][3:])
    assert torch.equal(after["head.weight"][:2], before["head.weight"])
    assert all(torch.equal(after[n], t) for n, t in before.items() if n.startswith("backbone.transformer"))
    assert learner.trained == net.prompts.numel() + net.keys.numel() + 4 * (net.features_out + 1)


def test_where_there_is_one_class_only_the_keys_learn() -> None:
    stream = digits(increment=1)
    learner: Any = strategy("l2p", stream)
    before = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
    learn(learner, shortened(stream.experiences[0], 40))
    after = learner.model.state_dict()
    assert torch.equal(after["backbone.prompts"], before["backbone.prompts"])
    assert not torch.equal(after["backbone.keys"], before["backbone.keys"])
    near = []
    for keys in (before["backbone.keys"], after["backbone.keys"]):
        learner.prompted.keys.data = keys
        near.append(float(learner.prompted.features(images(40))[1].detach().mean()))
    assert near[1] > near[0]


def test_a_backbone_without_tokens_is_refused() -> None:
    assert "not a plain vision transformer" in str(l2p.L2P.skip(L2PConfig(), problem(digits())))
    assert l2p.L2P.skip(L2PConfig(), problem(digits(), model="small_vit")) is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"memory": MemoryConfig(capacity=5)}, r"strategy\.memory\.capacity must be 0 for l2p, got 5"),
        ({"pool": 4}, r"strategy\.top_k must be in 1\.\.4, the size of the pool, got 5"),
        ({"length": 0}, r"strategy\.length must be >= 1, got 0"),
        ({"pull": -0.1}, r"strategy\.pull must be >= 0, got -0.1"),
    ],
)
def test_values_out_of_range_name_field_rule_and_value(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        L2PConfig(**values)
