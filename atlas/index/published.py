"""The index where readers find it: a file of the folder, or on a store a file under its digest's name and a pointer.

    index/<sha256>.duckdb    never changed
    index.json               which of them counts, swapped by a conditional write

DuckDB opens local files alone, so readers of a store keep a copy in a cache, fetched once a digest.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from foldatlas.atlas.accounting import Accounting
from foldatlas.atlas.folder import INDEX, AtlasFolder, now
from foldatlas.atlas.storage.commit import files_of_the_dead, replacing
from foldatlas.atlas.storage.protocol import ABANDONED_SECONDS, ObjectStorage, file_sha256
from foldatlas.schemas.errors import DamagedAtlasError, NotAnAtlasError
from foldatlas.schemas.manifest import IndexPointer, decode, encode
from foldatlas.schemas.tables import FORMAT_VERSION

POINTER: Final = "index.json"
INDEX_FOLDER: Final = "index"
_TRIES: Final = 5  # at reading a pointer and what it points to, while others publish


@dataclass(frozen=True)
class Contents:
    """What an index holds: digests of the names of plans and manifest entries, and of the complete runs of derived
    stages ("" for none), and how many documents that are. Programs from before stages compare the first alone."""

    digest: str
    stages: str
    documents: int = 0

    def matches(self, other: "Contents") -> bool:
        """Whether two indexes hold the same."""
        return (self.digest, self.stages) == (other.digest, other.stages)


def has_index(folder: AtlasFolder) -> bool:
    """Whether the atlas was ever indexed."""
    return folder.storage.exists(INDEX if folder.is_local else POINTER)


def index_bytes(folder: AtlasFolder) -> int:
    """What the index takes; 0 where there is none."""
    if folder.is_local:
        return folder.index_path.stat().st_size if folder.index_path.is_file() else 0
    found = read_pointer(_store(folder))
    return found[0].bytes if found is not None else 0


def _store(folder: AtlasFolder) -> ObjectStorage:
    assert isinstance(folder.storage, ObjectStorage)
    return folder.storage


def read_pointer(storage: ObjectStorage) -> tuple[IndexPointer, str] | None:
    """The pointer and its entity tag, or None. Raises DamagedAtlasError."""
    try:
        text, etag = storage.read_version(POINTER)
    except FileNotFoundError:
        return None
    return decode(text, IndexPointer, f"{storage.place}/{POINTER}"), etag


class Publication:
    """Made before the documents are looked at; `publish` puts an index of them in the place of the one before."""

    def __init__(self, folder: AtlasFolder):
        self._folder = folder
        self._before = None if folder.is_local else _pointer_or_damaged(_store(folder))

    def publish(self, database: Path, contents: Contents, accounting: Accounting) -> None:
        """Publish an index that holds `contents`.

        Whoever published meanwhile keeps the place with as many documents or more.
        """
        if self._folder.is_local:
            with replacing(self._folder.index_path) as replacement:
                os.replace(database, replacement)
            return
        storage = _store(self._folder)
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
        )
        storage.put(database, index_name(pointer))
        before = self._before
        while not storage.swap(POINTER, encode(pointer), before[1] if before is not None else None):
            before = _pointer_or_damaged(storage)
            if before is not None and before[0] is not None and before[0].documents >= contents.documents:
                pointer = before[0]
                break
        _sweep(storage, pointer)


def _pointer_or_damaged(storage: ObjectStorage) -> tuple[IndexPointer | None, str] | None:
    """As `read_pointer`, but what cannot be read is only something to replace."""
    try:
        return read_pointer(storage)
    except DamagedAtlasError:
        return None, storage.read_version(POINTER)[1]


def index_name(pointer: IndexPointer) -> str:
    return f"{INDEX_FOLDER}/{pointer.sha256}.duckdb"


def _sweep(storage: ObjectStorage, pointer: IndexPointer) -> None:
    """Deletes indexes that no pointer has named for a day, perhaps; who still reads one asks for the pointer again."""
    for file in storage.files(INDEX_FOLDER):
        if file.name != index_name(pointer) and file.age > ABANDONED_SECONDS:
            storage.delete(file.name)


def published_accounting(folder: AtlasFolder) -> tuple[Accounting, Contents] | None:
    """How many records are in which state, and of which contents; None for an atlas without an index."""
    found = None if folder.is_local else _pointer_or_damaged(_store(folder))
    if found is None or found[0] is None:
        return None
    said = found[0]
    accounting = Accounting(said.folded, said.failed, said.repeated, said.pending, said.refused)
    return accounting, Contents(said.contents, said.stages, said.documents)


def open_index(
    folder: AtlasFolder, config: dict[str, str | bool | int | float | list[str]]
) -> duckdb.DuckDBPyConnection:
    """The index, read-only. Raises NotAnAtlasError where there is none, DamagedAtlasError for one that was changed,
    and DuckDB's errors."""
    if folder.is_local:
        if not folder.index_path.is_file():
            raise NotAnAtlasError(f"{folder.place} has no index yet: run `foldatlas index {folder.place}`")
        return duckdb.connect(str(folder.index_path), read_only=True, config=config)
    for last_try in [False] * _TRIES + [True]:
        path = local_index(folder)
        try:
            return duckdb.connect(str(path), read_only=True, config=config)
        except duckdb.IOException:
            if last_try or path.exists():
                raise  # else another process has just deleted it, as a newer one was published
    raise AssertionError("the last try returns or raises")


def local_index(folder: AtlasFolder) -> Path:
    """The index as a local file. Raises NotAnAtlasError where there is none, DamagedAtlasError for one that was
    changed."""
    if folder.is_local:
        return folder.index_path
    storage = _store(folder)
    cache = cache_folder() / hashlib.sha256(storage.place.encode()).hexdigest()[:16]
    for last_try in [False] * _TRIES + [True]:
        found = read_pointer(storage)
        if found is None:
            raise NotAnAtlasError(f"{folder.place} has no index yet: run `foldatlas index {folder.place}`")
        pointer = found[0]
        path = cache / f"{pointer.sha256}.duckdb"
        try:
            if not path.is_file() or path.stat().st_size != pointer.bytes:
                _fetch(storage, pointer, path)
        except FileNotFoundError as error:
            if last_try:
                name = folder.where(index_name(pointer))
                raise DamagedAtlasError(f"{name} does not exist: run `foldatlas index {folder.place}`") from error
            continue  # deleted, as a newer one was published
        _forget_others(cache, path)
        return path
    raise AssertionError("the last try returns or raises")


def _fetch(storage: ObjectStorage, pointer: IndexPointer, path: Path) -> None:
    name = index_name(pointer)
    with replacing(path) as part:
        storage.copy(name, part)
        if file_sha256(part) != pointer.sha256:
            raise DamagedAtlasError(
                f"{storage.place}/{name} is not what was published: run `foldatlas index {storage.place}`"
            )


def _forget_others(cache: Path, path: Path) -> None:
    """Deletes copies of older indexes of the same atlas. Who has one open keeps it: only the name goes."""
    for other in [*cache.glob("[!.]*.duckdb"), *files_of_the_dead(cache)]:
        if other != path:
            other.unlink(missing_ok=True)


def cache_folder() -> Path:
    """FOLDATLAS_CACHE, or `foldatlas` in XDG_CACHE_HOME, which is ~/.cache where it is not said."""
    if said := os.environ.get("FOLDATLAS_CACHE"):
        return Path(said)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foldatlas"
