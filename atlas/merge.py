"""Merge several atlases with equal settings into a new one that has the plans and structures of all.

The new atlas has the union of the plans. A structure in several plans counts in the first of the named atlases that has
it (`Plan.order`). If atlases have parts of the same plan, folded on several machines, its shards are united; a shard
that several atlases have committed is taken whole from the first one, or from the first one with the fewest skipped
sequences. Merging adds no lineage: a version of a source is superseded only if a plan of an input records it. Files are
linked if the file system permits it, otherwise copied with their sha256 checked on the way. The new atlas is built
under a hidden name and then renamed, so that it appears complete or not at all; the inputs are only read. The reasons
are in docs/decisions/0021-merging.md.
"""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from foldatlas.atlas.accounting import Accounting
from foldatlas.atlas.annotations.union import annotations_by_name, unite_annotations
from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.novelty.union import unite_searches
from foldatlas.atlas.stages.run import StageRun
from foldatlas.atlas.stages.runs import all_runs
from foldatlas.atlas.storage.commit import sync_folder
from foldatlas.atlas.storage.protocol import file_sha256
from foldatlas.atlas.storage.scratch import attempt_folder
from foldatlas.schemas.errors import DamagedAtlasError, ForeignFolderError, UsageError
from foldatlas.schemas.formats import IMPORTED_FORMAT
from foldatlas.schemas.manifest import FileEntry, Plan, ShardEntry, settings_digest
from foldatlas.schemas.tables import OPTIONAL_TABLES

_SUFFIX: Final = ".merging"  # of the hidden folder in which the new atlas is built
_CHUNK: Final = 1 << 20
# Errors of systems that cannot or may not create links: files are then copied.
_NO_LINKS: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP})


@dataclass(frozen=True)
class _Taken:
    """The content of the new atlas: plans with their new order, and shards with all their generations, each with the
    atlas that it is taken from."""

    plans: list[tuple[AtlasFolder, Plan]]
    shards: list[tuple[AtlasFolder, list[ShardEntry]]]
    stages: list[StageRun]

    def files(self) -> Iterator[tuple[AtlasFolder, FileEntry, str]]:
        """Yield every data file of a plan or of the newest generation of a shard, with its atlas and table."""
        for folder, plan in self.plans:
            for table, files in (("records", plan.records), ("sequences", plan.sequences)):
                for file in files:
                    yield folder, file, table
        for folder, history in self.shards:
            for table, file in history[-1].files.items():
                yield folder, file, table

    def stage_files(self) -> Iterator[tuple[AtlasFolder, FileEntry]]:
        """Yield every data file of stage runs, once, with its atlas."""
        found = {file.path: (run.folder, file) for run in self.stages for _, file in run.listed()}
        yield from found.values()


