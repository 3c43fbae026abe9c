"""`foldatlas diff`: what differs between two atlases."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.atlas.diff.tolerances import Tolerances
from foldatlas.jobs.arguments import ATLAS_HELP, not_negative_number, path, positive, say
from foldatlas.jobs.progress import progress_bar
from foldatlas.schemas.errors import UsageError

if TYPE_CHECKING:
    from foldatlas.atlas.diff.differences import Differences

EXAMPLES: Final = """examples:
  foldatlas diff last_year this_year
  foldatlas diff mine theirs --plddt 1 --rmsd 0.5
  foldatlas diff last_year this_year --format parquet > differences.parquet

Compares present records by id: new, lost, of another sequence, with another outcome. Compares structures of the same
sequence: confidence, coordinates, novelty, clusters. The text lists the first differences of each kind; the other
formats have all of them, one row each. The exit code is 3 if there are differences.
"""

FORMATS: Final = ("text", "csv", "tsv", "json", "jsonl", "parquet")


@contextmanager
def diff(
    first: str | Path, second: str | Path, *, tolerances: Tolerances | None = None, coordinates: bool = True
) -> Iterator["Differences"]:
    """Yield the differences of the atlas `second` from the atlas `first`; without `coordinates`, by the indexes alone.

    Raise NotAnAtlasError for an atlas that does not exist or has no index, UsageError for two names of one atlas.
    """
    from foldatlas.atlas.diff.compare import diff_atlases
    from foldatlas.atlas.reader import Atlas

    with (
        Atlas.open(first) as one,
        Atlas.open(second) as other,
        progress_bar("structures") as progress,
    ):
        for atlas in (one, other):
            if atlas.is_stale:
                say(f"the index is older than the atlas: run `foldatlas index {atlas.folder.uri}`")

        with diff_atlases(one, other, tolerances, coordinates=coordinates, progress=progress) as differences:
            yield differences


def configure(parser: argparse.ArgumentParser) -> None:
    defaults = Tolerances()
    parser.add_argument("first", type=path, metavar="A", help=ATLAS_HELP)
    parser.add_argument("second", type=path, metavar="B", help="the atlas that is compared with it")
    parser.add_argument("--format", choices=FORMATS, default="text", help="format (default: %(default)s)")
    parser.add_argument(
        "--limit", type=positive, default=10, metavar="N", help="lines of each kind in the text (default: %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="compare by the indexes alone, without coordinates")
    limits = parser.add_argument_group("differences up to these are ignored")
    for name, unit in (("plddt", "pLDDT, 0 to 100"), ("ptm", "pTM"), ("rmsd", "RMSD of all atoms, angstrom"),
                       ("similarity", "TM-score and sequence identity of novelty, 0 to 1"),
                       ("pae", "mean predicted aligned error, angstrom")):  # fmt: skip
        limits.add_argument(
            f"--{name}",
            type=not_negative_number,
            default=getattr(defaults, name),
            metavar="X",
            help=f"{unit} (%(default)s)",
        )


def run(arguments: argparse.Namespace) -> int:
    from foldatlas.atlas.diff.summary import summary_lines
    from foldatlas.atlas.sql import result_formats

    if arguments.format == "parquet" and sys.stdout.isatty():
        raise UsageError("Parquet is binary: redirect it to a file with > differences.parquet")
    tolerances = Tolerances(arguments.plddt, arguments.ptm, arguments.rmsd, arguments.similarity, arguments.pae)
    with diff(arguments.first, arguments.second, tolerances=tolerances, coordinates=not arguments.quick) as differences:
        if arguments.format == "text":
            for line in summary_lines(differences, arguments.limit):
                print(line)
        else:
            result_formats.FORMATS[arguments.format](differences.result(), sys.stdout.buffer)
            sys.stdout.buffer.flush()
        return 3 if differences.counts() else 0
