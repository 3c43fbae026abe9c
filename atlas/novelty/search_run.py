"""What a search run says of itself: which reference it searched, how, and since which run (`run.json` of novelty/)."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import msgspec

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.reference.folder import ReferenceFolder
from foldatlas.atlas.reference.reader import Reference
from foldatlas.atlas.stages.run import StageRun
from foldatlas.atlas.stages.runs import Completed, completed_runs
from foldatlas.schemas.errors import DamagedAtlasError, UsageError
from foldatlas.schemas.novelty_tables import HITS
from foldatlas.schemas.reference_tables import Kind

KIND: Final = "novelty"
HITS_TABLE: Final = "hits"
KEPT_TABLE: Final = "kept"
MEMBERS_TABLE: Final = "members"
TARGETS_TABLE: Final = "targets"
QUERIES_TABLE: Final = "queries"

Search = Literal["structures", "sequences"]


class SearchVersion(msgspec.Struct, frozen=True):
    """A version of the reference that was searched for the rows of a run, by itself or by a run before it."""

    version: Annotated[int, msgspec.Meta(ge=1)]
    digest: str


class RunSettings(msgspec.Struct, frozen=True):
    """What a run's results depend on. `search` is the kind of the reference, `digest` and `version` are its own;
    `recipe` are the settings of the search; `structures` is a digest of what was searched and of what inherits."""

    search: Kind
    digest: str
    version: int
    recipe: dict[str, Any]
    structures: str


class RunNotes(msgspec.Struct, frozen=True):
    """What changes no result: the reference's name and place, its licences, and every version that was searched for
    the rows, the newest last. With `demo` nothing is called novel."""

    reference: str
    place: str
    entries: int
    demo: bool
    licences: list[str]
    versions: list[SearchVersion]


class SearchRun(msgspec.Struct, frozen=True):
    """A run of novelty with its settings and notes read."""

    run: StageRun
    settings: RunSettings
    notes: RunNotes

    @classmethod
    def of(cls, run: StageRun) -> Self:
        """Read what `run` says. Raise DamagedAtlasError."""
        try:
            return cls(
                run, msgspec.convert(run.document.settings, RunSettings), msgspec.convert(run.document.notes, RunNotes)
            )
        except msgspec.ValidationError as error:
            raise DamagedAtlasError(f"{run.folder.where(run.path('run.json'))} is not a search run: {error}") from error

    @property
    def hits_schema(self) -> Any:
        """The columns of the run's hits."""
        return HITS[self.settings.search]

    def hit_files(self) -> list[str]:
        """Return the paths of the files that hold the run's rows. Raise DamagedAtlasError."""
        kept = [file.path for file in self.run.document.inputs.get(KEPT_TABLE, ())]
        return kept + [entry.files[HITS_TABLE].path for entry in self.run.entries().values()]

    def member_files(self) -> list[str]:
        """Return the paths of the files that say which structures inherit from which."""
        return [file.path for file in self.run.document.inputs.get(MEMBERS_TABLE, ())]


def search_runs(folder: AtlasFolder) -> list[tuple[SearchRun, Completed]]:
    """Return the complete search runs of an atlas, the one completed first first. Raise DamagedAtlasError."""
    return [(SearchRun.of(done.run), done) for done in completed_runs(folder, KIND)]


def latest_search(folder: AtlasFolder, search: str) -> SearchRun | None:
    """Return the search of structures or sequences that was completed last, which `proteins` shows, or None."""
    found = [run for run, _ in search_runs(folder) if run.settings.search == search]
    return found[-1] if found else None


def base_of(folder: AtlasFolder, reference: Reference, recipe: dict[str, Any]) -> SearchRun | None:
    """Return the latest complete run of the same recipe against this reference, or an earlier version of it, or None.

    Versions are matched by digest: the reference's folder must still have the document of that version, or of the
    next, which names it.
    """
    for run, _ in reversed(search_runs(folder)):
        same = run.settings.search == reference.kind and run.settings.recipe == recipe
        if same and is_version_of(reference, run.settings.version, run.settings.digest):
            return run
    return None


def is_version_of(reference: Reference, version: int, digest: str) -> bool:
    """Whether an earlier version, or this one, of `reference` has this number and digest."""
    if version >= reference.version:
        return (version, digest) == (reference.version, reference.digest)
    folder = ReferenceFolder(reference.root)
    for number in (version, version + 1):
        try:
            document = folder.document(number)
        except UsageError:
            continue  # `foldatlas reference --keep` deleted it
        return digest == (document.digest if number == version else document.previous)
    return False


def notes_for(reference: Reference, place: str, base: SearchRun | None) -> RunNotes:
    """Return the notes of a run against `reference`, which a user named as `place`, that takes over rows of `base`."""
    own = SearchVersion(reference.version, reference.digest)
    earlier = [one for one in base.notes.versions if one != own] if base is not None else []
    return RunNotes(
        reference="demo" if reference.is_demo else Path(place).resolve().name,
        place=str(reference.root),
        entries=len(reference),
        demo=reference.is_demo,
        licences=list(reference.document.licences),
        versions=[*earlier, own],
    )
