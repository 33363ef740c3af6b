"""Half fine-tuning: a random half of the parameters is frozen, drawn anew.

Hui et al., "HFT: Half Fine-Tuning for Large Language Models", arXiv 2404.18466, section 3. Whole matrices are frozen,
never elements. In every block each category of modules (attention matrices, feed-forward matrices, convolutions, norms
and the rest) trains half of its members; where half of an odd number is not whole, random blocks train one more, so
that the share holds over the model. What lies outside the blocks (embeddings, stem, final norm, head) always trains. A
bias goes with its matrix. The frozen half has no gradient and no optimiser state, and the optimiser is new in each
experience. Batch-norm statistics are not parameters and follow the data. The selection: `clbench.half`.

What differs from the paper: it starts from a pre-trained model, so its first round is already half-frozen; a model
that begins here at random would freeze random weights, so its first experience trains everything (``first_frozen``
says otherwise). A round is an experience; ``redraw=false``, one half for all of them, is ours. Convolutions are a
category of ours: the paper has transformers only. Ratios other than one half round by the same rule over blocks; the
paper does not say how. Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from dataclasses import dataclass

from clbench.half import Half, HalfConfig
from clbench.parallel import Sharding
from clbench.strategy import strategies


@dataclass
class HFTConfig(HalfConfig):
    """The shared fields, with a half."""

    ratio: float = 0.5  # share of the blocks' matrices that trains


@strategies.register(HFTConfig)
class HFT(Half):
    """The loop on a half that is drawn before each experience, which `Half` brings along."""

    spreads = frozenset({Sharding.NONE, Sharding.FULL})
    config: HFTConfig
