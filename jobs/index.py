"""`foldatlas index`: build the SQL index of an atlas anew."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.jobs.arguments import ATLAS_HELP, path

if TYPE_CHECKING:
    from foldatlas.atlas.accounting import Accounting

EXAMPLES: Final = """examples:
  foldatlas index atlas

Folding ends with it; it is needed by hand after an interruption, to query what is there, or if the index was lost.
"""


def index(atlas: str | Path) -> "Accounting":
    """Builds `atlas.duckdb` from what the manifest lists, finished or not, and puts it in place of the old one."""
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.index.build import build_index

    return build_index(AtlasFolder.existing(atlas))


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("atlas", type=path, metavar="ATLAS", help=ATLAS_HELP)


def run(arguments: argparse.Namespace) -> int:
    print(index(arguments.atlas).line())
    return 0
