"""Drop what `verify` found at fault and what can be made again: shards, runs of derived stages, packs, the index.

A shard is dropped by deleting its manifest entries; then it is one that was not folded yet, and its files are
leftovers.
Plans, records and sequences are made from FASTA alone, so faults of these need a copy.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePath

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.stages.run import COMPLETE, RUN
from foldatlas.atlas.storage import packs
from foldatlas.atlas.verify.fault import Fault, Mend


@dataclass(frozen=True)
class Repair:
    """What is to be dropped: shards, runs (`kind/name`) and files, by name. Only a copy mends the faults `left`."""

    shards: tuple[str, ...]
    runs: tuple[str, ...]
    files: tuple[str, ...]
    index: bool
    left: tuple[Fault, ...]

    @classmethod
    def of(cls, faults: Iterable[Fault]) -> "Repair":
        """Sort faults by what mends them."""
        by_mend: dict[Mend, list[Fault]] = {mend: [] for mend in Mend}
        for fault in faults:
            by_mend[fault.next_step.mend].append(fault)
        shards, runs, files = (
            tuple(sorted({fault.next_step.subject for fault in by_mend[mend]}))
            for mend in (Mend.FOLD, Mend.RUN, Mend.DELETE)
        )
        return cls(shards, runs, files, bool(by_mend[Mend.INDEX]), tuple(by_mend[Mend.NONE]))

    def lines(self) -> list[str]:
        """Return what will be done, a line for each thing."""
        return [
            *(f"shard {name}: dropped, to be folded again" for name in self.shards),
            *(f"{name}: dropped, run the same command again" for name in self.runs),
            *(f"{name}: deleted" for name in self.files),
            *(["the index: built again"] if self.index or self.shards or self.runs else []),
        ]


def repair(folder: AtlasFolder, faults: Repair, fold: Callable[[], object]) -> None:
    """Drop what `faults` names, call `fold` for the shards that are missing then, and build the index.

    Interrupted, it leaves shards to fold and runs to run, as an unfinished job does.
    """
    storage = folder.storage
    listed = [file.name for file in storage.files("manifest")]
    dropped = set(faults.shards)
    # Copies of documents first: readers of a store take a document from a pack.
    copies = [file.name for file in storage.files(packs.FOLDER)] if dropped else list(faults.files)
    for name in copies:
        storage.delete(name)
    for name in listed:
        if PurePath(name).name.split(".")[0] in dropped:
            storage.delete(name)
    for run in faults.runs:
        last, first = f"{run}/{COMPLETE}", f"{run}/{RUN}"
        files = [file.name for file in storage.files(run)]
        # What makes the run complete goes first, and what makes it exist last.
        for name in sorted(files, key=lambda name: (name == first, name != last)):
            storage.delete(name)
    if dropped:
        fold()
    if dropped or faults.runs or faults.index:
        build_index(AtlasFolder(folder.uri), full=True)  # what is damaged must not be continued
