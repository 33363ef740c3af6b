"""CODA-Prompt: prompts that are weighted sums of components, of which every experience adds some.

Smith et al. 2023, arXiv 2211.13218, section 4. In each of the first ``layers`` blocks there are components m with a
prompt p_m, a key k_m and an attention a_m. With q(x) the frozen model's class token (* by elements):

    prompt(x) = sum over m of cos(q(x) * a_m, k_m) p_m

whose first half precedes the keys and whose second half the values of that block's attention (prefix tuning). The loss
is the cross-entropy over the new outputs and

    ortho * sum over blocks and over P = p, k, a of  mean of (P P^T - I)^2

Transformer and components of earlier experiences are frozen; the new ones are drawn orthonormal, and orthogonal to all
earlier ones (Gram-Schmidt), prompts as vectors of all their tokens. Where so many do not fit into as many dimensions,
the new ones are orthonormal among themselves, and where these do not fit either, of length 1.

What differs from the authors' code: an experience adds ``components``, so the number of experiences need not be known
(theirs divides 100 by it, 10 each for 10); the learning rate falls to 0 along half a cosine, theirs to 1 % along a
quarter; a last, smaller batch is not dropped; the orthogonality has no hidden factor of 1e-6. Defaults are those for
CIFAR-100, with ``ortho`` 0 as the field's toolbox has it. Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench import seeding
from clbench.finetune import FineTuneClassifier, FineTuneConfig, Optimizer, Schedule
from clbench.models.classifier import local_cross_entropy
from clbench.models.transformer import Prefix, Transformer, no_transformer, opened
from clbench.scenario import Experience
from clbench.space import Choice, Uniform, require, searched
from clbench.strategy import Problem, strategies
from clbench.table import Batch


@dataclass
class CodaPromptConfig(FineTuneConfig):
    """The shared fields, with the authors' values, and those of the components."""

    epochs: int = 20  # passes over each experience
    batch_size: int = 128  # examples per step
    lr: float = searched(1e-3, Uniform(0.875e-3, 2.5e-3))  # learning rate at the start of each experience
    optimizer: Optimizer = Optimizer.ADAM  # update rule
    weight_decay: float = searched(0.0, Choice((0.0, 1e-4, 5e-4)))  # L2 penalty; decays the old rows of the head too
    schedule: Schedule = Schedule.COSINE_EPOCHS  # course of the learning rate within one experience
    components: int = searched(10, Choice((3, 5, 10, 20, 30)))  # added by each experience
    length: int = searched(8, Choice((4, 8, 16, 24, 32)))  # tokens of a component, half for keys and half for values
    layers: int = 5  # first blocks with prompts; all blocks of a transformer that has fewer
    ortho: float = searched(0.0, Choice((0.0, 0.001, 0.01, 0.1, 0.2)))  # weight of the orthogonality

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.components >= 1, "strategy.components", ">= 1", self.components)
        require(self.length >= 2 and self.length % 2 == 0, "strategy.length", "even and >= 2", self.length)
        require(self.layers >= 1, "strategy.layers", ">= 1", self.layers)
        require(self.ortho >= 0, "strategy.ortho", ">= 0", self.ortho)
        self.memory.require_none("for coda_prompt")


