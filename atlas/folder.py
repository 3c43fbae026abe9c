"""An atlas on disk: where its files are, and what its header, plans and manifest say.

Readers open only files that a plan or a manifest entry lists. `docs/files.md` describes every file.
"""

import contextlib
import datetime
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from foldatlas.atlas.commit import commit_once, files_of_the_dead, hidden_owner, owner_is_dead
from foldatlas.schemas.errors import (
    DamagedAtlasError,
    ForeignFolderError,
    NotAnAtlasError,
    SettingsMismatchError,
    UsageError,
)
from foldatlas.schemas.manifest import AtlasHeader, FileEntry, Plan, Shard, ShardEntry, decode, encode, settings_digest
from foldatlas.schemas.records import Settings
from foldatlas.schemas.tables import FORMAT_VERSION, SHARD_TABLES
from foldatlas.schemas.version import program_version

HEADER: Final = "atlas.json"
INDEX: Final = "atlas.duckdb"
STAGING: Final = ".staging"


def now() -> str:
    """The time in UTC, ISO 8601, to the millisecond (plans are ordered by it)."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def plan_order(plan: Plan) -> tuple[int, str, str]:
    """Sorts plans: those of the atlas that was named first in a merge, then the oldest."""
    return plan.order, plan.created, plan.name


@dataclass(frozen=True)
class AtlasFolder:
    """Paths of an atlas and the reading of its documents. Holds no state but the root."""

    root: Path

    @classmethod
    def existing(cls, path: str | Path) -> "AtlasFolder":
        """The atlas at `path`. Raises NotAnAtlasError where there is none."""
        folder = cls(Path(path))
        if not folder.root.is_dir():
            raise NotAnAtlasError(f"{path} is no folder: name an atlas that `foldatlas fold` made")
        if not folder.header_path.is_file():
            raise NotAnAtlasError(f"{path} is not an atlas (it has no {HEADER}): name one that `foldatlas fold` made")
        return folder

    @property
    def header_path(self) -> Path:
        return self.root / HEADER

    @property
    def index_path(self) -> Path:
        return self.root / INDEX

    @property
    def staging(self) -> Path:
        """Where planning works. Holds nothing that a reader may see."""
        return self.root / STAGING

    def shard_file(self, table: str, shard: str, attempt: str) -> str:
        """Relative path of a shard's table."""
        return f"{table}/{shard}.{attempt}.parquet"

    def entry_path(self, shard: str, generation: int) -> Path:
        return self.root / "manifest" / f"{shard}.{generation}.json"

    def refuse_foreign(self) -> None:
        """Raises ForeignFolderError where a new atlas cannot be made: the path is a file or holds other things."""
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
            text = self.header_path.read_bytes()
        except FileNotFoundError as error:
            raise NotAnAtlasError(f"{self.root} is not an atlas (it has no {HEADER})") from error
        return decode(text, AtlasHeader, self.header_path)

    def check_settings(self, settings: Settings) -> None:
        """Raises SettingsMismatchError where the atlas exists and was made with other settings."""
        if not self.header_path.exists():
            return
        made = self.header().settings
        for name in ("model", "weights", "recycles", "precision"):
            theirs, ours = getattr(made, name), getattr(settings, name)
            if theirs != ours:
                raise SettingsMismatchError(
                    f"{self.root} was made with {name} {theirs}, this run has {ours}: an atlas holds one kind of "
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
        commit_once(self.header_path, encode(header))
        self.check_settings(settings)

    def plans(self) -> list[Plan]:
        """Every committed plan, the one whose structures count before others' first (`plan_order`)."""
        paths = sorted((self.root / "plans").glob("[!.]*.json"))
        return sorted((decode(path.read_bytes(), Plan, path) for path in paths), key=plan_order)

    def commit_plan(self, plan: Plan) -> bool:
        return commit_once(self.root / "plans" / f"{plan.name}.json", encode(plan))

    def entries(self) -> dict[str, ShardEntry]:
        """The committed entry of each shard, the highest generation of each, by shard name."""
        return {shard: self._read_entry(paths[-1]) for shard, paths in self._generations().items()}

    def histories(self) -> dict[str, list[ShardEntry]]:
        """Every committed entry of each shard, the lowest generation first, by shard name."""
        return {shard: [self._read_entry(path) for path in paths] for shard, paths in self._generations().items()}

    def _generations(self) -> dict[str, list[Path]]:
        """The documents of each shard's generations in their order, by shard name."""
        found: dict[str, list[tuple[int, Path]]] = {}
        for path in (self.root / "manifest").glob("[!.]*.json"):
            shard, _, generation = path.name.removesuffix(".json").rpartition(".")
            if not generation.isdigit():
                raise DamagedAtlasError(f"{path} is no manifest entry: remove it")
            found.setdefault(shard, []).append((int(generation), path))
        return {shard: [path for _, path in sorted(generations)] for shard, generations in sorted(found.items())}

    def _read_entry(self, path: Path) -> ShardEntry:
        return decode(path.read_bytes(), ShardEntry, path)

    def committed_entry(self, shard: Shard, digest: str) -> ShardEntry | None:
        """The newest generation of `shard`, or None if it is not committed. Cheap: a look at one name for each.

        Raises DamagedAtlasError if the entry is of other sequences or of other settings than `digest` (the settings
        digest): it can never be committed again, so going on would fold the shard for nothing.
        """
        generation = 0
        while self.entry_path(shard.name, generation).exists():
            generation += 1
        if generation == 0:
            return None
        entry = self._read_entry(self.entry_path(shard.name, generation - 1))
        self.check_entry(entry, shard, digest)
        return entry

    def check_entry(self, entry: ShardEntry, shard: Shard, digest: str) -> None:
        """Raises DamagedAtlasError where `committed_entry` does."""
        if (entry.shard_digest, entry.settings_digest) != (shard.digest, digest):
            path = self.entry_path(entry.shard, entry.generation)
            raise DamagedAtlasError(
                f"{path} was written for other sequences or settings than the plan's: restore it from a copy"
            )

    def commit_entry(self, entry: ShardEntry) -> bool:
        return commit_once(self.entry_path(entry.shard, entry.generation), encode(entry))

    def discard(self, files: dict[str, FileEntry]) -> None:
        """Deletes the files of an attempt that lost."""
        for file in files.values():
            (self.root / file.path).unlink(missing_ok=True)

    def sweep(self) -> int:
        """Deletes what dead processes of this host left behind. Returns how many files went.

        That is: what they were writing; of committed shards, files that no generation lists; tables of no plan; folders
        of planning. Files of an uncommitted shard are left alone: their attempt may be waiting for its entry.
        """
        self.sweep_staging()
        # Who is dead is asked first and the documents are read then: what the dead committed is in them for sure.
        tables = (*SHARD_TABLES, "records", "sequences", "plans", "manifest", ".")
        dead = [path for table in tables for path in files_of_the_dead(self.root / table)]
        if not dead:
            return 0
        entries = [entry for history in self.histories().values() for entry in history]
        committed = {entry.shard for entry in entries}
        listed = {file.path for entry in entries for file in entry.files.values()}
        listed |= {file.path for plan in self.plans() for file in (*plan.records, *plan.sequences)}

        def is_garbage(path: Path) -> bool:
            if hidden_owner(path):
                return True
            shard, table = path.name.partition(".")[0], path.parent.name
            return f"{table}/{path.name}" not in listed and (table not in SHARD_TABLES or shard in committed)

        garbage = [path for path in dead if is_garbage(path)]
        for path in garbage:
            path.unlink(missing_ok=True)
        return len(garbage)

    def sweep_staging(self) -> None:
        """Deletes the folders in which dead processes of this host were planning."""
        for old in self.staging.iterdir() if self.staging.is_dir() else ():
            if owner_is_dead(old.name):
                shutil.rmtree(old, ignore_errors=True)
        with contextlib.suppress(OSError):  # missing, or another driver is planning
            self.staging.rmdir()
