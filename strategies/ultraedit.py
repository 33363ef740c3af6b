"""UltraEdit: a few matrices changed once per batch of edits, by least squares on their gradients.

Gu et al. 2025, arXiv 2505.14679. One forward and one backward pass of the targets' loss give, for each chosen matrix
and each token that is no padding, its input h and the gradient g of its output. A normaliser that goes on over all
batches of the stream turns them into h~ and g~, feature by feature. Then, with H the rows h as they are,

    V = - rate |h~|^2 g~             row by row
    dW = (H^T H + I)^-1 H^T V        what maps the inputs to V, with a ridge of 1

The released matrices are known for Llama-3-8B (gates of blocks 11-15, first matrices of 18-24), Qwen2.5-7B (both of
18-26) and Mistral-7B (last matrices of 29-30), where the rate is 1e-6 and 100 edits come together. Other models begin
with DEFAULT.

As in the released code the normaliser takes a batch in before it is applied to it. What differs: there matrices of the
same shape share one normaliser, here each has its own; there the deviation divides by the rows seen less one, here by
the rows seen; there the loss is the mean over all target tokens of a part of the batch, here the sum over edits of the
mean over each target's tokens, EOS included, so that an edit's gradient does not depend on the batch it comes in.
Statistics and the solution are float64, changed matrices float32.

Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from clbench.edits.editor import Editor, EditorConfig
from clbench.edits.located import in_full_precision
from clbench.edits.location import blocks_of
from clbench.errors import DivergedError, IncompatibleError
from clbench.models.causal import CausalModel
from clbench.space import LogUniform, require, searched
from clbench.strategy import Problem, strategies
from clbench.table import Batch

KNOWN = {
    ("llama", 32): ("mlp.gate_proj:11-15", "mlp.up_proj:18-24"),
    ("qwen2", 28): ("mlp.gate_proj:18-26", "mlp.up_proj:18-26"),
    ("mistral", 32): ("mlp.down_proj:29-30",),
}
"""Released choices by architecture and number of blocks."""

DEFAULT = ("mlp.gate_proj", "mlp.up_proj", "mlp.c_fc")
"""Of other models, those of these that there are, in the upper half of the blocks; chosen on edits of the embedded
model's tuning half."""

FORM = re.compile(r"([\w.]+):(\d+)-(\d+)")


@dataclass
class UltraEditConfig(EditorConfig):
    """How much is changed, and where."""

    batch_size: int = 100  # edits that are made together
    rate: float = searched(1.5e-3, LogUniform(1e-6, 1e-1))  # what is wanted of an output per unit of gradient
    modules: list[str] = field(default_factory=list)  # as mlp.up_proj:18-24, part of the blocks; empty: the known ones

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rate > 0, "strategy.rate", "> 0", self.rate)
        for entry in self.modules:
            require(bool(places_of(entry)), "strategy.modules", "like [mlp.up_proj:18-24]", self.modules)


class Moments(NamedTuple):
    """Of rows seen so far: how many, () float64, their mean, and the sum of squares around it, (F,) float64."""

    seen: Tensor
    mean: Tensor
    squares: Tensor


def no_rows(width: int, device: torch.device) -> Moments:
    """Nothing seen."""
    none = torch.zeros(width + 1, dtype=torch.float64, device=device)
    return Moments(none[0], none[1:], none[1:])


def merged(past: Moments, rows: Tensor) -> Moments:
    """The moments of past rows and new ones (N, F), as Chan et al. 1979 put two sets together."""
    rows = rows.double()
    new, mean = len(rows), rows.mean(0)
    total, apart = past.seen + new, mean - past.mean
    squares = past.squares + (rows - mean).square().sum(0) + apart.square() * past.seen * new / total
    return Moments(total, past.mean + apart * new / total, squares)


def normalised(rows: Tensor, moments: Moments) -> Tensor:
    """Rows (N, F) less the mean, in units of the deviation; float64."""
    deviation = (moments.squares / moments.seen).sqrt()
    return (rows.double() - moments.mean) / deviation.clamp_min(1e-12)


def update(inputs: Tensor, wanted: Tensor) -> Tensor:
    """D (I, O) float64 that minimises |inputs D - wanted|^2 + |D|^2, through the smaller of the two Gram matrices.

    Args:
        inputs: (N, I).
        wanted: (N, O).
    """
    inputs, wanted = inputs.double(), wanted.double()
    few = len(inputs) < inputs.shape[1]
    gram = inputs @ inputs.T if few else inputs.T @ inputs
    gram.diagonal().add_(1)
    solved: Tensor = torch.linalg.solve(gram, wanted if few else inputs.T @ wanted)
    return inputs.T @ solved if few else solved


