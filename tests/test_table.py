from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clbench.digest import state_digest
from clbench.engine import learn
from clbench.errors import DataError
from clbench.memory import MemoryConfig
from clbench.table import Source, Table, place
from tests.learning import digits, strategy


def source(rows: int = 10) -> Source:
    images = torch.arange(rows * 12, dtype=torch.uint8).reshape(rows, 3, 2, 2)
    return Source({"image": images, "label": torch.arange(rows) % 3})


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(DataError, match="equal lengths"):
        Source({"image": torch.zeros(3, 1), "label": torch.zeros(4)})


def test_selecting_and_joining_composes_row_numbers_without_copying() -> None:
    table = Table(source())
    odd = table.select(torch.tensor([1, 3, 5, 7, 9]))
    some = odd.select(torch.tensor([True, False, False, True, False])).join(odd.select(torch.tensor([4])))
    assert some.rows.tolist() == [1, 7, 9]
    assert some.source is table.source
    assert some.column("label").tolist() == [1, 1, 0]


def test_tables_of_two_sources_do_not_join() -> None:
    with pytest.raises(ValueError, match="one source"):
        Table(source()).join(Table(source()))


@pytest.mark.parametrize(("rows", "size"), [(10, 4), (9, 4), (1, 4), (4, 4), (5, 1), (33, 32), (0, 4)])
def test_batches_visit_every_row_once_and_leave_no_example_alone(rows: int, size: int) -> None:
    table = Table(source(max(rows, 1)), torch.arange(rows))
    order = torch.Generator().manual_seed(0)
    sizes, seen = [], []
    for batch in table.row_batches(size, order):
        sizes.append(len(batch))
        seen += batch.tolist()
    assert sorted(seen) == list(range(rows))
    assert rows == 1 or size == 1 or 1 not in sizes
    assert max(sizes, default=0) <= size + 1


def lengths(count: int) -> Table:
    """Rows of lengths 1 to 50."""
    return Table(Source({"length": torch.randint(1, 51, (count,), generator=torch.Generator().manual_seed(1))}))


@pytest.mark.parametrize(("rows", "size"), [(1000, 4), (1001, 4), (1002, 4), (3, 4), (1, 4), (0, 4), (70, 1), (33, 32)])
def test_bucketed_batches_visit_every_row_once(rows: int, size: int) -> None:
    table = lengths(rows)
    batches = [batch.tolist() for batch in table.row_batches(size, torch.Generator().manual_seed(0), bucketed=True)]
    assert sorted(row for batch in batches for row in batch) == list(range(rows))
    assert len(batches) == table.batch_count(size)
    plain = [len(batch) for batch in table.row_batches(size, torch.Generator().manual_seed(0))]
    assert [len(batch) for batch in batches] == plain
    again = [batch.tolist() for batch in table.row_batches(size, torch.Generator().manual_seed(0), bucketed=True)]
    other = [batch.tolist() for batch in table.row_batches(size, torch.Generator().manual_seed(1), bucketed=True)]
    assert batches == again
    assert rows < 10 or batches != other


def test_bucketed_batches_are_of_like_length_in_no_order_of_length() -> None:
    table = lengths(2000)

    def cells(bucketed: bool) -> tuple[int, list[int]]:
        longest = [
            int(table.source.columns["length"][batch].max())
            for batch in table.row_batches(8, torch.Generator().manual_seed(0), bucketed=bucketed)
        ]
        return 8 * sum(longest), longest

    needed = int(table.column("length").sum())
    plain, bucketed = cells(False)[0], cells(True)[0]
    assert bucketed - needed < 0.15 * (plain - needed)
    longest = cells(True)[1]
    rising = sum(a < b for a, b in itertools.pairwise(longest))
    assert 0.3 < rising / len(longest) < 0.7


def test_rows_are_bucketed_only_where_they_have_a_length_and_are_shuffled() -> None:
    for table, draws in ((lengths(50), None), (Table(source(50)), torch.Generator())):
        seeds = [None if draws is None else torch.Generator().manual_seed(3) for _ in range(2)]
        plain = [batch.tolist() for batch in table.row_batches(4, seeds[0])]
        assert [batch.tolist() for batch in table.row_batches(4, seeds[1], bucketed=True)] == plain


