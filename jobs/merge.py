"""`foldatlas merge`: several atlases of equal settings into a new one."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.jobs.arguments import path, say

if TYPE_CHECKING:
    from foldatlas.atlas.accounting import Accounting

EXAMPLES: Final = """examples:
  foldatlas merge part1 part2 part3 whole
  foldatlas merge published mine together --check

Takes parts of one plan (`foldatlas fold --part K/N` on several machines) and atlases of different proteins; a structure
in several comes from the first one named. The atlases are left as they are. Files are linked on one file system, and
copied, with their sha256 checked, to another.
"""


def merge(atlases: Sequence[str | Path], out: str | Path, *, check: bool = False) -> "Accounting":
    """Merges `atlases` into the new atlas `out`, and indexes it; `check` reads linked files too. Raises UsageError with
    nothing made."""
    from tqdm import tqdm

    from foldatlas.atlas.merge import merge_atlases

    with tqdm(unit="B", unit_scale=True, disable=None, leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return merge_atlases(atlases, out, check=check, progress=show)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("atlases", nargs="+", type=path, metavar="ATLAS", help="folders of two atlases or more")
    parser.add_argument("out", type=path, metavar="OUT", help="folder of the new atlas; must not exist, or be empty")
    parser.add_argument("--check", action="store_true", help="compare the sha256 of files that are linked, too")


def run(arguments: argparse.Namespace) -> int:
    accounting = merge(arguments.atlases, arguments.out, check=arguments.check)
    if accounting.pending:
        say(f"parts are missing: fold the same FASTA into {arguments.out} to go on, or merge again with them")
    print(accounting.line())
    return 0
