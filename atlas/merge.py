"""Several atlases of equal settings -> a new one with the plans and structures of all.

The union of plans: a structure that stands in several counts in the first atlas named that has it (`Plan.order`). Where
atlases hold parts of one plan (folded by number, on several machines), its shards are united; a shard that several have
committed comes whole from the first, or from the first that left the fewest of its sequences out. A version of a source
is superseded only where a plan of an input records it: merging adds no lineage. Files are linked where the file system
allows it and else copied, with their sha256 checked in passing. The new atlas is built under a hidden name and renamed,
so that there is all of it or none; the inputs are only read. docs/decisions/0021-merging.md says why.
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
from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.stages.run import StageRun
from foldatlas.atlas.stages.runs import runs
from foldatlas.atlas.storage.commit import sync_folder
from foldatlas.atlas.storage.protocol import file_sha256
from foldatlas.atlas.storage.scratch import attempt_folder
from foldatlas.schemas.errors import DamagedAtlasError, ForeignFolderError, UsageError
from foldatlas.schemas.manifest import FileEntry, Plan, ShardEntry, settings_digest
from foldatlas.schemas.stages import KINDS
from foldatlas.schemas.tables import OPTIONAL_TABLES

_ASIDE: Final = ".merging"  # suffix of the hidden folder in which the new atlas is built
_CHUNK: Final = 1 << 20
# What a system says that cannot link here, or may not: then files are copied.
_NO_LINKS: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP})


@dataclass(frozen=True)
class _Taken:
    """What the new atlas takes: plans with their new order, and shards with all their generations, each with the atlas
    that it comes from."""

    plans: list[tuple[AtlasFolder, Plan]]
    shards: list[tuple[AtlasFolder, list[ShardEntry]]]
    stages: list[StageRun]

    def files(self) -> Iterator[tuple[AtlasFolder, FileEntry, str]]:
        """Every data file that counts, and the table that it is of."""
        for folder, plan in self.plans:
            for table, files in (("records", plan.records), ("sequences", plan.sequences)):
                for file in files:
                    yield folder, file, table
        for folder, history in self.shards:
            for table, file in history[-1].files.items():
                yield folder, file, table

    def stage_files(self) -> Iterator[tuple[AtlasFolder, FileEntry]]:
        """Every data file of the runs of derived stages, once."""
        found = {file.path: (run.folder, file) for run in self.stages for _, file in run.listed()}
        yield from found.values()


def merge_atlases(
    names: Sequence[str | Path],
    out: str | Path,
    *,
    check: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Accounting:
    """Merges the atlases `names` into the new atlas `out` and indexes it; says how many records are in which state.

    `check`: whether to read linked files too, and compare their sha256. `progress(done, total)` is told the bytes of
    data files that are in place, after each. Raises NotAnAtlasError, UsageError, ForeignFolderError or
    SettingsMismatchError before anything is made, DamagedAtlasError for a file that is not what was committed.
    """
    folders = [AtlasFolder.existing(_local(name)) for name in names]
    target = _local(out)
    _refuse_places(folders, target)
    _refuse_settings(folders)
    taken = _union(folders)
    _refuse_outputs(taken.shards)
    target.parent.mkdir(parents=True, exist_ok=True)
    with attempt_folder(target.parent, f".{target.name}.", _ASIDE) as aside:
        _fill(AtlasFolder(aside), taken, folders[0], check=check, progress=progress)
        try:
            os.rename(aside, target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise _not_empty(target) from error
            raise
        sync_folder(target.parent)
    return build_index(AtlasFolder(target))


def _local(name: str | Path) -> Path:
    if "://" in str(name):
        raise UsageError(f"{name} is no local folder, and merging takes those alone: copy the atlas to a disk first")
    return Path(name).resolve()


def _not_empty(out: Path) -> ForeignFolderError:
    return ForeignFolderError(f"{out} is there and is not empty: name a new folder for the merged atlas")


def _refuse_places(folders: Sequence[AtlasFolder], out: Path) -> None:
    roots = [folder.root for folder in folders]
    for number, root in enumerate(roots):
        if root in roots[:number]:
            raise UsageError(f"{root} is named twice: name each atlas once, and last the new one")
        if out == root or root in out.parents:
            raise UsageError(f"{out} is {'' if out == root else 'inside of '}an atlas to be merged: name a new folder")
    if len(roots) < 2:
        raise UsageError("merging takes two atlases at least, and last the new one; to copy one, copy its folder")
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
        for kind in KINDS:
            for run in runs(folder, kind):
                before = taken.get((kind, run.name))
                if before is None or (before.completion() is None and run.completion() is not None):
                    taken[kind, run.name] = run
    return list(taken.values())


def _refuse_outputs(shards: Sequence[tuple[AtlasFolder, list[ShardEntry]]]) -> None:
    """An atlas has an output everywhere or nowhere: raises UsageError where the new one would have it in places."""
    for table, option in OPTIONAL_TABLES.items():
        having: dict[bool, Path] = {}
        for folder, history in shards:
            having.setdefault(table in history[-1].files, folder.root)
        if len(having) == 2:
            raise UsageError(
                f"{having[True]} has {table}, {having[False]} has shards without: an atlas has them everywhere or "
                f"nowhere, so fold {having[False]} again with {option} --add-outputs, then merge"
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
        _place(folder.root / file.path, new.root / file.path, file, check=check)
        done += file.bytes
        progress(done, total)
    for folder, file in stage_files:
        _place(folder.root / file.path, new.root / file.path, file, check=check)
        done += file.bytes
        progress(done, total)
    for _, plan in taken.plans:
        new.commit_plan(plan)
    for folder, history in taken.shards:
        for entry in history:
            source = folder.entry_path(entry.shard, entry.generation)
            _place(source, new.entry_path(entry.shard, entry.generation), None, check=False)
    for run in taken.stages:
        for name in run.documents():
            _place(run.folder.root / name, new.root / name, None, check=False)
    for path in new.root.rglob("*"):
        if path.is_dir():
            sync_folder(path)
    sync_folder(new.root)


def _place(source: Path, target: Path, file: FileEntry | None, *, check: bool) -> None:
    """Links or copies `source` to `target`. Raises DamagedAtlasError if it is not the `file` that was committed."""
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
        raise DamagedAtlasError(f"{source} does not exist: `foldatlas verify` says what to do") from error
    if file is None:
        return
    size = target.stat().st_size
    if size != file.bytes:
        what = f"{size:,} bytes, {file.bytes:,} were committed"
    elif digest not in (None, file.sha256):
        what = "another sha256 than was committed"
    else:
        return
    raise DamagedAtlasError(f"{source} has {what}: `foldatlas verify` says what to do")


def _copy(source: Path, target: Path) -> str:
    """Copies bytes and makes them last; gives their sha256, taken from what was read."""
    digest = hashlib.sha256()
    with source.open("rb") as read, target.open("xb") as write:
        while chunk := read.read(_CHUNK):
            digest.update(chunk)
            write.write(chunk)
        write.flush()
        os.fsync(write.fileno())
    return digest.hexdigest()
