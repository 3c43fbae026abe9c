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
  foldatlas verify atlas --full

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


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("atlas", type=path, metavar="ATLAS", help=ATLAS_HELP)
    depth = parser.add_mutually_exclusive_group()
    depth.add_argument("--quick", action="store_true", help="check only names and sizes, not the content of files")
    depth.add_argument(
        "--full",
        action="store_true",
        help="also count unusual geometry (notes, not faults), and read a sample of PDB files with other programs",
    )


def run(arguments: argparse.Namespace) -> int:
    found = verify(arguments.atlas, quick=arguments.quick, full=arguments.full)
    for note in found.notes:
        say(f"note: {note}")
    for fault in found.faults:
        print(fault)
    print(found.line())
    return 3 if found.faults else 0
