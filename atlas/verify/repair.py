"""Make again what `verify` found at fault, or drop it to be made again, and nothing else.

documents             a flipped bit is corrected (correction.py), whatever the document
records, sequences    planned again from the sources of their plan, if these still have the bytes that were read; of
                      imports, from the index and the structures (derived_tables.py)
shards                dropped by deleting their manifest entries, and folded again; of imported structures, to be
                      imported again, or recorded as lost where the source no longer exists
runs of stages        dropped, for the same command to run again
annotations           written again from their rows in the index
packs, the index      deleted, built again

A plan's document that differs by more than one bit, and sources that no longer exist, need a copy.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.stages.run import COMPLETE, RUN
from foldatlas.atlas.storage import packs
from foldatlas.atlas.verify.annotations import restore_annotation
from foldatlas.atlas.verify.fault import Fault, Mend
from foldatlas.schemas.errors import DamagedAtlasError, FoldAtlasError
from foldatlas.schemas.manifest import plan_of_shard


@dataclass(frozen=True)
class Repair:
    """What is to be made again or dropped: shards, runs (`kind/name`), plans, annotations and files, by name. `plans`
    are of faults of records and sequences. Only a copy mends the faults `left`."""

    shards: tuple[str, ...]
    runs: tuple[str, ...]
    plans: Mapping[str, tuple[str, ...]]  # their files at fault, by plan
    annotations: tuple[str, ...]
    files: tuple[str, ...]
    index: bool
    left: tuple[Fault, ...]

    @classmethod
    def of(cls, faults: Iterable[Fault]) -> "Repair":
        """Sort faults by what mends them."""
        by_mend: dict[Mend, list[Fault]] = {mend: [] for mend in Mend}
        for fault in faults:
            by_mend[fault.next_step.mend].append(fault)
        shards, runs, annotations, files = (
            tuple(sorted({fault.next_step.subject for fault in by_mend[mend]}))
            for mend in (Mend.FOLD, Mend.RUN, Mend.ANNOTATION, Mend.DELETE)
        )
        plans: dict[str, set[str]] = {}
        for fault in by_mend[Mend.PLAN]:
            plans.setdefault(fault.next_step.subject, set()).add(fault.where)
        return cls(
            shards,
            runs,
            {name: tuple(sorted(paths)) for name, paths in sorted(plans.items())},
            annotations,
            files,
            bool(by_mend[Mend.INDEX]),
            tuple(by_mend[Mend.NONE]),
        )

    def lines(self, *, imported: bool = False) -> list[str]:
        """Return what will be done, a line for each thing. `imported`: the structures were imported, not folded."""
        again = "dropped" if imported else "dropped, to be folded again"
        origin = "the index and the structures" if imported else "the sources"
        return [
            *(f"{path}: to be made again from {origin}" for paths in self.plans.values() for path in paths),
            *(f"shard {name}: {again}" for name in self.shards),
            *(f"{name}: dropped, run the same command again" for name in self.runs),
            *(f"annotation {name}: written again from the index" for name in self.annotations),
            *(f"{name}: deleted" for name in self.files),
            *(["the index: built again"] if self.index or self.shards or self.runs else []),
        ]

    def without_shards_of(self, plans: Iterable[str]) -> "Repair":
        """Return the same repair without shards of `plans`, whose sequences are lost: they could not be folded."""
        lost = set(plans)
        kept = tuple(name for name in self.shards if plan_of_shard(name) not in lost)
        return Repair(kept, self.runs, self.plans, self.annotations, self.files, self.index, self.left)


def plan_again(
    folder: AtlasFolder, faults: Repair, again: Callable[[str], Mapping[str, str]], lost: Callable[[str], object]
) -> list[str]:
    """Call `again` with each plan whose files are at fault, in the order in which they were planned, and return the
    plans whose shards cannot be folded then: sequences are lost, or a plan's document.

    `again` replaces the files that it can make exactly as they were committed, and returns the others, each with the
    reason. `lost` is called with a line for each of these.
    """
    stay = []
    try:
        plans = folder.plans()
    except DamagedAtlasError as error:
        stay = sorted({plan_of_shard(name) for name in faults.shards} | set(faults.plans))
        if stay:
            lost(f"no shard is dropped, and no table made again: {error}")
        return stay
    for plan in sorted(plans, key=lambda plan: plan.created):
        wanted = faults.plans.get(plan.name, ())
        if not wanted:
            continue
        try:
            others = again(plan.name)
        except FoldAtlasError as error:
            others = dict.fromkeys(wanted, str(error))
        left = {path: reason for path, reason in others.items() if path in wanted}
        for path, reason in left.items():
            lost(f"{path}: cannot be made again: {reason}")
        if any(path.startswith("sequences/") for path in left):
            stay.append(plan.name)
    return stay


def repair(folder: AtlasFolder, faults: Repair, fold: Callable[[], object]) -> list[str]:
    """Drop the shards, runs and files of `faults`, call `fold` for the shards that are missing then, and build the
    index. Return a line for each annotation, and for the index, that cannot be made again.

    Interrupted, it leaves shards to fold and runs to run, as an unfinished job does.
    """
    left: list[str] = []
    for annotation in faults.annotations:  # from the index as it is
        try:
            restore_annotation(folder, annotation)
        except (DamagedAtlasError, OSError) as error:
            left.append(f"annotation {annotation}: {error}")
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
    if dropped or faults.runs or faults.index or len(left) < len(faults.annotations):
        try:
            build_index(AtlasFolder(folder.uri), full=True)  # what is damaged must not be continued
        except DamagedAtlasError as error:  # of a document or table that is left
            left.append(f"the index: {error}")
    return left
