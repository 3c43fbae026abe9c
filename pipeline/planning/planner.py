"""Sources -> a committed plan: read, validate, sort, cut.

The atlas is not changed before all sources have been read and checked: a wrong path, a file that is not FASTA, or an
atlas of another model is an error that leaves the atlas as it was.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from foldatlas.atlas.folder import AtlasFolder, now
from foldatlas.atlas.index.changes import Change
from foldatlas.atlas.index.lineage import Head, lineage_of
from foldatlas.atlas.planning.planned_tables import PlannedTables, adopt, plan_tables
from foldatlas.atlas.storage.commit import attempt_name
from foldatlas.atlas.storage.protocol import file_sha256
from foldatlas.atlas.storage.scratch import LocalCopies
from foldatlas.folding.planning import host_memory
from foldatlas.pipeline.engines import conformance, dispatch
from foldatlas.pipeline.engines.engine import EMBEDDED, Engine
from foldatlas.pipeline.interruption import interruptible, stopping
from foldatlas.pipeline.planning.costs import CostModel
from foldatlas.pipeline.planning.cut import LengthCount, cut_shards
from foldatlas.pipeline.planning.ingest import (
    IngestNote,
    IngestTask,
    ingest,
    read_note,
    refuse_nucleotides,
    staged_path,
)
from foldatlas.pipeline.planning.versions import (
    changes_of,
    readings,
    refuse_losses,
    renamed,
    warn,
    warn_of_copies,
    warn_of_several,
    with_lineage,
)
from foldatlas.pipeline.sources.contigs import gene_finder_name
from foldatlas.pipeline.sources.find import (
    CONTIGS,
    FASTA,
    SourceFile,
    SourceRange,
    cut_ranges,
    find_sources,
    together,
    what_it_is,
)
from foldatlas.pipeline.sources.nucleotides import Census, Kind
from foldatlas.pipeline.sources.pipes import Spool
from foldatlas.pipeline.sources.read_counts import ReadCounts
from foldatlas.pipeline.staging import staging_of
from foldatlas.schemas.errors import SourceError
from foldatlas.schemas.manifest import LINEAGE_FORMAT, FileEntry, Plan, Source, plan_name, shard_name
from foldatlas.schemas.records import Settings
from foldatlas.schemas.tables import FORMAT_VERSION
from foldatlas.schemas.wording import counted

# Memory of planning's tables, a share of the machine's. The maximum suffices for 600 M records, extrapolated from
# measurements (docs/planning.md).
MEMORY_DIVISOR: Final = 8
MIN_MEMORY_BYTES: Final = 256 << 20
MAX_MEMORY_BYTES: Final = 2 << 30
ROUNDS: Final = 3  # of reading, on engines that may lose workers


@dataclass(frozen=True)
class Planned:
    """The result of planning.

    plan: the new plan, None if every source was in the atlas already.
    known: the sources that were.
    changes: what new versions of sources change.
    """

    plan: Plan | None
    known: tuple[SourceFile, ...]
    changes: tuple[Change, ...] = ()


def make_plan(
    names: Sequence[str],
    folder: AtlasFolder,
    settings: Settings,
    costs: CostModel,
    *,
    max_length: int,
    genes: bool = False,
    name: str | None = None,
    replace: bool = False,
    engine: Engine = EMBEDDED,
    dry_run: bool = False,
    spool: Spool | None = None,
    on_phase: Callable[[str], None] = lambda phase: None,
) -> Planned:
    """Read FASTA files and commit a plan of the sequences that the atlas does not have yet.

    A source that changed since the atlas read it is a new version. It supersedes the current ones, except
    several that an earlier program read without recording lineage: those need `replace`.

    genes: the files are contigs, and the sequences the proteins of their genes.
    name: the identity of the one source, in place of its URI.
    replace: let a version have fewer than half of the earlier ids (otherwise refused), and supersede several.
    dry_run: commit nothing. The plan is returned as it would be, without its tables.
    spool: where pipes among `names` are copied.
    on_phase: called with the name of each phase as it starts.

    Raise SourceError, ForeignFolderError or SettingsMismatchError with the atlas untouched. Warn (SourceWarning)
    of text before the first record, of damaged compression, of nucleotides read as proteins, of the same bytes in
    two sources, and of sources with several current versions.
    """
    # 1. Find the files, and leave out those that the atlas has already.
    gene_finder = gene_finder_name() if genes else ""
    sources = renamed(find_sources(names, genes=genes, spool=spool), name)
    folder.refuse_foreign()
    folder.check_settings(settings)
    plans = folder.plans()
    lineage = lineage_of(plans)
    several = {source.uri for source in sources if len(lineage.contents(source.uri)) > 1}
    heads = readings(lineage)
    # of several current versions, --replace chooses the one that is read again
    again = several if replace else set()
    known = tuple(source for source in sources if source.uri not in again and _is_known(source, heads, max_length))
    new = [source for source in sources if source not in known]
    warn_of_several([source for source in known if source.uri in several])
    if not new:
        return Planned(None, known)
    conformance.refuse_if_it_loses(engine, folder)
    with staging_of(folder) as staging:
        # 2. Read and validate the others, range by range, on the engine.
        ranges = cut_ranges(new)
        tasks = [IngestTask(range_, staging.uri, max_length) for range_ in ranges]
        work = staging.work
        on_phase("ingest")
        with interruptible():
            for _ in range(1 if engine.is_embedded else ROUNDS):
                dispatch.run("ingest", tasks, ingest, engine)
                staging.collect()
                tasks = [task for task in tasks if read_note(work, task.range.number) is None]
                if not tasks or stopping():
                    break
        # 3. Put the ranges together. Only now are files from servers known by their content.
        read = check_notes(work, ranges, gene_finder)
        # where a server gives no version, only the content shows that the atlas has it
        same = {uri for uri, old in read.items() if uri not in again and _was_read(old, heads, max_length)}
        known += tuple(source for source in new if source.uri in same)
        ranges = [range_ for range_ in ranges if range_.source.uri not in same]
        if not ranges:
            return Planned(None, known)
        fresh = [source for uri, source in read.items() if uri not in same]
        fresh = [with_lineage(source, lineage, chosen=source.uri in again) for source in fresh]
        warn_of_copies(fresh, lineage)
        # 4. Find repeated and known sequences, sort the others by length, and cut them into shards.
        tables = plan_tables(
            work,
            [work / staged_path(range_.number) for range_ in sorted(ranges, key=source_and_start)],
            LocalCopies(folder.storage, work).have(file.path for plan in plans for file in plan.sequences),
            lambda histogram: cut_shards(
                [LengthCount(*bin_) for bin_ in histogram],
                costs.mflop,
                costs.output_bytes,
                costs.mflop_per_second,
            ),
            memory_bytes=planning_memory_bytes(),
            on_phase=on_phase,
        )
        # 5. Commit, unless a new version lost most of its records.
        changes = changes_of(folder, work, fresh, lineage, tables, new)
        if not replace:
            refuse_losses(changes)
        if dry_run:
            return Planned(_plan(fresh, tables, max_length, {}), known, changes)
        folder.create(settings)
        plan = commit_tables(folder, work, fresh, tables, max_length)
    after = lineage_of(folder.plans())
    warn_of_several([source for source in new if len(after.contents(source.uri)) > 1])
    return Planned(plan, known, changes)


def plans_of(planned: Planned, plans: Sequence[Plan], max_length: int) -> list[Plan]:
    """Return the `plans` of the atlas that hold the sources of `planned`: the new one, and of each known source the
    first that read it. In the order of `plans`."""
    names = {planned.plan.name} if planned.plan is not None else set()
    heads = readings(lineage_of(plans))
    for source in planned.known:
        of_plan = {plan.name: [head for head in heads if head.plan is plan] for plan in plans}
        same_name = [
            plan
            for plan in plans
            if _earlier(source.uri, of_plan[plan.name], max_length, genes=source.format == CONTIGS)
        ]
        read = [plan for plan in same_name if _is_known(source, of_plan[plan.name], max_length)]
        # where a server gives no version, it was known by its digest: take the last plan that read this name
        names |= {plan.name for plan in read[:1] or same_name[-1:]}
    return [plan for plan in plans if plan.name in names]


def source_and_start(range_: SourceRange) -> tuple[str, int]:
    """Return the sort key of a range, which does not depend on the order in which sources were named."""
    return range_.source.uri, range_.start


def planning_memory_bytes() -> int:
    """Return the memory limit of planning's tables in bytes: a share of this machine's, container's or batch job's."""
    return max(MIN_MEMORY_BYTES, min(MAX_MEMORY_BYTES, host_memory.total_bytes() // MEMORY_DIVISOR))


def _is_known(source: SourceFile, heads: Sequence[Head], max_length: int) -> bool:
    """Return whether a plan has read this file, unchanged and in the same way, as a current version, with the same or a
    larger limit on length."""
    same_name = _earlier(source.uri, heads, max_length, genes=source.format == CONTIGS)
    if source.is_pipe:  # named by its content
        return bool(same_name)
    if any(_has_version(old, source) for old in same_name):
        return True
    if source.is_remote:
        return False
    # perhaps only its time changed: a digest costs less than planning it again
    same_size = {old.sha256 for old in same_name if old.size == source.size}
    return bool(same_size) and file_sha256(Path(source.path)) in same_size


def _has_version(old: Source, source: SourceFile) -> bool:
    """Return whether `source` is the version that was read as `old`, by its ETag, or its size and time."""
    if source.etag:
        return old.etag == source.etag and source.size in (old.size, -1)
    return source.version.is_named and (old.size, old.mtime_ns) == (source.size, source.mtime_ns)


def _earlier(uri: str, heads: Sequence[Head], max_length: int, *, genes: bool) -> list[Source]:
    """Return the current versions of `uri` that plans have read, as contigs or not, with the same or a larger limit on
    length. Another version of the gene finder is no reason to read a file again."""
    return [
        head.source
        for head in heads
        if head.plan.max_length >= max_length and head.source.uri == uri and bool(head.source.genes) == genes
    ]


def _was_read(source: Source, heads: Sequence[Head], max_length: int) -> bool:
    return any(old.sha256 == source.sha256 for old in _earlier(source.uri, heads, max_length, genes=bool(source.genes)))


def check_notes(staging: Path, ranges: Sequence[SourceRange], gene_finder: str) -> dict[str, Source]:
    """Return a Source for each URI, from the notes of its ranges.

    Raise one SourceError for all sources that were not read completely, or that hold no record.
    """
    notes: dict[SourceFile, list[IngestNote]] = {}
    faults: dict[str, None] = {}  # in order, each once
    for range_ in ranges:
        note = read_note(staging, range_.number)
        if note is None:
            faults[f"{range_.source.name} could not be read to its end: run the same command again"] = None
        elif note.error:
            faults[note.error] = None
        else:
            notes.setdefault(range_.source, []).append(note)
    read: dict[str, Source] = {}
    for source, parts in notes.items():
        try:
            read[source.uri] = _describe(source, parts, _settle_kind(staging, source, parts), gene_finder)
        except SourceError as error:
            faults[str(error)] = None
    if faults:
        raise SourceError(together(list(faults)))
    return read


def _settle_kind(staging: Path, source: SourceFile, parts: Sequence[IngestNote]) -> ReadCounts:
    """Return the counts of a source, after refusing its doubtful records if the others show that they are nucleotides.

    They were staged as proteins, so that the large files of proteins need not be written again.
    """
    counts = sum((part.counts for part in parts), ReadCounts())
    verdict = Census(counts.proteins, counts.misread).verdict
    if source.format != FASTA or verdict is Kind.PROTEIN:
        return counts
    doubtful = [staging / staged_path(part.number) for part in parts if part.counts.doubtful]
    return counts + ReadCounts(misread=sum(refuse_nucleotides(path, verdict) for path in doubtful))


def _describe(source: SourceFile, parts: Sequence[IngestNote], counts: ReadCounts, gene_finder: str) -> Source:
    """Return the plan's description of a source. Warn of unusual content, and raise SourceError for a source of the
    wrong kind."""
    if source.is_empty:
        warn(f"{source.name} is empty: no record was read from it")
    elif not counts.records and not counts.contigs:
        raise SourceError(f"{source.name} is not FASTA: {what_it_is(source)}")
    _check_kind(source, counts)
    if counts.contigs and not counts.records:
        warn(f"{source.name}: no gene found in {counted(counts.contigs, 'contig')}")
    if parts[0].leading_text:
        warn(f"{source.name}: text before the first '>' was skipped")
    for part in parts:
        if part.broken:
            warn(f"{source.name}: {part.broken}: the record at that point is refused, and those after it are lost")
        if part.ignored:
            warn(f"{source.name}: trailing bytes after the compressed data were ignored")
    return Source(
        uri=source.uri,
        size=parts[0].source_bytes,
        mtime_ns=source.mtime_ns,
        sha256=parts[0].sha256,
        records=counts.records,
        leading_text=parts[0].leading_text,
        etag=source.etag,
        genes=gene_finder,
        contigs=counts.contigs,
        contigs_without_genes=counts.contigs_without_genes,
    )


def _check_kind(source: SourceFile, counts: ReadCounts) -> None:
    """Raise SourceError for proteins read as contigs. Contigs read as proteins are refused records and only a warning:
    the other files of the command may be valid."""
    records, misread = counts.records, counts.misread
    if source.format == CONTIGS and misread and misread == records:
        raise SourceError(f"{source.name} holds no nucleotides, but --genes reads contigs: give it without --genes")
    if source.format != CONTIGS and 2 * misread > records:
        warn(f"{source.name} looks like nucleotides ({misread:,} of {records:,} records): pass --genes to read contigs")


def commit_tables(
    folder: AtlasFolder, staging: Path, sources: Sequence[Source], tables: PlannedTables, max_length: int
) -> Plan:
    """Name the `tables` in the folder `staging` and the shards, and commit the plan. Return the committed plan, which
    another driver may have made first."""
    name = plan_name(sources, max_length, tables.shards)
    attempt = attempt_name()
    files = {
        table: tuple(
            adopt(staging, folder.storage, file, f"{table}/{name}-{number:04d}.{attempt}.parquet")
            for number, file in enumerate(entries)
        )
        for table, entries in (("records", tables.records), ("sequences", tables.sequences))
    }
    plan = _plan(sources, tables, max_length, files)
    if folder.commit_plan(plan):
        return plan
    for file in (*plan.records, *plan.sequences):
        folder.storage.delete(file.path)
    return next(committed for committed in folder.plans() if committed.name == name)


def _plan(
    sources: Sequence[Source], tables: PlannedTables, max_length: int, files: Mapping[str, tuple[FileEntry, ...]]
) -> Plan:
    """Return the document of a plan. `files` are its tables in the atlas; {} for a plan that is not committed."""
    name = plan_name(sources, max_length, tables.shards)
    return Plan(
        format=LINEAGE_FORMAT if any(source.supersedes for source in sources) else FORMAT_VERSION,
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
