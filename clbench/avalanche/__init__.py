"""The bridges to Avalanche: its strategies under our protocol, our scenarios in its hands, its benchmarks in ours.

Avalanche: Carta et al. 2023, arXiv 2302.01766. Only this package imports it.
"""

from __future__ import annotations

import warnings

from clbench.errors import ClbenchError

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of solvers that are not installed
        import avalanche.training
except ImportError as error:
    raise ClbenchError(
        f"Avalanche cannot be imported ({error}); install it with: pip install 'clbench[avalanche]'"
    ) from error

from clbench.avalanche.data import benchmark

__all__ = ["avalanche", "benchmark"]