def matrices(network: Any) -> dict[tuple[int, str], nn.Module]:
    """A network's modules with a matrix, by block and name within it."""
    found = {}
    for number, block in enumerate(network.get_submodule(blocks_of(network))):
        for name, module in block.named_modules():
            if isinstance(weight := getattr(module, "weight", None), Tensor) and weight.dim() == 2:
                found[number, name] = module
    return found


def chosen(network: Any, entries: Sequence[str]) -> dict[str, nn.Module]:
    """The modules that entries like ``mlp.up_proj:18-24`` name, by their names; the known ones where there are none.

    Raises:
        IncompatibleError: there is no such block or matrix; the message says what there is.
    """
    count, there = network.config.num_hidden_layers, matrices(network)
    names = list(dict.fromkeys(name for _, name in there))
    usual = tuple(f"{name}:{count // 2}-{count - 1}" for name in DEFAULT if name in names)
    wanted = list(entries) or KNOWN.get((network.config.model_type, count), usual)
    places = [place for entry in wanted for place in places_of(entry)]
    if not places or any(place not in there for place in places):
        raise IncompatibleError(
            f"strategy.modules=[{','.join(wanted)}] does not fit: the model has blocks 0-{count - 1} with the matrices "
            f"{', '.join(names)}; name some of them: strategy.modules=[{names[-1]}:0-{count - 1}]"
        )
    return {f"{blocks_of(network)}.{number}.{name}": there[number, name] for number, name in places}


def places_of(entry: str) -> list[tuple[int, str]]:
    """Blocks and name that ``mlp.up_proj:18-24`` stands for; none where it is not of this form."""
    found = FORM.fullmatch(entry)
    if found is None:
        return []
    name, first, last = found.groups()
    return [(number, name) for number in range(int(first), int(last) + 1)]


def traced(model: CausalModel, layers: Mapping[str, nn.Module], batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
    """What goes into each layer (M, I), and the gradient of what comes out (M, O), at the M tokens of a batch.

    The gradient is that of the sum over rows of the mean negative log-likelihood of each row's answer.
    """
    inputs: dict[str, Tensor] = {}
    added: dict[str, Tensor] = {}

    def catch(name: str) -> Any:
        def hook(_: nn.Module, taken: tuple[Tensor, ...], made: Tensor) -> Tensor:
            inputs[name], added[name] = taken[0].detach(), torch.zeros_like(made, requires_grad=True)
            return made + added[name]

        return hook

    hooks = [layer.register_forward_hook(catch(name)) for name, layer in layers.items()]
    try:
        likelihoods, lengths = model.log_likelihoods(batch)
    finally:
        for hook in hooks:
            hook.remove()
    gradients = torch.autograd.grad(-(likelihoods / lengths).sum(), list(added.values()))
    tokens = torch.arange(batch["tokens"].shape[1], device=likelihoods.device) < batch["length"][:, None]
    return {name: (inputs[name][tokens], g[tokens]) for name, g in zip(added, gradients, strict=True)}


@strategies.register(UltraEditConfig)
class UltraEdit(Editor):
    """One least-squares change per batch of edits.

    Attributes:
        layers: the modules whose matrices are changed, by name.
    """

    config: UltraEditConfig

    def __init__(self, config: UltraEditConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.layers = chosen(self.model.inner, config.modules)
        in_full_precision(list(self.layers.values()))
        for name, layer in self.layers.items():
            self._keep(name, no_rows(sum(layer.get_parameter("weight").shape), problem.device))

    def changed(self) -> dict[str, Tensor]:
        """The chosen matrices."""
        return {f"{name}.weight": layer.get_parameter("weight") for name, layer in self.layers.items()}

    def edit(self, batch: Batch) -> None:
        """Change all matrices by what the same pass asks of them."""
        found = traced(self.model, self.layers, self.problem.transform.evaluate(batch))
        with torch.no_grad():
            for name, (inputs, gradients) in found.items():
                self._change(name, inputs, gradients)

    def _change(self, name: str, inputs: Tensor, gradients: Tensor) -> None:
        rows = torch.cat((inputs.double(), gradients.double()), 1)
        moments = merged(Moments(*(self.auxiliary[f"{name}.{part}"] for part in Moments._fields)), rows)
        self._keep(name, moments)
        plain, slope = normalised(rows, moments).split([inputs.shape[1], gradients.shape[1]], 1)
        wanted = -self.config.rate * plain.square().sum(1, keepdim=True) * slope
        if not bool(wanted.isfinite().all()):
            raise DivergedError(f"the gradient at {name} is no longer finite")
        change, layer = update(inputs, wanted), self.layers[name]
        # GPT-2 keeps its matrices from inputs to outputs, others the other way round.
        turned = isinstance(layer, nn.Linear)
        layer.get_parameter("weight").add_(change.T if turned else change)

    def _keep(self, name: str, moments: Moments) -> None:
        self.auxiliary |= {f"{name}.{part}": tensor for part, tensor in moments._asdict().items()}
