from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from clbench.kernels.draws import Given
from clbench.kernels.ema_merge import ema_merge_
from clbench.kernels.replay_gather import Replayed, replay_gather
from clbench.kernels.replay_rrc import replay_rrc
from tests.kernels.paths import fresh

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)
HOW: dict[str, Any] = {"mean": MEAN, "std": STD}


def images(generator: torch.Generator) -> Tensor:
    """(11, 3, 8, 7), as a folder of pictures lies in memory: channels last."""
    return torch.randint(0, 256, (11, 8, 7, 3), dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2)


def given(generator: torch.Generator) -> Given:
    rows, offsets = torch.randint(11, (5,), generator=generator), torch.randint(5, (2, 5), generator=generator)
    return Given(rows, offsets, torch.rand(5, generator=generator) < 0.5)


def boxes(generator: torch.Generator) -> Tensor:
    return torch.randint(1, 4, (4, 5), generator=generator).float()


def sides(generator: torch.Generator) -> tuple[list[Tensor], list[Tensor], Tensor]:
    averages, tensors = ([torch.randn(s, generator=generator) for s in ((3, 4), (), (7,))] for _ in range(2))
    return averages, tensors, torch.rand(3, generator=generator)


def calls(generator: torch.Generator) -> list[tuple[str, tuple[Any, ...]]]:
    """An operation's name and its arguments, for several of each."""
    store, index = images(generator), torch.randint(11, (5,), generator=generator)
    chosen, turned = given(generator), torch.rand(5, generator=generator) < 0.5
    return [
        ("replay_gather", (store, *chosen, MEAN, STD, 2, torch.float32, True)),
        ("replay_gather", (store, chosen.rows, None, None, MEAN, STD, 0, torch.bfloat16, False)),
        ("replay_gather", (store, None, None, None, MEAN, STD, 0, torch.float32, False)),
        ("replay_rrc", (store, boxes(generator), 9, MEAN, STD, index, turned, torch.float32, False)),
        ("replay_rrc", (store[:5], boxes(generator), 4, MEAN, STD, None, None, torch.float16, True)),
        ("ema_merge_", sides(generator)),
    ]


@pytest.mark.parametrize("number", range(6))
def test_torch_s_own_checks_pass(number: int) -> None:
    """Schema, what is written to, shapes and strides that are foretold, traced with and without fixed sizes."""
    name, arguments = calls(fresh())[number]
    torch.library.opcheck(getattr(torch.ops.clbench, name).default, arguments)


def traced(function: Callable[..., Any]) -> tuple[Callable[..., Any], list[str]]:
    """The function compiled as a whole, and the names of clbench's operations in its graph once it was called."""
    nodes: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        nodes.extend(str(n.target) for n in graph.graph.nodes if str(n.target).startswith("clbench."))
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    return torch.compile(function, backend=backend, fullgraph=True), nodes


def test_a_compiled_graph_holds_a_batch_as_one_node_with_the_same_bits() -> None:
    generator = fresh()
    store, draws = images(generator), given(generator)
    labels, logits = torch.arange(11), torch.randn(11, 4, generator=generator)

    def batch(store: Tensor, draws: Given) -> Replayed:
        return replay_gather(store, draws, **HOW, padding=2, labels=labels, logits=logits)

    compiled, nodes = traced(batch)
    for got, wanted in zip(compiled(store, draws), batch(store, draws), strict=True):
        assert wanted is not None
        assert torch.equal(got, wanted)
    assert nodes == ["clbench.replay_gather.default"]


def test_a_compiled_graph_holds_crops_as_one_node_with_the_same_bits() -> None:
    generator = fresh()
    store, places = images(generator)[:5], boxes(generator)

    def crops(store: Tensor, places: Tensor) -> Tensor:
        return replay_rrc(store, places, 9, **HOW)

    compiled, nodes = traced(crops)
    assert torch.equal(compiled(store, places), crops(store, places))
    assert nodes == ["clbench.replay_rrc.default"]


def test_a_compiled_step_with_its_average_follows_the_eager_one() -> None:
    averages, tensors, weights = sides(fresh())
    others = [[t.clone() for t in averages], [t.clone().requires_grad_() for t in tensors]]

    def step(averages: list[Tensor], tensors: list[Tensor], weight: Tensor | float) -> Tensor:
        ema_merge_(averages, tensors, weight)
        return averages[0] * 2

    compiled, nodes = traced(step)
    for weight in (weights, 0.25):
        assert torch.equal(compiled(others[0], others[1], weight), step(averages, tensors, weight))
        assert all(torch.equal(one, other) for one, other in zip(averages, others[0], strict=True))
    assert nodes == ["clbench.ema_merge_.default"]
