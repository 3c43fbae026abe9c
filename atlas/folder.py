"""An atlas in a folder or on a store: the names of its files, and its header, plans and manifest.

Readers open only files that a plan or a manifest entry lists. docs/files.md describes every file.
"""

import contextlib
import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyarrow as pa

from foldatlas.atlas.parquet.files import open_parquet
from foldatlas.atlas.storage.commit import hidden_owner
from foldatlas.atlas.storage.opening import open_storage
from foldatlas.atlas.storage.packs import PackedDocuments
from foldatlas.atlas.storage.protocol import STAGING, ObjectStorage, Storage, Stored, is_document
from foldatlas.schemas.errors import (
    DamagedAtlasError,
    Interrupted,
    NotAnAtlasError,
    SettingsMismatchError,
    StoreError,
    UsageError,
)
from foldatlas.schemas.formats import ALL_SHARD_TABLES, IMPORTED, format_of
from foldatlas.schemas.manifest import AtlasHeader, FileEntry, Plan, Shard, ShardEntry, decode, encode, settings_digest
from foldatlas.schemas.records import Settings
from foldatlas.schemas.version import program_version

HEADER: Final = "atlas.json"
INDEX: Final = "atlas.duckdb"
REPORT: Final = "report.html"
SEARCH: Final = "search"  # the folder of the search database
# Files beside the tables of an atlas that is a Parquet export (atlas/export/subset.py); SHA256SUMS has their digests.
EXPORT_LISTS: Final = (
    "SHA256SUMS",
    "manifest.json",
    "files.jsonl",
    "members.jsonl",
    "missing.tsv",
    "aria2.txt",
    "LICENCE",
    "CITATION.bib",
)
EXPORT_TABLES: Final = "proteins-*.parquet"


