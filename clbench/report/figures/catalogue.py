"""All figures of a block, by their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clbench.report.figures.curves import accuracy_curves
from clbench.report.figures.look import Drawn, Scene, scene
from clbench.report.figures.matrices import accuracy_matrices
from clbench.report.figures.probes import probes_before_after
from clbench.report.figures.scatter import cost_accuracy, forgetting_plasticity
from clbench.report.grouping import Block
from clbench.report.view import USUAL, View

FIGURES: dict[str, tuple[str, Callable[[Scene], Drawn]]] = {
    "accuracy": ("Accuracy over experiences", accuracy_curves),
    "forgetting": ("Plasticity against forgetting", forgetting_plasticity),
    "cost": ("Accuracy against cost", cost_accuracy),
    "probes": ("Abilities before and after", probes_before_after),
    "matrices": ("Accuracy matrices", accuracy_matrices),
}
"""Title and function of each, by the name that its file bears."""


def drawings(block: Block, view: View = USUAL, names: Sequence[str] = tuple(FIGURES)) -> dict[str, Drawn]:
    """Figures of a block, or the reasons why some make no sense for it.

    Args:
        block: what is drawn.
        view: names the bounds and the columns.
        names: which of `FIGURES`.

    Raises:
        UnknownNameError: there is no such column.
    """
    shown = scene(block, view)
    return {name: FIGURES[name][1](shown) for name in names}
