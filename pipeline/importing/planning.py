"""Staged chunks -> a committed plan, and the shards that are missing of plans."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.changes import Change, change_of
from foldatlas.atlas.index.lineage import Lineage, lineage_of
from foldatlas.atlas.parquet.files import ParquetFile
from foldatlas.atlas.planning.imported_tables import Choice, ImportedTables, StagedTable, open_imported
from foldatlas.atlas.storage.scratch import LocalCopies
from foldatlas.pipeline.importing.options import ImportOptions
from foldatlas.pipeline.importing.shards import ShardOptions, ShardTask
from foldatlas.pipeline.importing.staging import StagedSource, local_files
from foldatlas.pipeline.planning.planner import commit_tables, planning_memory_bytes
from foldatlas.pipeline.planning.versions import refuse_losses, with_lineage
from foldatlas.pipeline.staging import staging_of
from foldatlas.schemas.formats import IMPORTED_SETTINGS
from foldatlas.schemas.import_tables import STAGED_ROWS
from foldatlas.schemas.manifest import Plan, Shard, Source


class ReadSource:
    """A source with its staged chunks, and the version that plans name."""

    def __init__(self, staged: StagedSource):
        self.staged = staged
        source = staged.source
        self.uri, self.name = source.uri, source.name
        version = [source.size, source.mtime_ns, source.etag, staged.options.digest]
        self.etag = hashlib.sha256(msgspec.json.encode(version)).hexdigest()

    def is_known(self, lineage: Lineage) -> bool:
        """Return whether a current version of the source has the same files, read in the same way."""
        return any(head.source.etag == self.etag for head in lineage.heads.get(self.uri, ()))

    def described(self, sha256: str, files: int) -> Source:
        """Return the source as a plan records it. The version is not named if a file could not be opened, so that the
        next run reads it again."""
        is_lasting = all(note.is_lasting for note in self.staged.notes())
        source = self.staged.source
        etag = self.etag if is_lasting else ""
        return Source(source.uri, source.size, source.mtime_ns, sha256, files, etag=etag)


@dataclass(frozen=True)
class MadePlan:
    """The new plan, None if nothing is new; what new versions change; names of sources whose content is that of a
    current version; and what was decided on files."""

    plan: Plan | None = None
    changes: tuple[Change, ...] = ()
    same: tuple[str, ...] = ()
    choice: Choice | None = None


def make_import_plan(
    folder: AtlasFolder, sources: Sequence[ReadSource], options: ImportOptions, *, replace_losses: bool
) -> MadePlan:
    """Plan the files of `sources`, which are staged, and commit the plan. Raise UsageError for a version that lost most
    of its ids."""
    if not sources:
        return MadePlan()
    lineage = lineage_of(folder.plans())
    with staging_of(folder) as staging:
        described = _described(staging.work, sources)
        same = [one for one, source in zip(sources, described, strict=True)
                if source.sha256 in lineage.contents(one.uri)]  # fmt: skip
        fresh = [one for one in sources if one not in same]
        names = tuple(one.name for one in same)
        if not fresh:
            return MadePlan(same=names)
        new = [with_lineage(source, lineage, chosen=False) for one, source in zip(sources, described, strict=True)
               if one in fresh]  # fmt: skip
        known = LocalCopies(folder.storage, staging.work).have(
            entry.files["scores"].path for entry in folder.entries().values()
        )
        with _opened(staging.work, fresh, known) as tables:
            written = tables.write()
            choice = tables.choice()
        changes = []
        for one, source in zip(fresh, new, strict=True):
            if heads := lineage.superseded_by(source):
                paths = [staging.work / file.path for file in written.records]
                changes.append(change_of(folder, staging.work, heads, paths, one.name, source.records))
        if not replace_losses:
            refuse_losses(changes)
        folder.create(IMPORTED_SETTINGS)
        plan = commit_tables(folder, staging.work, new, written, options.max_length)
    return MadePlan(plan, tuple(changes), names, choice)


def _described(work: Path, sources: Sequence[ReadSource]) -> list[Source]:
    """Return the sources with the digest of their files: names, contents, JSON files beside them, and how they were
    read."""
    digests = [hashlib.sha256(one.staged.options.digest.encode()) for one in sources]
    counts = [0] * len(sources)
    for number, one in enumerate(sources):
        for path in local_files(one.staged, one.staged.notes(), work / f"files-{number}"):
            table = pq.read_table(path, columns=["path", "file_sha256", "beside_sha256"])
            for name, sha256, beside in zip(*(column.to_pylist() for column in table.columns), strict=True):
                digests[number].update(f"{name}\0{sha256}\n".encode())
                if beside:
                    digests[number].update(f"{beside}\n".encode())
            counts[number] += table.num_rows
    return [
        one.described(digest.hexdigest(), count) for one, digest, count in zip(sources, digests, counts, strict=True)
    ]


@contextlib.contextmanager
def _opened(work: Path, sources: Sequence[ReadSource], known: Sequence[Path]) -> Iterator[ImportedTables]:
    staged = []
    for number, one in enumerate(sources):
        notes = one.staged.notes()
        paths = local_files(one.staged, notes, work / f"files-{number}")
        staged += [
            StagedTable(path, number, one.staged.storage.uri, note.rows, note.structures, note.pae)
            for path, note in zip(paths, notes, strict=True)
        ]
    with open_imported(
        work, staged, [one.uri for one in sources], known, memory_bytes=planning_memory_bytes()
    ) as tables:
        yield tables


def plans_to_finish(folder: AtlasFolder, plans: Sequence[Plan], lineage: Lineage, uris: Sequence[str]) -> list[Plan]:
    """Return the plans with missing shards that a run with the sources `uris` can finish: each of their sources is
    among these, or superseded."""
    entries = folder.entries()
    present = lineage.present
    return [
        plan
        for plan in plans
        if any(shard.name not in entries for shard in plan.shards)
        and all(source.uri in uris or (plan.name, source.uri) not in present for source in plan.sources)
        and any(source.uri in uris for source in plan.sources)
    ]


@contextlib.contextmanager
def missing_shards(
    folder: AtlasFolder, plan: Plan, sources: Sequence[ReadSource], options: ShardOptions
) -> Iterator[list[ShardTask]]:
    """Give the tasks of the missing shards of a plan. Within the block, the staging area has where their rows are.

    Files of superseded versions are gone, and so their structures are lost, unless a current version has them too.
    """
    entries = folder.entries()
    missing = [shard for shard in plan.shards if shard.name not in entries]
    current = lineage_of(folder.plans()).present
    named = {source.uri for source in plan.sources if (plan.name, source.uri) in current}
    staged = [one for one in sources if one.uri in named and one.staged.is_complete()]
    with staging_of(folder) as staging:
        with contextlib.ExitStack() as stack:
            tables = stack.enter_context(_opened(staging.work, staged, [])) if staged else None
            for shard in missing:
                rows = _rows(folder, plan, shard, tables)
                with ParquetFile(staging.storage, f"{shard.name}.parquet", "staged_rows", schema=STAGED_ROWS) as file:
                    file.write(rows)
        yield [
            ShardTask(options, plan.name, plan.sequences[shard.file].path, shard, staging.uri, f"{shard.name}.parquet")
            for shard in missing
        ]


def _rows(folder: AtlasFolder, plan: Plan, shard: Shard, tables: ImportedTables | None) -> pa.Table:
    sequences = folder.read_table(plan.sequences[shard.file].path, ["structure_id"], shard.row_group)
    if tables is not None:
        return tables.place(sequences)
    return pa.Table.from_pylist([{}] * sequences.num_rows, schema=STAGED_ROWS)
