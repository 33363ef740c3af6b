"""Second moments of what goes into a linear module: which of its inputs are common, and so costly to change.

C = (1/N) sum_n k_n k_n^T over the inputs k_n of all N tokens of some texts, padding aside: the key statistics of ROME
(Meng et al. 2022, arXiv 2202.05262, section 3.1) and of the editors after it. A moment is computed once and kept on
disk for all seeds, orders and strategies, keyed by what decides its bits: weights, module, texts, kind of device and
versions. The cache lies under ``CLBENCH_CACHE``, else ``~/.cache/clbench``.
"""

from __future__ import annotations

import importlib.metadata
import io
from collections.abc import Mapping

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn

from clbench.digest import state_digest
from clbench.edits.sites import watched
from clbench.errors import ClbenchError
from clbench.models.causal import CausalModel
from clbench.places import cache_folder
from clbench.record import write_atomically
from clbench.table import Table
from clbench.texts.tokens import rows_at_once

VERSION = "1"  # raised when the same weights and texts come to give other moments
ROWS = 64  # texts that the model reads together, at most


def second_moments(model: CausalModel, modules: Mapping[str, nn.Module], texts: Table) -> dict[str, Tensor]:
    """The second moment of each module's inputs, (F, F) float64 on the model's device; kept on disk.

    Args:
        model: in evaluation mode, with the weights that count.
        modules: linear modules of it, by name.
        texts: columns of `clbench.texts.tokens`. Every token counts, those of answers and EOS too.

    Raises:
        ClbenchError: the cache cannot be written.
    """
    folder, device = cache_folder("second_moments"), next(model.parameters()).device
    read = {name: texts.column(name) for name in ("tokens", "length")}
    versions = [VERSION, torch.__version__, importlib.metadata.version("transformers")]
    common = [state_digest(model.network.state_dict()), state_digest(read), device.type, *versions]
    paths = {name: folder / f"{state_digest([name, *common])[:16]}.npy" for name in modules}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            missing = {name: module for name, module in modules.items() if not paths[name].is_file()}
            for name, moment in (computed(model, missing, texts) if missing else {}).items():
                content = io.BytesIO()
                np.save(content, moment.cpu().numpy())
                write_atomically(paths[name], content.getvalue())
        return {name: torch.from_numpy(np.load(path)).to(device) for name, path in paths.items()}
    except OSError as error:
        raise ClbenchError(
            f"cannot keep second moments in {folder} ({error.strerror}); set CLBENCH_CACHE to another folder"
        ) from error


@torch.no_grad()
def computed(model: CausalModel, modules: Mapping[str, nn.Module], texts: Table) -> dict[str, Tensor]:
    """As `second_moments`, without the cache; products and sums are float64."""
    sums: dict[str, Tensor] = {}
    for batch in texts.batches(rows_at_once(texts.source.columns, ROWS)):
        longest = int(batch["length"].max())
        tokens = batch["tokens"][:, :longest].long()
        there = torch.arange(longest, device=tokens.device) < batch["length"][:, None]
        with watched(modules) as seen:
            model.backbone(input_ids=tokens, use_cache=False)
        for name, (inputs, _) in seen.items():
            keys = inputs[there].double()
            sums[name] = sums.get(name, 0) + keys.T @ keys
    count = int(texts.column("length").sum())
    return {name: total / count for name, total in sums.items()}
