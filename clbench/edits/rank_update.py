"""Locate, then edit: write edits into the last matrices of a few feed-forward layers, in closed form.

A batch of N edits, as MEMIT makes it (Meng et al. 2022, arXiv 2210.07229, algorithm 1): the state behind the last
block that each edit wants at its subject's last token is searched for first (`clbench.edits.target_states`). Then,
block after block, the keys K (F, N) at the subjects' last tokens and what is still missing of the wanted states, shared
evenly with the blocks to come, R (D, N), decide a change (D, F) of the block's matrix: that is the subclass's part.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor

from clbench.edits.editor import Editor
from clbench.edits.located import in_full_precision
from clbench.edits.second_moments import second_moments
from clbench.edits.sites import Site, keys_and_state, sites_of
from clbench.edits.target_states import TargetConfig, target_states
from clbench.errors import IncompatibleError
from clbench.record import Setting
from clbench.scenario import Experience
from clbench.space import require
from clbench.strategy import Problem
from clbench.table import Batch, Table


@dataclass
class RankUpdateConfig(TargetConfig):
    """Where edits are written, and on how many texts keys are looked at."""

    layers: list[int] | None = None  # blocks, from 0; null: the known ones, or by depth
    mom2_n_samples: int | None = None  # reference texts whose keys are to stay, the first ones; null: all

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.layers is None or len(self.layers) > 0, "strategy.layers", "some blocks or null", self.layers)
        texts = self.mom2_n_samples
        require(texts is None or texts >= 1, "strategy.mom2_n_samples", ">= 1 or null", texts)


class RankUpdate(Editor):
    """Writes batches of edits into a few matrices.

    Attributes:
        sites: the matrices.
        moments: second moments (F, F) float64 of the keys that are to stay, those of the unedited model, by site.
    """

    config: RankUpdateConfig

    def __init__(self, config: RankUpdateConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.sites = sites_of(self.model.inner, config.layers)
        reference = cast(Table, problem.reference)
        texts = Table(reference.source, reference.rows[: config.mom2_n_samples])
        self.moments = second_moments(self.model, {site.name: site.module for site in self.sites}, texts)
        for site in self.sites:
            in_full_precision([site.module])

    @classmethod
    def reads(cls, config: Any) -> frozenset[str]:
        """Texts, and where their subjects end."""
        return frozenset({"tokens", "subject"})

    @classmethod
    def skip(cls, config: Any, problem: Problem) -> str | None:
        """It needs edits, texts for statistics, and whole matrices."""
        if problem.setting is not Setting.EDITING:
            return "it changes what is said of a subject; use scenario=edits"
        if problem.reference is None:
            return "it looks at keys of texts that are to stay; name a file of such texts: scenario.reference=FILE"
        return super().skip(config, problem)

    def learn(self, experience: Experience) -> None:
        """Make the edits of one experience, in their order.

        Raises:
            IncompatibleError: an edit has no subject in its prompt; nothing is edited then.
            DivergedError: a weight is no longer finite.
        """
        without = int((experience.train.column("subject") < 0).sum())
        if without:
            raise IncompatibleError(
                f"{without} of {len(experience.train)} edits ({experience.name}) have no subject that stands in their "
                "prompt, and it is there that this strategy edits; give each a field subject, or use strategy=locft_bf"
            )
        super().learn(experience)

    def edit(self, batch: Batch) -> None:
        """Search for the wanted states, then come nearer to them with each matrix."""
        batch = self.problem.transform.evaluate(batch)
        change = target_states(self.model, self.sites[-1].block, batch, self.config)
        wanted = keys_and_state(self.model, self.sites, batch)[1] + change
        for number, site in enumerate(self.sites):
            keys, state = keys_and_state(self.model, self.sites, batch)
            site.add(self.change(site, (wanted - state) / (len(self.sites) - number), keys[number]))

    @abstractmethod
    def change(self, site: Site, residuals: Tensor, keys: Tensor) -> Tensor:
        """What is added to a matrix, (D, F) float64.

        Args:
            site: the matrix.
            residuals: (D, N) float64, what each edit's key is to give more than it does.
            keys: (F, N) float64.
        """

    def changed(self) -> dict[str, Tensor]:
        """The matrices."""
        return {f"{site.name}.weight": site.weight for site in self.sites}

    def stored_bytes(self) -> int:
        """Bytes of the statistics too, which every edit looks at."""
        return super().stored_bytes() + sum(m.numel() * m.element_size() for m in self.moments.values())
