"""Accepted records whose id occurred earlier in their source, found by DuckDB in bounded memory.

The first accepted record of an id in a source stays accepted; a later one with the same sequence is a repetition, one
with another sequence is refused. Nearly all ids occur once, so the only table of all records has eight bytes per
record, a hash of the id; ids are compared as text only if their hash occurs twice.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import numpy.typing as npt

from foldatlas.atlas.sql.interruptible import interruptible_call
from foldatlas.atlas.sql.text import escape_glob, first_line
from foldatlas.atlas.storage.commit import attempt_name
from foldatlas.schemas.errors import DamagedAtlasError, FoldAtlasError
from foldatlas.schemas.records import Outcome

_BYTES_PER_THREAD: Final = 128 << 20  # for the tables that each thread of DuckDB builds before they are combined

_SUSPECTS: Final = f"""
    create table suspects as
        select hash(source, id) as key from staged where outcome = '{Outcome.ACCEPTED}'
        group by key having count(*) > 1
"""
_JUDGED: Final = f"""
    create table classified as
        with candidates as materialized (
            select source, id, "offset", structure_id from staged
            where outcome = '{Outcome.ACCEPTED}' and hash(source, id) in (select key from suspects)),
        firsts as (
            select source, id, min("offset") as first_offset, arg_min(structure_id, "offset") as first_structure
            from candidates group by source, id having count(*) > 1)
        select source, "offset", structure_id = first_structure as is_repeated
        from candidates join firsts using (source, id) where "offset" <> first_offset
        order by source, "offset"
"""


class StagedRecords:
    """The staged records in a DuckDB database. Created by `open_staged`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection):
        self._connection = connection
        self.num_classified = 0

    def classify(self) -> None:
        """Find the repeated and the refused records. To be called once, before `classified_between`."""
        for statement in (_SUSPECTS, _JUDGED, "drop table suspects"):
            interruptible_call(self._connection, lambda statement=statement: self._connection.execute(statement))  # type: ignore[misc]
        [(self.num_classified,)] = self._connection.sql("select count(*) from classified").fetchall()

    def classified_between(
        self, source: str, first: int, last: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return the repeated and refused records of `source` with offsets in [first, last].

        Return their offsets, increasing, and whether each is a repetition; the others have another sequence than the
        first record with their id, and are refused.
        """
        if not self.num_classified:
            return np.empty(0, np.int64), np.empty(0, np.bool_)
        query = (
            'select "offset", is_repeated from classified where source = $1 and "offset" between $2 and $3 order by 1'
        )
        found = self._connection.execute(query, [source, first, last]).fetchnumpy()
        return found["offset"], found["is_repeated"]

    def accepted_lengths(self) -> list[tuple[int, int]]:
        """Return (length, number of accepted records), unordered, including the records that `classify` found."""
        query = f"select length, count(*) from staged where outcome = '{Outcome.ACCEPTED}' group by length"
        return [
            (length, count)
            for length, count in interruptible_call(self._connection, self._connection.sql(query).fetchall)
        ]


@contextlib.contextmanager
def open_staged(
    staging: Path, staged: Sequence[Path], memory_bytes: int, threads: int | None = None
) -> Iterator[StagedRecords]:
    """Open a new database in the staging folder; beyond `memory_bytes` it uses temporary files there.

    `threads`: None for all of the machine. Fewer are used if `memory_bytes` is too little for them.
    """
    config: dict[str, str | bool | int | float | list[str]] = {
        "temp_directory": str(staging / "spill"),
        "memory_limit": f"{memory_bytes}B",
        "preserve_insertion_order": "false",  # queries order explicitly where it matters
    }
    with duckdb.connect(str(staging / f"{attempt_name()}.duckdb"), config=config) as connection:
        try:
            most = max(1, memory_bytes // _BYTES_PER_THREAD)
            [(available,)] = connection.sql("select current_setting('threads')").fetchall()
            connection.execute(f"set threads = {min(threads or available, most)}")
            connection.read_parquet([escape_glob(path) for path in staged]).create_view("staged")
            yield StagedRecords(connection)
        except duckdb.OutOfMemoryException as error:
            raise FoldAtlasError(
                f"planning needs more memory than {memory_bytes >> 20:,} MiB, or more disk space for temporary files "
                f"({first_line(error)}): plan on a larger machine, or fewer files at a time"
            ) from error
        except duckdb.Error as error:
            raise DamagedAtlasError(f"ids could not be compared ({first_line(error)}): run again") from error
