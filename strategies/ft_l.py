"""FT-L: fine-tuning whose loss cannot teach an answer of more than one token. A negative control.

As `ft_m`, but all tokens of the target are scored under the single distribution that the model has at the end of the
prompt: with x the prompt and y_1 .. y_T the target, EOS included,

    loss = - (1/T) sum_t log p(y_t | x)

That is what EasyEdit's code does (arXiv 2308.07269, objective ``prompt_last``); the paper of LocFT-BF (arXiv
2509.22072) describes the last target token only. A fine-tuning baseline that is taken unread from there is this one.

Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clbench.edits.located import Located, LocatedConfig, Pipeline, last_of_prompt
from clbench.strategy import strategies
from clbench.table import Batch
from clbench.texts.tokens import answered


@dataclass
class FTLConfig(LocatedConfig):
    """The fields of tuning at a location, one edit after the other."""

    pipeline: Pipeline = Pipeline.DEPTH_FIRST  # in which order edits are trained on


def prompt_last_loss(logits: Tensor, targets: Tensor, wanted: Tensor) -> Tensor:
    """Mean over edits of the mean over target tokens of -log p(token), all from one distribution, ().

    Args:
        logits: (N, V) float, at the end of each prompt.
        targets: (N, L) int64 tokens.
        wanted: (N, L) bool, which of them belong to the target.
    """
    scored = -torch.log_softmax(logits, 1).gather(1, targets.long())
    return ((scored * wanted).sum(1) / wanted.sum(1)).mean()


@strategies.register(FTLConfig)
class FTL(Located):
    """One edit after the other, under a loss that asks for all tokens at once."""

    config: FTLConfig

    def loss(self, batch: Batch) -> Tensor:
        """`prompt_last_loss`."""
        return prompt_last_loss(last_of_prompt(self.causal, batch), batch["tokens"][:, 1:], answered(batch))
