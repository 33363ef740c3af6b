from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from clbench import seeding
from clbench.engine import learn
from clbench.errors import ConfigError
from clbench.finetune import FineTuneClassifier, FineTuneConfig, Optimizer, Schedule
from clbench.half import Half, HalfConfig, Level, Unit, draw, own_parameters, units
from clbench.models.build import build_backbone
from clbench.models.config import ModelConfig
from clbench.scenario import Experience
from clbench.strategy import Problem
from clbench.table import Batch
from tests.learning import digits, problem, shortened

LLAMA = {
    "self_attn.q_proj": "attention",
    "self_attn.k_proj": "attention",
    "self_attn.v_proj": "attention",
    "self_attn.o_proj": "attention",
    "mlp.gate_proj": "feed_forward",
    "mlp.up_proj": "feed_forward",
    "mlp.down_proj": "feed_forward",
    "input_layernorm": "rest",
    "post_attention_layernorm": "rest",
}
LANGUAGE: dict[str, tuple[type, dict[str, str]]] = {
    "llama": (LlamaConfig, LLAMA),
    "mistral": (MistralConfig, LLAMA),
    "qwen2": (Qwen2Config, LLAMA),
    "qwen3": (Qwen3Config, {**LLAMA, "self_attn.q_norm": "rest", "self_attn.k_norm": "rest"}),
    "gpt2": (
        GPT2Config,
        {
            "ln_1": "rest",
            "attn.c_attn": "attention",
            "attn.c_proj": "attention",
            "ln_2": "rest",
            "mlp.c_fc": "feed_forward",
            "mlp.c_proj": "feed_forward",
        },
    ),
}
"""A config and what the category of each unit of one of its layers must be."""


def language_model(name: str, layers: int = 5, tied: bool = False) -> Any:
    kind = LANGUAGE[name][0]
    sizes = {"hidden_size": 16, "num_hidden_layers": layers, "num_attention_heads": 4, "tie_word_embeddings": tied}
    own = {} if name == "gpt2" else {"intermediate_size": 24, "num_key_value_heads": 2}
    special = {f"{word}_token_id": None for word in ("bos", "eos", "pad")}
    return AutoModelForCausalLM.from_config(kind(vocab_size=32, **sizes, **own, **special))


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


def half(told: Problem, **values: Any) -> Half:
    return Half(HalfConfig(**{"ratio": 0.5, "epochs": 1} | values), told)


def counts_by_block(members: list[Unit], drawn: frozenset[str]) -> list[Counter[str]]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for unit in members:
        found[unit.block][unit.category] += unit.name in drawn
    return list(found.values())


