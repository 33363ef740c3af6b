"""FT-M: fine-tune one matrix on each edit in turn until it is learnt, and never look at it again.

What editing code bases call fine-tuning with masked prompts (EasyEdit, arXiv 2308.07269; target tokens only, hence M):
a fresh Adam for each edit, at most 25 steps at a rate of 5e-4, until the loss is below 0.01, on one feed-forward
matrix; optionally every weight stays within ``clamp`` of where it was before the edit. It is `locft_bf` with
``pipeline=depth_first``: the paper of LocFT-BF (arXiv 2509.22072, table 1) compares the two. The shipped matrices are
block 21's (Llama-3, Mistral) and block 27's (Qwen2.5); here the model's own location is used unless one is named.

Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from dataclasses import dataclass

from clbench.edits.located import Located, LocatedConfig, Pipeline
from clbench.strategy import strategies


@dataclass
class FTMConfig(LocatedConfig):
    """The fields of tuning at a location, one edit after the other."""

    pipeline: Pipeline = Pipeline.DEPTH_FIRST  # in which order edits are trained on


@strategies.register(FTMConfig)
class FTM(Located):
    """One edit after the other."""

    config: FTMConfig
