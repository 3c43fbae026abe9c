"""Clusters, searches and the map of an atlas, restricted to the structures of its Parquet export.

Each latest run becomes a run of the exported atlas that lists filtered files:

    clusters       the members; and the representatives and centres of their clusters, which the subset may lack
    novelty        the rows of the structures, and of those from which they inherit; the targets that these name
    projections    the positions

Rows of searches are valid of each structure by itself, so a later search of the subset takes them over. Clusters and
positions are those of the whole atlas: `foldatlas cluster` and `project` compute new ones of the subset, because the
settings of a carried run name the run that it is a part of.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, get_args

import pyarrow as pa
import pyarrow.compute as pc

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.projection import MAP
from foldatlas.atlas.novelty.search_run import KEPT_TABLE, MEMBERS_TABLE, TARGETS_TABLE, SearchRun, latest_search
from foldatlas.atlas.parquet.coordinates import structure_ids_of
from foldatlas.atlas.parquet.files import ParquetFile, open_parquet
from foldatlas.atlas.sql.query import read_only
from foldatlas.atlas.stages.run import StageRun
from foldatlas.atlas.stages.runs import Completed, latest_complete
from foldatlas.atlas.storage.protocol import Storage
from foldatlas.schemas.cluster_tables import MEMBERS as CLUSTER_MEMBERS
from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.manifest import FileEntry
from foldatlas.schemas.novelty_tables import MEMBERS, TARGETS
from foldatlas.schemas.projection_tables import PROJECTION
from foldatlas.schemas.reference_tables import Kind
from foldatlas.schemas.stages import stage_name, stage_settings_digest

_SUBSET: Final = "subset_of"  # key of the settings: the run that a carried run is a part of
_STRUCTURES: Final = "structures"  # key of the settings: digest of the structures
_OWN: Final = "(SELECT DISTINCT structure_id FROM located WHERE in_atlas)"
# A member's row needs those of representatives and centres, whose rows need those of theirs.
_CLUSTERED: Final = (
    f"WITH RECURSIVE needed(id) AS (SELECT structure_id FROM {_OWN} UNION SELECT unnest([cluster90, centre90, "
    "cluster30, centre30, cluster_structure, centre_structure]) FROM needed JOIN cluster_members ON structure_id = id) "
    "SELECT cluster_members.* FROM cluster_members SEMI JOIN needed ON structure_id = id ORDER BY structure_id"
)

Tables = Iterable[pa.Table]


def carry_stages(source: AtlasFolder, cursor: Any, target: AtlasFolder, attempt: str) -> None:
    """Write the latest runs of `source` for the structures of the temporary table `located` to the atlas `target`.

    `attempt` is a part of the names of files. Raise DamagedAtlasError for a file that cannot be read.
    """
    ids = read_only(cursor, f"SELECT structure_id FROM {_OWN} ORDER BY structure_id").arrow()
    own = structure_ids_of(ids)
    if not own:
        return
    digest = hashlib.sha256(b"".join(own)).hexdigest()
    for kind, table, schema, sql in (
        ("clusters", MEMBERS_TABLE, CLUSTER_MEMBERS, _CLUSTERED),
        (
            "projections",
            MAP,
            PROJECTION,
            f"FROM projection SEMI JOIN {_OWN} USING (structure_id) ORDER BY structure_id",
        ),
    ):
        done = latest_complete(source, kind)
        if done is not None:
            rows = (pa.table(batch) for batch in read_only(cursor, sql).batches())
            _carry(target, done, digest, attempt, {}, {table: (schema, rows)})
    for search in get_args(Kind):
        found = latest_search(source, search)
        if found is not None:
            _carry_search(source, target, found, set(own), digest, attempt)


def _carry_search(
    source: AtlasFolder, target: AtlasFolder, run: SearchRun, own: set[bytes], digest: str, attempt: str
) -> None:
    mark = run.run.completion()
    assert mark is not None, "the latest search of an atlas is complete"
    pairs = _distinct(_filtered(source.storage, run.member_files(), "structure_id", own), MEMBERS)
    sources = {bytes(value.bytes) for value in pairs.column("novelty_source").to_pylist()}
    hits = _distinct(_filtered(source.storage, run.hit_files(), "structure_id", own | sources), run.hits_schema)
    names = set(hits.column("target").drop_null().to_pylist())
    target_files = [file.path for file in mark.files.get(TARGETS_TABLE, ())]
    targets = _distinct(_filtered(source.storage, target_files, "name", names), TARGETS)
    inputs = {KEPT_TABLE: (run.hits_schema, [hits]), MEMBERS_TABLE: (MEMBERS, [pairs])}
    _carry(target, Completed(run.run, mark), digest, attempt, inputs, {TARGETS_TABLE: (TARGETS, [targets])})


def _filtered(storage: Storage, paths: Sequence[str], column: str, wanted: set[Any]) -> Iterator[pa.Table]:
    """Yield the rows of files whose `column` is among `wanted`."""
    is_id = column == "structure_id"
    values = pa.array(sorted(wanted), pa.binary(16) if is_id else pa.string())
    for path in paths:
        try:
            with open_parquet(storage, path) as file:
                for batch in file.iter_batches():
                    table = pa.table(batch)
                    keys = table.column(column)
                    yield table.filter(pc.is_in(keys.cast(pa.binary(16)) if is_id else keys, values))
        except (OSError, ValueError, pa.ArrowException) as error:
            raise DamagedAtlasError(f"{storage.uri}/{path} cannot be read ({error}): restore it from a copy") from error


def _distinct(tables: Tables, schema: pa.Schema) -> pa.Table:
    """Return the rows of `tables`, of several with one id or name the first, as in merged atlases."""
    table = pa.concat_tables([schema.empty_table(), *(one.cast(schema) for one in tables)])
    keys = structure_ids_of(table) if "structure_id" in schema.names else table.column("name").to_pylist()
    first = {key: row for row, key in reversed(list(enumerate(keys)))}
    return table.take(pa.array(sorted(first.values()), pa.int64()))


def _carry(
    target: AtlasFolder,
    done: Completed,
    digest: str,
    attempt: str,
    inputs: Mapping[str, tuple[pa.Schema, Tables]],
    results: Mapping[str, tuple[pa.Schema, Tables]],
) -> None:
    """Write a complete run of `target` with the settings of `done`, but for the structures. `inputs` and `results` are
    rows by table, with their schema."""
    document = done.run.document
    settings = {**document.settings, _STRUCTURES: digest}
    if document.kind != "novelty":  # rows of a search are valid of each structure by itself
        settings[_SUBSET] = document.name
    name = stage_name(document.kind, stage_settings_digest(settings), "", [])

    def write(tables: Mapping[str, tuple[pa.Schema, Tables]]) -> dict[str, list[FileEntry]]:
        files = {}
        for table, (schema, rows) in tables.items():
            path = f"{document.kind}/{name}/{table}/all.{attempt}.parquet"
            with ParquetFile(target.storage, path, table, schema=schema) as file:
                for part in rows:
                    if part.num_rows:
                        file.write(part)
            assert file.entry is not None, "set when the with block ends"
            files[table] = [file.entry]
        return files

    run = StageRun.begin(
        target, document.kind, settings=settings, shards=[], notes=document.notes, inputs=write(inputs)
    )
    run.complete(write(results), done.mark.counts)