@pytest.mark.parametrize("layers", [4, 7])
def test_half_of_each_category_trains_as_in_the_paper(layers: int) -> None:
    members = llama_like(layers)
    counted = counts_by_block(members, draw(members, 0.5, Level.CATEGORY, generator(0)))
    assert all(counts["attention"] == 2 and counts["rest"] == 1 for counts in counted)
    feed_forward = Counter(counts["feed_forward"] for counts in counted)
    assert feed_forward == {2: layers // 2, 1: layers - layers // 2}


def test_every_unit_is_drawn_about_half_of_the_time_and_draws_are_independent() -> None:
    members = llama_like(4)
    counts = Counter(n for seed in range(400) for n in draw(members, 0.5, Level.CATEGORY, generator(seed)))
    assert all(150 < counts[unit.name] < 250 for unit in members)


@pytest.mark.parametrize("name", LANGUAGE)
def test_every_module_of_a_language_model_has_its_category(name: str) -> None:
    members = units(language_model(name))
    assert len({unit.block for unit in members}) == 5
    for block in {unit.block for unit in members}:
        found = {u.name.removeprefix(f"{block}."): u.category for u in members if u.block == block}
        assert found == LANGUAGE[name][1]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", LANGUAGE)
def test_in_a_language_model_half_of_each_category_trains_and_all_that_is_outside(name: str, tied: bool) -> None:
    model = language_model(name, tied=tied)
    learner = half(replace(problem(digits()), model=lambda: model), first_frozen=0)
    learner.begin(digits().experiences[0])
    members = units(model)
    per_layer = Counter(LANGUAGE[name][1].values())
    counted = counts_by_block(members, frozenset(u.name for u in members) - set(learner.frozen))
    assert all(2 * counts["attention"] == per_layer["attention"] for counts in counted)
    assert all(2 * counts["rest"] == per_layer["rest"] for counts in counted)
    expected = {2: 2, 1: 3} if per_layer["feed_forward"] == 3 else {1: 5}
    assert Counter(counts["feed_forward"] for counts in counted) == expected
    inside = {parameter for unit in members for parameter in own_parameters(model, unit.name)}
    for unit in members:  # a bias goes with its matrix
        assert {p.requires_grad for p in own_parameters(model, unit.name)} == {unit.name not in learner.frozen}
    outside = [p for p in model.parameters() if p not in inside]
    assert all(p.requires_grad for p in outside)
    embeddings, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert (embeddings is head) == tied
    assert {embeddings, head} <= set(outside)


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
    learner = half(problem(stream, model="small_vit"), optimizer=Optimizer.ADAMW)
    optimizers: list[torch.optim.Optimizer] = []
    build = Half._optimizer

    def watched(self: Half) -> torch.optim.Optimizer:
        optimizers.append(build(self))
        return optimizers[-1]

    monkeypatch.setattr(Half, "_optimizer", watched)
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
    assert learner.notes()["share"] == trained / total < 0.8


def frozen_in_each(told: Problem, experiences: int = 4, **values: Any) -> list[tuple[str, ...]]:
    learner, found = half(told, **values), []
    for experience in digits().experiences[:experiences]:
        learn(learner, shortened(experience, 32))
        frozen = tuple(learner.notes()["frozen"])
        found.append(frozen)
        stopped = {n.rpartition(".")[0] for n, p in learner.model.named_parameters() if not p.requires_grad}
        assert stopped == set(frozen)  # what an earlier experience froze trains again
    return found


def test_the_half_is_drawn_anew_for_each_experience_or_once_for_all() -> None:
    told = problem(digits())
    anew, once = frozen_in_each(told), frozen_in_each(told, redraw=False)
    assert anew[0] == once[0] == ()  # a model that begins at random trains whole first
    assert all(anew[1:])
    assert len(set(anew[1:])) > 1
    assert once[1:] == [anew[1]] * 3


def test_a_pretrained_model_is_frozen_from_its_first_experience_on_unless_told_otherwise() -> None:
    random, trained = problem(digits()), replace(problem(digits()), pretrained=True)
    assert [bool(frozen) for frozen in frozen_in_each(random, 3)] == [False, True, True]
    assert [bool(frozen) for frozen in frozen_in_each(trained, 3)] == [True, True, True]
    assert frozen_in_each(random, 3, first_frozen=0) == frozen_in_each(trained, 3)
    assert [bool(frozen) for frozen in frozen_in_each(trained, 3, first_frozen=2)] == [False, False, True]


def test_what_was_frozen_before_the_strategy_began_stays_so() -> None:
    stream = digits()
    learner = half(problem(stream), first_frozen=0)
    weight = learner.model.get_parameter("backbone.stages.0.conv.weight").requires_grad_(False)
    before = weight.detach().clone()
    for experience in stream.experiences:
        learn(learner, shortened(experience, 32))
        assert not weight.requires_grad
    assert torch.equal(weight, before)


def test_without_whole_matrices_there_is_nothing_to_choose_from() -> None:
    told = problem(digits(), model="small_vit")

    def skipped(model: Any, ratio: float = 0.5) -> str:
        return str(Half.skip(HalfConfig(ratio=ratio), replace(told, model=lambda: model)))

    without_blocks, adapted = told.model(), told.model()
    without_blocks.backbone = nn.Flatten()
    adapted.backbone.requires_grad_(False)  # as a wrapper that adds low-rank adapters does
    assert "no half to choose" in skipped(without_blocks)
    assert "adapters leave no whole matrices to choose from" in skipped(adapted)
    assert skipped(told.model()) == skipped(without_blocks, 1.0) == skipped(adapted, 1.0) == "None"


class Float64(FineTuneClassifier):
    """The loop in float64, with the weights after each step."""

    def loss(self, batch: Batch) -> Tensor:
        return F.cross_entropy(self.model.head(self.model.backbone(batch["image"].double())), batch["label"])

    def begin(self, experience: Experience) -> None:
        super().begin(experience)
        self.trajectory: list[Tensor] = []

    def after_step(self) -> None:
        self.trajectory.append(torch.cat([p.detach().flatten() for p in self.model.parameters()]))


class HalfFloat64(Float64, Half):
    pass


def test_under_sgd_it_is_the_limit_of_an_l2_penalty_on_the_frozen_half() -> None:
    """Minimising loss + strength / 2 |what would be frozen - its start|^2, the strength growing without bound."""
    stream, lr = digits(), 0.1
    told = problem(stream, model="small_vit", width=8)
    double = replace(told, model=lambda: told.model().double())
    plain: dict[str, Any] = {"epochs": 2, "lr": lr, "momentum": 0.0, "weight_decay": 0.0, "schedule": Schedule.CONSTANT}

    class Pulled(Float64):
        """Each step is implicit in the penalty, which explicit steps could not follow once lr * strength > 2."""

        strength: float

        def begin(self, experience: Experience) -> None:
            super().begin(experience)
            members = units(self.model)
            trained = draw(members, 0.5, Level.CATEGORY, seeding.generator(0, "freeze", 0))
            held = [p for u in members if u.name not in trained for p in own_parameters(self.model, u.name)]
            self.starts = [(parameter, parameter.detach().clone()) for parameter in held]

        @torch.no_grad()
        def after_step(self) -> None:
            for parameter, start in self.starts:
                parameter.add_(lr * self.strength * start).div_(1 + lr * self.strength)
            super().after_step()

    def trajectory(learner: Float64) -> Tensor:
        learn(learner, shortened(stream.experiences[0], 96))
        return torch.stack(learner.trajectory)

    wanted = trajectory(HalfFloat64(HalfConfig(ratio=0.5, first_frozen=0, **plain), double))
    assert len(wanted) == 6
    distances = []
    for strength in (0.0, 1e3, 1e4, 1e5, 1e6):
        learner = Pulled(FineTuneConfig(**plain), double)
        learner.strength = strength
        distances.append(float((trajectory(learner) - wanted).norm(dim=1).max()))
    assert distances[0] > 0.1  # without it, the two part
    assert all(weaker / stronger == pytest.approx(10, rel=0.1) for weaker, stronger in pairwise(distances[1:]))
    assert distances[-1] < 1e-3 * distances[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ratio": 0.0}, r"strategy\.ratio must be in \(0, 1\], got 0"),
        ({"ratio": 1.5}, r"strategy\.ratio must be in \(0, 1\], got 1.5"),
        ({"first_frozen": -1}, r"strategy\.first_frozen must be >= 0 or null, got -1"),
    ],
)
def test_values_out_of_range_are_one_sentence(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HalfConfig(**values)
