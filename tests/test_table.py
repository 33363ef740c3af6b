from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from clbench.errors import DataError
from clbench.table import Source, Table, place


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
