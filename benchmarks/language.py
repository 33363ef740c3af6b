"""What it costs to train language models this way and that, side by side in one process.

    python benchmarks/language.py
    python benchmarks/language.py --device cuda --hidden 2048 --blocks 16 --batch 8 --length 512 --dtype bfloat16

half         A step of half fine-tuning against one of full fine-tuning, and the bytes of gradients and AdamW's state.
averages     A step with a fixed or the dynamic running average against a plain one; and the dynamic average written as
             a loop over tensors that looks at each number, as the released code is.
generation   Answers with a cache of keys and values, against forward passes over the whole rows.
padding      Tokens that are computed for an epoch of mixed tasks, rows of like length together, against as they come.

Ways alternate; medians of process seconds (CPU) or of seconds (GPU) and their ratios are printed. The networks have
Llama's architecture and random weights.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import torch
from torch import Tensor

from clbench import seeding
from clbench.finetune import Optimizer
from clbench.models.causal import CausalModel
from clbench.record import Setting
from clbench.scenario import Experience, scenarios
from clbench.strategy import Problem, strategies
from clbench.table import Batch, Source, Table
from clbench.texts.tokens import TokenTransform

VOCABULARY = 512


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    for name, default in (("hidden", 192), ("blocks", 6), ("batch", 16), ("length", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'':44}{'plain':>12}{'this way':>12}{'ratio':>8}")
    half(asked)
    averages(asked)
    generation(asked)
    padding()


def network(asked: argparse.Namespace) -> CausalModel:
    """A Llama of the asked size."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=asked.hidden,
        intermediate_size=asked.hidden * 8 // 3,
        num_hidden_layers=asked.blocks,
        num_attention_heads=max(1, asked.hidden // 32),
        max_position_embeddings=4 * asked.length,
        tie_word_embeddings=False,
    )
    with seeding.isolated(0, "initialise"):
        made = LlamaForCausalLM(config).to(getattr(torch, asked.dtype))
    return CausalModel(made, pad=0, eos=2, new_tokens=asked.length // 2).to(asked.device)


def rows(asked: argparse.Namespace, count: int) -> Source:
    """Random tokens, half of each row an answer."""
    draws = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, VOCABULARY, (count, asked.length), generator=draws, dtype=torch.int32)
    half = torch.full((count,), asked.length // 2, dtype=torch.int32)
    columns = {"tokens": tokens, "prompt": half, "length": 2 * half, "label": torch.zeros(count, dtype=torch.int64)}
    return Source(columns, asked.device)


class Steps:
    """A strategy that can be stepped, as its experience would."""

    def __init__(self, name: str, asked: argparse.Namespace) -> None:
        _, config = strategies.load(name)
        transform = TokenTransform("", "", asked.length)
        told = Problem(lambda: network(asked), transform, Setting.INSTRUCTION, torch.device(asked.device), 0, True)
        common = {"optimizer": Optimizer.ADAMW, "lr": 1e-4, "batch_size": asked.batch, "epochs": 1, "amp": False}
        self.learner: Any = strategies.build(config(**common), told)
        self.table = Table(rows(asked, 4 * asked.batch))

    def __call__(self) -> None:
        """Four steps."""
        self.learner.learn(Experience(0, "rows", self.table, self.table, (0,), 1))


def half(asked: argparse.Namespace) -> None:
    """Full against half fine-tuning."""
    ways = {"full": Steps("naive", asked), "half": Steps("hft", asked)}
    seconds = alternate(ways, asked)
    report("half fine-tuning, 4 steps", seconds["full"], seconds["half"], "s")
    held = {}
    for name, way in ways.items():
        trained = [p for p in way.learner.model.parameters() if p.requires_grad]
        held[name] = sum(3 * p.numel() * p.element_size() for p in trained) / 1e6
    report("  gradients and AdamW's two moments", held["full"], held["half"], "MB")


def averages(asked: argparse.Namespace) -> None:
    """Plain steps against those with a running average."""
    ways = {"plain": Steps("naive", asked), "fixed": Steps("fixed_ema", asked), "dynamic": Steps("coin", asked)}
    seconds = alternate(ways, asked)
    report("fixed running average, 4 steps", seconds["plain"], seconds["fixed"], "s")
    report("dynamic running average, 4 steps", seconds["plain"], seconds["dynamic"], "s")
    model = network(asked)
    live = [p.detach() for p in model.parameters()]
    with torch.no_grad():
        shadow, gradients = [p + 0.1 for p in live], [p + 0.2 for p in live]
        before = [p + 0.3 for p in live]
        both = {
            "loop": lambda: looped(live, shadow, gradients, before),
            "foreach": lambda: together(live, shadow, gradients, before),
        }
        seconds = alternate(both, asked)
    report("  the average alone, tensors together", seconds["loop"], seconds["foreach"], "s")


def looped(live: list[Tensor], shadow: list[Tensor], gradients: list[Tensor], before: list[Tensor]) -> None:
    """The dynamic average tensor by tensor, each coefficient looked at."""
    for p, e, g, last in zip(live, shadow, gradients, before, strict=True):
        gap, size, change = ((x - y).abs().sum() for x, y in ((p, e), (g, torch.zeros_like(g)), (g, last)))
        weight = float(2 * (1 + size) / (gap * change))
        e.lerp_(p, weight if 0 < weight < 1 else 0.01)


def together(live: list[Tensor], shadow: list[Tensor], gradients: list[Tensor], before: list[Tensor]) -> None:
    """The same with all tensors at once, no coefficient looked at, as `coin` does."""
    gaps = torch._foreach_sub(live, shadow)
    changes = torch._foreach_sub(gradients, before)
    gap, size, change = (torch.stack(torch._foreach_norm(list(x), 1)) for x in (gaps, gradients, changes))
    weights = 2 * (1 + size) / (gap * change)
    weights = torch.where((weights > 0) & (weights < 1), weights, 0.01)
    torch._foreach_mul_(gaps, list(weights.to(gaps[0].dtype).unbind()))
    torch._foreach_add_(shadow, gaps)


def generation(asked: argparse.Namespace) -> None:
    """Answers with and without a cache."""
    model = network(asked).eval()
    batch = rows(asked, asked.batch).take(torch.arange(asked.batch, device=asked.device))
    batch = {**batch, "tokens": batch["tokens"].long()[:, : asked.length // 2]}
    model.eos = VOCABULARY  # no answer ends early
    seconds = alternate({"plain": lambda: uncached(model, batch), "cached": lambda: model.predict(batch)}, asked)
    report(f"{asked.length // 2} new tokens with a cache", seconds["plain"], seconds["cached"], "s")


@torch.no_grad()
def uncached(model: CausalModel, batch: Batch) -> Tensor:
    """Greedy answers by whole forward passes."""
    tokens = batch["tokens"]
    for _ in range(model.new_tokens):
        logits = model.network(input_ids=tokens, use_cache=False).logits[:, -1]
        tokens = torch.cat((tokens, logits.argmax(1, keepdim=True)), 1)
    return tokens


def padding() -> None:
    """Tokens computed for an epoch of the alignment's mix."""
    scenario, config = scenarios.load("instructions")
    phase = type(config().phase).ALIGNMENT
    experience = scenario(config(train_per_task=4096, phase=phase)).stream(0).experiences[0]
    lengths = experience.train.source.columns["length"]
    made = {}
    for bucketed in (False, True):
        batches = experience.train.row_batches(16, torch.Generator().manual_seed(0), bucketed)
        made[bucketed] = sum(len(batch) * int(lengths[batch].max()) for batch in batches) / 1000
    report("tokens of an epoch, like lengths together", made[False], made[True], "k")


def alternate(ways: Mapping[str, Callable[[], Any]], asked: argparse.Namespace) -> dict[str, float]:
    """Median seconds of each way."""
    cuda = asked.device == "cuda"
    clock = time.perf_counter if cuda else time.process_time
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(asked.repeats + 1):
        for name, way in ways.items():
            begun = clock()
            way()
            if cuda:
                torch.cuda.synchronize()
            if turn:  # the first is for what is loaded late
                seconds[name].append(clock() - begun)
    return {name: median(values) for name, values in seconds.items()}


def report(what: str, plain: float, other: float, unit: str) -> None:
    """One line."""
    print(f"{what:44}{plain:10.3f} {unit:2}{other:9.3f} {unit:2}{other / plain:8.2f}")


if __name__ == "__main__":
    main()
