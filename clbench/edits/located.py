"""Fine-tuning at one location of a language model, edit after edit or all edits together.

Adam at a constant rate on the parameters of the location (`clbench.edits.location`), all else frozen. The loss of an
edit is the mean over its target's tokens, EOS included, of their cross-entropy; a batch's loss is the mean over its
edits. A batch whose loss is below ``stop`` is left out, and training ends with the first epoch whose mean is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, cast

import torch
from torch import Tensor, nn

from clbench.edits.location import Module, location_of, named, parameters_at
from clbench.errors import ConfigError
from clbench.finetune import FineTune, FineTuneConfig
from clbench.models.causal import CausalModel
from clbench.models.low_rank import no_bare_matrices
from clbench.scenario import Experience, Modality
from clbench.space import Choice, Uniform, require, searched
from clbench.strategy import Problem
from clbench.table import Batch, Table


class Pipeline(Enum):
    """In which order edits are trained on."""

    BREADTH_FIRST = "breadth_first"  # epochs over all edits of an experience, shuffled anew each time
    DEPTH_FIRST = "depth_first"  # one edit after the other, each until it is learnt, with an optimiser of its own


class Average(Enum):
    """What a batch's loss is the mean over."""

    SAMPLE = "sample"  # its edits' means
    TOKEN = "token"  # all target tokens


WITHIN = Choice((Module.DOWN, Module.UP, Module.MLP, Module.ATTENTION, Module.LAYER))


@dataclass
class LocatedConfig(FineTuneConfig):
    """The shared fields, and where and how edits are trained."""

    pipeline: Pipeline = Pipeline.BREADTH_FIRST  # in which order edits are trained on
    steps: int = 25  # of each edit, at most, where they come one after the other
    stop: float = 0.01  # loss at which enough is learnt
    average: Average = Average.SAMPLE  # what a batch's loss is the mean over
    module: Module | None = searched(None, WITHIN)  # part of the block; null: the known one
    depth: float | None = searched(None, Uniform(0.01, 1.0))  # which block, as a share of all; null: the known one
    layer: int | None = None  # which block, from 0; null: by its depth
    location: str | None = None  # beginning of parameter names, in place of module, depth and layer
    clamp: float | None = None  # depth first: furthest that an edit may move a weight; null: anywhere

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.steps >= 1, "strategy.steps", ">= 1", self.steps)
        require(self.stop >= 0, "strategy.stop", ">= 0", self.stop)
        require(self.depth is None or 0 < self.depth <= 1, "strategy.depth", "in (0, 1] or null", self.depth)
        require(self.clamp is None or self.clamp > 0, "strategy.clamp", "> 0 or null", self.clamp)
        if self.clamp is not None and self.pipeline is not Pipeline.DEPTH_FIRST:
            raise ConfigError(
                f"strategy.clamp bounds what one edit changes, and breadth first edits change weights together; leave "
                f"it out or set strategy.pipeline=depth_first, got clamp={self.clamp:g}"
            )


