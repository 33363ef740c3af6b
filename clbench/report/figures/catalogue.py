"""All figures of a block, by their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clbench.report.board import Bounds
from clbench.report.figures.curves import accuracy_curves
from clbench.report.figures.look import BOUNDS, Drawn, Scene, scene
from clbench.report.figures.matrices import accuracy_matrices
from clbench.report.figures.probes import probes_before_after
from clbench.report.figures.scatter import cost_accuracy, forgetting_plasticity
from clbench.report.grouping import Block

FIGURES: dict[str, tuple[str, Callable[[Scene], Drawn]]] = {
    "accuracy": ("Accuracy over experiences", accuracy_curves),
    "forgetting": ("Plasticity against forgetting", forgetting_plasticity),
    "cost": ("Accuracy against cost", cost_accuracy),
    "probes": ("Abilities before and after", probes_before_after),
    "matrices": ("Accuracy matrices", accuracy_matrices),
}
"""Title and function of each, by the name that its file bears."""


def drawings(
    block: Block, bounds: Bounds = BOUNDS, columns: Sequence[str] = (), names: Sequence[str] = tuple(FIGURES)
) -> dict[str, Drawn]:
    """Figures of a block, or the reasons why some make no sense for it.

    Args:
        block: what is drawn.
        bounds: strategies that stand apart, in grey.
        columns: of the leaderboard; the first orders the rows and is what cost is drawn against.
        names: which of `FIGURES`.

    Raises:
        UnknownNameError: there is no such column.
    """
    shown = scene(block, bounds, columns)
    return {name: FIGURES[name][1](shown) for name in names}
