"""The place that an export is written to: a hidden folder that becomes DEST at the end, or a prefix on a store.

    .DEST.exporting/           beside DEST, renamed to DEST when everything is written
    .DEST.exporting/.export/   the request, a document per finished chunk, parts of files; deleted at the end

On a store the names are final from the start, and SHA256SUMS is written last. What a killed export has written is kept,
and an export of the same rows of the same atlas in the same format continues it; in a folder any other export replaces
it.
"""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import msgspec

from foldatlas.atlas.export.journal import REQUEST, WORK
from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.storage.addresses import is_address
from foldatlas.atlas.storage.commit import sync_folder
from foldatlas.atlas.storage.local import LocalStorage
from foldatlas.atlas.storage.opening import open_storage
from foldatlas.atlas.storage.protocol import Storage
from foldatlas.schemas.errors import FoldAtlasError, ForeignFolderError, Interrupted, StoreError, UsageError
from foldatlas.schemas.formats import ALL_SHARD_TABLES

_UNFINISHED: Final = ".exporting"
_LOCK: Final = "lock"


class Request(msgspec.Struct, frozen=True):
    """What determines the files of an export. `created` is the time of the first try, which later tries keep.

    `rows` and `digest` are the number of the selected records and a hash of all their columns.
    """

    version: str
    atlas: str
    format: str
    rows: int
    digest: str
    created: str

    def continues(self, other: "Request") -> bool:
        """Return whether files that were written for `other` are those of this request."""
        return msgspec.structs.replace(self, created=other.created) == other


@dataclass(frozen=True)
class Destination:
    """An export being written: where, the request that it was begun with, and whether an earlier try is continued."""

    storage: Storage
    request: Request
    resumed: bool


def refuse_destination(dest: str | Path, atlas: AtlasFolder) -> None:
    """Raise ForeignFolderError if `dest` holds files, UsageError if it cannot be used."""
    if is_address(dest):
        storage = open_storage(dest)
        storage.refuse_foreign(REQUEST)
        if atlas.storage.contains(storage):
            raise UsageError(f"{storage.uri} is inside the atlas {atlas.uri}: give a prefix outside it")
        return
    folder = _local(dest)
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ForeignFolderError(f"{dest} is a file: give a new folder for the export")
    if folder.is_dir() and (first := next(iter(sorted(folder.iterdir())), None)) is not None:
        raise ForeignFolderError(f"{dest} is not empty (it contains {first.name!r}): give a new folder for the export")
    if atlas.storage.contains(open_storage(folder)):
        raise UsageError(f"{dest} is inside the atlas {atlas.uri}: give a folder outside it")


def written_to(dest: str | Path) -> contextlib.AbstractContextManager["_Opened"]:
    """Open the destination. Call `begin(request)` in the block; the export is complete when the block succeeds.

    What was written is kept after an interruption and after errors of the system or of a store, and deleted after
    other errors. Raise UsageError if the folder cannot be created, or if another process is writing this export.
    """
    return _on_store(open_storage(dest)) if is_address(dest) else _in_folder(_local(dest))


@dataclass(frozen=True)
class _Opened:
    storage: Storage

    def begin(self, request: Request) -> Destination:
        """Note the request, or find that an earlier try had the same. Delete what a try with another one wrote."""
        storage = self.storage
        try:
            earlier = msgspec.json.decode(storage.read(REQUEST), type=Request)
        except (FileNotFoundError, msgspec.MsgspecError):
            earlier = None
        if earlier is not None and request.continues(earlier):
            _delete_unfinished(storage)
            return Destination(storage, earlier, True)
        if storage.root is not None:
            for path in storage.root.iterdir():
                if path.name != WORK:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            for path in (storage.root / WORK).iterdir():
                if path.name != _LOCK:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        elif earlier is not None:
            raise ForeignFolderError(
                f"{storage.uri} has an unfinished export of other records, of another format or by another version: "
                "give a new prefix, or delete it"
            )
        with storage.building(REQUEST) as path:
            path.write_bytes(msgspec.json.encode(request))
        return Destination(storage, request, False)


def _delete_unfinished(storage: Storage) -> None:
    """Delete what a killed process was writing under a hidden name (`Storage.building`): tables and lists."""
    if storage.root is not None:
        tables = (*ALL_SHARD_TABLES, "records", "sequences", "plans", "manifest")
        for folder in (storage.root, *(storage.root / table for table in tables)):
            for path in folder.glob(".*.part"):
                path.unlink()


def _local(dest: str | Path) -> Path:
    root = open_storage(dest).root
    assert root is not None
    return root.absolute()


@contextlib.contextmanager
def _in_folder(dest: Path) -> Iterator[_Opened]:
    root = dest.with_name(f".{dest.name}{_UNFINISHED}")
    try:
        (root / WORK).mkdir(parents=True, exist_ok=True)
        lock = (root / WORK / _LOCK).open("wb")
    except OSError as error:
        raise UsageError(f"{dest} cannot be created ({error}): give another folder for the export") from error
    with lock:
        _take(lock, dest)
        try:
            yield _Opened(LocalStorage(root))
            if dest.is_dir() and any(dest.iterdir()):
                raise _taken(dest, "it is not empty")
            shutil.rmtree(root / WORK)
            try:
                root.rename(dest)
            except OSError as error:
                raise _taken(dest, str(error)) from error
            sync_folder(dest.parent)
        except BaseException as error:
            if isinstance(error, FoldAtlasError) and not isinstance(
                error, StoreError | Interrupted | ForeignFolderError
            ):
                shutil.rmtree(root, ignore_errors=True)
            elif not (root / REQUEST).exists():
                shutil.rmtree(root, ignore_errors=True)  # nothing was begun
            raise


def _taken(dest: Path, why: str) -> ForeignFolderError:
    return ForeignFolderError(
        f"{dest} was created by another process ({why}): move it away and run the same command again to resume"
    )


def _take(lock: IO[bytes], dest: Path) -> None:
    """Lock the unfinished export until the file is closed or the process ends."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"{dest} is being written by another process: give another folder for the export") from None


@contextlib.contextmanager
def _on_store(storage: Storage) -> Iterator[_Opened]:
    yield _Opened(storage)
    for file in storage.files(WORK, hidden=True):
        if file.name != REQUEST:
            storage.delete(file.name)
    storage.delete(REQUEST)  # last: it marks the prefix as an unfinished export
