"""The published index: `atlas.duckdb` in a folder; on a store a file under its digest's name, and a pointer to it.

    index/<sha256>.duckdb    never changed
    index.json               names the current one; replaced by a conditional write

DuckDB opens only local files, so readers of a store keep a copy of each index in a cache.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import duckdb

from foldatlas.atlas.accounting import Accounting
from foldatlas.atlas.folder import INDEX, AtlasFolder, now
from foldatlas.atlas.index.contents import Contents, indexed_contents
from foldatlas.atlas.index.counts import count_records
from foldatlas.atlas.storage.commit import files_of_dead_processes, replacing
from foldatlas.atlas.storage.protocol import ABANDONED_SECONDS, ObjectStorage, file_sha256
from foldatlas.schemas.errors import DamagedAtlasError, NotAnAtlasError
from foldatlas.schemas.manifest import IndexPointer, decode, encode
from foldatlas.schemas.tables import FORMAT_VERSION

POINTER: Final = "index.json"
INDEX_FOLDER: Final = "index"
_TRIES: Final = 5  # at reading a pointer and the index that it names, while other processes publish

DuckDBConfig = dict[str, str | bool | int | float | list[str]]


class Publication(Protocol):
    """The replacement of an index. Created before plans and manifest are read for the new one."""

    def publish(self, database: Path, contents: Contents, accounting: Accounting) -> None:
        """Replace the published index by `database`, a finished file that is moved.

        `contents` is what it was built from. On a store, an index of as many documents or more that another process
        published meanwhile is kept.
        """


class PublishedIndex(Protocol):
    """The index of an atlas, wherever the atlas is."""

    @property
    def name(self) -> str:
        """The file that exists if the atlas has an index, relative to the atlas."""

    def exists(self) -> bool:
        """Return whether the atlas was ever indexed."""

    def size(self) -> int:
        """Return the size of the index in bytes, 0 if there is none."""

    def accounting(self, contents: Contents) -> Accounting | None:
        """Return the number of records by state, or None if there is no readable index of these `contents`."""

    def publication(self) -> Publication:
        """Return what replaces this index."""

    def local_path(self) -> Path:
        """Return the index as a local file, fetched if necessary.

        Raise NotAnAtlasError if there is none, DamagedAtlasError if it is missing or was changed.
        """

    def open(self, config: DuckDBConfig) -> duckdb.DuckDBPyConnection:
        """Open the index read-only. Raise what `local_path` raises, and duckdb.Error."""


def index_of(folder: AtlasFolder) -> PublishedIndex:
    """Return the index of an atlas."""
    if isinstance(folder.storage, ObjectStorage):
        return StoreIndex(folder.storage)
    return LocalIndex(folder.index_path)


def _no_index(uri: str | Path) -> NotAnAtlasError:
    return NotAnAtlasError(f"{uri} has no index yet: run `foldatlas index {uri}`")


@dataclass(frozen=True)
class LocalIndex:
    """The index of an atlas in a local folder: one file, which is replaced as a whole."""

    path: Path

    @property
    def name(self) -> str:
        return INDEX

    def exists(self) -> bool:
        return self.path.is_file()

    def size(self) -> int:
        return self.path.stat().st_size if self.exists() else 0

    def accounting(self, contents: Contents) -> Accounting | None:
        if not self.exists():
            return None
        try:
            with duckdb.connect(str(self.path), read_only=True) as connection:
                return count_records(connection) if indexed_contents(connection).matches(contents) else None
        except (duckdb.Error, ValueError):
            return None

    def publication(self) -> "LocalIndex":
        return self

    def publish(self, database: Path, contents: Contents, accounting: Accounting) -> None:
        with replacing(self.path) as replacement:
            os.replace(database, replacement)

    def local_path(self) -> Path:
        return self.path

    def open(self, config: DuckDBConfig) -> duckdb.DuckDBPyConnection:
        if not self.exists():
            raise _no_index(self.path.parent)
        return duckdb.connect(str(self.path), read_only=True, config=config)


@dataclass(frozen=True)
class StoreIndex:
    """The index of an atlas on a store."""

    storage: ObjectStorage

    @property
    def name(self) -> str:
        return POINTER

    def exists(self) -> bool:
        return self.storage.exists(POINTER)

    def size(self) -> int:
        found = read_pointer(self.storage)
        return found[0].bytes if found is not None else 0

    def accounting(self, contents: Contents) -> Accounting | None:
        found = _pointer_or_damaged(self.storage)
        if found is None or found[0] is None:
            return None
        pointer = found[0]
        others = {name: getattr(pointer, name) for name in ("stages", "annotations", "projections")}
        if not Contents(pointer.contents, **others).matches(contents):
            return None
        return Accounting(pointer.folded, pointer.failed, pointer.repeated, pointer.pending, pointer.refused)

    def publication(self) -> "StorePublication":
        return StorePublication(self.storage, _pointer_or_damaged(self.storage))

    def local_path(self) -> Path:
        uri = self.storage.uri
        cache = cache_folder() / hashlib.sha256(uri.encode()).hexdigest()[:16]
        for last_try in [False] * _TRIES + [True]:
            found = read_pointer(self.storage)
            if found is None:
                raise _no_index(uri)
            pointer = found[0]
            path = cache / f"{pointer.sha256}.duckdb"
            try:
                if not path.is_file() or path.stat().st_size != pointer.bytes:
                    _fetch(self.storage, pointer, path)
            except FileNotFoundError as error:
                if last_try:
                    name = f"{uri}/{index_name(pointer)}"
                    raise DamagedAtlasError(f"{name} does not exist: run `foldatlas index {uri}`") from error
                continue  # deleted because a newer one was published: read the pointer again
            _delete_other_copies(cache, path)
            return path
        raise AssertionError("the last try returns or raises")

    def open(self, config: DuckDBConfig) -> duckdb.DuckDBPyConnection:
        for last_try in [False] * _TRIES + [True]:
            path = self.local_path()
            try:
                return duckdb.connect(str(path), read_only=True, config=config)
            except duckdb.IOException:
                if last_try or path.exists():
                    raise  # otherwise another process deleted the copy because a newer index was published
        raise AssertionError("the last try returns or raises")


_Pointer = tuple[IndexPointer | None, str]  # None if it cannot be read, and the entity tag


def read_pointer(storage: ObjectStorage) -> tuple[IndexPointer, str] | None:
    """Return the pointer and its entity tag, or None if there is none. Raise DamagedAtlasError."""
    try:
        text, etag = storage.read_version(POINTER)
    except FileNotFoundError:
        return None
    return decode(text, IndexPointer, f"{storage.uri}/{POINTER}"), etag


def _pointer_or_damaged(storage: ObjectStorage) -> _Pointer | None:
    """Return what `read_pointer` does, with None in place of a pointer that cannot be read and is to be replaced."""
    try:
        return read_pointer(storage)
    except DamagedAtlasError:
        return None, storage.read_version(POINTER)[1]


@dataclass(frozen=True)
class StorePublication:
    """The replacement of an index on a store. `before` is the pointer when the new index was begun."""

    storage: ObjectStorage
    before: _Pointer | None

    def publish(self, database: Path, contents: Contents, accounting: Accounting) -> None:
        pointer = IndexPointer(
            format=FORMAT_VERSION,
            sha256=file_sha256(database),
            bytes=database.stat().st_size,
            indexed=now(),
            contents=contents.digest,
            documents=contents.documents,
            folded=accounting.folded,
            failed=accounting.failed,
            repeated=accounting.repeated,
            pending=accounting.pending,
            refused=accounting.refused,
            stages=contents.stages,
            annotations=contents.annotations,
            projections=contents.projections,
        )
        # 1. Upload the index under its digest's name, which no reader knows yet.
        self.storage.put(database, index_name(pointer))
        # 2. Let the pointer name it. If another process has replaced the pointer meanwhile, the index of more documents
        #    stays: with as many documents as ours, theirs.
        before = self.before
        while not self.storage.swap(POINTER, encode(pointer), before[1] if before is not None else None):
            before = _pointer_or_damaged(self.storage)
            if before is not None and before[0] is not None and before[0].documents >= contents.documents:
                pointer = before[0]
                break
        # 3. Delete indexes that no pointer can have named for a day. A reader that misses one reads the pointer again.
        for file in self.storage.files(INDEX_FOLDER):
            if file.name != index_name(pointer) and file.age > ABANDONED_SECONDS:
                self.storage.delete(file.name)


def index_name(pointer: IndexPointer) -> str:
    """Return the name of the index that a pointer names."""
    return f"{INDEX_FOLDER}/{pointer.sha256}.duckdb"


def _fetch(storage: ObjectStorage, pointer: IndexPointer, path: Path) -> None:
    name = index_name(pointer)
    with replacing(path) as part:
        storage.copy(name, part)
        if file_sha256(part) != pointer.sha256:
            raise DamagedAtlasError(
                f"{storage.uri}/{name} is not what was published: run `foldatlas index {storage.uri}`"
            )


def _delete_other_copies(cache: Path, path: Path) -> None:
    """Delete copies of older indexes of the same atlas. Processes that have one open can go on reading it."""
    for other in [*cache.glob("[!.]*.duckdb"), *files_of_dead_processes(cache)]:
        if other != path:
            other.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Return $FOLDATLAS_CACHE, or `foldatlas` in $XDG_CACHE_HOME, by default ~/.cache."""
    if named := os.environ.get("FOLDATLAS_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foldatlas"
