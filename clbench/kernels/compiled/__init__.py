"""The Triton kernels, imported when the first of them is launched. Each file belongs to the operation of its name."""

from __future__ import annotations

from typing import Any

OPTIONS: dict[str, Any] = {"enable_fp_fusion": False}
"""Of every launch: products are rounded before they are added, as in the references."""
