"""`foldatlas verify`: check every file of an atlas against digests and plan, and repair what can be made again."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.jobs.arguments import ATLAS_HELP, add_weights, path, say
from foldatlas.jobs.choices import EngineChoice, ModelChoice
from foldatlas.schemas.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.verify.atlas import Verification

EXAMPLES: Final = """examples:
  foldatlas verify atlas
  foldatlas verify atlas --quick
  foldatlas verify atlas --full
  foldatlas verify atlas --repair
  foldatlas verify atlas --repair --source /new/place/proteins.fasta

Prints one line per fault to standard output, with how to repair it. The exit code is 3 if there are faults.
"""


def verify(atlas: str | Path, *, quick: bool = False, full: bool = False) -> "Verification":
    """Check files, rows, scores, records and index.

    With `quick`, check only the existence and size of every listed file. With `full`, also count chain breaks, cis
    peptides, D-residues and clashes, and read PDB files of a sample with gemmi and Biopython.
    """
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.verify.atlas import verify as check

    return check(AtlasFolder.existing(atlas), deep=not quick, full=full)


def repair(
    atlas: str | Path,
    *,
    found: "Verification | None" = None,
    model: str | None = None,
    weights: str | Path | None = None,
    device: str = "auto",
    sources: Sequence[str] = (),
) -> "Verification":
    """Make what is at fault in an atlas again, or drop it, and verify again (atlas/verify/repair.py).

    `found` is what `verify` returned (None: verify first). `model`: None for the model that the atlas names; a model
    in a folder must be given. `sources`: FASTA files that were planned and are elsewhere now. Raise UsageError or
    ModelError with nothing dropped.
    """
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.verify import repair as repairs
    from foldatlas.atlas.verify.correction import correct_documents
    from foldatlas.schemas.formats import IMPORTED_SETTINGS

    folder = AtlasFolder.existing(atlas)
    if found is None:
        _correct_header(atlas)
        found = verify(atlas)
    # a document that is read again may list others that are damaged
    while corrected := correct_documents(folder, (fault.where for fault in found.faults if fault.kind == "document")):
        say(*(f"{name}: a flipped bit is corrected" for name in corrected))
        folder, found = AtlasFolder(folder.uri), verify(atlas)
    wanted = repairs.Repair.of(found.faults)
    if not wanted.lines():
        return found
    weights_dir = None if weights is None else str(Path(weights).absolute())
    # The model and the device are looked at before anything is dropped.
    is_imported = folder.header().settings == IMPORTED_SETTINGS
    choice = _model_of(folder, model, weights_dir) if wanted.shards and not is_imported else None
    say(*wanted.lines(imported=is_imported))
    wanted = wanted.without_shards_of(repairs.plan_again(folder, wanted, _planner(folder, sources), say))
    if is_imported:
        say(*repairs.repair(folder, wanted, lambda: _settle(folder, wanted.shards)))
    elif choice is None or not wanted.shards:
        say(*repairs.repair(folder, wanted, lambda: None))
    else:
        from foldatlas.pipeline.engines.choose import choose_engine

        with EngineChoice.opened(choose_engine(None, None, ()), device) as engine:
            say(*repairs.repair(folder, wanted, lambda: _fold(folder, choice, engine)))
    return verify(atlas)


def _settle(folder: "AtlasFolder", shards: Sequence[str]) -> None:
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.pipeline.importing.lost import settle_dropped

    say(*settle_dropped(AtlasFolder(folder.uri), shards))  # reads the manifest again


def _correct_header(atlas: str | Path) -> None:
    """Correct a flipped bit of the header: without it nothing can be verified."""
    from foldatlas.atlas.folder import HEADER, AtlasFolder
    from foldatlas.atlas.verify.correction import correct_documents

    say(*(f"{name}: a flipped bit is corrected" for name in correct_documents(AtlasFolder.existing(atlas), [HEADER])))


def _planner(folder: "AtlasFolder", sources: Sequence[str]) -> "Callable[[str], Mapping[str, str]]":
    """Return a function that makes the files of a plan again, and returns those that it cannot make."""
    from foldatlas.atlas.verify.derived_tables import derive_tables
    from foldatlas.pipeline.planning.again import make_tables_again
    from foldatlas.schemas.formats import IMPORTED_SETTINGS

    if folder.header().settings == IMPORTED_SETTINGS:
        return lambda plan: derive_tables(folder, plan)
    return lambda plan: make_tables_again(folder, plan, sources)


def _model_of(folder: "AtlasFolder", model: str | None, weights_dir: str | None) -> ModelChoice:
    """Return the model of the atlas, on this machine and with the atlas's settings."""
    settings = folder.header().settings
    choice = ModelChoice.resolve(
        model or settings.model,
        settings.recycles,
        settings.precision,
        weights_dir,
        recycle_tolerance=settings.recycle_tolerance,
        before=folder.refuse_foreign,
    )
    folder.check_settings(choice.settings)
    return choice


def _fold(folder: "AtlasFolder", choice: ModelChoice, engine: EngineChoice) -> None:
    """Fold the missing shards, with the outputs that all others have."""
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.folding.weights.model_files import absolute
    from foldatlas.pipeline.shards.run import fold_atlas
    from foldatlas.pipeline.workers.supervisor import WorkerSpec
    from foldatlas.schemas.tables import OPTIONAL_TABLES

    fresh = AtlasFolder(folder.uri)  # reads the manifest again
    entries = fresh.entries().values()
    outputs = [table for table in OPTIONAL_TABLES if entries and all(table in entry.files for entry in entries)]
    worker = WorkerSpec(absolute(choice.name), choice.settings, engine.device, choice.weights_dir)
    fold_atlas(fresh, worker, outputs=outputs, engine=engine.engine)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("atlas", type=path, metavar="ATLAS", help=ATLAS_HELP)
    depth = parser.add_mutually_exclusive_group()
    depth.add_argument("--quick", action="store_true", help="check only names and sizes, not the content of files")
    depth.add_argument(
        "--full",
        action="store_true",
        help="also count unusual geometry (notes, not faults), and read a sample of PDB files with other programs",
    )
    mending = parser.add_argument_group("repair")
    mending.add_argument(
        "--repair",
        action="store_true",
        help="make what is at fault again from its sources or by folding, or drop it, and verify again",
    )
    mending.add_argument(
        "--source",
        action="append",
        default=[],
        dest="sources",
        type=path,
        metavar="FASTA",
        help="a file that was planned and is elsewhere now; can be repeated",
    )
    mending.add_argument(
        "--model", type=path, metavar="NAME", help="the atlas's model, if it is not a published one: its path"
    )
    add_weights(mending)
    mending.add_argument(
        "--device", default="auto", metavar="DEVICE", help="where the network runs: auto, cpu, cuda or cuda:N"
    )


def run(arguments: argparse.Namespace) -> int:
    given = arguments.model or arguments.weights or arguments.sources or arguments.device != "auto"
    if given and not arguments.repair:
        raise UsageError("--model, --weights, --source and --device belong to --repair: pass it too")
    if arguments.repair:
        _correct_header(arguments.atlas)
    found = verify(arguments.atlas, quick=arguments.quick, full=arguments.full)
    if arguments.repair and found.faults:
        for fault in found.faults:
            say(str(fault))
        found = repair(
            arguments.atlas,
            found=found,
            model=arguments.model,
            weights=arguments.weights,
            device=arguments.device,
            sources=arguments.sources,
        )
    for note in found.notes:
        say(f"note: {note}")
    for fault in found.faults:
        print(fault)
    print(found.line())
    return 3 if found.faults else 0
