"""`foldatlas query`: query an atlas with SQL."""

import argparse
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from foldatlas.jobs.arguments import ATLAS_HELP, path, say, statement
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.wording import counted

if TYPE_CHECKING:
    from foldatlas.atlas.sql.result_formats import Written

EXAMPLES: Final = """examples:
  foldatlas query atlas "select count(*), avg(mean_plddt) from proteins"
  foldatlas query atlas "select * from high_confidence" --format csv > confident.csv
  foldatlas query atlas "describe proteins"

Tables and views: proteins (one row per folded record), high_confidence, novel, records, refused, failures, runs,
files, settings; read from Parquet: sequences, structures, embeddings, residue_embeddings, pae. docs/sql.md has example
queries.
"""

FORMATS: Final = ("table", "csv", "tsv", "json", "jsonl", "parquet")


def query(atlas: str | Path, sql: str, *, format: str = "table", file: IO[bytes] | None = None) -> "Written":
    """Write the result of one read-only SQL statement, in one of FORMATS, to `file` (None: standard output).

    Raise QueryError for SQL that is wrong or would write. For rows in Python use `foldatlas.atlas.reader.Atlas`.
    """
    from foldatlas.atlas.reader import Atlas
    from foldatlas.atlas.sql import result_formats

    with Atlas.open(atlas) as opened:
        if opened.is_stale:
            say(f"the index is older than the atlas: run `foldatlas index {atlas}`")
        target = file if file is not None else sys.stdout.buffer
        written = result_formats.FORMATS[format](opened.query(sql), target)
        target.flush()
        return written


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("atlas", type=path, metavar="ATLAS", help=ATLAS_HELP)
    parser.add_argument("sql", type=statement, metavar="SQL", help="one read-only SQL statement, in quotes")
    parser.add_argument(
        "--format", choices=FORMATS, default="table", help="format of the result (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.format == "parquet" and sys.stdout.isatty():
        raise UsageError("Parquet is binary: redirect it to a file with > result.parquet")
    written = query(arguments.atlas, arguments.sql, format=arguments.format)
    if not written.complete:
        say(f"only the first {written.rows:,} rows are shown: use --format csv for all")
    elif arguments.format == "table":
        say(counted(written.rows, "row"))
    return 0
