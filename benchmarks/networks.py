"""clbench's own networks as plain modules: what arms outside clbench train, so that model arithmetic is the same."""

from __future__ import annotations

from typing import cast

import workload
from torch import nn

from clbench.models.build import NAMES


def build_backbone(name: str) -> tuple[nn.Module, int]:
    """A module from images (N, 3, 32, 32) to features, and how many features."""
    own_name, width = workload.NETWORKS[name]
    backbone = NAMES[own_name]((3, 32, 32), width)
    return backbone, cast(int, backbone.features_out)


def build(name: str) -> nn.Module:
    """From images (N, 3, 32, 32) to logits (N, classes)."""
    backbone, features = build_backbone(name)
    return nn.Sequential(backbone, nn.Linear(features, workload.CLASSES))
