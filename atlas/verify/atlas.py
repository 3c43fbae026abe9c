"""Verify an atlas: every listed file, every row, the scores, the records and the index.

One fault does not hide others: a damaged file is left out of later comparisons.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

from foldatlas.atlas.annotations.documents import is_annotation_document
from foldatlas.atlas.folder import (
    EXPORT_LISTS,
    EXPORT_TABLES,
    HEADER,
    REPORT,
    SEARCH,
    AtlasFolder,
    newest_entries,
    plan_order,
)
from foldatlas.atlas.index.lineage import lineage_of
from foldatlas.atlas.index.needed import left_to_fold
from foldatlas.atlas.index.published import INDEX_FOLDER, index_of
from foldatlas.atlas.stages.runs import is_stage_document
from foldatlas.atlas.storage import packs
from foldatlas.atlas.storage.protocol import STAGING, Storage
from foldatlas.atlas.verify.annotations import check_annotation, read_annotations, rows_step
from foldatlas.atlas.verify.clusters import check_members
from foldatlas.atlas.verify.digests import DigestCount
from foldatlas.atlas.verify.fault import RESTORE, Fault, FaultKind, Mend, Step, restore_or_fold, restore_or_plan
from foldatlas.atlas.verify.geometry import Geometry, check_geometry
from foldatlas.atlas.verify.novelty import check_novelty
from foldatlas.atlas.verify.shard import check_shard
from foldatlas.atlas.verify.stages import check_rows, read_runs
from foldatlas.atlas.verify.tables import check_tables
from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.formats import IMPORTED_FORMAT, PROVENANCE, needed_tables, tables_of
from foldatlas.schemas.manifest import (
    AtlasHeader,
    FileEntry,
    Plan,
    ShardEntry,
    decode,
    plan_name,
    settings_digest,
)
from foldatlas.schemas.wording import counted


@dataclass
class Verification:
    """The result of a verification. `notes` are not faults: unlisted files, shards still to fold, a missing index."""

    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: int = 0
    bytes: int = 0
    proteins: int = 0
    geometry: Geometry | None = None  # of a full verification

    def line(self) -> str:
        """Return a summary in one line."""
        found = counted(len(self.faults), "fault") if self.faults else "no fault"
        structures = counted(self.proteins, "structure")
        return f"{counted(self.files, 'file')}, {self.bytes:,} bytes, {structures}: {found}"


def verify(folder: AtlasFolder, *, deep: bool = True, full: bool = False) -> Verification:
    """Check the atlas. Without `deep`, check only documents, and that every listed file exists and has its size.

    With `full`, also count unusual geometry, and read a sample of PDB files with other programs.

    Raise NotAnAtlasError, and DamagedAtlasError for an unreadable header; everything else that is wrong is a Fault.
    """
    header = folder.header()
    result = Verification()
    if settings_digest(header.settings) != header.settings_digest:
        what = "its settings_digest is not that of its settings"
        result.faults.append(Fault(FaultKind.DOCUMENT, HEADER, what, RESTORE))
    digests = DigestCount()
    digests.add(folder.storage.read(HEADER))
    plans = _read_plans(folder, result, digests)
    histories = _read_histories(folder, plans, header, result, digests)
    entries = newest_entries(histories)
    listed = [(file, restore_or_plan(plan.name)) for plan in plans for file in (*plan.records, *plan.sequences)]
    listed += [(file, restore_or_fold(name)) for name, entry in entries.items() for file in entry.files.values()]
    stages = read_runs(folder, result.faults, digests)
    # a merged run lists files of the runs that it unites: each is checked once
    of_stages = {file.path: (file, read.next_step) for read in stages for file in read.files()}
    listed += of_stages.values()
    annotations = read_annotations(folder, result.faults, digests)
    listed += [(one.file, rows_step(one.name)) for one in annotations if one.file is not None]
    bad: set[str] = set()
    for file, step in listed:
        for fault in _check_file(folder.storage, file, step, deep=deep):
            result.faults.append(fault)
            bad.add(file.path)
        result.files += 1
        result.bytes += file.bytes
    result.proteins = sum(entry.folded for entry in entries.values())
    if deep:
        for plan in plans:
            for shard in plan.shards:
                entry = entries.get(shard.name)
                result.faults += check_shard(folder.storage, plan, shard, entry, header, bad)
        result.faults += check_tables(folder, plans, list(entries.values()), bad)
        result.faults += _wrong_packs(folder)
        result.notes += digests.notes()
        for read in stages:
            result.faults += check_rows(folder, read, bad)
            result.faults += check_novelty(folder, read, list(entries.values()), bad)
            result.faults += check_members(folder, read, bad)
        for annotation in annotations:
            result.faults += check_annotation(folder, annotation, bad)
        result.notes += _without_pae(header, list(entries.values()))
        if full:
            result.geometry = check_geometry(folder, entries, bad)
            result.faults += result.geometry.faults
            result.notes += result.geometry.notes()
    result.faults += [fault for history in histories.values() for fault in _wrong_history(history)]
    older = {file.path for history in histories.values() for entry in history for file in entry.files.values()}
    result.notes += _notes(folder, plans, entries, {file.path for file, _ in listed} | older)
    result.notes += [
        f"{read.run.kind}/{read.run.name} is not complete: run the same command again, or delete it"
        for read in stages
        if read.mark is None
    ]
    return result


def _counts(entry: ShardEntry, table: str, rows: int) -> bool:
    """Return whether an entry counts so many rows of a table. PAE of imported structures only some may have."""
    if table == "pae" and PROVENANCE in entry.files:
        return 0 < rows <= entry.folded
    return rows == (entry.failed if table == "failures" else entry.folded)


def _without_pae(header: AtlasHeader, entries: list[ShardEntry]) -> Iterator[str]:
    """Yield a note if only some of the imported structures have PAE."""
    with_pae = sum(entry.files["pae"].rows for entry in entries if "pae" in entry.files)
    total = sum(entry.folded for entry in entries)
    if header.format >= IMPORTED_FORMAT and 0 < with_pae < total:
        yield f"{total - with_pae:,} of {counted(total, 'structure')} have no PAE"


def _wrong_packs(folder: AtlasFolder) -> Iterator[Fault]:
    """Yield packs that contradict a document: readers use the copy in the pack."""
    for pack, name in folder.false_packs().items():
        what = f"its copy of {name} differs from that document"
        yield Fault(FaultKind.DOCUMENT, pack, what, Step("delete it: it holds copies only", Mend.DELETE, pack))


def _read_plans(folder: AtlasFolder, result: Verification, digests: DigestCount) -> list[Plan]:
    plans = []
    for where, content in folder.readable_documents("plans"):
        digests.add(content)
        try:
            plan = decode(_readable(content), Plan, where)
        except (OSError, DamagedAtlasError) as error:
            result.faults.append(Fault(FaultKind.DOCUMENT, where, str(error), RESTORE))
            continue
        if any(not 0 <= shard.file < len(plan.sequences) for shard in plan.shards):
            what = "it has shards of sequences files that it does not list"
            result.faults.append(Fault(FaultKind.DOCUMENT, where, what, RESTORE))
            continue
        plans.append(plan)
        result.faults += [
            Fault(FaultKind.DOCUMENT, where, what, RESTORE) for what in _wrong_plan(plan, PurePath(where).stem)
        ]
    plans.sort(key=plan_order)
    try:
        lineage_of(plans)
    except DamagedAtlasError as error:
        result.faults.append(Fault(FaultKind.DOCUMENT, "plans", str(error), RESTORE))
        return []
    result.faults += _wrong_lineage(plans)
    return plans


def _wrong_lineage(plans: list[Plan]) -> Iterator[Fault]:
    """Yield faults of plans that supersede a version that no plan of the atlas read: a plan is missing or changed."""
    read = {(plan.name, source.uri): source.sha256 for plan in plans for source in plan.sources}
    for plan in plans:
        for source in plan.sources:
            for old in source.supersedes or ():
                if read.get((old.plan, source.uri)) != old.sha256:
                    what = f"it supersedes the version of {source.uri} of plan {old.plan}, which does not exist"
                    yield Fault(FaultKind.DOCUMENT, f"plans/{plan.name}.json", what, RESTORE)


def _wrong_plan(plan: Plan, stem: str) -> Iterator[str]:
    name = plan_name(plan.sources, plan.max_length, plan.shards)
    if not plan.name == stem == name:
        yield f"the name {plan.name!r} is not its content's digest {name!r}"
    sums = {
        "proteins": (plan.proteins, sum(shard.proteins for shard in plan.shards)),
        "residues": (plan.residues, sum(shard.residues for shard in plan.shards)),
        "cost": (plan.cost, sum(shard.cost for shard in plan.shards)),
        "sequences": (plan.proteins, sum(file.rows for file in plan.sequences)),
        "records": (sum(plan.outcomes.values()), sum(file.rows for file in plan.records)),
        "records of its sources": (sum(plan.outcomes.values()), sum(source.records for source in plan.sources)),
    }
    for what, (stated, added) in sums.items():
        if stated != added:
            yield f"it states {stated:,} {what}, its parts add up to {added:,}"


def _read_histories(
    folder: AtlasFolder, plans: list[Plan], header: AtlasHeader, result: Verification, digests: DigestCount
) -> dict[str, list[ShardEntry]]:
    """Return the readable manifest entries of each planned shard by generation, and add faults to `result`."""
    shards = {shard.name: shard for plan in plans for shard in plan.shards}
    needed, known = set(needed_tables(header.format)), set(tables_of(header.format))
    histories: dict[str, list[ShardEntry]] = {}
    for where, content in folder.readable_documents("manifest"):
        digests.add(content)
        try:
            entry = decode(_readable(content), ShardEntry, where)
        except (OSError, DamagedAtlasError) as error:
            named = PurePath(where).name.split(".")[0]
            step = restore_or_fold(named) if named in shards else RESTORE
            result.faults.append(Fault(FaultKind.DOCUMENT, where, str(error), step))
            continue
        if entry.shard not in shards:
            result.notes.append(f"{where} is of a shard of no plan: it is ignored")
            continue
        shard = shards[entry.shard]
        again = restore_or_fold(shard.name)
        wrong = {
            f"its name is not that of shard {entry.shard}, generation {entry.generation}": (
                where != folder.entry_name(entry.shard, entry.generation)
            ),
            "it is for other sequences than the plan's": entry.shard_digest != shard.digest,
            "it was folded with other settings than the atlas's": entry.settings_digest != header.settings_digest,
            f"it counts {entry.folded} folded, {entry.failed} failed and {entry.skipped} not needed of "
            f"{shard.proteins} proteins": (entry.folded + entry.failed + entry.skipped != shard.proteins),
            f"it lacks a file of {', '.join(sorted(needed))}, or lists an unknown one": (
                not needed <= set(entry.files) <= known
            ),
            "the rows of its files are not what it counts": any(
                not _counts(entry, name, file.rows) for name, file in entry.files.items()
            ),
        }
        result.faults += [Fault(FaultKind.DOCUMENT, where, what, again) for what, is_so in wrong.items() if is_so]
        if needed <= set(entry.files) <= known:
            histories.setdefault(entry.shard, []).append(entry)
    return {shard: sorted(history, key=lambda entry: entry.generation) for shard, history in histories.items()}


def _wrong_history(history: list[ShardEntry]) -> Iterator[Fault]:
    """Yield faults between generations of a shard: structures that one kept must be in the one before."""
    before = {entry.generation: entry for entry in history}
    for entry in history:
        earlier = before.get(entry.generation - 1)
        held = earlier.folded if earlier is not None else 0
        if earlier is None and entry.generation > 0:
            continue  # it could not be read, which is reported as another fault
        if not 0 <= entry.kept <= min(held, entry.folded):
            where = f"manifest/{entry.shard}.{entry.generation}.json"
            what = (
                f"it keeps {entry.kept} structures of the generation before, which has {held}, and holds {entry.folded}"
            )
            yield Fault(FaultKind.DOCUMENT, where, what, restore_or_fold(entry.shard))


def _readable(content: bytes | OSError) -> bytes:
    if isinstance(content, OSError):
        raise content
    return content


def _check_file(storage: Storage, file: FileEntry, step: Step, *, deep: bool) -> Iterator[Fault]:
    try:
        size = storage.size(file.path)
        if size != file.bytes:
            yield Fault(FaultKind.DAMAGED, file.path, f"it has {size:,} bytes, {file.bytes:,} were committed", step)
        elif deep and storage.sha256(file.path) != file.sha256:
            yield Fault(FaultKind.DAMAGED, file.path, "its sha256 is not the one committed", step)
    except FileNotFoundError:
        yield Fault(FaultKind.MISSING, file.path, "it does not exist", step)
    except OSError as error:
        yield Fault(FaultKind.DAMAGED, file.path, f"it cannot be read: {error}", step)


def _notes(folder: AtlasFolder, plans: list[Plan], entries: dict[str, ShardEntry], listed: set[str]) -> Iterator[str]:
    try:
        left = len(left_to_fold(folder, plans, entries))
    except DamagedAtlasError:  # reported as another fault
        left = sum(shard.name not in entries for plan in plans for shard in plan.shards)
    if left:
        yield f"{counted(left, 'shard')} still to fold: run `foldatlas fold` again"
    index = index_of(folder)
    if not index.exists():
        yield f"there is no {index.name}: run `foldatlas index {folder.uri}`"
    ours = {HEADER, REPORT, index.name, *EXPORT_LISTS}
    for file in folder.storage.files(hidden=True):
        path = PurePath(file.name)
        table = path.parts[0]
        if (
            file.name in ours
            or path.match(EXPORT_TABLES)
            or file.name in listed
            or table in (STAGING, SEARCH)
            or is_stage_document(file.name)
            or is_annotation_document(file.name)
        ):
            continue
        if table in (INDEX_FOLDER, packs.FOLDER) and not folder.is_local:
            continue  # older indexes, which the next index deletes, and packs
        if table not in ("plans", "manifest") or path.suffix != ".json" or path.name.startswith("."):
            yield f"{file.name} is listed nowhere and is not read"