class Located(FineTune):
    """The loop on the parameters of one location.

    Attributes:
        tuned: the parameters that train, by their names.
    """

    learns = frozenset({Modality.TEXTS})
    spreads = frozenset()
    config: LocatedConfig

    def __init__(self, config: LocatedConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.tuned = choose(self.causal, config)
        self._losses: list[tuple[Tensor, int]] = []
        self._before: dict[str, Tensor] = {}
        self._epochs = self._steps = 0

    @property
    def causal(self) -> CausalModel:
        """The model, which is one of language."""
        return cast(CausalModel, self.model)

    @classmethod
    def skip(cls, config: LocatedConfig, problem: Problem) -> str | None:
        """It needs whole matrices."""
        return no_bare_matrices(problem.model())

    def learn(self, experience: Experience) -> None:
        """Learn one experience, all its edits together or one after the other."""
        self._epochs = self._steps = 0
        super().learn(experience)

    def _fit(self, experience: Experience, table: Table) -> None:
        if self.config.pipeline is Pipeline.BREADTH_FIRST:
            super()._fit(experience, table)
            return
        epochs, self.config = self.config.epochs, replace(self.config, epochs=self.config.steps)
        try:
            for place in range(len(table)):
                self._before = {name: p.detach().clone() for name, p in self.tuned.items()} if self.config.clamp else {}
                super()._fit(experience, table.select(torch.tensor([place])))
        finally:
            self.config = replace(self.config, epochs=epochs)

    def parameter_groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """Those of the location."""
        return [(list(self.tuned.values()), 1.0)]

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy with the targets, EOS included, averaged as ``average`` says, ()."""
        if self.config.average is Average.TOKEN:
            return self.model.loss(batch)
        likelihoods, lengths = self.model.log_likelihoods(batch)
        return -(likelihoods / lengths).mean()

    def settled(self, loss: Tensor, batch: Batch) -> bool:
        """Below ``stop``."""
        self._losses.append((loss, len(batch["tokens"])))
        below = float(loss) < self.config.stop
        self._steps += not below
        return below

    def finished(self) -> bool:
        """Below ``stop`` over the epoch, each batch as it was before its step."""
        self._epochs += 1
        total = sum(float(loss) * rows for loss, rows in self._losses)
        rows = sum(rows for _, rows in self._losses)
        self._losses.clear()
        return total / rows < self.config.stop

    @torch.no_grad()
    def after_step(self) -> None:
        """Put weights that moved too far back to the edge."""
        for name, before in self._before.items():
            limit = self.config.clamp or 0.0
            self.tuned[name].copy_(self.tuned[name].clamp(before - limit, before + limit))

    def notes(self) -> dict[str, Any]:
        """What was tuned, and for how long."""
        return {"tuned": sorted(self.tuned), "epochs": self._epochs, "steps": self._steps}

    def state(self) -> dict[str, Any]:
        """As the loop's, but of the model only what is tuned."""
        return {**super().state(), "model": {name: p.detach() for name, p in self.tuned.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on as the strategy whose `state` this is would."""
        self.model.to(self.problem.device)
        self.put(state["model"])
        super().restore({**state, "model": self.model.learnt_state()})

    @torch.no_grad()
    def put(self, values: Mapping[str, Tensor]) -> None:
        """Give tuned parameters these values."""
        for name, value in values.items():
            self.tuned[name].copy_(value)


def choose(model: CausalModel, config: LocatedConfig) -> dict[str, nn.Parameter]:
    """Freeze a model but for its location, whose parameters are kept in full precision.

    Raises:
        IncompatibleError: the model has no such location.
    """
    network = model.inner
    if config.location is not None:
        tuned = named(network, config.location)
    else:
        tuned = parameters_at(network, location_of(network, config.layer, config.depth, config.module))
    model.requires_grad_(False)
    for parameter in tuned.values():
        parameter.requires_grad_(True)
    in_full_precision([module for module in network.modules() if _trains(module)])
    return parameters_named(network, tuned)


def parameters_named(network: nn.Module, names: Mapping[str, Any]) -> dict[str, nn.Parameter]:
    """A network's parameters of these names."""
    return {name: network.get_parameter(name) for name in names}


def in_full_precision(modules: Sequence[nn.Module]) -> None:
    """Have modules keep their own parameters and compute in float32, between others that do not.

    Small updates of lower precision would round away. Of modules that share a parameter (embedding and output) all
    are to be given.
    """
    kinds = [next(module.parameters(recurse=False)).dtype for module in modules]
    for module, kind in zip(modules, kinds, strict=True):
        if kind is not torch.float32:
            module.float()
            module.register_forward_pre_hook(_exactly)
            module.register_forward_hook(lambda _, inputs, made, kind=kind: made.to(kind))


def _trains(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters(recurse=False))


def _exactly(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Numbers in float32; an embedding's are token ids."""
    return tuple(value.float() if value.is_floating_point() else value for value in inputs)


def last_of_prompt(model: CausalModel, batch: Batch) -> Tensor:
    """Logits (N, V) float32 of the first token of each answer."""
    logits = model.network(input_ids=batch["tokens"], use_cache=False).logits
    rows = torch.arange(len(logits), device=logits.device)
    picked: Tensor = logits[rows, batch["prompt"].long() - 1].float()
    return picked


def edits_so_far(table: Table, seen: Tensor) -> Table:
    """All rows seen, those of ``table`` last."""
    return Table(table.source, torch.cat((seen.to(table.rows.device), table.rows)))
