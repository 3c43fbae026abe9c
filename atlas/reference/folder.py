"""The files of a reference database: versions that are committed last, and what is being built beside them.

versions/<number>.json    one document a version (`reference_tables.ReferenceVersion`)
data/<folder>/            the files of one version, never changed
.staging/                 what an unfinished run has read
.lock                     held by the run that writes
"""

import contextlib
import fcntl
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from foldatlas.atlas.storage.commit import commit_once, hidden_owner
from foldatlas.schemas.errors import DamagedAtlasError, ForeignFolderError, UsageError
from foldatlas.schemas.reference_tables import REFERENCE_FORMAT, ReferenceVersion

_VERSION: Final = re.compile(r"(\d{6})\.json")
_OURS: Final = ("versions", "data", ".staging", ".lock", "downloads")


@dataclass(frozen=True)
class ReferenceFolder:
    """Names in a database, and its committed versions."""

    root: Path

    @classmethod
    def named(cls, place: str | Path) -> "ReferenceFolder":
        """The database at `place`. Raise UsageError for an address: a database is memory-mapped."""
        if "://" in str(place):
            raise UsageError(f"{place}: a reference database is memory-mapped: name a folder of this machine")
        return cls(Path(place))

    @property
    def staging(self) -> Path:
        return self.root / ".staging"

    @property
    def data(self) -> Path:
        return self.root / "data"

    def document_path(self, version: int) -> Path:
        return self.root / "versions" / f"{version:06d}.json"

    def versions(self) -> list[int]:
        """Numbers of the committed versions, rising."""
        folder = self.root / "versions"
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        return sorted(int(found[1]) for name in names if (found := _VERSION.fullmatch(name)))

    def document(self, version: int | None = None) -> ReferenceVersion:
        """The document of a version, by default of the newest.

        Raise UsageError where there is none, DamagedAtlasError where it cannot be read.
        """
        numbers = self.versions()
        if not numbers:
            raise UsageError(f"{self.root} is not a reference database: make one with `foldatlas reference`")
        if version is not None and version not in numbers:
            raise UsageError(f"{self.root} has no version {version}, but {', '.join(map(str, numbers))}")
        path = self.document_path(numbers[-1] if version is None else version)
        try:
            raw: Any = msgspec.json.decode(path.read_bytes())
            number = raw.get("format") if isinstance(raw, dict) else None
            if isinstance(number, int) and number > REFERENCE_FORMAT:
                raise DamagedAtlasError(f"{path} has format {number}, this FoldAtlas reads up to {REFERENCE_FORMAT}")
            document = msgspec.convert(raw, ReferenceVersion)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise DamagedAtlasError(f"{path} is not a valid document ({error}): build the database again") from error
        if document.version != int(path.stem):
            raise DamagedAtlasError(f"{path} is of version {document.version}: build the database again")
        return document

    def commit(self, document: ReferenceVersion) -> None:
        """Make a version visible. Raise UsageError where another run made the same number meanwhile."""
        content = msgspec.json.format(msgspec.json.encode(document, order="deterministic"), indent=1) + b"\n"
        if not commit_once(self.document_path(document.version), content):
            raise UsageError(f"{self.root}: another run made version {document.version} meanwhile: run again")

    def refuse_foreign(self) -> None:
        """Raise ForeignFolderError where a database cannot be made: the path is a file, or holds other things."""
        if self.root.exists() and not self.root.is_dir():
            raise ForeignFolderError(f"{self.root} is a file: name a folder for the reference database")
        if not self.root.is_dir() or self.versions():
            return
        others = sorted(
            path.name for path in self.root.iterdir() if path.name not in _OURS and hidden_owner(path) is None
        )
        if others:
            raise ForeignFolderError(
                f"{self.root} is not a reference database and is not empty (it holds {others[0]!r}): name a new folder"
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the database for writing, and clear what a dead run was building. Raise UsageError while another run
        writes. The system frees the lock of a process that dies."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(f"{self.root} is being written by another run: wait for it, or stop it") from error
            listed = {self.document(version).folder for version in self.versions()}
            for path in self.data.iterdir() if self.data.is_dir() else ():
                if path.name not in listed:
                    shutil.rmtree(path, ignore_errors=True)
            yield

    def forget(self, keep: int) -> list[int]:
        """Delete all but the newest `keep` versions, and return their numbers. Open readers keep what they mapped."""
        old = self.versions()[:-keep] if keep else []
        for version in old:
            folder = self.document(version).folder
            self.document_path(version).unlink()
            shutil.rmtree(self.data / folder, ignore_errors=True)
        return old
