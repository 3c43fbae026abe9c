"""`foldatlas index`: rebuild the SQL index of an atlas."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.jobs.arguments import ATLAS_HELP, path

if TYPE_CHECKING:
    from foldatlas.atlas.accounting import Accounting

EXAMPLES: Final = """examples:
  foldatlas index atlas

`foldatlas fold` builds the index at its end. Run this after an interruption, to query what is folded so far, or if the
index was lost.
"""


def index(atlas: str | Path) -> "Accounting":
    """Build `atlas.duckdb` from the files that the manifest lists, complete or not, and replace the old index."""
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.index.build import build_index

    return build_index(AtlasFolder.existing(atlas))


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("atlas", type=path, metavar="ATLAS", help=ATLAS_HELP)


def run(arguments: argparse.Namespace) -> int:
    print(index(arguments.atlas).line())
    return 0
