"""Plan a search run: which structures are searched in full, which only against newer entries, and which rows are kept.

Planning works out of core, in DuckDB, on a connection to the atlas's index. A shard has structures that are stored
together, so that reading it takes few row groups. The sizes of shards depend on the atlas alone, so that any number of
workers makes the same run.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.novelty.search_run import (
    KEPT_TABLE,
    KIND,
    MEMBERS_TABLE,
    QUERIES_TABLE,
    RunNotes,
    RunSettings,
    SearchRun,
)
from foldatlas.atlas.parquet.coordinates import structure_ids_of
from foldatlas.atlas.parquet.files import ParquetFile
from foldatlas.atlas.reference.reader import Reference
from foldatlas.atlas.sql.text import escape_glob
from foldatlas.atlas.stages.run import StageRun
from foldatlas.atlas.storage.commit import attempt_name
from foldatlas.atlas.storage.scratch import LocalCopies
from foldatlas.schemas.manifest import FileEntry
from foldatlas.schemas.novelty_tables import HITS, MEMBERS, RETRIED, queries_schema
from foldatlas.schemas.stages import StageShard, stage_name, stage_settings_digest
from foldatlas.schemas.tables import MAX_SHARDS_PER_FILE

MIN_SHARD: Final = 16  # structures; the fixed cost of a search is one or two seconds
MAX_SHARD: Final = 256  # structures; they take some minutes against 200,000 entries
_SHARDS: Final = 64  # target number of shards, within these limits
_ROWS: Final = 50_000  # read and written at a time
FIXED_RESIDUES: Final = 80_000_000  # fixed cost of a query, as residues of a reference to scan in that time: 0.45 s

_EARLIER: Final = {
    kind: [field.name for field in schema if field.name != "structure_id"] for kind, schema in HITS.items()
}


@dataclass(frozen=True)
class Todo:
    """Work of a run, as numbers of structures: to search in full, to search against newer entries only, with a row that
    is kept, and members of clusters that inherit the row of their representative."""

    full: int
    newer: int
    kept: int
    members: int

    @property
    def searches(self) -> int:
        return self.full + self.newer


class SearchPlan:
    """The plan of one run, in temporary tables of a connection to the atlas's index.

    `base` is the run whose rows are taken over (None: search all in full); `each`: search every structure instead of
    one per 90 % cluster.
    """

    def __init__(
        self,
        connection: Any,
        copies: LocalCopies,
        reference: Reference,
        recipe: dict[str, Any],
        base: SearchRun | None,
        *,
        each: bool = False,
    ):
        self._connection = connection
        self._reference = reference
        self._recipe = recipe
        self.base = base
        self._classify(copies, each)
        counts = dict(connection.execute("SELECT todo, count(*) FROM classified GROUP BY todo").fetchall())
        [(members,)] = connection.execute("SELECT count(*) FROM inheriting").fetchall()
        self.todo = Todo(counts.get("full", 0), counts.get("newer", 0), counts.get("keep", 0), members)

    def _classify(self, copies: LocalCopies, each: bool) -> None:
        """Create temporary tables: `classified` (one row per structure that does not inherit), `inheriting`, `base`."""
        run = self._connection.execute
        searched = "true" if each else "cluster90 IS NULL OR cluster90 = structure_id"
        run(
            "CREATE OR REPLACE TEMP TABLE present AS SELECT structure_id, structure_file::VARCHAR AS structure_file, "
            "structure_row, length, cluster90 FROM scores WHERE structure_id IN "
            "(SELECT structure_id FROM records WHERE state = 'folded' AND NOT superseded)"
        )
        # members whose representative is not present (clusters may be older than the records) are searched themselves
        run(
            f"CREATE OR REPLACE TEMP TABLE inheriting AS SELECT structure_id, cluster90 AS novelty_source FROM present "
            f"WHERE NOT ({searched}) AND cluster90 IN (SELECT structure_id FROM present)"
        )
        self._load_base(copies)
        entries = self._reference.entries(["name", "version"])
        self._connection.register("reference_entries", entries)
        since = self.since
        nothing_new = not self._reference.new_rows(since)
        run(
            "CREATE OR REPLACE TEMP TABLE classified AS SELECT present.*, CASE "
            "WHEN base.structure_id IS NULL OR base.reason IN (SELECT unnest($retried)) THEN 'full' "
            "WHEN base.state = 'hit' AND base.target NOT IN "
            "(SELECT name FROM reference_entries WHERE version <= $since) THEN 'full' "
            "WHEN base.state = 'not_searched' OR $nothing_new THEN 'keep' ELSE 'newer' END AS todo "
            "FROM present LEFT JOIN base USING (structure_id) "
            "WHERE present.structure_id NOT IN (SELECT structure_id FROM inheriting)",
            {"retried": list(RETRIED), "since": since, "nothing_new": nothing_new},
        )
        self._connection.unregister("reference_entries")

    def _load_base(self, copies: LocalCopies) -> None:
        schema = HITS[self._reference.kind]
        paths = copies.have(self.base.hit_files()) if self.base is not None else []
        if not paths:
            self._connection.register("no_rows", schema.empty_table())
            self._connection.execute("CREATE OR REPLACE TEMP TABLE base AS FROM no_rows")
            self._connection.unregister("no_rows")
            return
        self._connection.execute("SET VARIABLE base_files = ?", [[escape_glob(path) for path in paths]])
        self._connection.execute(
            "CREATE OR REPLACE TEMP TABLE base AS SELECT * EXCLUDE (number) FROM "
            "(SELECT *, row_number() OVER (PARTITION BY structure_id) AS number "
            "FROM read_parquet(getvariable('base_files'))) WHERE number = 1"
        )

    @property
    def settings(self) -> RunSettings:
        """The settings of the run that this plan makes."""
        reference = self._reference
        structures = self._digest_of(
            "SELECT structure_id FROM classified ORDER BY structure_id",
            "SELECT structure_id FROM inheriting ORDER BY structure_id",
            "SELECT novelty_source AS structure_id FROM inheriting ORDER BY inheriting.structure_id",
        )
        return RunSettings(
            search=reference.document.kind,
            digest=reference.digest,
            version=reference.version,
            recipe=self._recipe,
            structures=structures,
        )

    def _digest_of(self, *queries: str) -> str:
        digest = hashlib.sha256()
        for sql in queries:
            for batch in self._batches(sql):
                digest.update(b"".join(structure_ids_of(batch)))
            digest.update(b";")
        return digest.hexdigest()

    def _batches(self, sql: str, rows: int = _ROWS) -> Iterator[pa.Table]:
        for batch in self._connection.sql(sql).to_arrow_reader(rows):
            yield pa.Table.from_batches([batch])

    @property
    def is_up_to_date(self) -> bool:
        """Whether the base already has all rows of this run."""
        return self.base is not None and self.todo.searches == 0 and self.base.settings == self.settings

    def begin(self, folder: AtlasFolder, notes: RunNotes, work: Path) -> SearchRun:
        """Write the inputs of the run and begin it, or return the run if it was begun before.

        `work` is an empty local folder; for an atlas in a local folder, on the same file system.
        """
        settings = msgspec.to_builtins(self.settings)
        base = self.base.run.name if self.base is not None else ""
        schema = HITS[self._reference.kind]
        shards, queries = self._write_queries(work)
        kept = "SELECT base.* FROM base JOIN classified USING (structure_id) WHERE todo = 'keep' ORDER BY structure_id"
        members = "SELECT structure_id, novelty_source FROM inheriting ORDER BY structure_id"
        written = {
            QUERIES_TABLE: queries,
            KEPT_TABLE: self._write_all(work, KEPT_TABLE, schema, kept, self.todo.kept),
            MEMBERS_TABLE: self._write_all(work, MEMBERS_TABLE, MEMBERS, members, self.todo.members),
        }
        name = stage_name(KIND, stage_settings_digest(settings), base, shards)
        attempt = attempt_name()
        final: dict[str, FileEntry] = {}
        for table, files in written.items():
            for file in files:
                path = f"{KIND}/{name}/{table}/{Path(file.path).stem}.{attempt}.parquet"
                folder.storage.put(work / file.path, path)
                final[file.path] = msgspec.structs.replace(file, path=path)
        run = StageRun.begin(
            folder,
            KIND,
            settings=settings,
            shards=[msgspec.structs.replace(shard, path=final[shard.path].path) for shard in shards],
            notes=msgspec.to_builtins(notes),
            base=base,
            inputs={table: [final[file.path] for file in files] for table, files in written.items() if files},
        )
        return SearchRun.of(run)

    def _write_all(self, work: Path, table: str, schema: pa.Schema, sql: str, rows: int) -> Sequence[FileEntry]:
        if not rows:
            return []
        with ParquetFile(work, f"{table}.parquet", "novelty", schema=schema) as file:
            for batch in self._batches(sql):
                file.write(batch.select(schema.names))
        assert file.entry is not None, "set when the with block ends"
        return [file.entry]

    def _write_queries(self, work: Path) -> tuple[list[StageShard], list[FileEntry]]:
        """Write the structures to search, one row group per shard."""
        kind = self._reference.kind
        earlier = ", ".join(f"{name} := base.{name}" for name in _EARLIER[kind])
        since = self.since
        sql = (
            f"SELECT classified.structure_id, structure_file, structure_row, length, "
            f"CASE WHEN todo = 'newer' THEN {since} ELSE 0 END::INTEGER AS since, "
            f"CASE WHEN todo = 'newer' THEN struct_pack({earlier}) END AS earlier "
            "FROM classified LEFT JOIN base USING (structure_id) WHERE todo <> 'keep' "
            "ORDER BY structure_file, structure_row"
        )
        schema = queries_schema(HITS[kind])
        shards: list[StageShard] = []
        files: list[FileEntry] = []
        groups = _groups(self._batches(sql), shard_size(self.todo.searches), schema)
        costs = {0: query_cost(self._reference, 0), since: query_cost(self._reference, since)}
        while first := list(islice(groups, 1)):
            path = f"{QUERIES_TABLE}-{len(files)}.parquet"
            with ParquetFile(work, path, "novelty", schema=schema) as file:
                for row_group, group in enumerate(chain(first, islice(groups, MAX_SHARDS_PER_FILE - 1))):
                    file.write(group)
                    shards.append(_shard(len(shards), path, row_group, group, costs))
            assert file.entry is not None, "set when the with block ends"
            files.append(file.entry)
        return shards, files

    @property
    def since(self) -> int:
        """The version of the reference in the base; newer entries were added after it. 0 without a base."""
        return self.base.settings.version if self.base is not None else 0

    @property
    def mean_length(self) -> float:
        """Mean length in residues of the structures to search; 0 if there are none."""
        [(mean,)] = self._connection.execute("SELECT avg(length) FROM classified WHERE todo <> 'keep'").fetchall()
        return float(mean or 0.0)


def query_cost(reference: Reference, since: int) -> float:
    """Return the predicted cost per residue of a query that is searched among the entries added after version `since`.

    The unit is 1,000 residues of the reference; the fixed cost of a query is included.
    """
    share = len(reference.new_rows(since)) / max(1, len(reference))
    return (share * reference.document.residues + FIXED_RESIDUES) / 1_000


def shard_size(structures: int) -> int:
    """Return the number of structures per shard for a run that searches `structures`."""
    return min(MAX_SHARD, max(MIN_SHARD, -(-structures // _SHARDS)))


def _groups(batches: Iterator[pa.Table], size: int, schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield the rows of `batches` in tables of `size`."""
    rest = schema.empty_table()
    for batch in batches:
        rest = pa.concat_tables([rest, batch.select(schema.names).cast(schema)])
        while rest.num_rows >= size:
            yield rest.slice(0, size).combine_chunks()
            rest = rest.slice(size)
    if rest.num_rows:
        yield rest.combine_chunks()


def _shard(number: int, path: str, row_group: int, group: pa.Table, costs: dict[int, float]) -> StageShard:
    digest = hashlib.sha256()
    cost = 0.0
    rows = zip(
        structure_ids_of(group),
        group.column("length").to_pylist(),
        group.column("since").to_pylist(),
        group.column("earlier").to_pylist(),
        strict=True,
    )
    for identity, length, since, earlier in rows:
        digest.update(identity + repr((since, earlier)).encode())
        cost += length * costs[since]
    return StageShard(f"{number:05d}", group.num_rows, max(1, round(cost)), digest.hexdigest(), path, row_group)
