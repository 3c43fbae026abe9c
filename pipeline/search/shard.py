"""One shard of a search run: its structures are read, searched in small groups, and written as rows of hits.

One bad structure costs no other: what cannot be read, or makes a search fail alone too, becomes a row with the reason.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import pyarrow as pa

from foldatlas.atlas.novelty.hits import Query
from foldatlas.atlas.novelty.rows import Row, better, not_searched, rows_table, sequence_row, structure_row
from foldatlas.atlas.novelty.search_run import HITS_TABLE
from foldatlas.atlas.novelty.sequence_search import SequenceSettings, search_sequences
from foldatlas.atlas.novelty.settings import SearchSettings
from foldatlas.atlas.novelty.structure_search import search_structures
from foldatlas.atlas.parquet.coordinates import StoredStructure, decode_structures, structure_ids_of
from foldatlas.atlas.parquet.files import ParquetFile, open_parquet
from foldatlas.atlas.parquet.structures import StructureLocation, StructureReader
from foldatlas.atlas.reference.from_atlas import backbone_of
from foldatlas.atlas.reference.reader import Reference
from foldatlas.atlas.storage.scratch import work_folder
from foldatlas.pipeline import events
from foldatlas.pipeline.interruption import give_up
from foldatlas.pipeline.search.workers import Requirements, peak_bytes, ready_reference
from foldatlas.pipeline.stages.shard import ShardWork, StageResult
from foldatlas.schemas.errors import DamagedAtlasError, IncompleteError, Interrupted, StoreError, UsageError
from foldatlas.schemas.novelty_tables import HIT, HITS, NO_HIT, RETRIED
from foldatlas.schemas.records import format_structure_id

SEARCHED_AT_ONCE: Final = 64  # structures: the run can stop between two groups

Find = Callable[[Sequence[StoredStructure]], list[Row]]  # a row for each structure


@dataclass(frozen=True)
class SearchPayload:
    """What all shards of a run need: the reference, the settings of its search, and the threads of a worker."""

    reference: Requirements
    settings: SearchSettings | SequenceSettings
    threads: int


@dataclass(frozen=True)
class _Wanted:
    """A row of the queries."""

    place: StructureLocation
    since: int
    earlier: Row | None


def search_shard(work: ShardWork) -> StageResult:
    """Search a shard's structures and write its rows. Raise UsageError, for the whole run, on a machine that cannot."""
    payload: SearchPayload = work.payload
    try:
        reference = ready_reference(payload.reference)
    except UsageError as error:
        give_up(error)
        raise
    wanted = _read_wanted(work)
    rows: dict[bytes, Row] = {}
    for since in sorted({one.since for one in wanted}):
        some = [one for one in wanted if one.since == since]
        for begin in range(0, len(some), SEARCHED_AT_ONCE):
            group = some[begin : begin + SEARCHED_AT_ONCE]
            work.check()
            found = _search(work, reference, [one.place for one in group], since)
            for one in group:
                rows[one.place.structure_id] = better(found[one.place.structure_id], one.earlier, reference.kind)
            work.advance(len(group))
    identities = [one.place.structure_id for one in wanted]
    schema = HITS[reference.kind]
    with ParquetFile(work.folder.storage, work.path(HITS_TABLE), "novelty", schema=schema) as file:
        file.write(rows_table(identities, [rows[identity] for identity in identities], schema))
    assert file.entry is not None, "set when the with block ends"
    events.emit(
        "search_memory",
        stage_run=work.run.name,
        shard=work.shard.name,
        mapped_bytes=reference.memory_bytes(),
        peak_bytes=peak_bytes(),
    )
    return StageResult({HITS_TABLE: file.entry}, count_rows(rows.values()))


