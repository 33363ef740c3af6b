"""What a process knows of those that carry the same run out beside it, each on a device of its own.

All of them do the same in lockstep, with the same seeds, so they agree on everything but this: of each training batch
every process takes every ``size``-th row, and the gradient that a step follows is the mean over the processes of

    size * (decisions in its rows) / (decisions in the batch) * gradient of its rows' loss.

For a loss that is a mean over a batch's decisions (`clbench.models.model`), plus terms that no example takes part in,
this is the gradient of the whole batch, but for rounding. Random masks (dropout) are each process's own. Batches stay
as large as the config says. The wrapping is `accelerate`'s: data parallel, or shards by FSDP2 (Zhao et al., arXiv
2304.11277).
"""

from __future__ import annotations

import copy
import datetime
import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import Enum
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from clbench import seeding
from clbench.models.model import Model
from clbench.table import Batch

PATIENCE = datetime.timedelta(days=1)  # for a peer: one that ends is noticed by who started it

Objective: TypeAlias = Callable[[Batch], Tensor]
"""From a batch to the scalar that one step descends."""


class Sharding(Enum):
    """What each device holds while a run trains."""

    NONE = "none"  # the whole model: data parallel
    FULL = "full"  # a part of each matrix, of its gradient and of its optimiser state


class Peers:
    """Nobody: the process is alone, and everything is as it comes.

    Attributes:
        rank: this process's number.
        size: how many there are.
        sharding: what each holds.
    """

    rank, size, sharding = 0, 1, Sharding.NONE

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all have come here."""

    def mean(self, value: Tensor) -> Tensor:
        """Mean over the processes."""
        return value

    def spread(self, model: Model) -> AbstractContextManager[Model]:
        """The model to train in the block; what it has learnt is in ``model`` behind the block."""
        return nullcontext(model)

    def joined(self, model: Model, loss: Objective, optimizer: torch.optim.Optimizer) -> Objective:
        """``loss`` of each batch as a whole, to call ``backward`` on; what does not train is frozen by now.

        Args:
            model: that `spread` gave.
            loss: of any part of a batch, computed with that model.
            optimizer: of that model's parameters; where they are exchanged for shards, so they are in the optimiser.
        """
        return loss

    def apart(self, seed: int, *names: str | int) -> AbstractContextManager[None]:
        """A block whose global random state is each process's own."""
        return nullcontext()


class Team(Peers):
    """Several processes; made in each of them.

    Args:
        rank: this process's number; ``LOCAL_RANK`` in the environment names its device.
        size: at least 2.
        sharding: what each holds.
        device: what they compute on.
        meeting: a file of that name, which is not there yet, is where they find each other.
    """

    def __init__(self, rank: int, size: int, sharding: Sharding, device: str, meeting: str) -> None:
        self.rank, self.size, self.sharding = rank, size, sharding
        self._device = torch.device(device)
        self._whole: Model | None = None
        torch.distributed.init_process_group(
            "nccl" if device == "cuda" else "gloo", f"file://{meeting}", PATIENCE, size, rank
        )

    def wait(self) -> None:
        """Until all have come here."""
        self.mean(torch.zeros((), device=self._device))

    def mean(self, value: Tensor) -> Tensor:
        """Mean over the processes."""
        total = value.clone()
        torch.distributed.all_reduce(total)
        return total / self.size

    def apart(self, seed: int, *names: str | int) -> AbstractContextManager[None]:
        """A block whose global random state is each process's own."""
        return seeding.isolated(seed, "rank", self.rank, *names)

    @contextmanager
    def spread(self, model: Model) -> Iterator[Model]:
        """The model itself, or a twin in its memory that `joined` shards.

        The model and its parameters stay the objects that they are, since others hold on to them; while its twin's
        shards train, they have no memory.
        """
        if self.sharding is Sharding.NONE:
            yield model
        else:
            sizes = {p: p.untyped_storage().nbytes() for p in model.parameters()}
            twins = {id(p): nn.Parameter(p.detach(), p.requires_grad) for p in sizes}
            twin, self._whole = copy.deepcopy(model, twins), model
            twins.clear()
            yield twin
            shards: dict[str, Any] = dict(twin.named_parameters())
            for name, parameter in model.named_parameters():
                _resize(parameter, sizes[parameter])
                parameter.detach().copy_(shards[name].full_tensor())
        self._accelerator.free_memory()

    def joined(self, model: Model, loss: Objective, optimizer: torch.optim.Optimizer) -> Objective:
        """``loss`` of each batch as a whole; its backward pass averages gradients, on whole matrices or on shards."""
        prepared, _ = self._accelerator.prepare(_Shared(model, loss, self), optimizer)
        if self._whole is not None:
            for parameter in self._whole.parameters():
                _resize(parameter, 0)
            self._whole = None
        return prepared  # type: ignore[no-any-return]

    def share(self, batch: Batch) -> Batch | None:
        """Every ``size``-th row, None where there is none."""
        rows = len(next(iter(batch.values())))
        return {name: column[self.rank :: self.size] for name, column in batch.items()} if rows > self.rank else None

    @functools.cached_property
    def _accelerator(self) -> Any:
        from accelerate import Accelerator, PartialState
        from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

        # Were parameters placed, they would get new memory, and strategies hold on to the old.
        settings = {"device_placement": False, "mixed_precision": "no", "cpu": self._device.type == "cpu"}
        if self.sharding is Sharding.NONE:
            return Accelerator(**settings)
        shards = FullyShardedDataParallelPlugin(
            fsdp_version=2, auto_wrap_policy="transformer_based_wrap", cpu_ram_efficient_loading=False
        )
        made = Accelerator(**settings, fsdp_plugin=shards)
        # It takes the plugin on GPUs only, though torch shards on processors just as well.
        PartialState().distributed_type = made.state.distributed_type = DistributedType.FSDP
        made.state.fsdp_plugin = shards
        return made


class _Shared(nn.Module):
    """A loss as a module, whose parameters are the model's: what wrappers take."""

    def __init__(self, model: Model, loss: Objective, team: Team) -> None:
        super().__init__()
        self.model, self.loss, self.team = model, loss, team
        self._no_split_modules = block_classes(model)  # accelerate's name for what is gathered at a time

    def forward(self, batch: Batch) -> Tensor:
        """This process's part of the loss, ()."""
        mine = self.team.share(batch)
        if mine is None:  # its peers wait for its gradient all the same
            return 0 * self.loss({name: column[:1] for name, column in batch.items()})
        weight = self.team.size * self.model.decisions(mine) / self.model.decisions(batch)
        return weight * self.loss(mine)


def block_classes(model: nn.Module) -> list[str]:
    """Names of the classes of what lists of modules hold, such as a transformer's blocks; sorted."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList | nn.Sequential)]
    return sorted({type(block).__name__ for part in lists for block in part if any(True for _ in block.children())})


def no_share(model: nn.Module) -> str | None:
    """Why processes cannot share a model's batches, in one clause; None where they can."""
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        return "its model has batch norm, which would see one device's share of a batch only"
    return None


def _resize(parameter: nn.Parameter, size: int) -> None:
    """Give a parameter's memory back, or take it again; a memory-mapped file's stays."""
    storage = parameter.untyped_storage()
    if storage.resizable():
        storage.resize_(size)
