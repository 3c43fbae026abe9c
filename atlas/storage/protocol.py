"""Where an atlas is kept: a folder, or a place in a bucket (`s3.py`). Names are relative to it, with '/'.

What readers and writers rely on: a name appears with its whole content or not at all; of any number of processes that
commit the same name one wins; what was written is what the next one reads.
"""

import contextlib
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, Final, NamedTuple, Protocol

from foldatlas.atlas.storage.commit import commit_once, files_of_the_dead, owner_is_dead, replacing, sync_folder
from foldatlas.schemas.errors import UsageError

STAGING: Final = ".staging"
_FEW: Final = 10
_SCHEME: Final = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")
_MANGLED: Final = re.compile(r"(s3|s3a|s3n|gs|gcs|https?|hdfs|abfss?):/", re.IGNORECASE)
_S3_ALIASES: Final = ("s3", "s3a", "s3n")


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


@dataclass(frozen=True)
class LocalStorage:
    """A folder of a file system with hard links."""

    root: Path

    @property
    def place(self) -> str:
        return str(self.root)

    def resolved(self) -> "LocalStorage":
        return LocalStorage(self.root.resolve())

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def read_many(self, files: Sequence[Stored]) -> list[bytes | OSError]:
        found: list[bytes | OSError] = []
        for file in files:
            try:
                found.append(self.read(file.name))
            except OSError as error:
                found.append(error)
        return found

    def exists(self, name: str) -> bool:
        return (self.root / name).exists()

    def size(self, name: str) -> int:
        return (self.root / name).stat().st_size

    def files(self, folder: str = "", *, hidden: bool = False) -> list[Stored]:
        found = []
        for inside, folders, names in os.walk(self.root / folder):
            if not hidden:
                folders[:] = [name for name in folders if not name.startswith(".")]
                names = [name for name in names if not name.startswith(".")]
            for file in names:
                path = Path(inside, file)
                with contextlib.suppress(FileNotFoundError):  # it went while we looked
                    status = path.stat()
                    name = path.relative_to(self.root).as_posix()
                    found.append(Stored(name, status.st_size, max(0.0, time.time() - status.st_mtime)))
        return sorted(found)

    def open(self, name: str, size: int | None = None) -> IO[bytes]:
        return (self.root / name).open("rb")

    def sha256(self, name: str) -> str:
        return file_sha256(self.root / name)

    def fetch(self, names: Iterable[str], folder: Path, stop: Callable[[], bool] = never) -> None:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.root / name, folder / name)

    def building(self, name: str) -> contextlib.AbstractContextManager[Path]:
        return replacing(self.root / name)

    def put(self, path: Path, name: str) -> None:
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
        sync_folder(target.parent)

    def commit_once(self, name: str, content: bytes) -> bool:
        return commit_once(self.root / name, content)

    def pack(self, kind: str) -> bool:
        return False  # 40,000 files of a folder are read in two seconds

    def false_packs(self) -> dict[str, str]:
        return {}

    def delete(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def left_behind(self, tables: Iterable[str]) -> list[str]:
        folders = [self.root / table for table in (*tables, "plans", "manifest", ".")]
        return [path.relative_to(self.root).as_posix() for folder in folders for path in files_of_the_dead(folder)]

    def sweep_staging(self) -> None:
        staging = self.root / STAGING
        for old in staging.iterdir() if staging.is_dir() else ():
            if owner_is_dead(old.name):
                shutil.rmtree(old, ignore_errors=True)
        with contextlib.suppress(OSError):  # missing, or another driver is planning
            staging.rmdir()

    def first_names(self) -> list[str]:
        return [file.name for file in self.files()[:_FEW]]

    def check_commits(self, name: str) -> None:
        """A link that exists is refused by every file system that has links."""


def open_storage(place: "str | Path | Storage") -> Storage:
    """The storage that `place` names: a folder, or `s3://bucket/prefix`.

    Raises UsageError for an address of another kind.
    """
    if isinstance(place, PurePath):
        assert not _MANGLED.match(str(place)), f"an address was made a path: {place}"
        return LocalStorage(Path(place))
    if not isinstance(place, str):
        return place
    found = _SCHEME.match(place)
    if found is None:
        if _MANGLED.match(place) and not Path(place).exists():
            meant = place.replace(":/", "://", 1)
            raise UsageError(f"{place}: an address has two slashes after its colon: write {meant}")
        return LocalStorage(Path(place))
    scheme = found[1].lower()
    if scheme in _S3_ALIASES:
        from foldatlas.atlas.storage.s3 import S3Storage

        return S3Storage.named(place[found.end() :])
    if scheme == "file":
        return LocalStorage(Path(place[found.end() :]))
    raise UsageError(
        f"{scheme}:// cannot hold an atlas: name a folder, or s3:// (of other stores too, by AWS_ENDPOINT_URL)"
    )


def holds_keys(rest: str) -> bool:
    """Whether what follows `s3://` begins with keys, as some programs take them: `KEY:SECRET@bucket/name`."""
    bucket = rest.partition("/")[0]
    return "@" in bucket or (":" in bucket and "@" in rest)  # a secret may hold a '/'


def is_address(place: str | Path) -> bool:
    """Whether a person named something that is no path of this machine."""
    found = _SCHEME.match(place) if isinstance(place, str) else None
    return found is not None and found[1].lower() != "file"


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
