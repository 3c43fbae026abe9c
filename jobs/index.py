"""`foldatlas index`: build the SQL index of an atlas, or bring it up to date."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.jobs.arguments import ATLAS_HELP, add_memory_limit, path, say

if TYPE_CHECKING:
    from foldatlas.atlas.accounting import Accounting
    from foldatlas.atlas.serve.search.documents import SearchDatabase

EXAMPLES: Final = """examples:
  foldatlas index atlas
  foldatlas index atlas --full
  foldatlas index atlas --memory-limit 4GB
  foldatlas index atlas --search

`foldatlas fold` builds the index at its end. Run this after an interruption, to query what is folded so far, or if the
index was lost. If new shards, plans, clusters, searches or annotations are all that changed, the index is continued;
otherwise, and with --full, it is built from nothing. --search also builds or continues the search database, with
which `foldatlas serve` searches by sequence, structure and embedding.
"""


def index(atlas: str | Path, *, full: bool = False, memory: str | None = None) -> "Accounting":
    """Bring `atlas.duckdb` up to date with the files that the manifest lists, and replace the old index.

    `full`: build it from nothing. `memory`: limit of DuckDB's memory, such as "4GB" (None: half of the memory).
    """
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.index.build import build_index

    return build_index(AtlasFolder.existing(atlas), full=full, memory_limit=memory)


def search(atlas: str | Path, folder: str | Path | None = None) -> "SearchDatabase":
    """Bring the search database of an indexed atlas up to date, in `folder` (None: ATLAS/search), and return its
    document."""
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.serve.search.build import build_search, search_folder

    def progress(done: int, total: int) -> None:
        say(f"search database: {done:,} of {total:,} residues")

    return build_search(atlas, search_folder(AtlasFolder.existing(atlas), folder), on_progress=progress)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("atlas", type=path, metavar="ATLAS", help=ATLAS_HELP)
    parser.add_argument("--full", action="store_true", help="build from nothing, not from the index that exists")
    add_memory_limit(parser, "half of the machine's", "--memory")
    parser.add_argument("--search", action="store_true", help="also build the database that `foldatlas serve` searches")
    parser.add_argument(
        "--search-folder", type=path, metavar="DIR", help="where the search database is (default: ATLAS/search)"
    )


def run(arguments: argparse.Namespace) -> int:
    print(index(arguments.atlas, full=arguments.full, memory=arguments.memory_limit).line())
    if not arguments.search and arguments.search_folder is None:
        return 0
    database = search(arguments.atlas, arguments.search_folder)
    print(f"search database: {database.structures:,} structures, {database.embeddings:,} with embeddings")
    for file, reason in database.unreadable.items():
        say(f"not searched: {file} ({reason})")
    return 3 if database.unreadable else 0
