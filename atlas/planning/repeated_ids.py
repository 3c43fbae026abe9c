"""Which accepted records do not count because their id stood in their source before, in DuckDB and out of core.

The first accepted record of an id in a source keeps it; a later one with the same sequence is a repetition, one with
another sequence is refused. Nearly all ids stand once, so the only table of all records is of eight bytes each: ids
whose hash is met twice are suspects, and suspects alone are compared as text.
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

_BYTES_A_THREAD: Final = 128 << 20  # each of DuckDB's threads has tables of its own before they are put together

_SUSPECTS: Final = f"""
    create table suspects as
        select hash(source, id) as key from staged where outcome = '{Outcome.ACCEPTED}'
        group by key having count(*) > 1
"""
_JUDGED: Final = f"""
    create table judged as
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
    """The staged records as DuckDB sees them. Made by `open_staged`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection):
        self._connection = connection
        self.num_judged = 0

    def judge(self) -> None:
        """Finds the records that do not count. Run once, before `judged_between`."""
        for statement in (_SUSPECTS, _JUDGED, "drop table suspects"):
            interruptible_call(self._connection, lambda statement=statement: self._connection.execute(statement))  # type: ignore[misc]
        [(self.num_judged,)] = self._connection.sql("select count(*) from judged").fetchall()

    def judged_between(self, source: str, first: int, last: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Rising offsets, within [first, last], of the records of `source` that do not count; whether each is a
        repetition (else its id is another sequence's)."""
        if not self.num_judged:
            return np.empty(0, np.int64), np.empty(0, np.bool_)
        query = 'select "offset", is_repeated from judged where source = $1 and "offset" between $2 and $3 order by 1'
        found = self._connection.execute(query, [source, first, last]).fetchnumpy()
        return found["offset"], found["is_repeated"]

    def accepted_lengths(self) -> list[tuple[int, int]]:
        """(length, number of accepted records), in no order, records that `judge` found among them."""
        query = f"select length, count(*) from staged where outcome = '{Outcome.ACCEPTED}' group by length"
        return [
            (length, count)
            for length, count in interruptible_call(self._connection, self._connection.sql(query).fetchall)
        ]


@contextlib.contextmanager
def open_staged(
    staging: Path, staged: Sequence[Path], memory_bytes: int, threads: int | None = None
) -> Iterator[StagedRecords]:
    """A database of its own in the staging folder, so that what is larger than `memory_bytes` goes to disk.

    `threads`: as many as the machine has, if memory is enough for them.
    """
    config: dict[str, str | bool | int | float | list[str]] = {
        "temp_directory": str(staging / "spill"),
        "memory_limit": f"{memory_bytes}B",
        "preserve_insertion_order": "false",  # nothing here has an order but what is ordered explicitly
    }
    with duckdb.connect(str(staging / f"{attempt_name()}.duckdb"), config=config) as connection:
        try:
            most = max(1, memory_bytes // _BYTES_A_THREAD)
            [(available,)] = connection.sql("select current_setting('threads')").fetchall()
            connection.execute(f"set threads = {min(threads or available, most)}")
            connection.read_parquet([escape_glob(path) for path in staged]).create_view("staged")
            yield StagedRecords(connection)
        except duckdb.OutOfMemoryException as error:
            raise FoldAtlasError(
                f"planning needs more memory than {memory_bytes >> 20:,} MiB, or more disk for what does not fit "
                f"({first_line(error)}): plan on a machine with more, or fewer files at a time"
            ) from error
        except duckdb.Error as error:
            raise DamagedAtlasError(f"ids could not be compared ({first_line(error)}): run again") from error
