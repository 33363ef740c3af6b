"""L2P: a pool of prompts before a frozen transformer, the ones for an image found by their keys.

Wang et al. 2022, arXiv 2112.08654, section 4. With q(x) the frozen model's class token and k_m the key of prompt m:

    the top_k prompts with the largest cos(q(x), k_m) go in between the class token and the patches
    feature = mean of the prompts' tokens after the last norm

    loss = cross-entropy over the new outputs - pull * sum over the chosen m of cos(q(x), k_m),   mean over the batch

Prompts, keys and head train, the transformer never; old outputs are left out of the softmax, so their rows of the head
get no gradient. Prompts are chosen for each example by itself. The released code counts over a batch which are chosen
most often, and gives those to all of it, in testing as well: ``batchwise_prompt=true`` does that, and an answer then
depends on the other examples of its batch.

What differs from the authors' code: prompts carry no positions (theirs get a part of resampled position embeddings;
attention asks for no order); prompts are not copied from one experience's to the next's; the gradient is clipped only
where ``clip`` says so. Defaults are those for CIFAR-100 in the field's toolbox (constant rate 0.03 * 16 / 256).
Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench import seeding
from clbench.finetune import FineTuneClassifier, FineTuneConfig, Optimizer, Schedule
from clbench.models.classifier import local_cross_entropy
from clbench.models.transformer import Transformer, no_transformer, opened
from clbench.scenario import Experience
from clbench.space import Choice, Uniform, require, searched
from clbench.strategy import Problem, strategies
from clbench.table import Batch


@dataclass
class L2PConfig(FineTuneConfig):
    """The shared fields, with the field's values, and those of the pool."""

    epochs: int = 5  # passes over each experience
    batch_size: int = 16  # examples per step
    lr: float = searched(1.875e-3, Uniform(0.875e-3, 2.5e-3))  # learning rate
    optimizer: Optimizer = Optimizer.ADAM  # update rule
    weight_decay: float = searched(0.0, Choice((0.0, 1e-4, 5e-4)))  # L2 penalty; decays the old rows of the head too
    schedule: Schedule = Schedule.CONSTANT  # course of the learning rate within one experience
    pool: int = searched(10, Choice((10, 15, 20, 25, 30)))  # prompts
    length: int = searched(5, Choice((2, 4, 5, 6, 8, 10)))  # tokens of a prompt
    top_k: int = searched(5, Choice((2, 4, 5, 6, 8, 10)))  # prompts per image
    pull: float = searched(0.1, Choice((0.1, 0.3, 0.5)))  # weight of the term that draws keys to queries
    batchwise_prompt: bool = False  # one choice for the whole batch, as the released code has it

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.length >= 1, "strategy.length", ">= 1", self.length)
        rule = f"in 1..{self.pool}, the size of the pool"
        require(1 <= self.top_k <= self.pool, "strategy.top_k", rule, self.top_k)
        require(self.pull >= 0, "strategy.pull", ">= 0", self.pull)
        self.memory.require_none("for l2p")


def majority(chosen: Tensor, pool: int) -> Tensor:
    """For every example the prompts that the batch chose most often; of equally frequent ones the first.

    Args:
        chosen: (N, K) int64, each example's own.
        pool: prompts to choose from.

    Returns:
        (N, K) int64, the same in each row.
    """
    votes = F.one_hot(chosen, pool).sum((0, 1))
    return votes.argsort(descending=True, stable=True)[: chosen.shape[1]].expand_as(chosen)


class PromptedTransformer(nn.Module):
    """A frozen vision transformer with a pool of prompts.

    Args:
        transformer: frozen here.
        config: sizes, and how prompts are chosen.
        generator: what prompts and keys are drawn from, uniformly in [-1, 1]; on the CPU.

    Attributes:
        features_out: length of a feature vector.
    """

    def __init__(self, transformer: Transformer, config: L2PConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.transformer = transformer.requires_grad_(False)
        self.features_out = transformer.width
        self.top_k, self.batchwise = config.top_k, config.batchwise_prompt
        self.prompts = nn.Parameter(
            2 * torch.rand(config.pool, config.length, transformer.width, generator=generator) - 1
        )
        self.keys = nn.Parameter(2 * torch.rand(config.pool, transformer.width, generator=generator) - 1)
        self.to(next(transformer.parameters()).device)

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, features_out) of images (N, C, H, W), and the cosines (N, top_k) of their prompts' keys."""
        with torch.no_grad():
            tokens = self.transformer.embed(images)
            query = self.transformer.through(tokens)[:, 0]
        near = F.cosine_similarity(query[:, None], self.keys, dim=2)
        chosen = near.topk(self.top_k, dim=1).indices
        if self.batchwise:
            chosen = majority(chosen, len(self.keys))
        prompts = self.prompts[chosen].flatten(1, 2).to(tokens.dtype)
        tokens = self.transformer.through(torch.cat((tokens[:, :1], prompts, tokens[:, 1:]), dim=1))
        return tokens[:, 1 : 1 + prompts.shape[1]].mean(1), near.gather(1, chosen)

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, features_out) of images (N, C, H, W), floating point."""
        return self.features(images)[0]


@strategies.register(L2PConfig)
class L2P(FineTuneClassifier):
    """The loop over prompts, keys and head."""

    config: L2PConfig
    pretrained: ClassVar[bool] = True

    def __init__(self, config: L2PConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        transformer = opened(self.model.backbone)
        draws = seeding.generator(problem.seed, "prompts")
        self.prompted = self.model.backbone = PromptedTransformer(transformer, config, draws)
        self.new = slice(0, 0)  # outputs of this experience

    @classmethod
    def skip(cls, config: L2PConfig, problem: Problem) -> str | None:
        """Prompts are tokens."""
        return no_transformer(problem.model().backbone)

    def begin(self, experience: Experience) -> None:
        """Note which outputs are new."""
        self.new = slice(experience.classes[0], experience.classes[-1] + 1)

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy over the new outputs, and the pull of keys towards queries."""
        features, near = self.prompted.features(batch["image"])
        logits = self.model.head(features).float()
        return local_cross_entropy(logits, batch["label"], self.new) - self.config.pull * near.sum(1).mean()
