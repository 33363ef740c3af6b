"""GRACE: a codebook beside one layer, which answers for prompts that come near an edited one.

Hartvigsen et al. 2022, arXiv 2211.11031, section 3. The model's weights stay as they are. A key is what goes into one
block's feed-forward layer at the last token of an edited prompt; its value takes the place of what comes out. It begins
as what came out and is trained by Adam (rate 1, ``steps`` steps) on the loss of the target, EOS included. An edit that
the model answers rightly by itself, or with the codebook so far, is passed over. Else, with d the distance to the
nearest key, e that key's radius and E the radius of new keys:

    d > e + E                a new key of radius E
    else, the same target    no new key: e becomes e + E, where the key did not reach so far, and its value trains on
    else                     a new key of radius d / 2, and e becomes d / 2

A prompt whose last token comes within the radius of its nearest key gets that key's value, from this token on and for
all that is generated after it (the released code can be set to other positions). The choice is made once per prompt. So
paraphrases are answered as far as they come within a radius, and all else has the very bits of the unedited model.

What differs from the released code: there e becomes d, targets count as the same where the means of their token ids
are, and the settings begin values at random, train them for 100 steps and replace what comes out before the prompt's
last token. Decided here: where the nearest key is the very prompt (d = 0 but for rounding) and its target another,
halving d would leave two keys that reach nothing, so the new target takes the old one's place. Edits that come together
get their keys one after the other, and their values are trained side by side, one that several share on all of them.
Distances are Euclidean, keys and values float32. The block at 0.85 of the depth is a choice for all models; what radius
fits depends on the model, so it is searched around the paper's 1.

Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench.edits.editor import Editor, EditorConfig
from clbench.edits.location import Module, location_of
from clbench.errors import DivergedError
from clbench.space import LogUniform, require, searched
from clbench.strategy import Problem, strategies
from clbench.table import Batch
from clbench.texts.tokens import answered

NONE = -1  # behind the end of a target
ROUNDING = 1e-3  # of a state's norm: what is closer is the same prompt


@dataclass
class GRACEConfig(EditorConfig):
    """Where the codebook is, how far keys reach, and how values are trained."""

    radius: float = searched(1.0, LogUniform(0.1, 30.0))  # of a new key
    steps: int = 50  # of Adam on a value
    value_rate: float = 1.0  # of Adam
    layer: int | None = None  # block whose feed-forward layer gets the codebook, from 0; null: by depth
    depth: float = 0.85  # which block, as a share of all

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.radius > 0, "strategy.radius", "> 0", self.radius)
        require(self.steps >= 1, "strategy.steps", ">= 1", self.steps)
        require(self.value_rate > 0, "strategy.value_rate", "> 0", self.value_rate)
        require(0 < self.depth <= 1, "strategy.depth", "in (0, 1]", self.depth)


class Codebook(NamedTuple):
    """Keys (K, F) and values (K, F) float32, radii (K,) float32, and targets (K, T) int64, NONE behind their ends."""

    keys: Tensor
    values: Tensor
    radii: Tensor
    targets: Tensor


def empty(width: int, device: torch.device) -> Codebook:
    """No keys yet."""
    wide = torch.zeros(0, width, device=device)
    return Codebook(wide, wide, wide[:, 0], wide.long()[:, :0])


def nearest(book: Codebook, states: Tensor) -> tuple[Tensor, Tensor]:
    """Distance (N,) to the nearest key of each state (N, F), and that key's number (N,); there must be keys."""
    apart = torch.cdist(states.float(), book.keys, compute_mode="donot_use_mm_for_euclid_dist")
    found = apart.min(1)
    return found.values, found.indices


def with_key(book: Codebook, key: Tensor, value: Tensor, target: Tensor, radius: float) -> tuple[Codebook, int]:
    """The codebook after an edit, by the rules above, and the number of the key whose value is to be trained.

    Args:
        book: so far.
        key: (F,).
        value: (F,), what a new key's value begins with.
        target: (T,) int64.
        radius: of a new key that is near no other.
    """
    if len(book.keys):
        (apart,), (number,) = nearest(book, key[None])
        distance, near, reach = float(apart), int(number), float(book.radii[number])
        if distance <= reach + radius:
            if torch.equal(*padded(book.targets[near], target)):
                wider = reach + radius if distance > reach else reach
                return book._replace(radii=book.radii.index_fill(0, number, wider)), near
            if distance <= ROUNDING * float(key.norm()):
                return _replaced(book, near, value, target), near
            radius = distance / 2
            book = book._replace(radii=book.radii.index_fill(0, number, radius))
    grown = Codebook(
        torch.cat((book.keys, key[None].float())),
        torch.cat((book.values, value[None].float())),
        torch.cat((book.radii, book.radii.new_tensor([radius]))),
        torch.cat(padded(book.targets, target[None])),
    )
    return grown, len(book.keys)


def _replaced(book: Codebook, number: int, value: Tensor, target: Tensor) -> Codebook:
    values, (targets, new) = book.values.clone(), padded(book.targets, target)
    values[number], targets[number] = value.float(), new
    return book._replace(values=values, targets=targets)


