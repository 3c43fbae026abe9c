"""Checks of member maps: what a complete run of clustering says of its members."""

from collections.abc import Iterator
from typing import Final

import duckdb
import pyarrow as pa

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.parquet.files import open_parquet
from foldatlas.atlas.verify.fault import Fault, FaultKind
from foldatlas.atlas.verify.stages import ReadRun
from foldatlas.schemas.cluster_tables import LEVELS, MEMBERS

_MIN_TM: Final = "min_tm"  # variable of the SQL
_WRONG: Final = {
    "rows for one structure": "SELECT structure_id FROM members GROUP BY structure_id HAVING count(*) > 1",
    "members below the TM-score of their cluster": (
        f"FROM members WHERE tm_structure < getvariable('{_MIN_TM}') OR "
        "(cluster_structure IS NULL) <> (tm_structure IS NULL)"
    ),
    **{
        f"{level} members whose {what} is in another cluster": (
            f"FROM members LEFT JOIN members AS other ON other.structure_id = members.{what}{suffix} "
            f"WHERE members.cluster{suffix} IS DISTINCT FROM other.cluster{suffix}"
        )
        for level, suffix in LEVELS.items()
        for what in ("cluster", "centre")
    },
}


def check_members(folder: AtlasFolder, read: ReadRun, bad: set[str]) -> Iterator[Fault]:
    """Yield faults of the members of a run of clustering, if it is complete and its file is not among `bad`."""
    files = read.mark.files.get("members", ()) if read.run.kind == "clusters" and read.mark is not None else ()
    for file in files:
        if file.path in bad:
            continue
        try:
            with open_parquet(folder.storage, file.path) as parquet:
                members = parquet.read().cast(MEMBERS)
        except (OSError, ValueError, pa.ArrowException) as error:
            yield Fault(FaultKind.DAMAGED, file.path, f"it cannot be read: {error}", read.next_step)
            continue
        with duckdb.connect() as connection:
            connection.register("members", members)
            connection.execute(f"SET VARIABLE {_MIN_TM} = ?", [read.run.document.settings["structure"]["tm"]])
            for what, sql in _WRONG.items():
                [(count,)] = connection.execute(f"SELECT count(*) FROM ({sql})").fetchall()
                if count:
                    yield Fault(FaultKind.CONTENT, file.path, f"it has {what}: {count:,}", read.next_step)
