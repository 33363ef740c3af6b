"""MEMIT, and ROME as its rank-one case: edits written into feed-forward layers by least squares.

Meng et al. 2022, arXiv 2210.07229 (algorithm 1, equations 14-20), and arXiv 2202.05262 for ROME (equation 2). The state
that an edit wants behind the last of ``layers`` is searched for by `clbench.edits.target_states`. Then each layer's
matrix gets, with keys K and residuals R of the batch and C the mean of k k^T over tokens of reference texts,

    dW = R K^T (lambda C + K K^T)^-1 = R (lambda I + K^T C^-1 K)^-1 K^T C^-1,

the least squares solution that weighs what it does to common keys by lambda = ``mom2_update_weight``. The second form
also has a limit for lambda -> 0: the change that maps the keys exactly, and is least for common ones. With one key that
is ROME, dW = r (C^-1 k)^T / (k^T C^-1 k): ``strategy.mom2_update_weight=0 strategy.batch_size=1 strategy.layers=[k]``.

What differs from the released code: it averages over texts put before the prompt and takes the divergence after
"{subject} is a"; both need a tokenizer, which a strategy does not see, so rows are taken as they are and the divergence
is that of what follows the subject in the row. Targets end in EOS. C is of ``scenario.reference`` texts, not of 100,000
of Wikipedia. Rate, decay, clamp and divergence of the search are the released ones for GPT-J. Steps and lambda, 25
and 15000 there, are 50 and 300 here, and the embedded model's layer is block 0: the most reliable, then the least
harmful of a few on two streams of its tuning half (seeds 200 and 201). In that world all edits of a person that begin
with the name have one key, so that of two such edits mostly one holds.

Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clbench.edits.rank_update import RankUpdate, RankUpdateConfig
from clbench.edits.sites import Site
from clbench.errors import ConfigError, IncompatibleError
from clbench.space import LogUniform, require, searched
from clbench.strategy import Problem, strategies


@dataclass
class MEMITConfig(RankUpdateConfig):
    """The shared fields, and how much common keys weigh."""

    mom2_update_weight: float = searched(300.0, LogUniform(1.0, 1e5))  # lambda; 0: ROME

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.mom2_update_weight >= 0, "strategy.mom2_update_weight", ">= 0", self.mom2_update_weight)
        alone = self.batch_size == 1 and self.layers is not None and len(self.layers) == 1
        if self.mom2_update_weight == 0 and not alone:
            raise ConfigError(
                "strategy.mom2_update_weight=0 is ROME, one edit into one layer at a time: set strategy.batch_size=1 "
                f"and strategy.layers=[LAYER], got {self.batch_size} and {self.layers}"
            )


@strategies.register(MEMITConfig)
class MEMIT(RankUpdate):
    """Least squares, weighed by how common keys are."""

    config: MEMITConfig

    def __init__(self, config: MEMITConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.factors = {site.name: factor_of(self.moments[site.name], site.name) for site in self.sites}

    def change(self, site: Site, residuals: Tensor, keys: Tensor) -> Tensor:
        """`weighed_update`."""
        return weighed_update(residuals, keys, self.factors[site.name], self.config.mom2_update_weight)


def factor_of(moment: Tensor, name: str) -> Tensor:
    """The lower Cholesky factor of a second moment (F, F).

    Raises:
        IncompatibleError: it has none, as where texts have fewer tokens than a key has numbers.
    """
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(moment)
    if failed:
        raise IncompatibleError(
            f"the keys of the reference texts at {name} do not span its {len(moment)} dimensions; give more texts "
            "(scenario.reference, strategy.mom2_n_samples), or use strategy=alphaedit, which needs free dimensions"
        )
    return factor


def weighed_update(residuals: Tensor, keys: Tensor, factor: Tensor, weight: float) -> Tensor:
    """The change dW (D, F) that is least in |dW K - R|^2 + weight tr(dW C dW^T); with weight 0, of those with dW K = R.

    Args:
        residuals: R, (D, N).
        keys: K, (F, N).
        factor: lower Cholesky factor (F, F) of C.
        weight: lambda.
    """
    common = torch.cholesky_solve(keys, factor)
    inner = keys.T @ common + weight * torch.eye(keys.shape[1], dtype=keys.dtype, device=keys.device)
    change: Tensor = residuals @ torch.linalg.solve(inner, common.T)
    return change