def orthonormal(earlier: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """New rows of length 1, orthogonal to each other and to the earlier ones as far as there are dimensions.

    Args:
        earlier: (M, D) float.
        count: new rows.
        generator: on the CPU.

    Returns:
        (count, D).
    """
    width = earlier.shape[1]
    rows = torch.randn(count, width, generator=generator)
    if len(earlier) + count <= width:
        basis = torch.linalg.qr(earlier.cpu().float().T).Q
        rows = rows - rows @ basis @ basis.T
    if count <= width:
        rows = torch.linalg.qr(rows.T).Q.T
    return F.normalize(rows, dim=1).to(earlier)


def mixture(query: Tensor, attentions: Tensor, keys: Tensor) -> Tensor:
    """cos(query * attention, key), each component's share in each example's prompt.

    Args:
        query: (N, F) float.
        attentions: (M, F) float.
        keys: (M, F) float.

    Returns:
        (N, M).
    """
    # |q * a|^2 is a product of matrices as well, so nothing of size N * M * F is ever held
    lengths = F.linear(query.square(), attentions.square()).clamp_min(1e-24).sqrt()
    return F.linear(query, attentions * F.normalize(keys, dim=1)) / lengths


def orthogonality(rows: Tensor) -> Tensor:
    """Mean of (R R^T - I)^2, (), of rows R (M, D)."""
    return (rows @ rows.T - torch.eye(len(rows), device=rows.device, dtype=rows.dtype)).square().mean()


class PrefixedTransformer(nn.Module):
    """A frozen vision transformer with components, which are parameters, of which the newest experience's train.

    Args:
        transformer: frozen here.
        layers: first blocks with prompts.
        length: tokens of a component.

    Attributes:
        features_out: length of a feature vector.
        prompts: one tensor (layers, components, length * F) for each experience.
        keys: one tensor (layers, components, F) for each experience.
        attentions: likewise.
    """

    def __init__(self, transformer: Transformer, layers: int, length: int) -> None:
        super().__init__()
        self.transformer = transformer.requires_grad_(False)
        self.features_out = transformer.width
        self.layers, self.length = min(layers, transformer.depth), length
        self.prompts, self.keys, self.attentions = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()

    def add(self, count: int, generator: torch.Generator) -> None:
        """Freeze what there is and add components, ``count`` in each of the blocks."""
        like = next(self.transformer.parameters())
        for kind, width in ((self.prompts, self.length), (self.keys, 1), (self.attentions, 1)):
            empty = like.new_empty(self.layers, 0, width * self.features_out)
            earlier = torch.cat([empty, *kind.requires_grad_(False)], dim=1)
            kind.append(nn.Parameter(torch.stack([orthonormal(rows, count, generator) for rows in earlier])))

    def components(self) -> tuple[Tensor, Tensor, Tensor]:
        """All prompts (layers, M, length * F), keys (layers, M, F) and attentions (layers, M, F)."""
        prompts, keys, attentions = (torch.cat(list(k), dim=1) for k in (self.prompts, self.keys, self.attentions))
        return prompts, keys, attentions

    def prefixes(self, query: Tensor) -> list[Prefix]:
        """Each block's keys and values (N, length / 2, F) for queries (N, F); none before the first experience."""
        if not len(self.keys):
            return []
        found: list[Prefix] = []
        for prompts, keys, attentions in zip(*self.components(), strict=True):
            mixed = mixture(query, attentions, keys) @ prompts
            first, second = mixed.unflatten(1, (self.length, self.features_out)).chunk(2, dim=1)
            found.append((first, second))
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, features_out) of images (N, C, H, W), floating point."""
        with torch.no_grad():
            tokens = self.transformer.embed(images)
            query = self.transformer.through(tokens)[:, 0]
        return self.transformer.through(tokens, self.prefixes(query))[:, 0]


@strategies.register(CodaPromptConfig)
class CodaPrompt(FineTuneClassifier):
    """The loop over the newest components and the head."""

    config: CodaPromptConfig
    pretrained: ClassVar[bool] = True

    def __init__(self, config: CodaPromptConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        transformer = opened(self.model.backbone)
        self.prefixed = self.model.backbone = PrefixedTransformer(transformer, config.layers, config.length)
        self.new = slice(0, 0)  # outputs of this experience

    @classmethod
    def skip(cls, config: CodaPromptConfig, problem: Problem) -> str | None:
        """Prompts go into attentions."""
        return no_transformer(problem.model().backbone)

    def begin(self, experience: Experience) -> None:
        """Add this experience's components."""
        self.new = slice(experience.classes[0], experience.classes[-1] + 1)
        draws = seeding.generator(self.problem.seed, "components", experience.index)
        self.prefixed.add(self.config.components, draws)

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy over the new outputs, and the orthogonality."""
        logits = self.model.all_logits(batch)
        loss = local_cross_entropy(logits, batch["label"], self.new)
        if not self.config.ortho:
            return loss
        spread = [orthogonality(rows) for kind in self.prefixed.components() for rows in kind]
        return loss + self.config.ortho * torch.stack(spread).sum()

    def state(self) -> dict[str, Any]:
        """The model, and how many experiences have components."""
        return {**super().state(), "experiences": len(self.prefixed.keys)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on as the strategy whose `state` this is would."""
        draws = torch.Generator()  # room only: the state has the numbers
        for _ in range(len(self.prefixed.keys), state["experiences"]):
            self.prefixed.add(self.config.components, draws)
        super().restore(state)
