"""The arguments of `plan` and `fold`, resolved once and shared by both.

The public functions take flat arguments. What those mean together (files, model, engine) is checked and looked up
here, into frozen objects that the work takes.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from foldatlas.jobs.weights import provide
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.records import DEFAULT_MAX_LENGTH, Settings

if TYPE_CHECKING:
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.folding.config import ESMFoldConfig
    from foldatlas.pipeline.engines.engine import Engine


@dataclass(frozen=True)
class Inputs:
    """The files to plan (paths, patterns or addresses; possibly none) and how they are read.

    `max_length` in residues; with `genes` the files are contigs; `name` replaces the URI of the one source as its
    identity; `replace` accepts a version that keeps fewer than half of the earlier ids.
    """

    fasta: tuple[str, ...]
    max_length: int = DEFAULT_MAX_LENGTH
    genes: bool = False
    name: str | None = None
    replace: bool = False

    def check(self) -> None:
        """Raise UsageError for options that need files where there are none."""
        if self.fasta:
            return
        if self.genes:
            raise UsageError("--genes needs FASTA files, and none is given: give one before ATLAS, or omit --genes")
        if self.name is not None:
            raise UsageError(
                f"--as {self.name} needs a FASTA file, and none is given: give one before ATLAS, or omit --as"
            )

    def folder(self, atlas: str | Path) -> "AtlasFolder":
        """Return the folder of `atlas`, which may be new if there are files. Raise NotAnAtlasError otherwise."""
        from foldatlas.atlas.folder import AtlasFolder

        return AtlasFolder(atlas) if self.fasta else AtlasFolder.existing(atlas)

    def check_paths(self, folder: "AtlasFolder") -> None:
        """Raise the error that planning would raise for missing files or for a folder that is not an atlas.

        Cheap: it is called before a model is downloaded.
        """
        from foldatlas.pipeline.planning.versions import renamed
        from foldatlas.pipeline.sources.find import find_sources

        folder.refuse_foreign()
        if self.fasta and (found := find_sources(self.fasta, genes=self.genes, skip_pipes=True)):
            renamed(found, self.name)


@dataclass(frozen=True)
class ModelChoice:
    """A folding model that is on this machine. `name` and `weights_dir` are as given; the rest was read from it."""

    name: str
    weights_dir: str | None
    settings: Settings
    config: "ESMFoldConfig"

    @classmethod
    def resolve(
        cls,
        name: str,
        recycles: int | None,
        precision: str,
        weights_dir: str | None,
        *,
        recycle_tolerance: float | None = None,
        before: Callable[[], object],
    ) -> "ModelChoice":
        """Read settings and sizes of the model `name`; download a published model that is missing.

        `recycles` None means the model's default; `recycle_tolerance` as in Settings. `before` is called before a
        download. Raise ModelError.
        """
        from foldatlas.folding.models import config_of, settings_of

        provide(name, weights_dir, before=before)
        settings = settings_of(name, recycles, precision, recycle_tolerance=recycle_tolerance, weights_dir=weights_dir)
        return cls(name, weights_dir, settings, config_of(name, weights_dir=weights_dir))


@dataclass(frozen=True)
class EngineChoice:
    """An engine with the device of its workers: "cpu", "cuda" or "cuda:N", and the device's model ("" if unknown)."""

    engine: "Engine"
    device: str
    device_name: str

    @classmethod
    @contextlib.contextmanager
    def opened(cls, engine: "Engine", device: str) -> "Iterator[EngineChoice]":
        """Start what `engine` needs (a cluster on this machine) for the block, and resolve `device` "auto".

        Raise UsageError for a device that is not available.
        """
        from foldatlas.pipeline.engines import dispatch

        with dispatch.opened(engine, device) as found:
            yield cls(engine, found, dispatch.device_name(engine, found))
