"""Which sequences are needed, that is, belong to a present record. Only these are folded, retried and counted.

If no version of a source was superseded, all sequences are needed, and no file is read here. A sequence that is not
needed stays in its shard, whose boundaries and digest never change: shards without needed sequences are not folded, and
others are folded without the sequences that are not needed. If a sequence becomes needed again, it is folded in the
next generation of the shard's manifest entry.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.files import MEMORY_LIMIT, create_presence, list_files, parquet_reader
from foldatlas.atlas.index.lineage import Lineage, lineage_of
from foldatlas.atlas.parquet.coordinates import structure_ids_of
from foldatlas.atlas.sql.interruptible import interruptible_call
from foldatlas.atlas.sql.text import first_line
from foldatlas.atlas.storage.scratch import LocalCopies, work_folder
from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.manifest import Plan, Shard, ShardEntry

_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Needed:
    """The needed sequences of an atlas.

    `masks` has, for each shard with sequences that are not needed, a mask over its sequences, in their order: True
    means needed. Of other shards all sequences are needed.
    """

    masks: Mapping[str, _Mask] = field(default_factory=dict)

    def mask(self, shard: Shard) -> _Mask:
        """Return which sequences of the shard are needed, bool [proteins]."""
        found = self.masks.get(shard.name)
        return np.ones(shard.proteins, np.bool_) if found is None else found

    def has(self, shard: Shard) -> bool:
        """Return whether any sequence of the shard is needed."""
        return shard.name not in self.masks or bool(self.masks[shard.name].any())


class Presence(NamedTuple):
    """Numbers of present records by outcome, and of the distinct sequences and residues that they have."""

    outcomes: dict[str, int]
    proteins: int
    folded: int
    failed: int
    residues: int
    residues_done: int


def needed_in(folder: AtlasFolder, plans: Sequence[Plan]) -> Needed:
    """Return the needed sequences of `plans`. Raise DamagedAtlasError for a file that cannot be read."""
    lineage = lineage_of(plans)
    if lineage.is_trivial:
        return Needed()
    with work_folder() as work, _connected(folder, work) as connection:
        copies = LocalCopies(folder.storage, work)

        def find() -> Needed:
            _list_needed(connection, copies, list(plans), lineage, [])
            files = connection.execute("SELECT path, absolute FROM listed WHERE table_name = 'sequences'").fetchall()
            reader = parquet_reader(connection, copies, "sequences")
            if not files:
                return Needed()
            rows_of = connection.execute(
                f"SELECT filename, file_row_number FROM {reader.replace('filename = true', _NUMBERED)} "
                "WHERE structure_id NOT IN (SELECT structure_id FROM needed)"
            ).fetchnumpy()
            names, rows = np.asarray(rows_of["filename"], dtype=object), np.asarray(rows_of["file_row_number"])
            by_path = {path: np.sort(rows[names == absolute]) for path, absolute in files}
            return Needed(_masks(plans, by_path))

        found: Needed = _read(folder, connection, find, copies)
        return found


_NUMBERED = "filename = true, file_row_number = true"


def _masks(plans: Sequence[Plan], unneeded: Mapping[str, npt.NDArray[np.int64]]) -> dict[str, _Mask]:
    """Return masks of the shards that have sequences in `unneeded`: rows of sequences files, by path."""
    masks = {}
    for plan in plans:
        begins = [0] * len(plan.sequences)
        for shard in sorted(plan.shards, key=lambda shard: (shard.file, shard.row_group)):
            begin = begins[shard.file]
            begins[shard.file] = end = begin + shard.proteins
            rows = unneeded[plan.sequences[shard.file].path]
            inside = rows[np.searchsorted(rows, begin) : np.searchsorted(rows, end)] - begin
            if len(inside):
                mask = np.ones(shard.proteins, np.bool_)
                mask[inside] = False
                masks[shard.name] = mask
    return masks


def presence_of(folder: AtlasFolder, plans: Sequence[Plan], entries: Sequence[ShardEntry]) -> Presence | None:
    """Return numbers of present records, or None if all records are present: then plans and entries have them."""
    lineage = lineage_of(plans)
    if lineage.is_trivial:
        return None
    with work_folder() as work, _connected(folder, work) as connection:
        copies = LocalCopies(folder.storage, work)

        def count() -> Presence:
            _list_needed(connection, copies, list(plans), lineage, list(entries))
            scores, failures = (parquet_reader(connection, copies, table) for table in ("scores", "failures"))
            outcomes = connection.execute("SELECT outcome, count(*) FROM present_records GROUP BY ALL").fetchall()
            [counts] = connection.execute(
                f"WITH folded AS (SELECT DISTINCT structure_id, true AS yes FROM {scores}), "
                f"failed AS (SELECT DISTINCT structure_id, true AS yes FROM {failures}), classified AS ("
                "SELECT length, coalesce(folded.yes, false) AS is_folded, "
                "folded.yes IS NULL AND coalesce(failed.yes, false) AS is_failed FROM needed "
                "LEFT JOIN folded USING (structure_id) LEFT JOIN failed USING (structure_id)) "
                "SELECT count(*), count(*) FILTER (is_folded), count(*) FILTER (is_failed), "
                "coalesce(sum(length), 0)::BIGINT, "
                "coalesce(sum(length) FILTER (is_folded OR is_failed), 0)::BIGINT FROM classified"
            ).fetchall()
            return Presence(dict(outcomes), *counts)

        counts: Presence = _read(folder, connection, count, copies)
        return counts


def _connected(folder: AtlasFolder, work: Any) -> Any:
    return duckdb.connect(config={"temp_directory": str(work / "spill"), "memory_limit": MEMORY_LIMIT})


def _read(folder: AtlasFolder, connection: Any, call: Any, copies: LocalCopies) -> Any:
    try:
        return interruptible_call(connection, call, copies.stop)
    except (FileNotFoundError, duckdb.Error) as error:
        raise DamagedAtlasError(
            f"the records of {folder.uri} cannot be read ({first_line(error)}): "
            f"`foldatlas verify {folder.uri}` lists what is missing or damaged"
        ) from error


def _list_needed(
    connection: Any, copies: LocalCopies, plans: list[Plan], lineage: Lineage, entries: list[ShardEntry]
) -> None:
    """Create the temporary tables `present_records`, with each record once, and `needed`, their sequences."""
    names = {plan.name for plan in plans}
    list_files(connection, copies, plans, [entry for entry in entries if entry.plan in names], {})
    create_presence(connection, plans, lineage)
    records = parquet_reader(connection, copies, "records")
    connection.execute(
        "CREATE TEMP TABLE present_records AS SELECT records.outcome, records.structure_id, records.length "
        f"FROM {records} AS records JOIN listed ON listed.absolute = records.filename "
        "JOIN sources ON sources.plan_number = listed.plan_number AND sources.source = records.source "
        "WHERE sources.is_present QUALIFY row_number() OVER (PARTITION BY records.source, sources.sha256, "
        "records.\"offset\" ORDER BY records.outcome <> 'accepted', sources.max_length DESC, listed.plan_number) = 1"
    )
    connection.execute(
        "CREATE TEMP TABLE needed AS SELECT structure_id, any_value(length) AS length FROM present_records "
        "WHERE outcome = 'accepted' GROUP BY structure_id"
    )


def skipped_rows(folder: AtlasFolder, sequences: str, shard: Shard, entry: ShardEntry) -> _Mask:
    """Return which rows of a committed shard were not tried, bool [proteins]: neither folded nor failed.

    `sequences` is the path of its sequences file. Raise DamagedAtlasError for a file that cannot be read.
    """
    if not entry.skipped:
        return np.zeros(shard.proteins, np.bool_)
    tried = {identity for table in ("structures", "failures") for identity in ids_in(folder, entry.files[table].path)}
    planned = ids_in(folder, sequences, shard.row_group)
    return np.array([identity not in tried for identity in planned], np.bool_)


def needed_failures(folder: AtlasFolder, sequences: str, shard: Shard, entry: ShardEntry, needed: Needed) -> bool:
    """Return whether a failed sequence of a committed shard is needed. Raise DamagedAtlasError."""
    if not entry.failed or shard.name not in needed.masks:
        return entry.failed > 0
    failed = set(ids_in(folder, entry.files["failures"].path))
    planned = ids_in(folder, sequences, shard.row_group)
    return any(is_needed and one in failed for one, is_needed in zip(planned, needed.mask(shard), strict=True))


def ids_in(folder: AtlasFolder, path: str, row_group: int | None = None) -> list[bytes]:
    """Return the structure ids in a file, or in one of its row groups. Raise DamagedAtlasError."""
    return structure_ids_of(folder.read_table(path, ["structure_id"], row_group))


def left_to_fold(folder: AtlasFolder, plans: Sequence[Plan], entries: Mapping[str, ShardEntry]) -> list[Shard]:
    """Return the shards with a needed sequence that was never tried, in the order in which they should run."""
    needed = needed_in(folder, plans)
    return [shard for plan in plans for shard in plan.shards if is_left(folder, plan, shard, entries, needed)]


def is_left(folder: AtlasFolder, plan: Plan, shard: Shard, entries: Mapping[str, ShardEntry], needed: Needed) -> bool:
    """Return whether a shard has a needed sequence that was never tried."""
    entry = entries.get(shard.name)
    if entry is None:
        return needed.has(shard)
    if not entry.skipped:
        return False
    skipped = skipped_rows(folder, plan.sequences[shard.file].path, shard, entry)
    return bool((skipped & needed.mask(shard)).any())
