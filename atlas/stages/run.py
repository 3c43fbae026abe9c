"""One run of a derived stage, in `<kind>/<name>/` of an atlas (documents: schemas/stages.py).

run.json                        what is computed from what; committed first
<table>/<shard>.<attempt>.parquet   data of a shard; other files are named alike, with a word for the shard
manifest/<shard>.json           the files of the attempt that was first
complete.json                   committed when all shards are
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from foldatlas.atlas.folder import AtlasFolder, now
from foldatlas.schemas.errors import DamagedAtlasError, StoreError
from foldatlas.schemas.manifest import FileEntry, decode, encode
from foldatlas.schemas.stages import (
    STAGE_FORMAT,
    StageCompletion,
    StageDocument,
    StageEntry,
    StageShard,
    stage_name,
    stage_settings_digest,
)
from foldatlas.schemas.version import program_version

RUN: Final = "run.json"
COMPLETE: Final = "complete.json"
MANIFEST: Final = "manifest"


@dataclass(frozen=True)
class StageRun:
    """A run that was begun. Holds its document alone, and can be pickled; what is done is read when it is asked for."""

    folder: AtlasFolder
    document: StageDocument

    @classmethod
    def begin(
        cls,
        folder: AtlasFolder,
        kind: str,
        *,
        settings: Mapping[str, Any],
        shards: Sequence[StageShard],
        notes: Mapping[str, Any] | None = None,
        base: str = "",
        inputs: Mapping[str, Sequence[FileEntry]] | None = None,
    ) -> "StageRun":
        """Begin a run, or return the one of the same settings, base and shards that was begun before.

        `inputs` are files that are written already (`named` gives the name for their paths): those of a run that was
        begun before are deleted if it has its own.
        """
        given = {table: tuple(files) for table, files in (inputs or {}).items()}
        digest = stage_settings_digest(settings)
        document = StageDocument(
            format=STAGE_FORMAT,
            kind=kind,
            name=stage_name(kind, digest, base, shards),
            created=now(),
            program=program_version(),
            settings=dict(settings),
            settings_digest=digest,
            notes=dict(notes or {}),
            base=base,
            inputs=given,
            shards=tuple(shards),
        )
        if folder.storage.commit_once(f"{kind}/{document.name}/{RUN}", encode(document)):
            return cls(folder, document)
        begun = cls.open(folder, kind, document.name)
        theirs = {file.path for files in begun.document.inputs.values() for file in files}
        begun.discard(file for files in given.values() for file in files if file.path not in theirs)
        return begun

    @classmethod
    def open(cls, folder: AtlasFolder, kind: str, name: str) -> "StageRun":
        """Return the run `name`. Raise FileNotFoundError where there is none, DamagedAtlasError for a document that
        cannot be read or is of another run."""
        path = f"{kind}/{name}/{RUN}"
        document = decode(folder.storage.read(path), StageDocument, folder.where(path))
        if (document.kind, document.name) != (kind, name):
            raise DamagedAtlasError(f"{folder.where(path)} is of run {document.kind}/{document.name}: remove it")
        return cls(folder, document)

    @property
    def kind(self) -> str:
        return self.document.kind

    @property
    def name(self) -> str:
        return self.document.name

    def path(self, name: str) -> str:
        """Return the path, relative to the atlas, of a file of this run."""
        return f"{self.kind}/{self.name}/{name}"

    def data_path(self, table: str, shard: str, attempt: str) -> str:
        """Return the path of a data file. `shard` is a shard's name, or another word for a file of the whole run."""
        return self.path(f"{table}/{shard}.{attempt}.parquet")

    def entry(self, shard: StageShard) -> StageEntry | None:
        """Return the committed entry of a shard, or None. Cheap: one look at one name.

        Raise DamagedAtlasError for an entry that cannot be read, or is of another shard or input.
        """
        path = self.path(f"{MANIFEST}/{shard.name}.json")
        try:
            text = self.folder.storage.read(path)
        except FileNotFoundError:
            return None
        return self._checked(decode(text, StageEntry, self.folder.where(path)), path, {shard.name: shard})

    def entries(self) -> dict[str, StageEntry]:
        """Return the committed entries by shard, in the order of the run's shards. Raise DamagedAtlasError."""
        shards = {shard.name: shard for shard in self.document.shards}
        found = {}
        for path, content in self.entry_documents():
            if isinstance(content, OSError):
                raise content
            entry = decode(content, StageEntry, self.folder.where(path))
            found[entry.shard] = self._checked(entry, path, shards)
        return {name: found[name] for name in shards if name in found}

    def entry_documents(self) -> Iterator[tuple[str, bytes | OSError]]:
        """Yield path and content of each document of the run's manifest, or why it cannot be read."""
        storage = self.folder.storage
        listed = [file for file in storage.files(self.path(MANIFEST)) if file.name.endswith(".json")]
        yield from zip((file.name for file in listed), self.folder.read_many(listed), strict=True)

    def documents(self) -> list[str]:
        """Return the paths of the run's documents, the mark of completion last."""
        manifest = [file.name for file in self.folder.storage.files(self.path(MANIFEST))]
        mark = [self.path(COMPLETE)] if self.completion() is not None else []
        return [self.path(RUN), *(name for name in manifest if name.endswith(".json")), *mark]

    def _checked(self, entry: StageEntry, path: str, shards: Mapping[str, StageShard]) -> StageEntry:
        shard = shards.get(entry.shard)
        if path != self.path(f"{MANIFEST}/{entry.shard}.json") or shard is None or shard.digest != entry.shard_digest:
            raise DamagedAtlasError(f"{self.folder.where(path)} is of another shard or input: remove it")
        return entry

    def missing(self) -> list[StageShard]:
        """Return the shards without an entry, in the run's order."""
        committed = self.entries()
        return [shard for shard in self.document.shards if shard.name not in committed]

    def commit_entry(self, entry: StageEntry) -> bool:
        """Commit a shard's entry unless there is one. Return whether this call did."""
        return self.folder.storage.commit_once(self.path(f"{MANIFEST}/{entry.shard}.json"), encode(entry))

    def completion(self) -> StageCompletion | None:
        """Return the mark of completion, or None where the run is not complete. Raise DamagedAtlasError."""
        path = self.path(COMPLETE)
        try:
            mark = decode(self.folder.storage.read(path), StageCompletion, self.folder.where(path))
        except FileNotFoundError:
            return None
        if (mark.kind, mark.name) != (self.kind, self.name):
            raise DamagedAtlasError(f"{self.folder.where(path)} is of run {mark.kind}/{mark.name}: remove it")
        return mark

    def complete(self, files: Mapping[str, Sequence[FileEntry]], counts: Mapping[str, int]) -> StageCompletion:
        """Mark the run as complete, with files of the run as a whole. Return the mark that counts: of two drivers the
        first one's, and the files of the other are deleted."""
        given = {table: tuple(listed) for table, listed in files.items()}
        mark = StageCompletion(STAGE_FORMAT, self.kind, self.name, now(), given, dict(counts))
        if self.folder.storage.commit_once(self.path(COMPLETE), encode(mark)):
            return mark
        first = self.completion()
        assert first is not None, "it was committed"
        theirs = {file.path for listed in first.files.values() for file in listed}
        self.discard(file for listed in given.values() for file in listed if file.path not in theirs)
        return first

    def listed(self) -> Iterator[tuple[str, FileEntry]]:
        """Yield every data file that the run's documents list, with its table."""
        completion = self.completion()
        for files in (self.document.inputs, completion.files if completion is not None else {}):
            for table, listed in files.items():
                yield from ((table, file) for file in listed)
        for entry in self.entries().values():
            yield from entry.files.items()

    def discard(self, files: Iterator[FileEntry] | Sequence[FileEntry]) -> None:
        """Delete files of an attempt that lost. What a store does not let go now, a sweep takes later."""
        with contextlib.suppress(StoreError):
            for file in files:
                self.folder.storage.delete(file.path)
