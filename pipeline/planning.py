"""Sources -> a committed plan: read, judge, sort, cut.

Nothing in the atlas changes before everything has been read and found good: a wrong path, a file that is not FASTA or
an atlas of another model ends in an error with the atlas as it was.
"""

import contextlib
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from foldatlas.atlas.commit import attempt_name
from foldatlas.atlas.folder import AtlasFolder, now
from foldatlas.atlas.parquet_files import file_sha256
from foldatlas.atlas.planning import PlannedTables, adopt, plan_tables
from foldatlas.folding import host_memory
from foldatlas.pipeline import graphs
from foldatlas.pipeline.engine import EMBEDDED, Engine
from foldatlas.pipeline.ingest import IngestNote, IngestTask, ingest, read_note, staged_path
from foldatlas.pipeline.interruption import interruptible
from foldatlas.pipeline.shards import LengthCount, cut_shards
from foldatlas.pipeline.sources import SourceFile, SourceRange, cut_ranges, find_sources, what_it_is
from foldatlas.schemas.errors import SourceError
from foldatlas.schemas.manifest import FileEntry, Plan, Source, plan_name, shard_name
from foldatlas.schemas.records import Settings
from foldatlas.schemas.tables import FORMAT_VERSION

# Of planning's tables, before they go to disk. The maximum is enough for 600 M records, in proportion to what was
# measured (docs/planning.md); fewer do not fill it.
MEMORY_DIVISOR: Final = 8
MIN_MEMORY_BYTES: Final = 256 << 20
MAX_MEMORY_BYTES: Final = 2 << 30


class SourceWarning(UserWarning):
    """A source was read, but something in it deserves a look."""


@dataclass(frozen=True)
class CostModel:
    """What a protein of a given length costs on the planned device.

    `mflop(length)` of one protein; `mflop_per_second` of the device; `output_bytes_a_residue`,
    `output_bytes_a_protein` and `output_bytes_a_pair` (of residues) of what is written.
    """

    mflop: Callable[[int], int]
    mflop_per_second: float
    output_bytes_a_residue: float
    output_bytes_a_protein: float
    output_bytes_a_pair: float = 0.0

    def output_bytes(self, length: float) -> int:
        """Predicted bytes that a protein of `length` residues writes."""
        by_length = self.output_bytes_a_residue * length + self.output_bytes_a_pair * length * length
        return round(by_length + self.output_bytes_a_protein)


@dataclass(frozen=True)
class Planned:
    """What planning did: the new plan, or None when every source was already in the atlas (`known`)."""

    plan: Plan | None
    known: tuple[SourceFile, ...]


def make_plan(
    names: Sequence[str],
    folder: AtlasFolder,
    settings: Settings,
    costs: CostModel,
    *,
    max_length: int,
    engine: Engine = EMBEDDED,
    dry_run: bool = False,
    told: Callable[[str], None] = lambda phase: None,
) -> Planned:
    """Reads FASTA files and commits a plan of the sequences that the atlas does not have yet.

    Raises SourceError, ForeignFolderError or SettingsMismatchError with the atlas untouched. Warns (SourceWarning)
    of text before the first record, of damaged compression, and of sources that changed since an earlier plan.
    With `dry_run` nothing is committed: the plan is given as it would be, its tables are not. `told` hears the name of
    each phase as it begins.
    """
    sources = find_sources(names)
    folder.refuse_foreign()
    folder.check_settings(settings)
    plans = folder.plans()
    known = tuple(source for source in sources if _is_known(source, plans, max_length))
    new = [source for source in sources if source not in known]
    if not new:
        return Planned(None, known)
    with _staging(folder) as staging:
        ranges = cut_ranges(new)
        tasks = [IngestTask(range_, str(staging), max_length) for range_ in ranges]
        told("ingest")
        with interruptible():
            graphs.run("ingest", tasks, ingest, engine)
        read = _check_notes(staging, ranges)
        # a server that names no version: only having read it tells that it is an old one
        same = {uri for uri, old in read.items() if _was_read(old, plans, max_length)}
        known += tuple(source for source in new if source.uri in same)
        ranges = [range_ for range_ in ranges if range_.source.uri not in same]
        if not ranges:
            return Planned(None, known)
        fresh = [source for uri, source in read.items() if uri not in same]
        _warn_of_changes(fresh, plans)
        tables = plan_tables(
            staging,
            [staging / staged_path(range_.number) for range_ in sorted(ranges, key=_place)],
            [folder.root / file.path for plan in plans for file in plan.sequences],
            lambda histogram: cut_shards(
                [LengthCount(*bin_) for bin_ in histogram],
                costs.mflop,
                costs.output_bytes,
                costs.mflop_per_second,
            ),
            memory_bytes=planning_memory_bytes(),
            told=told,
        )
        if dry_run:
            return Planned(_plan(fresh, tables, max_length, {}), known)
        folder.create(settings)
        return Planned(_commit(folder, staging, fresh, tables, max_length), known)


def _place(range_: SourceRange) -> tuple[str, int]:
    """Where records of a range stand: the same whatever the order in which sources were named."""
    return range_.source.uri, range_.start


