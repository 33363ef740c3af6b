"""Half of a model: which matrices train in an experience and which stay as they are.

Whole matrices are drawn, never elements, as half fine-tuning does (Hui et al., arXiv 2404.18466, section 3). A model's
repeated blocks are found by their structure, and within each block four categories of modules: attention matrices,
other matrices (feed-forward), convolutions, and the rest, which are norms and what else has vectors only. A bias goes
with its matrix. What lies outside the blocks (embeddings, stem, final norm, head) always trains.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from clbench import seeding
from clbench.finetune import FineTune, FineTuneConfig
from clbench.scenario import Experience
from clbench.space import require
from clbench.strategy import Problem


class Level(Enum):
    """Among what the half is drawn."""

    CATEGORY = "category"  # within each category of each block
    LAYER = "layer"  # half of the blocks, whole
    MODEL = "model"  # matrices of the whole model, until half of its parameters are drawn


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
    named = any(word in part for part in path.lower().split(".") for word in ("attn", "attention"))
    if named and any(p.dim() >= 2 for p in module.parameters(recurse=False)):
        return "attention"
    weight = getattr(module, "weight", None)  # by its shape and not as nn.Linear: GPT-2 has a class of its own
    return "feed_forward" if isinstance(weight, Tensor) and weight.dim() == 2 else "rest"


def draw(members: Iterable[Unit], ratio: float, level: Level, generator: torch.Generator) -> frozenset[str]:
    """Names of the units that train: a pure function of architecture, ratio, level and generator.

    Args:
        members: of all blocks.
        ratio: share that trains.
        level: among what it is drawn. Where the share of a category is no whole number, random blocks train one more.
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


def no_half(model: nn.Module) -> str | None:
    """Why a model has no half to choose, in one clause; None where it has."""
    members = units(model)
    if len(members) < 2:
        return f"the model has {len(members)} modules in repeated blocks, so there is no half to choose"
    if any(not p.requires_grad for unit in members for p in own_parameters(model, unit.name)):
        return "parts of the model are frozen from the start, and adapters leave no whole matrices to choose from"
    return None


def own_parameters(model: nn.Module, unit: str) -> list[nn.Parameter]:
    """The parameters of the unit of this name."""
    return list(model.get_submodule(unit).parameters(recurse=False))


@dataclass
class HalfConfig(FineTuneConfig):
    """The shared fields and those of freezing; by default nothing is frozen."""

    ratio: float = 1.0  # share of the blocks' matrices that trains; 1: all
    level: Level = Level.CATEGORY  # among what the trained share is drawn
    redraw: bool = True  # a new share for each experience; false: the first one throughout
    first_frozen: int | None = None  # first experience with a frozen part; null: 0 if the model is pre-trained, else 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.ratio <= 1, "strategy.ratio", "in (0, 1]", self.ratio)
        allowed = self.first_frozen is None or self.first_frozen >= 0
        require(allowed, "strategy.first_frozen", ">= 0 or null", self.first_frozen)


class Half(FineTune):
    """The loop on a share of the matrices. What was frozen before the strategy began stays so.

    Attributes:
        first: index of the first experience with a frozen part.
        frozen: names of the units that the experience at hand does not train.
    """

    config: HalfConfig

    def __init__(self, config: HalfConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.first = problem.first_with_past if config.first_frozen is None else config.first_frozen
        self.frozen: list[str] = []
        self.stopped: list[nn.Parameter] = []  # that trained before and are to train again

    @classmethod
    def skip(cls, config: HalfConfig, problem: Problem) -> str | None:
        """A share of the matrices needs whole matrices to choose from."""
        return None if config.ratio == 1 else no_half(problem.model())

    def begin(self, experience: Experience) -> None:
        """Freeze the units that are not drawn; their gradients are dropped."""
        for parameter in self.stopped:
            parameter.requires_grad_(True)
        self.frozen, self.stopped = [], []
        if experience.index < self.first:
            return
        members = units(self.model)
        drawn_for = experience.index if self.config.redraw else self.first
        generator = seeding.generator(self.problem.seed, "freeze", drawn_for)
        trained = draw(members, self.config.ratio, self.config.level, generator)
        self.frozen = [unit.name for unit in members if unit.name not in trained]
        self.stopped = [p for name in self.frozen for p in own_parameters(self.model, name) if p.requires_grad]
        for parameter in self.stopped:
            parameter.requires_grad_(False)
            parameter.grad = None

    def notes(self) -> dict[str, Any]:
        """Which units were frozen, and which share of all parameters trained."""
        total, trained = self.parameters()
        return {"frozen": self.frozen, "share": trained / total}
