from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
import torch

from clbench.errors import ConfigError
from clbench.memory import ExemplarMemory, MemoryConfig, Policy, SeenRows, herding_ranks, lowest_per_class
from clbench.table import Source, Table


def arrivals(sizes: tuple[int, ...]) -> list[Table]:
    """One table per experience, each of one new class."""
    labels = torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])
    table = Table(Source({"label": labels, "image": torch.arange(len(labels), dtype=torch.uint8)[:, None]}))
    return [table.select(labels == label) for label in range(len(sizes))]


def filled(policy: Policy, capacity: int, sizes: tuple[int, ...], seed: int = 0) -> ExemplarMemory:
    memory = ExemplarMemory(MemoryConfig(capacity=capacity, policy=policy, batch_size=4))
    generator = torch.Generator().manual_seed(seed)
    for table in arrivals(sizes):
        memory.update(table, generator, lambda t: torch.stack((t.rows.float(), torch.ones(len(t))), dim=1))
    return memory


def test_all_rows_that_were_seen_come_back_in_their_order_after_a_restart_too() -> None:
    seen, again = SeenRows(), SeenRows()
    first, second = (table.select(torch.arange(len(table)).flip(0)) for table in arrivals((3, 2)))
    assert seen.with_all_of(first).rows.tolist() == [2, 1, 0]
    again.restore({**seen.state(), "other": 1})
    for one in (seen, again):
        assert one.with_all_of(second).rows.tolist() == [2, 1, 0, 4, 3]
        assert (len(one), one.stored_bytes()) == (5, 5 * 9)


@pytest.mark.parametrize("policy", Policy)
def test_a_memory_never_exceeds_its_capacity_or_repeats_a_row(policy: Policy) -> None:
    memory = filled(policy, 10, (30, 3, 40))
    assert len(memory) <= 10
    assert len(set(memory.rows.tolist())) == len(memory)
    assert memory.stored_bytes() == len(memory) * 9


def test_a_reservoir_is_a_uniform_sample_of_all_that_arrived() -> None:
    kept: Counter[int] = Counter()
    for seed in range(400):
        kept.update(filled(Policy.RESERVOIR, 10, (10, 20, 10), seed).rows.tolist())
    expected = 400 * 10 / 40
    chi_square = sum((kept[row] - expected) ** 2 / expected for row in range(40))
    assert chi_square < 72.1  # the 99.9 % point at 39 degrees of freedom


def test_a_reservoir_keeps_pairs_as_a_uniform_sample_does() -> None:
    pairs: Counter[tuple[int, int]] = Counter()
    for seed in range(1500):
        pairs.update(combinations(sorted(filled(Policy.RESERVOIR, 4, (3, 5, 2), seed).rows.tolist()), 2))
    expected = 1500 * 6 / 45  # six pairs are kept of 45
    chi_square = sum((pairs[pair] - expected) ** 2 / expected for pair in combinations(range(10), 2))
    assert chi_square < 78.7  # the 99.9 % point at 44 degrees of freedom, more than these dependent counts have


def test_a_class_stays_a_uniform_sample_of_its_rows_as_its_quota_shrinks() -> None:
    kept: Counter[int] = Counter()
    for seed in range(600):
        kept.update(filled(Policy.CLASS_BALANCED, 12, (20, 9, 15), seed).rows.tolist())
    for first, size in ((0, 20), (20, 9), (29, 15)):
        expected = 600 * 4 / size
        chi_square = sum((kept[row] - expected) ** 2 / expected for row in range(first, first + size))
        assert chi_square < {20: 43.8, 9: 26.1, 15: 36.1}[size]  # the 99.9 % points at size - 1 degrees of freedom


@pytest.mark.parametrize("policy", [Policy.CLASS_BALANCED, Policy.RING, Policy.HERDING])
def test_the_balanced_policies_give_each_class_its_quota(policy: Policy) -> None:
    memory = filled(policy, 12, (30, 2, 40))
    assert Counter(memory.labels.tolist()) == {0: 4, 1: 2, 2: 4}


def test_old_classes_are_trimmed_never_picked_again() -> None:
    before = filled(Policy.CLASS_BALANCED, 12, (30, 30))
    after = filled(Policy.CLASS_BALANCED, 12, (30, 30, 30))
    for label in (0, 1):
        old = set(before.rows[before.labels == label].tolist())
        assert set(after.rows[after.labels == label].tolist()) < old


def test_a_ring_keeps_the_newest_of_each_class() -> None:
    memory = filled(Policy.RING, 6, (5, 7))
    assert sorted(memory.rows.tolist()) == [2, 3, 4, 9, 10, 11]


def brute_force_herding(features: torch.Tensor, count: int) -> list[int]:
    unit = (features / features.norm(dim=1, keepdim=True)).double()
    mean, chosen = unit.mean(0), list[int]()
    for _ in range(count):
        rest = [i for i in range(len(unit)) if i not in chosen]
        distance = [float((unit[[*chosen, i]].mean(0) - mean).norm()) for i in rest]
        chosen.append(rest[distance.index(min(distance))])
    return chosen


def test_herding_follows_icarl() -> None:
    features = torch.randn(50, 6, generator=torch.Generator().manual_seed(3))
    labels = torch.arange(50) % 2
    ranks = herding_ranks(features, labels, 8)
    for label in (0, 1):
        members = (labels == label).nonzero()[:, 0]
        wanted = [int(members[i]) for i in brute_force_herding(features[members], 8)]
        got = sorted((int(ranks[i]), int(i)) for i in members if ranks[i] < 8)
        assert [row for _, row in got] == wanted


def test_lowest_per_class_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(5)
    priorities, labels = torch.rand(100, generator=generator), torch.randint(7, (100,), generator=generator)
    wanted = []
    for label in range(7):
        members = [i for i in range(100) if labels[i] == label]
        wanted += sorted(members, key=lambda i: float(priorities[i]))[:3]
    assert lowest_per_class(priorities, labels, 3).tolist() == wanted


def test_a_draw_repeats_nothing_and_gives_all_where_there_are_few() -> None:
    memory = filled(Policy.RESERVOIR, 10, (30,))
    drawn = memory.draw(torch.Generator().manual_seed(0)).tolist()
    assert len(set(drawn)) == 4
    assert set(drawn) <= set(memory.rows.tolist())
    small = filled(Policy.RESERVOIR, 2, (30,))
    assert sorted(small.draw(torch.Generator())) == sorted(small.rows.tolist())


def test_a_restored_memory_goes_on_as_the_first_would() -> None:
    one, other = filled(Policy.CLASS_BALANCED, 9, (20, 20)), ExemplarMemory(MemoryConfig(9))
    other.restore(one.state())
    for memory in (one, other):
        memory.update(arrivals((20, 20, 20))[2], torch.Generator().manual_seed(9))
    assert torch.equal(one.rows, other.rows)
    assert one.stored_bytes() == other.stored_bytes()


def test_a_bad_capacity_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"strategy\.memory\.capacity must be >= 0, got -1"):
        MemoryConfig(capacity=-1)