def padded(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Targets (..., T) filled up to the same length."""
    width = max(first.shape[-1], second.shape[-1])
    one, other = (F.pad(targets, (0, width - targets.shape[-1]), value=NONE) for targets in (first, second))
    return one, other


@strategies.register(GRACEConfig)
class GRACE(Editor):
    """Adds keys and values, and looks each prompt up; ``auxiliary`` is the codebook.

    Attributes:
        block: name of the feed-forward layer that has the codebook.
    """

    version = 2  # 2: a key that is made to reach further has its value trained on
    config: GRACEConfig

    def __init__(self, config: GRACEConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        network = self.model.inner
        self.block = location_of(network, config.layer, None if config.layer is not None else config.depth, Module.MLP)
        self.auxiliary = empty(network.config.hidden_size, problem.device)._asdict()
        self._ends: Tensor | None = None  # of prompts, (N,) int64; None: the last column
        self._forced: Tensor | None = None  # values (N, F) in training
        self._starts = True  # whether a pass begins its prompts and does not go on after them
        network.register_forward_pre_hook(self._begin, with_kwargs=True)
        network.get_submodule(self.block).register_forward_hook(self._replace)

    @property
    def book(self) -> Codebook:
        """The codebook."""
        return Codebook(**self.auxiliary)

    def changed(self) -> dict[str, Tensor]:
        """Nothing of the model."""
        return {}

    def edit(self, batch: Batch) -> None:
        """Give the edits that are not yet answered keys, and train the new values."""
        batch = self.problem.transform.evaluate(batch)
        wanted = answered(batch)
        targets = batch["tokens"][:, 1:].masked_fill(~wanted, NONE)
        with torch.no_grad(), self._asked(batch):
            hits = targets[wanted] == self.model.all_logits(batch).argmax(1)
            wrong = torch.zeros_like(wanted).masked_scatter(wanted, ~hits).any(1)
        (states, made), book, keys = self._seen, self.book, {}
        for row in wrong.nonzero().flatten().tolist():
            book, keys[row] = with_key(book, states[row], made[row], targets[row][wanted[row]], self.config.radius)
        # Of edits of one prompt with different targets the last one's stays.
        kept = [row for row, key in keys.items() if torch.equal(*padded(book.targets[key], targets[row][wanted[row]]))]
        if kept:
            places, shared = torch.tensor([keys[row] for row in kept], device=made.device).unique(return_inverse=True)
            values = self._trained({name: column[kept] for name, column in batch.items()}, book.values[places], shared)
            book = book._replace(values=book.values.index_copy(0, places, values))
        self.auxiliary = book._asdict()

    def _trained(self, batch: Batch, start: Tensor, shared: Tensor) -> Tensor:
        """Values (K, F) with which the model gives the answers of a batch.

        Args:
            batch: of N edits.
            start: what they begin with, (K, F).
            shared: number of each edit's value, (N,) int64.
        """
        values = start.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([values], lr=self.config.value_rate)
        try:
            for _ in range(self.config.steps):
                self._forced = values[shared]
                with self._asked(batch):
                    likelihoods, lengths = self.model.log_likelihoods(batch)
                optimizer.zero_grad()
                # A sum, so that no row's gradient depends on the others.
                (-likelihoods / lengths).sum().backward()
                optimizer.step()
        finally:
            self._forced = None
        if not bool(values.isfinite().all()):
            raise DivergedError("a value of the codebook is no longer finite")
        return values.detach()

    @contextmanager
    def _asked(self, batch: Batch) -> Iterator[None]:
        """While rows are looked at that go on after their prompts."""
        self._ends = batch["prompt"].long() - 1
        try:
            yield
        finally:
            self._ends = None

    def _begin(self, network: nn.Module, taken: Any, named: dict[str, Any]) -> None:
        past = named.get("past_key_values")
        self._starts = past is None or past.get_seq_length() == 0

    def _replace(self, layer: nn.Module, taken: tuple[Tensor, ...], made: Tensor) -> Tensor:
        states, places = taken[0], torch.arange(made.shape[1], device=made.device)
        if self._starts:
            ends = torch.full_like(states[:, 0, 0], len(places) - 1).long() if self._ends is None else self._ends
            rows = torch.arange(len(ends), device=ends.device)
            self._seen = states[rows, ends].float(), made[rows, ends].float()
            self._fires, self._values = self._looked_up(self._seen[0])
            fires = self._fires[:, None] & (places >= ends[:, None])
        else:
            fires = self._fires[:, None].expand(-1, len(places))
        return torch.where(fires[..., None], self._values[:, None].to(made.dtype), made)

    def _looked_up(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Whether the codebook answers (N,), and with which values (N, F)."""
        if self._forced is not None:
            return torch.ones_like(states[:, 0]).bool(), self._forced
        if not len(self.book.keys):
            return torch.zeros_like(states[:, 0]).bool(), states
        apart, number = nearest(self.book, states)
        return apart <= self.book.radii[number], self.book.values[number]

    def log_likelihoods(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-likelihood (N,) of each text's answer, in nats, and its number of tokens (N,)."""
        with self._asked(batch):
            return super().log_likelihoods(batch)

    def token_matches(self, batch: Batch) -> Tensor:
        """Share (N,) of each answer's tokens that are the likeliest after the right ones before them."""
        with self._asked(batch):
            return super().token_matches(batch)
