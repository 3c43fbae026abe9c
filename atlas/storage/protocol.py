"""What readers and writers need of the folder or store that an atlas is in. Names are relative to it, with '/'.

Every implementation guarantees: a name appears with its whole content or not at all; of several processes that commit
the same name, exactly one succeeds; a read that starts after a write returned sees that write.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Final, NamedTuple, Protocol, runtime_checkable

STAGING: Final = ".staging"
ABANDONED_SECONDS: Final = 24 * 3600.0  # age by the store's clock at which a leftover is deleted


def never() -> bool:
    """Return False: a stop condition that is never met."""
    return False


class Stored(NamedTuple):
    """A listed file: its age in seconds by the storage's clock, and its entity tag ("" in a folder).

    An entity tag identifies the content: a file that is written again has another one.
    """

    name: str
    bytes: int
    age: float
    etag: str = ""


class Storage(Protocol):
    """A folder or a prefix on a store. Instances are small, picklable, and equal if they name the same place.

    Methods raise StoreError if a store does not answer, and FileNotFoundError for a name that does not exist.
    """

    @property
    def uri(self) -> str:
        """The path or `s3://` URI that `open_storage` opens again."""

    @property
    def root(self) -> Path | None:
        """The folder, or None on a store."""

    def resolved(self) -> "Storage":
        """Return the same storage, independent of the working directory."""

    def contains(self, other: "Storage") -> bool:
        """Return whether `other` is this folder or prefix, or one inside it."""

    def refuse_foreign(self, document: str) -> None:
        """Check that an atlas can be created here: nothing exists, or the file `document` of an atlas does.

        Raise ForeignFolderError for a path that is a file, and for a folder or prefix that holds something else.
        """

    def read(self, name: str) -> bytes:
        """Return the whole content of a file."""

    def read_many(self, files: Sequence[Stored]) -> list[bytes | OSError]:
        """Return the content of each listed file, in order, or the error that reading it raised."""

    def exists(self, name: str) -> bool:
        """Return whether the file exists."""

    def size(self, name: str) -> int:
        """Return the size of a file in bytes."""

    def files(self, folder: str = "", *, hidden: bool = False) -> list[Stored]:
        """Return the files in `folder` and below, sorted by name.

        Without `hidden`, files are left out if a part of their path below `folder` begins with a dot.
        """

    def open(self, name: str, size: int | None = None) -> IO[bytes]:
        """Open a file for random access. A known `size` saves a request."""

    def sha256(self, name: str) -> str:
        """Return the sha256 of a file, 64 hexadecimal digits."""

    def fetch(self, names: Iterable[str], folder: Path, stop: Callable[[], bool] = never) -> None:
        """Copy files into a local folder under their names. Raise Interrupted when `stop()` returns True."""

    def work_folder(self, prefix: str) -> contextlib.AbstractContextManager[Path]:
        """Create a temporary local folder, deleted at the end: in the atlas's folder under the hidden `prefix`, so
        that files can be renamed into it, or, for a store, under TMPDIR."""

    def building(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """Yield a local path to write; the file gets its name if the block succeeds and is deleted otherwise."""

    def put(self, path: Path, name: str) -> None:
        """Give the finished local file `path` its name, replacing an existing file. `path` may be moved."""

    def commit_once(self, name: str, content: bytes) -> bool:
        """Write `name` unless it exists. Return whether it holds what this call wrote."""

    def delete(self, name: str) -> None:
        """Delete a file if it exists."""

    def leftovers(self, tables: Iterable[str]) -> list[str]:
        """Return files of `tables` that no live process is writing: in a folder by the process id in their name, on a
        store by their age."""

    def sweep_work(self) -> None:
        """Delete temporary files of planning, and local working folders, of processes that have ended."""

    def check_commits(self, name: str) -> None:
        """Raise FoldAtlasError if two processes could commit the same name. `name` is an existing document."""


@runtime_checkable
class ObjectStorage(Storage, Protocol):
    """A store of objects with entity tags and conditional writes: what an index and packs need beyond a Storage.

    Another kind of store is a class with these methods, and a branch in `opening.open_storage`.
    """

    def read_version(self, name: str) -> tuple[bytes, str]:
        """Return the content and the entity tag of an object."""

    def read_versions(self, names: Sequence[str]) -> list[tuple[bytes, str] | FileNotFoundError]:
        """Return `read_version` of each object, in order, or the error for one that does not exist."""

    def write(self, name: str, content: bytes) -> None:
        """Write an object, replacing an existing one."""

    def swap(self, name: str, content: bytes, expected: str | None) -> bool:
        """Write `name` if its entity tag is still `expected`, or, for None, if it does not exist. Return whether it
        holds `content` afterwards."""

    def copy(self, name: str, path: Path, stop: Callable[[], bool] = never) -> None:
        """Copy an object to the local file `path`. Raise Interrupted when `stop()` returns True."""


def file_sha256(path: Path) -> str:
    """Return the sha256 of a local file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_document(name: str) -> bool:
    """Return whether a name is that of a JSON document directly in its folder."""
    return name.endswith(".json") and name.count("/") == 1
