"""Causal language models of transformers, as the loop takes them."""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench.models.model import Model
from clbench.table import Batch
from clbench.texts.tokens import answered

TOKENS = 1 << 15  # of prompts and answers that are generated at a time, whose keys and values are kept


class CausalModel(Model):
    """A causal language model that learns and gives answers. Batches are those of `clbench.texts.tokens`.

    Args:
        network: of transformers, from ``input_ids`` to ``logits``.
        pad: token that fills rows.
        eos: token that ends an answer.
        new_tokens: most that an answer may have.
    """

    def __init__(self, network: Any, pad: int, eos: int, new_tokens: int) -> None:
        from transformers import GenerationConfig

        super().__init__()
        self.network = network
        self.pad, self.eos, self.new_tokens = pad, eos, new_tokens
        self.task_of_class = None
        self._met = 0
        self._cuts = "logits_to_keep" in inspect.signature(self.inner.forward).parameters
        # What comes with published weights (repetition penalties, sampling) would bend answers that are to be greedy.
        self.inner.generation_config = GenerationConfig()
        # Where a network knows its padding, some look for it in every batch; here it stands where nothing looks.
        self.inner.config.pad_token_id = None

    @property
    def inner(self) -> Any:
        """The network without what adapters wrap around it."""
        return self.network.get_base_model() if hasattr(self.network, "get_base_model") else self.network

    @property
    def backbone(self) -> nn.Module:  # type: ignore[override]
        """The decoder: embeddings, blocks and final norm."""
        decoder: nn.Module = self.inner.base_model
        return decoder

    @property
    def outputs(self) -> int:
        """Tasks it has met. Its vocabulary is the same for all of them."""
        return self._met

    def grow(self, outputs: int) -> None:
        """Count the tasks."""
        self._met = outputs

    def features(self, batch: Batch) -> Tensor:
        """The last layer's state at the end of each prompt, (N, F)."""
        states = self.backbone(input_ids=batch["tokens"], use_cache=False).last_hidden_state
        ends = batch["prompt"].long() - 1
        picked: Tensor = states[torch.arange(len(ends), device=ends.device), ends]
        return picked

    def decisions(self, batch: Batch) -> Tensor:
        """Tokens of the answers, ()."""
        return answered(batch).sum()

    def all_logits(self, batch: Batch) -> Tensor:
        """Logits (M, V) float32 of each token of the answers, row after row; ``(N, L)`` tokens, padded on the right."""
        tokens, wanted = batch["tokens"], answered(batch)
        first = max(int(batch["prompt"].min()) - 1, 0)  # no answer begins earlier, so no logits are needed there
        kept: dict[str, Any] = {"logits_to_keep": tokens.shape[1] - first} if self._cuts else {}
        # Padding stands on the right of what a causal model looks at, so it needs no mask.
        logits = self.network(input_ids=tokens, use_cache=False, **kept).logits
        logits = logits[:, :-1] if self._cuts else logits[:, first:-1]
        picked: Tensor = logits[wanted[:, first:]].float()
        return picked

    def cross_entropy(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of `all_logits` with the answers, mean over their tokens, ()."""
        return F.cross_entropy(logits, batch["tokens"][:, 1:][answered(batch)])

    def new_cross_entropy(self, logits: Tensor, batch: Batch, old: int) -> Tensor:
        """As `cross_entropy`: no token is newer than another."""
        return self.cross_entropy(logits, batch)

    def old_groups(self, old: int) -> list[slice]:
        """The whole vocabulary."""
        return [slice(None)]

    def forward(self, batch: Batch) -> Tensor:
        """The same number as `loss`, without a shape that depends on numbers, as torch's functional transforms ask."""
        logits = self.network(input_ids=batch["tokens"], use_cache=False).logits[:, :-1].float()
        targets = batch["tokens"][:, 1:].masked_fill(~answered(batch), -100)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """The likeliest tokens one by one, (N, A) int64 with A <= ``new_tokens``; `pad` behind each EOS."""
        tokens, prompt = batch["tokens"], batch["prompt"].long()
        rows = max(1, TOKENS // (tokens.shape[1] + self.new_tokens))
        parts = [self._generate(*part) for part in zip(tokens.split(rows), prompt.split(rows), strict=True)]
        longest = max(part.shape[1] for part in parts)
        return torch.cat([F.pad(part, (0, longest - part.shape[1]), value=self.pad) for part in parts])

    def _generate(self, tokens: Tensor, prompt: Tensor) -> Tensor:
        width = int(prompt.max())
        place = torch.arange(width, device=tokens.device) - (width - prompt[:, None])
        padded = tokens.gather(1, place.clamp_min(0)).masked_fill(place < 0, self.pad)
        made: Tensor = self.network.generate(
            input_ids=padded,
            attention_mask=(place >= 0).long(),
            max_new_tokens=self.new_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=self.eos,
            pad_token_id=self.pad,
            use_cache=True,
        )
        return made[:, width:]

    @torch.no_grad()
    def drawn(self, starts: Tensor, most: int) -> Tensor:
        """Texts that the model draws itself, (N, A) int64 with A <= ``most``; `pad` from each EOS on.

        Args:
            starts: (N, S) int64 tokens that they begin with; not returned.
            most: tokens of each.
        """
        made: Tensor = self.network.generate(
            input_ids=starts,
            attention_mask=torch.ones_like(starts),
            max_new_tokens=most,
            do_sample=True,
            top_k=0,
            eos_token_id=self.eos,
            pad_token_id=self.pad,
        )
        made = made[:, starts.shape[1] :]
        return made.masked_fill((made == self.eos).cumsum(1) > 0, self.pad)

    def log_likelihoods(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-likelihood (N,) of each row's answer, EOS included, in nats, and its number of tokens (N,)."""
        wanted = answered(batch)
        targets = batch["tokens"][:, 1:][wanted]
        losses = F.cross_entropy(self.all_logits(batch), targets, reduction="none")
        each = torch.zeros(wanted.shape, device=wanted.device).masked_scatter(wanted, losses)
        return -each.sum(1), wanted.sum(1)

    def token_matches(self, batch: Batch) -> Tensor:
        """Share (N,) float32 of each answer's tokens, EOS aside, that are the likeliest after the right ones before."""
        wanted = answered(batch)
        hits = self.all_logits(batch).argmax(1) == batch["tokens"][:, 1:][wanted]
        each = torch.zeros(wanted.shape, device=wanted.device).masked_scatter(wanted, hits.float())
        last = (batch["length"].long() - 2)[:, None]  # where EOS is foretold
        return each.scatter(1, last, 0.0).sum(1) / (wanted.sum(1) - 1).clamp_min(1)
