"""Rows of `proteins` by structure are those of the view, in its order, whatever is asked for."""

import random
import uuid
from typing import Any

import pytest
from built_atlas import URI_A, URI_B

from foldatlas.atlas.serve import catalogue, pages
from foldatlas.atlas.serve.catalogue import COLUMNS
from foldatlas.atlas.serve.current import CurrentAtlas, Served
from foldatlas.atlas.serve.filters import ORDER, Key, ProteinFilter


def by_view(served: Served, wanted: ProteinFilter, after: Key | None, size: int) -> list[dict[str, Any]]:
    """The same rows from the view as a whole, sorted and cut in Python."""
    rows = served.rows(f"SELECT {', '.join(COLUMNS)} FROM proteins WHERE {wanted.sql()} ORDER BY {ORDER}")
    keys = [(row["structure_id"], row["id"], row["source"]) for row in rows]
    least = (after.structure_id, after.id, after.source) if after is not None else (uuid.UUID(int=0), "", "")
    return [row for row, key in zip(rows, keys, strict=True) if key > least][:size]


FILTERS = [
    ProteinFilter(),
    ProteinFilter(min_plddt=60, max_length=60),
    ProteinFilter(source=URI_A),
    ProteinFilter(source=URI_B, min_ptm=0.3),
    ProteinFilter(fragment=True),
    ProteinFilter(high_confidence=False, fragment=False),
    ProteinFilter(source="file:///nowhere"),
    ProteinFilter(min_plddt=100),
    ProteinFilter(sequence_crc64="0123456789ABCDEF"),
]


@pytest.mark.parametrize("wanted", FILTERS, ids=range(len(FILTERS)))
@pytest.mark.parametrize("many", [1, pages.MANY])
def test_rows_are_those_of_the_view(
    current: CurrentAtlas, wanted: ProteinFilter, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any key, of any size, and however many structures are read before all records are."""
    monkeypatch.setattr(pages, "MANY", many)
    generator = random.Random(1)
    with current.use() as served:
        every = by_view(served, ProteinFilter(), None, 10_000)
        assert len(every) == served.num_proteins
        for size in (1, 2, 7, 10_000):
            row = generator.choice(every)
            key = Key(row["structure_id"], row["id"], row["source"])
            for after in (None, key, Key(key.structure_id, "", ""), Key(uuid.UUID(int=2**128 - 1), "z", "z")):
                found = pages.filtered_rows(served, wanted, after, size, COLUMNS)
                assert found == by_view(served, wanted, after, size)


def test_an_index_without_the_table_is_served(current: CurrentAtlas, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of an older program: its records are read instead."""
    with current.use() as served:
        assert served.folded_records == "folded_records"
        expected = [row["id"] for row in by_view(served, ProteinFilter(), None, 5)]
        monkeypatch.setattr(served, "folded_records", "(FROM records WHERE state = 'folded' AND NOT superseded)")
        rows, _ = catalogue.page(served, ProteinFilter(), None, 5)
        assert [row["id"] for row in rows] == expected
        assert catalogue.one_protein(served, str(rows[0]["structure_id"])).id == expected[0]
