"""Half fine-tuning: a random half of the parameters is frozen, drawn anew.

Hui et al., "HFT: Half Fine-Tuning for Large Language Models", arXiv 2404.18466, section 3. Whole matrices are frozen,
never elements. In every block each category of modules (attention matrices, feed-forward matrices, convolutions, norms
and the rest) trains half of its members; where half of an odd number is not whole, random blocks train one more, so
that the share holds over the model. What lies outside the blocks (embeddings, stem, final norm, head) always trains. A
bias goes with its matrix. The frozen half has no gradient and no optimiser state, and the optimiser is new in each
experience. Batch-norm statistics are not parameters and follow the data.

What differs from the paper: it starts from a pre-trained model, so its first round is already half-frozen; a model
that begins here at random would freeze random weights, so by default the first experience trains everything
(``first_frozen=0`` is the paper's rule). Convolutions are a category of ours: the paper has transformers only. Ratios
other than one half round by the same rule over blocks; the paper does not say how. Certificate: no published number
is reproduced yet.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import torch
from torch import nn

from clbench import seeding
from clbench.finetune import FineTune, FineTuneConfig
from clbench.scenario import Experience
from clbench.space import require
from clbench.strategy import Problem, strategies


class Level(Enum):
    """Among what the half is drawn."""

    CATEGORY = "category"  # within each category of each block: the paper's choice
    LAYER = "layer"  # half of the blocks, whole
    MODEL = "model"  # matrices of the whole model, until half of its parameters are drawn


@dataclass
class HFTConfig(FineTuneConfig):
    """The shared fields and those of freezing."""

    ratio: float = 0.5  # share that trains
    level: Level = Level.CATEGORY  # among what the trained share is drawn
    first_frozen: int = 1  # first experience (from 0) with a frozen part; 0 for a pre-trained model

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.ratio <= 1, "strategy.ratio", "in (0, 1]", self.ratio)
        require(self.first_frozen >= 0, "strategy.first_frozen", ">= 0", self.first_frozen)


class Unit(NamedTuple):
    """A module that is frozen or trained as a whole: its own parameters, not its children's."""

    name: str
    block: str
    category: str
    size: int  # parameters


def blocks(model: nn.Module) -> list[str]:
    """Names of the repeated modules: the children of each innermost list of two or more composite modules of a kind."""
    lists = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Sequential | nn.ModuleList) and _alike(list(module.children()))
    ]
    innermost = [a for a in lists if not any(b.startswith(f"{a}.") for b in lists)]
    return [f"{name}.{child}" for name in innermost for child, _ in model.get_submodule(name).named_children()]


def _alike(children: list[nn.Module]) -> bool:
    composite = all(any(True for _ in child.children()) for child in children)
    return len(children) > 1 and len({type(child) for child in children}) == 1 and composite


def units(model: nn.Module) -> list[Unit]:
    """Every module inside a block that has parameters of its own, in the model's order."""
    found = []
    for block in blocks(model):
        for path, module in model.get_submodule(block).named_modules():
            size = sum(p.numel() for p in module.parameters(recurse=False))
            if size:
                found.append(Unit(f"{block}.{path}".rstrip("."), block, category(path, module), size))
    return found


def category(path: str, module: nn.Module) -> str:
    """Which kind of member of its block a module is; ``path`` is its name within the block."""
    if isinstance(module, nn.modules.conv._ConvNd):
        return "convolution"
    if any(word in part for part in path.split(".") for word in ("attn", "attention")) and _has_matrix(module):
        return "attention"
    return "feed_forward" if isinstance(module, nn.Linear) else "rest"


def _has_matrix(module: nn.Module) -> bool:
    return any(p.dim() >= 2 for p in module.parameters(recurse=False))


def draw(members: Iterable[Unit], ratio: float, level: Level, generator: torch.Generator) -> frozenset[str]:
    """Names of the units that train: a pure function of architecture, ratio, level and generator.

    Args:
        members: of all blocks.
        ratio: share that trains.
        level: among what it is drawn.
        generator: on the CPU.
    """
    members = list(members)
    if level is Level.MODEL:
        return _draw_from_model(members, ratio, generator)
    if level is Level.LAYER:
        names = list(dict.fromkeys(unit.block for unit in members))
        chosen = {names[i] for i in _permutation(len(names), generator)[: round(ratio * len(names))]}
        return frozenset(unit.name for unit in members if unit.block in chosen)
    groups: Mapping[tuple[str, int], list[list[Unit]]] = _by_category(members)
    return frozenset(name for rows in groups.values() for name in _draw_from_blocks(rows, ratio, generator))


def _permutation(count: int, generator: torch.Generator) -> list[int]:
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order


def _by_category(members: list[Unit]) -> Mapping[tuple[str, int], list[list[Unit]]]:
    cells: dict[tuple[str, str], list[Unit]] = defaultdict(list)
    for unit in members:
        cells[unit.category, unit.block].append(unit)
    groups: dict[tuple[str, int], list[list[Unit]]] = defaultdict(list)
    for (kind, _), cell in cells.items():
        groups[kind, len(cell)].append(cell)
    return groups


def _draw_from_blocks(rows: list[list[Unit]], ratio: float, generator: torch.Generator) -> list[str]:
    share = ratio * len(rows[0])
    base = math.floor(share + 1e-9)
    extra = set(_permutation(len(rows), generator)[: math.floor((share - base) * len(rows) + 1e-9)])
    drawn = []
    for index, row in enumerate(rows):
        chosen = _permutation(len(row), generator)[: base + (index in extra)]
        drawn += [row[i].name for i in chosen]
    return drawn


def _draw_from_model(members: list[Unit], ratio: float, generator: torch.Generator) -> frozenset[str]:
    wanted, drawn = ratio * sum(unit.size for unit in members), set()
    for index in _permutation(len(members), generator):
        if wanted <= 0:
            break
        drawn.add(members[index].name)
        wanted -= members[index].size
    return frozenset(drawn)


@strategies.register(HFTConfig)
class HFT(FineTune):
    """The loop on a half that is drawn before each experience."""

    config: HFTConfig

    def __init__(self, config: HFTConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.frozen: list[str] = []

    @classmethod
    def skip(cls, config: HFTConfig, problem: Problem) -> str | None:
        """HFT needs at least two modules to choose between."""
        count = len(units(problem.model().backbone))
        return (
            f"the backbone has {count} modules in repeated blocks, so there is no half to freeze" if count < 2 else None
        )

    def begin(self, experience: Experience) -> None:
        """Freeze the units that are not drawn; their gradients are dropped."""
        self.model.requires_grad_(True)
        self.frozen = []
        if experience.index < self.config.first_frozen:
            return
        backbone = self.model.backbone
        members = units(backbone)
        generator = seeding.generator(self.problem.seed, "freeze", experience.index)
        trained = draw(members, self.config.ratio, self.config.level, generator)
        self.frozen = [unit.name for unit in members if unit.name not in trained]
        for name in self.frozen:
            for parameter in backbone.get_submodule(name).parameters(recurse=False):
                parameter.requires_grad_(False)
                parameter.grad = None

    def notes(self) -> dict[str, Any]:
        """Which modules were frozen."""
        return {"frozen": self.frozen}