def test_the_order_is_the_generators() -> None:
    def order(seed: int) -> list[int]:
        batches = Table(source()).row_batches(3, torch.Generator().manual_seed(seed))
        return [int(row) for rows in batches for row in rows]

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert [int(r) for rows in Table(source()).row_batches(3) for r in rows] == list(range(10))


def test_a_memory_mapped_source_gives_the_same_batches(tmp_path: Path) -> None:
    resident = source()
    mapped = place(resident.columns, "cpu", tmp_path / "cache", limit=0)
    assert mapped.mapped
    assert not place(resident.columns, "cpu", tmp_path / "cache", limit=10**9).mapped
    rows = torch.tensor([7, 0, 3])
    for name, column in resident.take(rows).items():
        assert torch.equal(mapped.take(rows)[name], column)
    assert torch.equal(Table(mapped).column("label"), resident.columns["label"])
    assert mapped.digest() == resident.digest()


def test_a_damaged_cache_is_refused(tmp_path: Path) -> None:
    source().save(tmp_path)
    Source.open(tmp_path, verify=True)
    column = np.load(tmp_path / "label.npy")
    np.save(tmp_path / "label.npy", column + 1)
    with pytest.raises(DataError, match="differs"):
        Source.open(tmp_path, verify=True)
    (tmp_path / "image.npy").write_bytes((tmp_path / "image.npy").read_bytes()[:-5])
    with pytest.raises(DataError, match="delete it"):
        Source.open(tmp_path)


def test_the_digest_sees_every_byte_and_name() -> None:
    columns = source().columns
    changed = columns["image"].clone()
    changed[3, 1, 0, 1] += 1
    digests = {
        source().digest(),
        Source({**columns, "image": changed}).digest(),
        Source({"picture": columns["image"], "label": columns["label"]}).digest(),
    }
    assert len(digests) == 3


def test_row_bytes_counts_all_columns() -> None:
    assert source().row_bytes == 12 + 8


@pytest.mark.parametrize("is_mapped", [False, True])
def test_a_stream_is_successive_takes_one_batch_ahead_where_mapped(is_mapped: bool, tmp_path: Path) -> None:
    data = place(source().columns, "cpu", tmp_path, limit=0) if is_mapped else source()
    asked = []

    def row_batches() -> Iterator[torch.Tensor]:
        for rows in torch.tensor([7, 0, 3, 1, 2, 9]).split(2):
            asked.append(rows.tolist())
            yield rows

    ahead = []
    for number, batch in enumerate(data.stream(row_batches())):
        ahead.append(len(asked) - number)
        wanted = source().take(torch.tensor(asked[number]))
        assert all(torch.equal(batch[name], column) for name, column in wanted.items())
    assert ahead == ([2, 2, 1] if is_mapped else [1, 1, 1])
    assert list(data.stream([])) == []


def gathering() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("gather")]


def test_a_mapped_stream_passes_errors_on_and_ends_its_thread(tmp_path: Path) -> None:
    mapped = place(source().columns, "cpu", tmp_path, limit=0)
    stream = mapped.stream(torch.tensor(rows) for rows in ([0, 1], [2, 3], [2, 99]))
    next(stream)
    assert gathering()
    with pytest.raises((IndexError, RuntimeError)):
        list(stream)
    assert not gathering()
    left = mapped.stream(torch.arange(10).split(2))
    next(left)
    del left  # what becomes of it when a loop ends early
    assert not gathering()


def test_training_on_a_mapped_source_gives_the_same_bits(tmp_path: Path) -> None:
    stream = digits()
    results = []
    for is_mapped in (False, True):
        learner = strategy("replay", stream, memory=MemoryConfig(capacity=40, batch_size=8))
        for experience in stream.experiences[:2]:
            train = experience.train
            if is_mapped:
                train = Table(place(train.source.columns, "cpu", tmp_path, limit=0), train.rows)
            learn(learner, replace(experience, train=train))
        results.append(state_digest(learner.state()))
    assert results[0] == results[1]
