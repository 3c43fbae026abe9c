"""`foldatlas verify`: check every file of an atlas against digests and plan, and repair what can be made again."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.jobs.arguments import ATLAS_HELP, add_weights, path, say
from foldatlas.jobs.choices import EngineChoice, ModelChoice
from foldatlas.schemas.errors import UsageError

if TYPE_CHECKING:
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.verify.atlas import Verification

EXAMPLES: Final = """examples:
  foldatlas verify atlas
  foldatlas verify atlas --quick
  foldatlas verify atlas --full
  foldatlas verify atlas --repair

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
) -> "Verification":
    """Drop the shards and runs of an atlas that are at fault, fold the shards again, and verify again.

    `found` is what `verify` returned (None: verify first). `model`: None for the model that the atlas names; a model
    in a folder must be given. Raise UsageError or ModelError with nothing dropped.
    """
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.verify import repair as repairs

    folder = AtlasFolder.existing(atlas)
    found = found if found is not None else verify(atlas)
    wanted = repairs.Repair.of(found.faults)
    if not wanted.lines():
        return found
    weights_dir = None if weights is None else str(Path(weights).absolute())
    # The model and the device are looked at before anything is dropped.
    choice = _model_of(folder, model, weights_dir) if wanted.shards else None
    say(*wanted.lines())
    if choice is None:
        repairs.repair(folder, wanted, lambda: None)
    else:
        from foldatlas.pipeline.engines.choose import choose_engine

        with EngineChoice.opened(choose_engine(None, None, ()), device) as engine:
            repairs.repair(folder, wanted, lambda: _fold(folder, choice, engine))
    return verify(atlas)


def _model_of(folder: "AtlasFolder", model: str | None, weights_dir: str | None) -> ModelChoice:
    """Return the model of the atlas, on this machine and with the atlas's settings."""
    settings = folder.header().settings
    choice = ModelChoice.resolve(
        model or settings.model, settings.recycles, settings.precision, weights_dir, before=folder.refuse_foreign
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

    fresh = AtlasFolder(folder.uri)  # reads the manifest anew
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
        help="drop the shards and runs at fault, fold the shards again, build the index, and verify again",
    )
    mending.add_argument("--model", metavar="MODEL", help="the atlas's model, if it is in a folder: its path")
    add_weights(mending)
    mending.add_argument("--device", default="auto", help="device that folds: auto, cpu, cuda or cuda:N")


def run(arguments: argparse.Namespace) -> int:
    if not arguments.repair and (arguments.model or arguments.weights or arguments.device != "auto"):
        raise UsageError("--model, --weights and --device belong to --repair: pass it too")
    found = verify(arguments.atlas, quick=arguments.quick, full=arguments.full)
    if arguments.repair and found.faults:
        for fault in found.faults:
            say(str(fault))
        found = repair(
            arguments.atlas, found=found, model=arguments.model, weights=arguments.weights, device=arguments.device
        )
    for note in found.notes:
        say(f"note: {note}")
    for fault in found.faults:
        print(fault)
    print(found.line())
    return 3 if found.faults else 0
