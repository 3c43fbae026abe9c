"""`foldatlas status`: what is folded, what is left, and how long it will take."""

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

It reads only plans and manifest, so it works while a run is in progress and from any machine.
"""


def status(atlas: str | Path) -> "AtlasStatus":
    """Return the progress of `atlas`, read from its plans and manifest. Raise NotAnAtlasError."""
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.status import status as read

    return read(AtlasFolder.existing(atlas))


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("atlas", type=path, metavar="ATLAS", help=ATLAS_HELP)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--watch", type=positive, metavar="SECONDS", help="repeat at this interval until everything is folded"
    )


def run(arguments: argparse.Namespace) -> int:
    while not _show(arguments) and arguments.watch:
        sleep(arguments.watch)
    return 0


def _show(arguments: argparse.Namespace) -> bool:
    """Print the status once and return whether the atlas is complete."""
    found = status(arguments.atlas)
    if arguments.json:
        derived = {
            "is_complete": found.is_complete,
            "proteins_left": found.proteins_left,
            "residues_per_second": found.residues_per_second,
        }
        print(json.dumps({**dataclasses.asdict(found), **derived}), flush=True)
    else:
        print("\n".join([*found.lines(), ""] if arguments.watch else found.lines()), flush=True)
    return found.is_complete
