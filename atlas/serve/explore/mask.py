"""Records that meet a condition, as one bit per row of the table `records`: what passes between processes.

A condition that a person typed is evaluated in a confined process, and conditions on columns that the explorer's table
lacks by the index; both give a mask. The first bit is that of row 0. 10 million records are 1.25 MB.
"""

import base64
from dataclasses import dataclass
from typing import Final

from foldatlas.atlas.index.views import protein_columns, proteins_query
from foldatlas.atlas.serve.current import Served

MAX_RECORDS: Final = 999_999_000  # DuckDB's limit of bitstring_agg, as a number of whole bytes
RECORD_ROW: Final = "record_row"  # row of `records`


@dataclass(frozen=True, slots=True)
class Mask:
    """The records that meet a condition. `indexed` is the time of the index whose rows the bits are."""

    bits: bytes
    indexed: str


def rows_relation(served: Served) -> str:
    """Return SQL of `proteins` with the row of each record, for FROM."""
    header = served.atlas.header
    columns = protein_columns(header.settings.model, header.format)
    return f"({proteins_query(columns, f'records.rowid AS {RECORD_ROW}')}) AS proteins"


def num_bits(served: Served) -> int:
    """Return the number of bits of a mask: that of rows of `records`, in whole bytes."""
    [found] = served.rows("SELECT coalesce(max(rowid), 0) + 1 AS number FROM records")
    return -(-int(found["number"]) // 8) * 8


def mask_statement(served: Served, bits: int) -> str:
    """Return the SELECT of a mask, up to its condition: `bits` in base 64, NULL without records, and `indexed`."""
    return (
        f"SELECT to_base64(bitstring_agg({RECORD_ROW}, 0, {bits - 1})::BLOB) AS bits, "
        f"(SELECT indexed FROM settings) AS indexed FROM {rows_relation(served)} WHERE"
    )


def mask_of(served: Served, bits: int, condition: str) -> bytes:
    """Return the bits of the records that meet SQL of our own."""
    [found] = served.rows(f"{mask_statement(served, bits)} ({condition})")
    return base64.b64decode(found["bits"]) if found["bits"] is not None else bytes(bits // 8)
