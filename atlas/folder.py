"""An atlas where it is kept: where its files are, and what its header, plans and manifest say.

Readers open only files that a plan or a manifest entry lists. `docs/files.md` describes every file.
"""

import contextlib
import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from foldatlas.atlas.parquet.files import open_parquet
from foldatlas.atlas.storage.commit import hidden_owner
from foldatlas.atlas.storage.opening import open_storage
from foldatlas.atlas.storage.protocol import STAGING, Storage, json_documents
from foldatlas.atlas.storage.scratch import sweep_work_folders
from foldatlas.schemas.errors import (
    DamagedAtlasError,
    ForeignFolderError,
    Interrupted,
    NotAnAtlasError,
    SettingsMismatchError,
    StoreError,
    UsageError,
)
from foldatlas.schemas.manifest import AtlasHeader, FileEntry, Plan, Shard, ShardEntry, decode, encode, settings_digest
from foldatlas.schemas.records import Settings
from foldatlas.schemas.tables import FORMAT_VERSION, SHARD_TABLES
from foldatlas.schemas.version import program_version

HEADER: Final = "atlas.json"
INDEX: Final = "atlas.duckdb"


def now() -> str:
    """The time in UTC, ISO 8601, to the millisecond (plans are ordered by it)."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def newest_entries(histories: Mapping[str, Sequence[ShardEntry]]) -> dict[str, ShardEntry]:
    """Return the entry that counts of each shard, the highest generation, from `AtlasFolder.histories`."""
    return {shard: history[-1] for shard, history in histories.items()}


def plan_order(plan: Plan) -> tuple[int, str, str]:
    """Sorts plans: those of the atlas that was named first in a merge, then the oldest."""
    return plan.order, plan.created, plan.name


@dataclass(frozen=True, init=False)
class AtlasFolder:
    """Names in an atlas and the reading of its documents. Holds nothing but where it is: a path, or `s3://...`."""

    storage: Storage

    def __init__(self, place: str | Path | Storage):
        object.__setattr__(self, "storage", open_storage(place))

    @classmethod
    def existing(cls, place: str | Path) -> "AtlasFolder":
        """The atlas at `place`. Raises NotAnAtlasError where there is none."""
        folder = cls(place)
        if folder.is_local and not folder.root.is_dir():
            raise NotAnAtlasError(f"{place} is no folder: name an atlas that `foldatlas fold` made")
        if not folder.exists():
            raise NotAnAtlasError(f"{place} is not an atlas (it has no {HEADER}): name one that `foldatlas fold` made")
        return folder

    def exists(self) -> bool:
        """Whether there is an atlas."""
        return self.storage.exists(HEADER)

    @property
    def place(self) -> str:
        """What a person calls it. `AtlasFolder(place)` is the same atlas."""
        return self.storage.place

    @property
    def is_local(self) -> bool:
        return self.storage.root is not None

    @property
    def root(self) -> Path:
        """The folder. Raises UsageError for an atlas on a store, which has none."""
        if self.storage.root is None:
            raise UsageError(f"{self.place} is on a store, and this needs an atlas in a folder: copy it to one first")
        return self.storage.root

    def resolved(self) -> "AtlasFolder":
        """The same atlas, whatever the working folder is later on."""
        return AtlasFolder(self.storage.resolved())

    @property
    def header_path(self) -> Path:
        return self.root / HEADER

    @property
    def index_path(self) -> Path:
        """The index of an atlas in a folder (index/published.py has that of any)."""
        return self.root / INDEX

    @property
    def staging(self) -> Path:
        """Where planning works in a folder. Holds nothing that a reader may see."""
        return self.root / STAGING

    def shard_file(self, table: str, shard: str, attempt: str) -> str:
        """Relative path of a shard's table."""
        return f"{table}/{shard}.{attempt}.parquet"

    def entry_name(self, shard: str, generation: int) -> str:
        return f"manifest/{shard}.{generation}.json"

    def entry_path(self, shard: str, generation: int) -> Path:
        return self.root / self.entry_name(shard, generation)

    def where(self, name: str) -> str:
        """A file's whole address, for people."""
        return f"{self.place}/{name}"

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
        """Raises ForeignFolderError where a new atlas cannot be made: the path is a file or holds other things."""
        if not self.is_local:
            found = {name.partition("/")[0] for name in self.storage.first_names()} - {STAGING}
            if found and not self.exists():
                raise ForeignFolderError(
                    f"{self.place} is not an atlas and is not empty (it holds {min(found)!r}): name a new prefix"
                )
            return
        place = str(self.root.absolute())
        if "?" in place or not place.isprintable():
            raise UsageError(f"{place!r} holds '?' or what is no text, which DuckDB cannot open: name another folder")
        if self.root.exists() and not self.root.is_dir():
            raise ForeignFolderError(f"{self.root} is a file: name a folder for the atlas")
        if self.root.is_dir() and not self.header_path.exists():
            others = sorted(
                path.name for path in self.root.iterdir() if path.name != STAGING and hidden_owner(path) is None
            )
            if others:
                raise ForeignFolderError(
                    f"{self.root} is not an atlas and is not empty (it holds {others[0]!r}): name a new folder"
                )

    def header(self) -> AtlasHeader:
        """The atlas's header. Raises NotAnAtlasError or DamagedAtlasError."""
        try:
            text = self.storage.read(HEADER)
        except FileNotFoundError as error:
            raise NotAnAtlasError(f"{self.place} is not an atlas (it has no {HEADER})") from error
        return decode(text, AtlasHeader, self.where(HEADER))

    def check_settings(self, settings: Settings) -> None:
        """Raises SettingsMismatchError where the atlas exists and was made with other settings."""
        if not self.exists():
            return
        made = self.header().settings
        for name in ("model", "weights", "recycles", "precision"):
            theirs, ours = getattr(made, name), getattr(settings, name)
            if theirs != ours:
                raise SettingsMismatchError(
                    f"{self.place} was made with {name} {theirs}, this run has {ours}: an atlas holds one kind of "
                    f"structure, so use {theirs} or name a new folder"
                )

    def create(self, settings: Settings) -> None:
        """Writes the header unless it is there, and checks that it says the same settings."""
        header = AtlasHeader(
            format=FORMAT_VERSION,
            created=now(),
            version=program_version(),
            settings=settings,
            settings_digest=settings_digest(settings),
        )
        if self.storage.commit_once(HEADER, encode(header)):
            self.storage.check_commits(HEADER)
        self.check_settings(settings)

    def plans(self) -> list[Plan]:
        """Every committed plan, the one whose structures count before others' first (`plan_order`)."""
        found = []
        for name, text in self.documents("plans"):
            plan = decode(text, Plan, self.where(name))
            if name != f"plans/{plan.name}.json":
                raise DamagedAtlasError(f"{self.where(name)} is of a plan named {plan.name!r}: restore it from a copy")
            if any(not 0 <= shard.file < len(plan.sequences) for shard in plan.shards):
                raise DamagedAtlasError(f"{self.where(name)} has shards of files that it lacks: restore it from a copy")
            found.append(plan)
        return sorted(found, key=plan_order)

    def documents(self, kind: str) -> Iterator[tuple[str, bytes]]:
        """Name and content of each document of "plans" or "manifest", by name."""
        for name, content in json_documents(self.storage, kind):
            if isinstance(content, OSError):
                raise content
            yield name, content

    def commit_plan(self, plan: Plan) -> bool:
        return self.storage.commit_once(f"plans/{plan.name}.json", encode(plan))

    def entries(self) -> dict[str, ShardEntry]:
        """The committed entry of each shard, the highest generation of each, by shard name."""
        return newest_entries(self.histories())

    def histories(self) -> dict[str, list[ShardEntry]]:
        """Every committed entry of each shard, the lowest generation first, by shard name."""
        found: dict[str, list[tuple[int, ShardEntry]]] = {}
        for name, text in self.documents("manifest"):
            shard, _, generation = name.removeprefix("manifest/").removesuffix(".json").rpartition(".")
            if not generation.isdigit():
                raise DamagedAtlasError(f"{self.where(name)} is no manifest entry: remove it")
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
        """The newest generation of `shard`, or None if it is not committed. Cheap: a look at one name for each.

        Raises DamagedAtlasError if the entry is of other sequences or of other settings than `digest` (the settings
        digest): it can never be committed again, so going on would fold the shard for nothing.
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
        """Raises DamagedAtlasError where `committed_entry` does."""
        if (entry.shard_digest, entry.settings_digest) != (shard.digest, digest):
            path = self.where(self.entry_name(entry.shard, entry.generation))
            raise DamagedAtlasError(
                f"{path} was written for other sequences or settings than the plan's: restore it from a copy"
            )

    def commit_entry(self, entry: ShardEntry) -> bool:
        return self.storage.commit_once(self.entry_name(entry.shard, entry.generation), encode(entry))

    def pack_manifest(self) -> bool:
        """Puts the manifest's entries into one object of a store, if many are not in one yet (storage/packs.py): then
        the next that reads them needs few requests. Returns whether it did. A store that does not answer is no error
        here."""
        with contextlib.suppress(StoreError, Interrupted):
            return self.storage.pack("manifest")
        return False

    def discard(self, files: dict[str, FileEntry]) -> None:
        """Deletes the files of an attempt that lost. What a store does not let go now, a sweep takes later."""
        with contextlib.suppress(StoreError):
            for file in files.values():
                self.storage.delete(file.path)

    def sweep(self) -> int:
        """Deletes what was left behind: in a folder by dead processes of this host, on a store what is a day old.
        Returns how many files went.

        That is: what they were writing; of committed shards, files that no generation lists; tables of no plan; folders
        of planning. Files of an uncommitted shard are left alone: their attempt may be waiting for its entry.
        """
        self.storage.sweep_staging()
        if not self.is_local:
            sweep_work_folders()
        # Who is dead is asked first and the documents are read then: what the dead committed is in them for sure.
        left = self.storage.left_behind((*SHARD_TABLES, "records", "sequences"))
        if not left:
            return 0
        entries = [entry for history in self.histories().values() for entry in history]
        committed = {entry.shard for entry in entries}
        listed = {file.path for entry in entries for file in entry.files.values()}
        listed |= {file.path for plan in self.plans() for file in (*plan.records, *plan.sequences)}

        def is_garbage(name: str) -> bool:
            table, _, base = name.rpartition("/")
            if hidden_owner(Path(base)):
                return True
            return name not in listed and (table not in SHARD_TABLES or base.partition(".")[0] in committed)

        garbage = [name for name in left if is_garbage(name)]
        for name in garbage:
            self.storage.delete(name)
        return len(garbage)