def merge_atlases(
    names: Sequence[str | Path],
    out: str | Path,
    *,
    check: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Accounting:
    """Merge the atlases `names` into the new atlas `out` and index it. Return the number of records by state.

    `check`: read linked files too and compare their sha256. `progress(done, total)` is called after each data file,
    with the bytes that are linked or copied. Raise NotAnAtlasError, UsageError, ForeignFolderError or
    SettingsMismatchError before anything is written, DamagedAtlasError for a file that differs from what was committed.
    """
    folders = [AtlasFolder.existing(_local(name)) for name in names]
    target = _local(out)
    _refuse_paths(folders, target)
    _refuse_settings(folders)
    taken = _union(folders)
    _refuse_outputs(taken.shards)
    annotations = annotations_by_name(folders)
    target.parent.mkdir(parents=True, exist_ok=True)
    with attempt_folder(target.parent, f".{target.name}.", _SUFFIX) as hidden:
        _fill(AtlasFolder(hidden), taken, folders[0], check=check, progress=progress)
        unite_searches(AtlasFolder(hidden), folders)
        unite_annotations(AtlasFolder(hidden), annotations)
        try:
            os.rename(hidden, target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise _not_empty(target) from error
            raise
        sync_folder(target.parent)
    return build_index(AtlasFolder(target))


def _local(name: str | Path) -> Path:
    if "://" in str(name):
        raise UsageError(
            f"{name} is not a local folder; only local atlases can be merged: copy the atlas to a local disk first"
        )
    return Path(name).resolve()


def _not_empty(out: Path) -> ForeignFolderError:
    return ForeignFolderError(f"{out} exists and is not empty: give a new folder for the merged atlas")


def _refuse_paths(folders: Sequence[AtlasFolder], out: Path) -> None:
    roots = [folder.root for folder in folders]
    for number, root in enumerate(roots):
        if root in roots[:number]:
            raise UsageError(f"{root} is given twice: give each atlas once, and the new atlas last")
        if out == root or root in out.parents:
            raise UsageError(f"{out} is {'' if out == root else 'inside of '}an atlas to be merged: give a new folder")
    if len(roots) < 2:
        raise UsageError(
            "merging needs at least two atlases, and the new atlas last; to copy an atlas, copy its folder"
        )
    AtlasFolder(out).refuse_foreign()
    if out.exists() and any(out.iterdir()):
        raise _not_empty(out)


def _refuse_settings(folders: Sequence[AtlasFolder]) -> None:
    first, *others = folders
    for folder in others:
        first.check_settings(folder.header().settings, str(folder.root), "these cannot be merged")


def _union(folders: Sequence[AtlasFolder]) -> _Taken:
    digest = settings_digest(folders[0].header().settings)
    plans: dict[str, tuple[AtlasFolder, Plan]] = {}
    shards: dict[str, tuple[AtlasFolder, list[ShardEntry]]] = {}
    below = 0  # orders of the atlases before
    for folder in folders:
        theirs = folder.plans()
        for plan in theirs:
            plans.setdefault(plan.name, (folder, msgspec.structs.replace(plan, order=below + plan.order)))
        below += 1 + max((plan.order for plan in theirs), default=0)
        histories = folder.histories()
        for plan in theirs:
            for shard in plans[plan.name][1].shards:
                history = histories.get(shard.name)
                if history is None:
                    continue
                taken = shards.get(shard.name)
                if taken is None or history[-1].skipped < taken[1][-1].skipped:
                    folder.check_entry(history[-1], shard, digest)
                    shards[shard.name] = folder, history
    return _Taken(list(plans.values()), list(shards.values()), _stages(folders))


def _stages(folders: Sequence[AtlasFolder]) -> list[StageRun]:
    """The runs of derived stages of all atlases: of equal ones the first that is complete, else the first."""
    taken: dict[tuple[str, str], StageRun] = {}
    for folder in folders:
        for run in all_runs(folder):
            before = taken.get((run.kind, run.name))
            if before is None or (before.completion() is None and run.completion() is not None):
                taken[run.kind, run.name] = run
    return list(taken.values())


def _refuse_outputs(shards: Sequence[tuple[AtlasFolder, list[ShardEntry]]]) -> None:
    """Raise UsageError if some shards have an optional output and others do not. Of imported structures some have
    PAE."""
    if shards and shards[0][0].header().format >= IMPORTED_FORMAT:
        return
    for table, option in OPTIONAL_TABLES.items():
        having: dict[bool, Path] = {}
        for folder, history in shards:
            having.setdefault(table in history[-1].files, folder.root)
        if len(having) == 2:
            raise UsageError(
                f"{having[True]} has {table}, {having[False]} has shards without; in an atlas all shards or none "
                f"have them, so fold {having[False]} again with {option} --add-outputs, then merge"
            )


def _fill(
    new: AtlasFolder, taken: _Taken, first: AtlasFolder, *, check: bool, progress: Callable[[int, int], None]
) -> None:
    new.create(first.header().settings)
    files, stage_files = list(taken.files()), list(taken.stage_files())
    done, total = 0, sum(file.bytes for _, file, _ in files) + sum(file.bytes for _, file in stage_files)
    for folder, file, table in files:
        parts = Path(file.path).parts
        if len(parts) != 2 or parts[0] != table or parts[1].startswith("."):
            raise DamagedAtlasError(f"{folder.root} lists {file.path!r} as a file of {table}: restore it from a copy")
        _link_or_copy(folder.root / file.path, new.root / file.path, file, check=check)
        done += file.bytes
        progress(done, total)
    for folder, file in stage_files:
        _link_or_copy(folder.root / file.path, new.root / file.path, file, check=check)
        done += file.bytes
        progress(done, total)
    for _, plan in taken.plans:
        new.commit_plan(plan)
    for folder, history in taken.shards:
        for entry in history:
            source = folder.entry_path(entry.shard, entry.generation)
            _link_or_copy(source, new.entry_path(entry.shard, entry.generation), None, check=False)
    for run in taken.stages:
        for name in run.documents():
            _link_or_copy(run.folder.root / name, new.root / name, None, check=False)
    for path in new.root.rglob("*"):
        if path.is_dir():
            sync_folder(path)
    sync_folder(new.root)


def _link_or_copy(source: Path, target: Path, file: FileEntry | None, *, check: bool) -> None:
    """Link or copy `source` to `target`. Raise DamagedAtlasError if it differs from the committed `file`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest: str | None = None
    try:
        try:
            os.link(source.resolve(), target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            digest = _copy(source, target)
        else:
            digest = file_sha256(target) if check and file is not None else None
    except FileNotFoundError as error:
        raise DamagedAtlasError(f"{source} does not exist: run `foldatlas verify`") from error
    if file is None:
        return
    size = target.stat().st_size
    if size != file.bytes:
        what = f"{size:,} bytes, {file.bytes:,} were committed"
    elif digest not in (None, file.sha256):
        what = "another sha256 than was committed"
    else:
        return
    raise DamagedAtlasError(f"{source} has {what}: run `foldatlas verify`")


def _copy(source: Path, target: Path) -> str:
    """Copy a file durably and return the sha256 of the bytes that were read."""
    digest = hashlib.sha256()
    with source.open("rb") as read, target.open("xb") as write:
        while chunk := read.read(_CHUNK):
            digest.update(chunk)
            write.write(chunk)
        write.flush()
        os.fsync(write.fileno())
    return digest.hexdigest()
