from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import pytest
import torch
from torch import nn

from clbench.engine import learn
from clbench.errors import ConfigError
from clbench.finetune import Optimizer
from clbench.models.build import build_backbone
from clbench.models.config import ModelConfig
from clbench.strategies.hft import HFT, HFTConfig, Level, Unit, draw, units
from tests.learning import digits, problem, shortened, strategy


def backbone(name: str, side: int = 32) -> nn.Module:
    return build_backbone(ModelConfig(name=name), (3, side, side), name)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def llama_like(layers: int) -> list[Unit]:
    """Blocks as the paper has them: four attention matrices, three feed-forward matrices, two norms."""
    members: list[Unit] = []
    for layer in range(layers):
        block = f"layers.{layer}"
        sizes = {"attention": 4, "feed_forward": 3, "rest": 2}
        members += [Unit(f"{block}.{kind}{i}", block, kind, 10) for kind, n in sizes.items() for i in range(n)]
    return members


@pytest.mark.parametrize("layers", [4, 7])
def test_half_of_each_category_trains_as_in_the_paper(layers: int) -> None:
    trained = draw(llama_like(layers), 0.5, Level.CATEGORY, generator(0))
    per_block: dict[str, Counter[str]] = defaultdict(Counter)
    for name in trained:
        block, _, unit = name.rpartition(".")
        per_block[block][unit.rstrip("0123456789")] += 1
    assert all(counts["attention"] == 2 and counts["rest"] == 1 for counts in per_block.values())
    feed_forward = Counter(counts["feed_forward"] for counts in per_block.values())
    assert feed_forward == {2: layers // 2, 1: layers - layers // 2}


def test_every_unit_is_drawn_about_half_of_the_time_and_draws_are_independent() -> None:
    members = llama_like(4)
    counts = Counter(n for seed in range(400) for n in draw(members, 0.5, Level.CATEGORY, generator(seed)))
    assert all(150 < counts[unit.name] < 250 for unit in members)


@pytest.mark.parametrize(
    ("name", "categories"),
    [
        ("resnet32", {"convolution", "rest"}),
        ("resnet18", {"convolution", "rest"}),
        ("small_cnn", {"convolution", "rest"}),
        ("small_vit", {"attention", "feed_forward", "rest"}),
        ("timm/test_vit", {"attention", "feed_forward", "rest"}),
        ("timm/test_convnext", {"convolution", "feed_forward", "rest"}),
    ],
)
def test_the_blocks_of_every_kind_of_backbone_are_found(name: str, categories: set[str]) -> None:
    network = backbone(name)
    members = units(network)
    assert {unit.category for unit in members} == categories
    assert len({unit.block for unit in members}) >= 2
    trained = draw(members, 0.5, Level.CATEGORY, generator(1))
    share = sum(u.size for u in members if u.name in trained) / sum(u.size for u in members)
    assert 0.1 < share < 0.9


def test_a_vit_trains_two_of_four_attention_matrices_in_each_block() -> None:
    members = [u for u in units(backbone("small_vit")) if u.category == "attention"]
    assert set(Counter(u.block for u in members).values()) == {4}
    trained = draw(members, 0.5, Level.CATEGORY, generator(3))
    assert set(Counter(u.block for u in members if u.name in trained).values()) == {2}


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("level", Level)
def test_the_share_is_near_the_ratio_at_every_level(level: Level, ratio: float) -> None:
    members = llama_like(8)
    share = len(draw(members, ratio, level, generator(0))) / len(members)
    assert abs(share - ratio) < 0.06


def test_a_layer_is_drawn_whole() -> None:
    trained = draw(llama_like(6), 0.5, Level.LAYER, generator(0))
    assert set(Counter(name.rpartition(".")[0] for name in trained).values()) == {9}
    assert len(trained) == 27


def test_the_frozen_half_has_no_gradient_and_no_optimiser_state_and_does_not_move(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = digits()
    learner = strategy("hft", stream, model="small_vit", optimizer=Optimizer.ADAMW)
    optimizers: list[torch.optim.Optimizer] = []
    build = HFT._optimizer

    def watched(self: HFT) -> torch.optim.Optimizer:
        optimizers.append(build(self))
        return optimizers[-1]

    monkeypatch.setattr(HFT, "_optimizer", watched)
    learn(learner, shortened(stream.experiences[0], 64))
    before = {n: p.detach().clone() for n, p in learner.model.named_parameters()}
    learn(learner, shortened(stream.experiences[1], 64))
    frozen = {n for n, p in learner.model.named_parameters() if not p.requires_grad}
    names = {id(p): n for n, p in learner.model.named_parameters()}
    with_state = {names[id(p)] for p in optimizers[1].state}
    assert frozen
    assert all(learner.model.get_parameter(n).grad is None for n in frozen)
    assert with_state == set(before) - frozen
    moved = {
        n for n, p in learner.model.named_parameters() if p.shape != before[n].shape or not torch.equal(p, before[n])
    }
    assert moved == set(before) - frozen
    total, trained = learner.parameters()
    assert total - trained == sum(p.numel() for n, p in learner.model.named_parameters() if n in frozen)


def test_the_half_is_drawn_anew_for_each_experience_and_noted() -> None:
    stream = digits()
    learner = strategy("hft", stream)
    drawn = []
    for experience in stream.experiences[:4]:
        learn(learner, shortened(experience, 32))
        drawn.append(tuple(learner.notes()["frozen"]))
    assert drawn[0] == ()  # a model that begins at random trains whole first
    assert all(drawn[1:])
    assert len(set(drawn[1:])) > 1


def test_stem_and_head_always_train() -> None:
    stream = digits()
    learner = strategy("hft", stream, first_frozen=0, model="small_vit")
    learn(learner, shortened(stream.experiences[0], 32))
    outside = [n for n, p in learner.model.named_parameters() if ".blocks." not in n]
    assert len(outside) > 4
    assert all(learner.model.get_parameter(n).requires_grad for n in outside)


def test_under_sgd_it_is_the_limit_of_an_l2_penalty_on_the_frozen_half() -> None:
    """Section 1.6 of the paper's reading: a penalty on the frozen half whose weight grows without bound."""
    inputs = torch.randn(32, 4, generator=generator(0), dtype=torch.float64)
    targets = torch.randn(32, 3, generator=generator(1), dtype=torch.float64)
    start = torch.randn(3, 4, generator=generator(2), dtype=torch.float64)
    frozen = torch.zeros(3, 4, dtype=torch.bool)
    frozen[:, ::2] = True

    def trajectory(penalty: float | None) -> torch.Tensor:
        weight = start.clone()
        for _ in range(50):
            gradient = 2 * (inputs @ weight.T - targets).T @ inputs / len(inputs)
            step = 0.05
            if penalty is None:
                weight = weight - step * gradient.masked_fill(frozen, 0)
            else:  # implicit in the penalty, which explicit steps could not follow at this stiffness
                moved = weight - step * gradient
                weight = torch.where(frozen, (moved + step * penalty * start) / (1 + step * penalty), moved)
        return weight

    distances = [float((trajectory(penalty) - trajectory(None)).norm()) for penalty in (1e1, 1e3, 1e5)]
    assert distances[0] > 10 * distances[1] > 100 * distances[2]


def test_a_backbone_without_blocks_is_skipped_with_a_reason() -> None:
    told = problem(digits())
    model = told.model()
    model.backbone = nn.Flatten()
    assert "no half to freeze" in str(HFT.skip(HFTConfig(), replace(told, model=lambda: model)))
    assert HFT.skip(HFTConfig(), told) is None


@pytest.mark.parametrize("ratio", [0.0, 1.5])
def test_a_ratio_out_of_range_is_one_sentence(ratio: float) -> None:
    with pytest.raises(ConfigError, match=r"strategy\.ratio must be in \(0, 1\]"):
        HFTConfig(ratio=ratio)