def planning_memory_bytes() -> int:
    """What planning's tables may take of this machine, or of the container's or batch job's part of it."""
    return max(MIN_MEMORY_BYTES, min(MAX_MEMORY_BYTES, host_memory.total_bytes() // MEMORY_DIVISOR))


def _is_known(source: SourceFile, plans: Sequence[Plan], max_length: int) -> bool:
    """Whether a plan has read this very file, unchanged, under the same or a wider limit."""
    same_name = _earlier(source.uri, plans, max_length)
    if any(_has_version(old, source) for old in same_name):
        return True
    if source.is_remote:
        return False
    # touched, perhaps, but not changed: reading it once costs less than planning it again
    same_size = {old.sha256 for old in same_name if old.size == source.size}
    return bool(same_size) and file_sha256(Path(source.path)) in same_size


def _has_version(old: Source, source: SourceFile) -> bool:
    """Whether what was read then is, by what its file system or server says, what is there now."""
    if source.etag:
        return old.etag == source.etag and source.size in (old.size, -1)
    return source.version.is_named and (old.size, old.mtime_ns) == (source.size, source.mtime_ns)


def _earlier(uri: str, plans: Sequence[Plan], max_length: int) -> list[Source]:
    """What plans have read under a name, and under the same or a wider limit."""
    return [old for plan in plans if plan.max_length >= max_length for old in plan.sources if old.uri == uri]


def _was_read(source: Source, plans: Sequence[Plan], max_length: int) -> bool:
    return any(old.sha256 == source.sha256 for old in _earlier(source.uri, plans, max_length))


@contextlib.contextmanager
def _staging(folder: AtlasFolder) -> Iterator[Path]:
    """A folder to work in, on the atlas's file system. Leaves no trace, nor an atlas that did not come about."""
    made = [path for path in (folder.root, *folder.root.absolute().parents) if not path.exists()]
    folder.sweep_staging()
    work = folder.staging / attempt_name()
    for last_try in (False, False, False, True):
        try:
            work.mkdir(parents=True)
            break
        except FileNotFoundError:  # another driver has just removed the folder in which this one is made
            if last_try:
                raise
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        with contextlib.suppress(OSError):  # another driver is planning, or there is an atlas now
            folder.staging.rmdir()
            for path in made:
                path.rmdir()


def _check_notes(staging: Path, ranges: Sequence[SourceRange]) -> dict[str, Source]:
    """Puts the ranges' notes together, a Source for each URI. Raises SourceError if a range was not read or a source
    holds no record."""
    notes: dict[SourceFile, list[IngestNote]] = {}
    for range_ in ranges:
        note = read_note(staging, range_.number)
        if note is None:
            raise SourceError(f"{range_.source.name} could not be read to its end: run again")
        if note.error:
            raise SourceError(note.error)
        notes.setdefault(range_.source, []).append(note)
    return {source.uri: _describe(source, parts) for source, parts in notes.items()}


def _warn_of_changes(sources: Sequence[Source], plans: Sequence[Plan]) -> None:
    earlier = {(old.uri, old.sha256) for plan in plans for old in plan.sources}
    for source in sources:
        if (source.uri, source.sha256) not in earlier and any(uri == source.uri for uri, _ in earlier):
            _warn(f"{source.uri} was read before with other content: its records now stand beside the earlier ones")


def _describe(source: SourceFile, parts: Sequence[IngestNote]) -> Source:
    records = sum(part.records for part in parts)
    if not records:
        raise SourceError(f"{source.name} is not FASTA: {what_it_is(source)}")
    if parts[0].leading_text:
        _warn(f"{source.name}: text before the first '>' was skipped")
    for part in parts:
        if part.broken:
            _warn(
                f"{source.name}: {part.broken}: the record that it breaks off in is refused, and what follows is lost"
            )
        if part.ignored:
            _warn(f"{source.name}: bytes after the compressed data are none and were not read")
    return Source(
        uri=source.uri,
        size=parts[0].source_bytes,
        mtime_ns=source.mtime_ns,
        sha256=parts[0].sha256,
        records=records,
        leading_text=parts[0].leading_text,
        etag=source.etag,
    )


def _warn(message: str) -> None:
    warnings.warn(message, SourceWarning, stacklevel=2)


def _commit(
    folder: AtlasFolder, staging: Path, sources: Sequence[Source], tables: PlannedTables, max_length: int
) -> Plan:
    """Gives tables and shards their names, and commits. If another driver made the same plan first, that counts."""
    name = plan_name(sources, max_length, tables.shards)
    attempt = attempt_name()
    files = {
        table: tuple(
            adopt(staging, folder.root, file, f"{table}/{name}-{number:04d}.{attempt}.parquet")
            for number, file in enumerate(entries)
        )
        for table, entries in (("records", tables.records), ("sequences", tables.sequences))
    }
    plan = _plan(sources, tables, max_length, files)
    if folder.commit_plan(plan):
        return plan
    for file in (*plan.records, *plan.sequences):
        (folder.root / file.path).unlink(missing_ok=True)
    return next(committed for committed in folder.plans() if committed.name == name)


def _plan(
    sources: Sequence[Source], tables: PlannedTables, max_length: int, files: Mapping[str, tuple[FileEntry, ...]]
) -> Plan:
    """The document of a plan. `files` are its tables' in the atlas, by table; none for a plan that is not kept."""
    name = plan_name(sources, max_length, tables.shards)
    return Plan(
        format=FORMAT_VERSION,
        name=name,
        created=now(),
        max_length=max_length,
        sources=tuple(sources),
        outcomes=tables.outcomes,
        proteins=sum(shard.proteins for shard in tables.shards),
        residues=sum(shard.residues for shard in tables.shards),
        cost=sum(shard.cost for shard in tables.shards),
        records=files.get("records", ()),
        sequences=files.get("sequences", ()),
        shards=tuple(
            msgspec.structs.replace(shard, name=shard_name(name, number)) for number, shard in enumerate(tables.shards)
        ),
    )
