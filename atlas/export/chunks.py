"""Divide the selection into chunks: consecutive rows in the order of their structures files.

A chunk ends where a row group of structures ends, so that each row group is read once, by one process.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import pyarrow as pa

from foldatlas.atlas.sql.query import read_only
from foldatlas.schemas.tables import STRUCTURES_PER_ROW_GROUP

ROWS: Final = 512  # of a chunk, at least: 2 to 3 MB of PDB text per 16 proteins, a second of work
PATIENCE: Final = 4  # a row group of so many times `ROWS` records, of few structures, is divided


class Rows(NamedTuple):
    """A chunk: its number from 0, and its rows as an Arrow stream, which is small to send to another process."""

    number: int
    stream: pa.Buffer

    def table(self) -> pa.Table:
        return pa.ipc.open_stream(self.stream).read_all()


def chunks_of(cursor: Any, sql: str, rows: int = ROWS) -> Iterator[Rows]:
    """Yield the chunks of `sql`, which has the columns structure_file, structure_row, id and source."""
    ordered = read_only(cursor, f"SELECT * FROM ({sql}) ORDER BY structure_file, structure_row, id, source")
    number = 0
    waiting: list[pa.Table] = []
    num_waiting = 0
    last: tuple[str, int] | None = None
    for batch in ordered.batches():
        table = pa.table(batch)
        begin = 0
        places = zip(table.column("structure_file").to_pylist(), table.column("structure_row").to_pylist(), strict=True)
        for index, (file, row) in enumerate(places):
            here = file, row
            enough = num_waiting + index - begin
            if enough >= rows and last != here and (enough >= PATIENCE * rows or _group(last) != _group(here)):
                yield Rows(number, _stream([*waiting, table.slice(begin, index - begin)]))
                number, waiting, num_waiting, begin = number + 1, [], 0, index
            last = here
        waiting.append(table.slice(begin))
        num_waiting += table.num_rows - begin
    if num_waiting:
        yield Rows(number, _stream(waiting))


def _group(place: tuple[str, int] | None) -> tuple[str, int] | None:
    return None if place is None else (place[0], place[1] // STRUCTURES_PER_ROW_GROUP)


def _stream(tables: list[pa.Table]) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)
    return sink.getvalue()
