"""All runs of derived stages of an atlas: their status, the latest of each kind, and leftovers of dead processes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.stages.run import COMPLETE, MANIFEST, RUN, StageRun
from foldatlas.atlas.storage.commit import hidden_owner
from foldatlas.schemas.stages import KINDS, StageCompletion
from foldatlas.schemas.wording import counted


class Completed(NamedTuple):
    """A complete run and its mark."""

    run: StageRun
    mark: StageCompletion


def run_names(folder: AtlasFolder, kind: str) -> list[str]:
    """Return the names of the runs of `kind` that were begun, sorted."""
    documents = (file.name.split("/") for file in folder.storage.files(kind))
    return sorted(parts[1] for parts in documents if len(parts) == 3 and parts[2] == RUN)


def runs(folder: AtlasFolder, kind: str) -> list[StageRun]:
    """Return the runs of `kind` that were begun, complete or not, by name. Raise DamagedAtlasError."""
    return [StageRun.open(folder, kind, name) for name in run_names(folder, kind)]


def all_runs(folder: AtlasFolder) -> list[StageRun]:
    """Return the runs of every kind that were begun, complete or not. Raise DamagedAtlasError."""
    return [run for kind in KINDS for run in runs(folder, kind)]


def completed_runs(folder: AtlasFolder, kind: str) -> list[Completed]:
    """Return the complete runs of `kind`, the one completed first first. Raise DamagedAtlasError."""
    return _completed(runs(folder, kind))


def _completed(begun: Iterable[StageRun]) -> list[Completed]:
    found = [Completed(run, mark) for run in begun if (mark := run.completion()) is not None]
    return sorted(found, key=lambda one: (one.mark.completed, one.run.name))


def latest_complete(folder: AtlasFolder, kind: str) -> Completed | None:
    """Return the run of `kind` that was completed last, or None."""
    return next(reversed(completed_runs(folder, kind)), None)


_LABELS: Final = {"projections": "map"}  # kinds that `status` shows under another name


@dataclass(frozen=True)
class StageStatus:
    """How far a run is: shards done of all, and when it was completed ("" where it is not). `what` says in words what
    it is of: for a search the reference and its version."""

    kind: str
    run: str
    what: str
    shards: int
    shards_done: int
    completed: str

    def line(self) -> str:
        """Return a line for the terminal."""
        of = f"{self.what}: " if self.what else ""
        label = _LABELS.get(self.kind, self.kind)
        if self.completed:
            return f"{label:<9} {of}complete since {self.completed[:16].replace('T', ' ')} UTC"
        return f"{label:<9} {of}{self.shards_done:,} of {counted(self.shards, 'shard')} done"


def stage_status(begun: Sequence[StageRun]) -> list[StageStatus]:
    """Return the status of the latest complete run of each kind and reference, and of those that are not complete.

    `begun` are all runs of an atlas (`all_runs`).
    """
    found: dict[tuple[str, str], StageStatus] = {}
    unfinished = []
    for kind in KINDS:
        of_kind = [run for run in begun if run.kind == kind]
        complete = _completed(of_kind)
        for run, mark in complete:
            number = len(run.document.shards)
            status = StageStatus(kind, run.name, _what(run), number, number, mark.completed)
            found[kind, str(run.document.notes.get("place", ""))] = status
        names = {run.name for run, _ in complete}
        for run in of_kind:
            if run.name not in names:
                number = len(run.document.shards)
                unfinished.append(StageStatus(kind, run.name, _what(run), number, number - len(run.missing()), ""))
    return [*found.values(), *unfinished]


def _what(run: StageRun) -> str:
    reference, version = run.document.notes.get("reference"), run.document.settings.get("version")
    return f"{reference} version {version}" if reference is not None else ""


def completion_names(folder: AtlasFolder, kinds: Iterable[str]) -> list[str]:
    """Return the paths of the marks of all complete runs of `kinds`: an index without one of them is stale."""
    found = [file.name for kind in kinds for file in folder.storage.files(kind)]
    return [name for name in found if name.count("/") == 2 and name.endswith(f"/{COMPLETE}")]


def is_stage_document(name: str) -> bool:
    """Whether a path, relative to the atlas, is that of a run's document."""
    parts = name.split("/")
    if parts[0] not in KINDS:
        return False
    return (len(parts) == 3 and parts[2] in (RUN, COMPLETE)) or (
        len(parts) == 4 and parts[2] == MANIFEST and parts[3].endswith(".json")
    )


def sweep_stages(folder: AtlasFolder) -> int:
    """Delete files in runs' folders that nothing lists and whose writer is gone (`Storage.leftovers`).

    Files of a shard without an entry stay: their attempt may be waiting for its entry. Return how many files went.
    """
    storage = folder.storage
    folders = {file.name.rpartition("/")[0] for kind in KINDS for file in storage.files(kind, hidden=True)}
    # list leftovers before reading the documents, so that anything dead processes committed is in those
    left = [name for name in storage.leftovers(sorted(folders)) if name.partition("/")[0] in KINDS]
    if not left:
        return 0
    listed: set[str] = set()
    waiting: set[tuple[str, str]] = set()
    for run in all_runs(folder):
        listed |= {file.path for _, file in run.listed()}
        waiting |= {(run.path("").rstrip("/"), shard.name) for shard in run.missing()}

    def is_garbage(name: str) -> bool:
        place, _, base = name.rpartition("/")
        if hidden_owner(Path(base)):
            return True
        is_waiting = (place.rpartition("/")[0], base.partition(".")[0]) in waiting
        return name not in listed and not is_stage_document(name) and not is_waiting

    garbage = [name for name in left if is_garbage(name)]
    for name in garbage:
        storage.delete(name)
    return len(garbage)
