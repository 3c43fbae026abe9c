"""Where the chunks of a source are staged, and which of them are complete.

The folder is named after what is read and how, so that the same command finds what an interrupted one staged. It is
removed when the import is done.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.importing.confidence_json import is_confidence_name
from foldatlas.atlas.storage.opening import open_storage
from foldatlas.atlas.storage.protocol import STAGING, Storage
from foldatlas.pipeline import events
from foldatlas.pipeline.importing.beside import path_beside
from foldatlas.pipeline.importing.gathered import NOTE
from foldatlas.pipeline.importing.options import ImportOptions
from foldatlas.pipeline.importing.reading import (
    CHUNK_FILES,
    TOTAL,
    ChunkNote,
    ReadTask,
    TotalNote,
    chunks_of,
    note_name,
)
from foldatlas.pipeline.importing.sources import ARCHIVE, FILE, StructureSource
from foldatlas.schemas.errors import IncompleteError

_PREFIX: Final = "import-"
_KEY_DIGITS: Final = 24
_LAYOUT: Final = 2  # of what is staged; other programs' leftovers are not read


@dataclass(frozen=True)
class StagedSource:
    """The staged chunks of one source. `storage` is open to every worker."""

    source: StructureSource
    options: ImportOptions
    storage: Storage
    _read: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, folder: AtlasFolder, source: StructureSource, options: ImportOptions) -> "StagedSource":
        """Return the staging area of a source in the atlas `folder`."""
        version = [_LAYOUT, source.uri, source.size, source.mtime_ns, source.etag, options.digest]
        key = hashlib.sha256(msgspec.json.encode(version)).hexdigest()[:_KEY_DIGITS]
        where = f"{folder.resolved().uri}/{STAGING}/{_PREFIX}{key}"
        return cls(source, options, open_storage(where))

    def gathering(self, log: events.Log | None) -> list[ReadTask]:
        """Return the task that gathers the JSON files of an archive, if that is still to be done."""
        if self.source.kind != ARCHIVE or not self.options.reads_beside or self.is_complete():
            return []
        if self.storage.exists(NOTE):
            return []
        return [ReadTask(self.storage.uri, _without_files(self.source), self.options, gathers=True, log=log)]

    def tasks(self, lanes: int, log: events.Log | None) -> list[ReadTask]:
        """Return what is still to be read: chunks of files, or the lanes of an archive."""
        base = ReadTask(self.storage.uri, _without_files(self.source), self.options, log=log)
        if self.source.kind == ARCHIVE:
            if self.num_files() is not None and not self._missing():
                return []
            return [base._replace(lane=lane, lanes=lanes) for lane in range(lanes)]
        files, beside = self._files(), self._beside()
        parts = {chunk: slice(chunk * CHUNK_FILES, (chunk + 1) * CHUNK_FILES) for chunk in self._missing()}
        return [base._replace(chunk=chunk, files=files[part], beside=beside[part]) for chunk, part in parts.items()]

    def num_files(self) -> int | None:
        """Return the number of files; None for an archive that was not read to its end."""
        if self.source.kind != ARCHIVE:
            return len(self._files())
        content = self._content(TOTAL)
        return None if content is None else msgspec.json.decode(content, type=TotalNote).files

    def is_complete(self) -> bool:
        return self.num_files() is not None and not self._missing()

    def notes(self) -> list[ChunkNote]:
        """Return the note of each chunk, in order. The source must be complete."""
        found = []
        for chunk in range(chunks_of(self.num_files() or 0)):
            content = self._content(note_name(chunk))
            if content is None:
                raise IncompleteError(f"staged files of {self.source.name} were removed by another import: run again")
            found.append(msgspec.json.decode(content, type=ChunkNote))
        return found

    def remove(self) -> None:
        """Delete everything that was staged."""
        for file in self.storage.files(hidden=True):
            self.storage.delete(file.name)
        if self.storage.root is not None:
            _remove_empty(self.storage.root)

    def _files(self) -> tuple[str, ...]:
        return (self.source.file_name,) if self.source.kind == FILE else self.source.files

    def _beside(self) -> tuple[str, ...]:
        """Return the JSON file beside each file, "" for none."""
        if self.source.kind == FILE:
            return (self.source.beside,)
        names = {name for name in self.source.files if is_confidence_name(name)}
        return tuple(path_beside(name, names) if names else "" for name in self.source.files)

    def _missing(self) -> list[int]:
        listed = {file.name for file in self.storage.files()}
        return [chunk for chunk in range(chunks_of(self.num_files() or 0)) if note_name(chunk) not in listed]

    def _content(self, name: str) -> bytes | None:
        if name not in self._read:
            if not self.storage.exists(name):
                return None
            self._read[name] = self.storage.read(name)
        return self._read[name]


def local_files(staged: StagedSource, notes: Sequence[ChunkNote], work: Path) -> Iterator[Path]:
    """Yield the table of files of each chunk as a local file, copied into `work` from a store."""
    if staged.storage.root is not None:
        yield from (staged.storage.root / note.rows for note in notes)
        return
    staged.storage.fetch([note.rows for note in notes], work)
    yield from (work / note.rows for note in notes)


def _without_files(source: StructureSource) -> StructureSource:
    return replace(source, files=())


def _remove_empty(folder: Path) -> None:
    """Remove an empty folder, and the staging folder above it if it is empty too."""
    try:
        folder.rmdir()
        folder.parent.rmdir()
    except OSError:
        pass  # another import is staging there