def count_rows(rows: Iterable[Row]) -> dict[str, int]:
    """Return how many rows were searched, are hits, and were not searched, by reason. Those that "failed" could not be
    searched for another reason than their length."""
    counts = {"searched": 0, "hits": 0, "failed": 0}
    for row in rows:
        reason = row.get("reason")
        counts["searched"] += row["state"] in (HIT, NO_HIT)
        counts["hits"] += row["state"] == HIT
        if reason is not None:
            name = "failed" if reason in RETRIED else reason
            counts[name] = counts.get(name, 0) + 1
    return counts


def _read_wanted(work: ShardWork) -> list[_Wanted]:
    try:
        with open_parquet(work.folder.storage, work.shard.path) as file:
            table = file.read_row_group(work.shard.row_group)
    except (OSError, pa.ArrowException) as error:
        path = work.folder.where(work.shard.path)
        raise DamagedAtlasError(f"{path} cannot be read ({error}): delete {work.run.path('')} and run again") from error
    columns = [table.column(name).to_pylist() for name in ("structure_file", "structure_row", "since", "earlier")]
    return [
        _Wanted(StructureLocation(identity, file, row), since, earlier)
        for identity, file, row, since, earlier in zip(structure_ids_of(table), *columns, strict=True)
    ]


def _search(work: ShardWork, reference: Reference, places: Sequence[StructureLocation], since: int) -> dict[bytes, Row]:
    """Return a row for each structure at `places`."""
    rows: dict[bytes, Row] = {}
    structures = []
    with StructureReader(work.folder.storage) as reader:
        for place in places:
            try:
                structures += decode_structures(reader.rows([place]))
            except (DamagedAtlasError, ValueError) as error:
                rows[place.structure_id] = not_searched("unreadable", str(error))
    search = _structures if reference.kind == "structures" else _sequences
    payload: SearchPayload = work.payload

    def find(some: Sequence[StoredStructure]) -> list[Row]:
        with work_folder() as scratch:
            return search(reference, some, payload, since, scratch)

    found = find_with_bisection(find, structures, work.check)
    if len(found) > 1 and all(row.get("reason") == "failed" for row in found):
        raise IncompleteError(f"the search failed with each of {len(found)} structures: {found[0]['detail']}")
    rows.update((structure.structure_id, row) for structure, row in zip(structures, found, strict=True))
    return rows


def find_with_bisection(find: Find, structures: Sequence[StoredStructure], check: Callable[[], None]) -> list[Row]:
    """Return a row for each structure, halving a group whose search fails down to those that it fails with alone.

    `check` raises Interrupted when the run is to stop.
    """
    if not structures:
        return []
    try:
        return find(structures)
    except (Interrupted, StoreError, UsageError, OSError):
        raise  # no structure's fault: it would meet all others too
    except Exception as error:
        check()
        if len(structures) == 1:
            identity = format_structure_id(structures[0].structure_id)
            events.emit("search_failed", level=events.WARNING, structure_id=identity, reason=str(error))
            return [not_searched("failed", f"{type(error).__name__}: {error}")]
    middle = len(structures) // 2
    return [
        row for half in (structures[:middle], structures[middle:]) for row in find_with_bisection(find, half, check)
    ]


def _structures(
    reference: Reference, structures: Sequence[StoredStructure], payload: SearchPayload, since: int, scratch: Any
) -> list[Row]:
    assert isinstance(payload.settings, SearchSettings)
    queries = [
        Query(format_structure_id(one.structure_id), one.sequence, backbone_of(one), one.plddt) for one in structures
    ]
    search = search_structures(reference, queries, payload.settings, since=since, threads=payload.threads)
    return [structure_row(result, reference.names) for result in search.results]


def _sequences(
    reference: Reference, structures: Sequence[StoredStructure], payload: SearchPayload, since: int, scratch: Any
) -> list[Row]:
    assert isinstance(payload.settings, SequenceSettings)
    sequences = [(UUID(bytes=one.structure_id), one.sequence) for one in structures]
    hits = search_sequences(
        reference, sequences, payload.settings, since=since, threads=payload.threads, scratch=scratch
    )
    return [sequence_row(hit) for hit in hits]
