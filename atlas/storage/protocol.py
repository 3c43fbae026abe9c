"""Where an atlas is kept: a folder, or a place in a bucket (`s3.py`). Names are relative to it, with '/'.

What readers and writers rely on: a name appears with its whole content or not at all; of any number of processes that
commit the same name one wins; what was written is what the next one reads.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final, NamedTuple, Protocol, runtime_checkable

STAGING: Final = ".staging"
ABANDONED_SECONDS: Final = 24 * 3600.0  # what nothing lists is swept when it is older, by the store's clock


def never() -> bool:
    """That nothing stops the work."""
    return False


class Stored(NamedTuple):
    """A file as a listing shows it: its size, its age in seconds by the clock of whoever keeps it, and the store's name
    of this very content (nothing in a folder)."""

    name: str
    bytes: int
    age: float
    etag: str = ""


class Storage(Protocol):
    """What an atlas needs of the place that it is kept in. Small, equal by what they name, and can be pickled.

    A store that does not answer for long is a StoreError; a name that is not there a FileNotFoundError.
    """

    @property
    def place(self) -> str:
        """What a person calls it; `open_storage` opens it again."""

    @property
    def root(self) -> Path | None:
        """The folder, or None where it is none."""

    def resolved(self) -> "Storage":
        """The same place, whatever the working folder is later on."""

    def read(self, name: str) -> bytes:
        """A whole document."""

    def read_many(self, files: Sequence[Stored]) -> list[bytes | OSError]:
        """Whole documents as they were listed, in their order, or why one cannot be read."""

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""

    def size(self, name: str) -> int:
        """Its bytes."""

    def files(self, folder: str = "", *, hidden: bool = False) -> list[Stored]:
        """Files in `folder` and below, by name. Without `hidden`, no part of a name below it begins with a dot."""

    def open(self, name: str, size: int | None = None) -> IO[bytes]:
        """A file to read at any place. `size`, if it is known, saves asking for it."""

    def sha256(self, name: str) -> str:
        """Digest of its bytes, 64 hexadecimal digits."""

    def fetch(self, names: Iterable[str], folder: Path, stop: Callable[[], bool] = never) -> None:
        """Copies files into a local folder, under their names. Raises Interrupted when `stop()` says so."""

    def building(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """Gives a local path to build a file at; it gets its name when the block ends well, and is gone otherwise."""

    def put(self, path: Path, name: str) -> None:
        """Gives the finished local file `path` its name. The path may be gone then."""

    def commit_once(self, name: str, content: bytes) -> bool:
        """Writes `name` unless it exists. Returns whether it holds what this call gave."""

    def pack(self, kind: str) -> bool:
        """Makes the many documents of the folder `kind` quicker to read, where that takes a request each. Returns
        whether something was done."""

    def false_packs(self) -> dict[str, str]:
        """What `pack` would never have made: each pack that says other than a document that it names, and that name."""

    def delete(self, name: str) -> None:
        """Deletes a file, if it is there."""

    def left_behind(self, tables: Iterable[str]) -> list[str]:
        """Files of `tables` whose maker is gone for sure: in a folder by its process, on a store by their age."""

    def sweep_staging(self) -> None:
        """Deletes what planning left behind."""

    def first_names(self) -> list[str]:
        """A few names of what is there."""

    def check_commits(self, name: str) -> None:
        """Raises FoldAtlasError where two could commit one name. `name` is a document that exists."""


@runtime_checkable
class ObjectStorage(Storage, Protocol):
    """A store of objects with entity tags and conditional writes: what an index and packs need beyond a Storage."""

    def read_version(self, name: str) -> tuple[bytes, str]:
        """Return a whole document and its entity tag."""

    def write(self, name: str, content: bytes) -> None:
        """Write a whole document, whatever stood there."""

    def swap(self, name: str, content: bytes, expected: str | None) -> bool:
        """Write `name` if it still has the entity tag `expected`, or, for None, does not exist. Return whether it holds
        `content` now."""

    def copy(self, name: str, path: Path, stop: Callable[[], bool] = never) -> None:
        """Copy an object to the local file `path`. Raise Interrupted when `stop()` says so."""


def file_sha256(path: Path) -> str:
    """sha256 of a local file's bytes, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_documents(storage: Storage, kind: str) -> Iterator[tuple[str, bytes | OSError]]:
    """Name and content of each JSON document in the folder `kind`, by name, or why it cannot be read."""
    listed = [file for file in storage.files(kind) if is_document(file.name)]
    yield from zip((file.name for file in listed), storage.read_many(listed), strict=True)


def is_document(name: str) -> bool:
    """Whether a name is that of a JSON document of the folder that it is in."""
    return name.endswith(".json") and name.count("/") == 1
