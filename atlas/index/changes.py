"""Comparison of a new version of a source with the earlier one: ids that are new, and ids that are gone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.files import MEMORY_LIMIT
from foldatlas.atlas.index.lineage import Head
from foldatlas.atlas.sql.interruptible import interruptible_call
from foldatlas.atlas.sql.text import escape_glob
from foldatlas.atlas.storage.scratch import LocalCopies
from foldatlas.schemas.wording import counted


@dataclass(frozen=True)
class Change:
    """What a new version of the source `name` changes.

    before, now: numbers of records.
    earlier: distinct accepted ids before, of which `gone` are not in the new version.
    new: distinct accepted ids that were not in the earlier version.
    """

    name: str
    before: int
    now: int
    earlier: int
    gone: int
    new: int

    @property
    def keeps_half(self) -> bool:
        """Whether at least half of the earlier ids remain."""
        return 2 * (self.earlier - self.gone) >= self.earlier

    def line(self) -> str:
        """Return a line such as `x.faa changed: 4 records before, 5 now; 1 new, 0 gone`."""
        before = counted(self.before, "record")
        return f"{self.name} changed: {before} before, {self.now:,} now; {self.new:,} new, {self.gone:,} gone"


def change_of(
    folder: AtlasFolder, work: Path, heads: Sequence[Head], staged: Sequence[Path], name: str, now: int
) -> Change:
    """Compare the records of a source's `heads` with those that were just read.

    `staged` are tables of records, of which `now` are of this source. `work` is a folder for copies of files of a
    store.
    """
    copies = LocalCopies(folder.storage, work)
    plans = {head.plan.name: head.plan for head in heads}
    earlier = copies.have(file.path for plan in plans.values() for file in plan.records)
    uri = heads[0].source.uri
    before = {head.source.sha256: head.source.records for head in heads}
    with duckdb.connect(config={"temp_directory": str(work / "spill"), "memory_limit": MEMORY_LIMIT}) as connection:

        def count() -> Any:
            for table, paths in (("old_ids", earlier), ("new_ids", staged)):
                connection.execute("SET VARIABLE paths = ?", [[escape_glob(path) for path in paths]])
                connection.execute(
                    f"CREATE TEMP TABLE {table} AS SELECT DISTINCT id FROM read_parquet(getvariable('paths')) "
                    "WHERE source = ? AND outcome = 'accepted'",
                    [uri],
                )
            return connection.execute(
                "SELECT (SELECT count(*) FROM old_ids), (SELECT count(*) FROM (FROM old_ids EXCEPT FROM new_ids)), "
                "(SELECT count(*) FROM (FROM new_ids EXCEPT FROM old_ids))"
            ).fetchall()

        [(ids, gone, new)] = interruptible_call(connection, count, copies.stop)
    return Change(name, sum(before.values()), now, ids, gone, new)