def now() -> str:
    """Return the time in UTC as ISO 8601, to the millisecond, by which plans are ordered."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def newest_entries(histories: Mapping[str, Sequence[ShardEntry]]) -> dict[str, ShardEntry]:
    """Return the entry that counts of each shard, the highest generation, from `AtlasFolder.histories`."""
    return {shard: history[-1] for shard, history in histories.items()}


def plan_order(plan: Plan) -> tuple[int, str, str]:
    """Return the sort key of plans: the order of the atlases in a merge, then the time of creation."""
    return plan.order, plan.created, plan.name


@dataclass(frozen=True, init=False)
class AtlasFolder:
    """File names and documents of the atlas at a path or an `s3://` address.

    An atlas begins with a header, which fixes the settings of all its structures:

    >>> folder = AtlasFolder("new_atlas")
    >>> settings = Settings(model="nano", weights="0" * 64, recycles=3, precision="fp32")
    >>> folder.create(settings)
    >>> folder.exists(), folder.plans(), folder.entries()
    (True, [], {})
    >>> folder.check_settings(Settings(model="nano", weights="0" * 64, recycles=0, precision="fp32"))
    Traceback (most recent call last):
    ...
    foldatlas.schemas.errors.SettingsMismatchError: new_atlas was made with recycles 3, this run has 0: ...

    Plans and manifest entries list its data files:

    >>> folder = AtlasFolder.existing("atlas")
    >>> [plan] = folder.plans()
    >>> entry = folder.entries()[plan.shards[0].name]
    >>> entry.folded + entry.failed == plan.shards[0].proteins
    True
    >>> folder.read_table(entry.files["scores"].path, ["structure_id", "mean_plddt"]).num_rows == entry.folded
    True
    """

    storage: Storage
    _packed: PackedDocuments | None = field(compare=False, repr=False)

    def __init__(self, uri: str | Path | Storage):
        storage = open_storage(uri)
        object.__setattr__(self, "storage", storage)
        object.__setattr__(self, "_packed", PackedDocuments(storage) if isinstance(storage, ObjectStorage) else None)

    @classmethod
    def existing(cls, uri: str | Path) -> "AtlasFolder":
        """Return the atlas at `uri`. Raise NotAnAtlasError if there is none."""
        folder = cls(uri)
        if folder.is_local and not folder.root.is_dir():
            raise NotAnAtlasError(f"{uri}: no such folder; give an atlas made by `foldatlas fold`")
        if not folder.exists():
            raise NotAnAtlasError(f"{uri} is not an atlas (it has no {HEADER}): give one made by `foldatlas fold`")
        return folder

    def exists(self) -> bool:
        """Return whether the atlas exists."""
        return self.storage.exists(HEADER)

    @property
    def uri(self) -> str:
        """The path or `s3://` URI: `AtlasFolder(uri)` is the same atlas."""
        return self.storage.uri

    @property
    def is_local(self) -> bool:
        """Whether the atlas is in a local folder, not on a store."""
        return self.storage.root is not None

    @property
    def root(self) -> Path:
        """The local folder. Raise UsageError for an atlas on a store."""
        if self.storage.root is None:
            raise UsageError(f"{self.uri} is on a store, and this needs an atlas in a folder: copy it to one first")
        return self.storage.root

    def resolved(self) -> "AtlasFolder":
        """Return the same atlas, independent of the working directory."""
        storage = self.storage.resolved()
        return self if storage == self.storage else AtlasFolder(storage)

    @property
    def index_path(self) -> Path:
        """The index of an atlas in a local folder (`index.published` finds that of any atlas)."""
        return self.root / INDEX

    @property
    def staging(self) -> Path:
        """Temporary files of planning in a local folder, which no reader opens."""
        return self.root / STAGING

    def shard_file(self, table: str, shard: str, attempt: str) -> str:
        """Return the relative path of a table that an attempt at a shard writes."""
        return f"{table}/{shard}.{attempt}.parquet"

    def entry_name(self, shard: str, generation: int) -> str:
        """Return the relative path of a manifest entry."""
        return f"manifest/{shard}.{generation}.json"

    def entry_path(self, shard: str, generation: int) -> Path:
        return self.root / self.entry_name(shard, generation)

    def where(self, name: str) -> str:
        """Return the full path or address of a file, for messages."""
        return f"{self.uri}/{name}"

    def read_table(self, name: str, columns: Sequence[str], row_group: int | None = None) -> pa.Table:
        """Return columns of a Parquet file of the atlas, or of one of its row groups.

        Raise DamagedAtlasError for a file that is missing or cannot be read.
        """
        try:
            with open_parquet(self.storage, name) as file:
                wanted = list(columns)
                return file.read(wanted) if row_group is None else file.read_row_group(row_group, wanted)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise DamagedAtlasError(f"{self.where(name)} cannot be read ({error}): restore it from a copy") from error

    def refuse_foreign(self) -> None:
        """Raise ForeignFolderError if an atlas cannot be created here: the path is a file or holds other files."""
        self.storage.refuse_foreign(HEADER)

    def header(self) -> AtlasHeader:
        """Return the atlas's header. Raise NotAnAtlasError or DamagedAtlasError."""
        try:
            text = self.storage.read(HEADER)
        except FileNotFoundError as error:
            raise NotAnAtlasError(f"{self.uri} is not an atlas (it has no {HEADER})") from error
        return decode(text, AtlasHeader, self.where(HEADER))

    def check_settings(self, settings: Settings, owner: str = "this run", next_step: str = "") -> None:
        """Check that `settings`, which are those of `owner`, are the settings of this atlas, if it exists.

        Raise SettingsMismatchError with the first setting that differs, and `next_step`, by default to use that of
        the atlas.
        """
        if not self.exists():
            return
        made = self.header().settings
        if IMPORTED in (made.model, settings.model) and made.model != settings.model:
            ours, theirs = ("imported", "folded") if made.model == IMPORTED else ("folded", "imported")
            raise SettingsMismatchError(
                f"the structures of {self.uri} are {ours}, those of {owner} {theirs}: an atlas has structures "
                f"of one kind, so {next_step or 'give a new folder'}"
            )
        for name in ("model", "weights", "recycles", "precision", "recycle_tolerance"):
            theirs, ours = ("none" if (value := getattr(of, name)) is None else value for of in (made, settings))
            if theirs != ours:
                raise SettingsMismatchError(
                    f"{self.uri} was made with {name} {theirs}, {owner} has {ours}: all structures of an atlas have "
                    f"the same settings, so {next_step or f'use {theirs} or give a new folder'}"
                )

    def create(self, settings: Settings) -> None:
        """Write the header unless it exists. Raise SettingsMismatchError if it exists with other settings.

        The settings decide the format: 2 for `schemas.formats.IMPORTED_SETTINGS`, 1 for all others.
        """
        header = AtlasHeader(
            format=format_of(settings),
            created=now(),
            version=program_version(),
            settings=settings,
            settings_digest=settings_digest(settings),
        )
        if self.storage.commit_once(HEADER, encode(header)):
            self.storage.check_commits(HEADER)
        self.check_settings(settings)

    def plans(self) -> list[Plan]:
        """Return every committed plan, sorted by `plan_order`: of plans that share structures the first counts.

        Raise DamagedAtlasError for a plan that cannot be read or contradicts itself.
        """
        found = []
        for name, text in self.documents("plans"):
            plan = decode(text, Plan, self.where(name))
            if name != f"plans/{plan.name}.json":
                raise DamagedAtlasError(f"{self.where(name)} is of a plan named {plan.name!r}: restore it from a copy")
            if any(not 0 <= shard.file < len(plan.sequences) for shard in plan.shards):
                raise DamagedAtlasError(
                    f"{self.where(name)} has shards of files that it does not list: restore it from a copy"
                )
            found.append(plan)
        return sorted(found, key=plan_order)

    def documents(self, kind: str) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of each document of "plans" or "manifest", sorted by name. Raise OSError."""
        for name, content in self.readable_documents(kind):
            if isinstance(content, OSError):
                raise content
            yield name, content

    def readable_documents(self, kind: str) -> Iterator[tuple[str, bytes | OSError]]:
        """Yield what `documents` yields, with the error in place of the content of a document that cannot be read."""
        listed = [file for file in self.storage.files(kind) if is_document(file.name)]
        yield from zip((file.name for file in listed), self.read_many(listed), strict=True)

    def read_many(self, files: Sequence[Stored]) -> list[bytes | OSError]:
        """Return the content of each listed document, in order, or the error that reading it raised.

        Documents of a store are fetched once per AtlasFolder, and from packs where these have them.
        """
        return self.storage.read_many(files) if self._packed is None else self._packed.read_many(files)

    def commit_plan(self, plan: Plan) -> bool:
        """Commit a plan. Return whether it holds what this call wrote."""
        return self.storage.commit_once(f"plans/{plan.name}.json", encode(plan))

    def entries(self) -> dict[str, ShardEntry]:
        """Return the manifest entry that counts of each committed shard, the highest generation, by shard name."""
        return newest_entries(self.histories())

    def histories(self) -> dict[str, list[ShardEntry]]:
        """Return all manifest entries of each committed shard, by generation, by shard name.

        Raise DamagedAtlasError for an entry that cannot be read or has another name than it should.
        """
        found: dict[str, list[tuple[int, ShardEntry]]] = {}
        for name, text in self.documents("manifest"):
            shard, _, generation = name.removeprefix("manifest/").removesuffix(".json").rpartition(".")
            if not generation.isdigit():
                raise DamagedAtlasError(f"{self.where(name)} is not a manifest entry: remove it")
            entry = decode(text, ShardEntry, self.where(name))
            if name != self.entry_name(entry.shard, entry.generation):
                raise DamagedAtlasError(
                    f"{self.where(name)} is of shard {entry.shard!r}, generation {entry.generation}: "
                    "restore it from a copy"
                )
            found.setdefault(shard, []).append((int(generation), entry))
        return {
            shard: [entry for _, entry in sorted(entries, key=lambda one: one[0])]
            for shard, entries in sorted(found.items())
        }

    def committed_entry(self, shard: Shard, digest: str) -> ShardEntry | None:
        """Return the newest manifest entry of `shard`, or None if it is not committed. One request per generation.

        `digest` is the settings digest. Raise DamagedAtlasError for an entry of other sequences or settings: the shard
        could never be committed, so it must not be folded again.
        """
        generation = 0
        while self.storage.exists(self.entry_name(shard.name, generation)):
            generation += 1
        if generation == 0:
            return None
        name = self.entry_name(shard.name, generation - 1)
        entry = decode(self.storage.read(name), ShardEntry, self.where(name))
        self.check_entry(entry, shard, digest)
        return entry

    def check_entry(self, entry: ShardEntry, shard: Shard, digest: str) -> None:
        """Raise DamagedAtlasError if an entry is of other sequences or settings than `shard` and `digest`."""
        if (entry.shard_digest, entry.settings_digest) != (shard.digest, digest):
            path = self.where(self.entry_name(entry.shard, entry.generation))
            raise DamagedAtlasError(
                f"{path} was written for other sequences or settings than the plan's: restore it from a copy"
            )

    def commit_entry(self, entry: ShardEntry) -> bool:
        """Commit a manifest entry, which makes the files that it lists visible. Return whether this attempt won."""
        return self.storage.commit_once(self.entry_name(entry.shard, entry.generation), encode(entry))

    def pack_manifest(self) -> bool:
        """Pack the manifest entries of an atlas on a store, if many of them are in no pack (`storage.packs`).

        Return whether a pack was written. A store that does not answer is no error: packs only save time.
        """
        with contextlib.suppress(StoreError, Interrupted):
            return self._packed is not None and self._packed.pack("manifest")
        return False

    def false_packs(self) -> dict[str, str]:
        """Return packs that contradict a document that they copy, each with the name of that document."""
        return {} if self._packed is None else self._packed.false_packs()

    def discard(self, files: dict[str, FileEntry]) -> None:
        """Delete the files of an attempt that lost. Files that a store does not delete now are left to `sweep`."""
        with contextlib.suppress(StoreError):
            for file in files.values():
                self.storage.delete(file.path)

    def sweep(self) -> int:
        """Delete leftovers: in a folder those of ended processes of this host, on a store files older than a day.

        These are: unfinished files; files of committed shards that no generation lists; tables of no plan; temporary
        files of planning. Files of uncommitted shards are kept: their attempt may be about to commit them. Return the
        number of deleted files, temporary ones not counted.
        """
        self.storage.sweep_work()
        # Leftovers are listed before the manifest is read, so that everything an ended process committed is in it.
        leftovers = self.storage.leftovers((*ALL_SHARD_TABLES, "records", "sequences"))
        if not leftovers:
            return 0
        entries = [entry for history in self.histories().values() for entry in history]
        committed = {entry.shard for entry in entries}
        listed = {file.path for entry in entries for file in entry.files.values()}
        listed |= {file.path for plan in self.plans() for file in (*plan.records, *plan.sequences)}

        def is_deleted(name: str) -> bool:
            table, _, base = name.rpartition("/")
            if hidden_owner(Path(base)):
                return True
            return name not in listed and (table not in ALL_SHARD_TABLES or base.partition(".")[0] in committed)

        deleted = [name for name in leftovers if is_deleted(name)]
        for name in deleted:
            self.storage.delete(name)
        return len(deleted)
