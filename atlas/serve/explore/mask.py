"""Proteins that meet a condition, as one bit per row of a table of the index: what passes between processes.

A condition that a person typed is evaluated in a confined process, and conditions on columns that the explorer's table
lacks by the index; both give a mask. Its bits are rows of `scores` if the condition has columns of structures alone,
else rows of `records`. The first bit is that of row 0. 10 million records are 1.25 MB.
"""

import base64
from dataclasses import dataclass
from typing import Any, Final

from foldatlas.atlas.index.views import Column, protein_columns, proteins_query
from foldatlas.atlas.serve.current import Served
from foldatlas.atlas.sql.text import quoted

MAX_ROWS: Final = 999_999_000  # DuckDB's limit of bitstring_agg, as a number of whole bytes
_ROW: Final = "row_of_table"


@dataclass(frozen=True, slots=True)
class Mask:
    """The proteins that meet a condition: rows of `records`, or of `scores` unless `of_records`. `indexed` is the time
    of the index."""

    bits: bytes
    of_records: bool
    indexed: str = ""


@dataclass(frozen=True, slots=True)
class MaskSizes:
    """Bits of the masks of an index: the rows of its tables, in whole bytes."""

    scores: int
    records: int

    @classmethod
    def of(cls, served: Served) -> "MaskSizes":
        """Return the sizes of masks of an index."""
        return cls(*(_whole_bytes(served, table) for table in ("scores", "records")))

    def bits(self, *, of_records: bool) -> int:
        """Return the bits of a mask."""
        return self.records if of_records else self.scores


def _whole_bytes(served: Served, table: str) -> int:
    [found] = served.rows(f"SELECT coalesce(max(rowid), 0) + 1 AS number FROM {table}")
    return -(-int(found["number"]) // 8) * 8


def columns_by_table(served: Served) -> tuple[list[Column], list[Column]]:
    """Return the columns of `proteins` that are of `scores`, and those of `records`."""
    header = served.atlas.header
    columns = protein_columns(header.settings.model, header.format)
    of_records = [column for column in columns if column.expression.startswith("records.")]
    return [column for column in columns if column not in of_records], of_records


def statement_of_scores(served: Served, sizes: MaskSizes) -> str:
    """Return the SELECT of a mask of `scores` up to its condition, which has columns of `scores` alone.

    The row has `bits` in base 64, NULL without any, `of_records`, and `indexed`. So have those of the next two.
    """
    columns, _ = columns_by_table(served)
    return _statement(f"SELECT {_selected(columns)}, rowid AS {_ROW} FROM scores", sizes, of_records=False)


def statement_of_records(served: Served, sizes: MaskSizes) -> str:
    """Return the same of `records`, with columns of `records` and structure_id alone."""
    _, columns = columns_by_table(served)
    inner = (
        f"SELECT {_selected(columns)}, structure_id, rowid AS {_ROW} FROM records "
        "WHERE state = 'folded' AND NOT superseded"
    )
    return _statement(inner, sizes, of_records=True)


def statement_of_proteins(served: Served, sizes: MaskSizes) -> str:
    """Return the same of `records`, with all columns of `proteins`: it joins both tables."""
    header = served.atlas.header
    columns = protein_columns(header.settings.model, header.format)
    return _statement(proteins_query(columns, f"records.rowid AS {_ROW}"), sizes, of_records=True)


def _selected(columns: list[Column]) -> str:
    return ", ".join(f"{column.expression} AS {quoted(column.name)}" for column in columns)


def _statement(inner: str, sizes: MaskSizes, *, of_records: bool) -> str:
    return (
        f"SELECT to_base64(bitstring_agg({_ROW}, 0, {sizes.bits(of_records=of_records) - 1})::BLOB) AS bits, "
        f"{str(of_records).lower()} AS of_records, (SELECT indexed FROM settings) AS indexed "
        f"FROM ({inner}) AS proteins WHERE"
    )


def mask_of(served: Served, sizes: MaskSizes, condition: str, *, of_records: bool) -> bytes:
    """Return the bits of the rows that meet SQL of our own, on columns of one table."""
    statement = (statement_of_records if of_records else statement_of_scores)(served, sizes)
    [found] = served.rows(f"{statement} ({condition})")
    return bits_of(found["bits"], sizes.bits(of_records=of_records))


def bits_of(text: Any, bits: int) -> bytes:
    """Return the bits of a mask from base 64, None without any. Raise ValueError unless there are so many."""
    found = base64.b64decode(text, validate=True) if text is not None else bytes(bits // 8)
    if len(found) != bits // 8:
        raise ValueError
    return found
