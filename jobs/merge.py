"""`foldatlas merge`: several atlases of equal settings into a new one."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.jobs.arguments import path, say
from foldatlas.jobs.progress import progress_bar

if TYPE_CHECKING:
    from foldatlas.atlas.accounting import Accounting

EXAMPLES: Final = """examples:
  foldatlas merge part1 part2 part3 whole
  foldatlas merge published mine together --check

Merges parts of one plan (`foldatlas fold --part K/N` on several machines) and atlases of different proteins. A
structure that is in several atlases is taken from the first. The atlases are not changed. Files are hard-linked within
a file system, and copied to another with their sha256 checked.
"""


def merge(atlases: Sequence[str | Path], out: str | Path, *, check: bool = False) -> "Accounting":
    """Merge `atlases` into the new atlas `out` and build its index; `check` also checks linked files.

    Raise UsageError, with nothing written, for atlases that cannot be merged.
    """
    from foldatlas.atlas.merge import merge_atlases

    with progress_bar("B") as progress:
        return merge_atlases(atlases, out, check=check, progress=progress)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("atlases", nargs="+", type=path, metavar="ATLAS", help="two or more atlases in local folders")
    parser.add_argument("out", type=path, metavar="OUT", help="folder of the new atlas, new or empty")
    parser.add_argument("--check", action="store_true", help="also check the sha256 of files that are linked")


def run(arguments: argparse.Namespace) -> int:
    accounting = merge(arguments.atlases, arguments.out, check=arguments.check)
    if accounting.pending:
        say(f"parts are missing: fold the same FASTA into {arguments.out}, or merge again with the missing parts")
    print(accounting.line())
    return 0
