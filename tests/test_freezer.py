from __future__ import annotations

import collections
import io
from typing import Any

import pytest
import torch

from clbench.digest import state_digest
from clbench.freezer import Freezer

freezer = Freezer(("tests", "torch"))


class Thing:
    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


def forever(items: list[int]) -> Any:
    while True:
        yield from items


def back(value: Any) -> Any:
    plain = freezer.freeze(value)
    thawed = freezer.thaw(plain)
    assert state_digest(freezer.freeze(thawed)) == state_digest(plain)
    return thawed


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        0.1,
        float("inf"),
        "word",
        (1, (2, "x")),
        [1, [2.5]],
        {"a": 1, 2: {"b": (3,)}},
        {3, 1},
        frozenset("a"),
        collections.OrderedDict(b=1, a=2),
        collections.defaultdict(list, {1: [2]}),
        collections.deque([1, 2], maxlen=3),
        torch.float32,
        torch.device("cpu"),
        pytest.param(torch.zeros, id="a built-in function"),
        Thing,
        torch.Size([1, 2]),
    ],
    ids=str,
)
def test_what_is_read_back_is_what_was_written(value: Any) -> None:
    found = back(value)
    assert found == value
    assert type(found) is type(value)


def test_what_is_shared_stays_shared_and_what_holds_itself_does() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    thing: Any = Thing(one=parameter, other=[parameter], state={parameter: 1})
    thing.itself = thing
    found = back(thing)
    assert found.one is found.other[0]
    assert found.one in found.state
    assert found.itself is found
    assert type(found.one) is torch.nn.Parameter
    found.one.data += 1
    assert torch.equal(parameter, torch.ones(2)), "a copy"


def test_an_optimiser_goes_on_as_it_was() -> None:
    def step(layer: torch.nn.Linear, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        layer(torch.ones(1, 3)).sum().backward()
        optimizer.step()

    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    step(layer, optimizer)
    pair = back((layer, optimizer))
    step(layer, optimizer)
    step(*pair)
    assert all(torch.equal(a, b) for a, b in zip(layer.parameters(), pair[0].parameters(), strict=True))


def test_a_generator_that_has_not_begun_begins() -> None:
    found = back(Thing(numbers=forever([1, 2])))
    assert [next(found.numbers) for _ in range(3)] == [1, 2, 1]


def test_what_cannot_be_carried_is_refused() -> None:
    begun = forever([1])
    next(begun)
    for value in (begun, lambda: 1, Freezer(()), io.StringIO(), pytest.raises):
        with pytest.raises(TypeError):
            freezer.freeze(value)


def test_only_classes_of_trusted_packages_are_called() -> None:
    for name in ("os:system", "torch:load"):
        plain = {"object": name, "plainly": False, "arguments": ["x"], "state": None, "items": [], "pairs": []}
        with pytest.raises(TypeError):
            freezer.thaw(plain)
    with pytest.raises(TypeError):
        freezer.thaw({"generator": "torch:load", "arguments": []})
