"""`foldatlas verify`: check every file of an atlas against its digests and its plan."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.jobs.arguments import ATLAS_HELP, path, say

if TYPE_CHECKING:
    from foldatlas.atlas.verify.atlas import Verification

EXAMPLES: Final = """examples:
  foldatlas verify atlas
  foldatlas verify atlas --quick

A fault a line on standard output, with what to do about it; exit code 3 if there is any.
"""


def verify(atlas: str | Path, *, quick: bool = False) -> "Verification":
    """Checks files, rows, scores, records and index; `quick`: only that every listed file is there, by its size."""
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.verify.atlas import verify as check

    return check(AtlasFolder.existing(atlas), deep=not quick)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("atlas", type=path, metavar="ATLAS", help=ATLAS_HELP)
    parser.add_argument("--quick", action="store_true", help="look at names and sizes alone, not into the files")


def run(arguments: argparse.Namespace) -> int:
    found = verify(arguments.atlas, quick=arguments.quick)
    for note in found.notes:
        say(f"note: {note}")
    for fault in found.faults:
        print(fault)
    print(found.line())
    return 3 if found.faults else 0
