"""`foldatlas status`: what is done, what is left, and how long it will take."""

import argparse
import dataclasses
import json
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Final

from foldatlas.jobs.arguments import ATLAS_HELP, path, positive

if TYPE_CHECKING:
    from foldatlas.atlas.status import AtlasStatus

EXAMPLES: Final = """examples:
  foldatlas status atlas
  foldatlas status atlas --json
  foldatlas status atlas --watch 60

It reads plans and manifest alone, so it can be asked while a run goes on, and from another machine.
"""


def status(atlas: str | Path) -> "AtlasStatus":
    """What plans and manifest of `atlas` say. Raises NotAnAtlasError."""
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.status import status as read

    return read(AtlasFolder.existing(atlas))


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("atlas", type=path, metavar="ATLAS", help=ATLAS_HELP)
    parser.add_argument("--json", action="store_true", help="one JSON object, for programs")
    parser.add_argument(
        "--watch", type=positive, metavar="SECONDS", help="say it again every so often, until all is done"
    )


def run(arguments: argparse.Namespace) -> int:
    while not _tell(arguments) and arguments.watch:
        sleep(arguments.watch)
    return 0


def _tell(arguments: argparse.Namespace) -> bool:
    """Prints the status once. Returns whether the atlas is complete."""
    told = status(arguments.atlas)
    if arguments.json:
        derived = {
            "is_complete": told.is_complete,
            "proteins_left": told.proteins_left,
            "residues_per_second": told.residues_per_second,
        }
        print(json.dumps({**dataclasses.asdict(told), **derived}), flush=True)
    else:
        print("\n".join([*told.lines(), ""] if arguments.watch else told.lines()), flush=True)
    return told.is_complete
