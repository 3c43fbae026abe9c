"""`foldatlas query`: query an atlas with SQL."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from foldatlas.jobs.arguments import ATLAS_HELP, add_memory_limit, path, say, seconds, statement
from foldatlas.schemas.errors import QueryError, UsageError
from foldatlas.schemas.wording import counted

if TYPE_CHECKING:
    from foldatlas.atlas.sql.result_formats import Written

EXAMPLES: Final = """examples:
  foldatlas query atlas "select count(*), avg(mean_plddt) from proteins"
  foldatlas query atlas "select * from high_confidence" --format csv > confident.csv
  foldatlas query atlas "select * from residues($id)" -p id=P12345
  foldatlas query atlas --file question.sql --format parquet > answer.parquet
  foldatlas query atlas --schema

`--schema` lists tables, views, columns, macros and functions. docs/sql.md has example queries.
"""

FORMATS: Final = ("table", "csv", "tsv", "json", "jsonl", "parquet")
TEXT_FORMATS: Final = ("csv", "tsv")


def query(
    atlas: str | Path,
    sql: str,
    params: Mapping[str, Any] | Sequence[Any] | None = None,
    *,
    format: str = "table",
    file: IO[bytes] | None = None,
    spreadsheet_safe: bool = False,
    memory_limit: str | None = None,
    seconds: float | None = None,
) -> "Written":
    """Write the result of one read-only SQL statement, in one of FORMATS, to `file` (None: standard output).

    `params` are values of `$name` in the statement, or a list, of `$1` or `?`. `spreadsheet_safe` puts an apostrophe
    before texts of csv and tsv that a spreadsheet would take for formulas. `memory_limit` is DuckDB's, such as "4GB";
    `seconds` limits the time of the statement. Raise QueryError for SQL that is wrong or would write, or takes too
    long. For rows in Python use `foldatlas.atlas.reader.Atlas`.
    """
    from foldatlas.atlas.reader import Atlas
    from foldatlas.atlas.sql import result_formats

    if spreadsheet_safe and format not in TEXT_FORMATS:
        raise UsageError(f"--spreadsheet-safe is for {' and '.join(TEXT_FORMATS)}, not {format}")
    with Atlas.open(atlas, memory_limit=memory_limit) as opened:
        if opened.is_stale:
            say(f"the index is older than the atlas: run `foldatlas index {atlas}`")
        target = file if file is not None else sys.stdout.buffer
        options = {"spreadsheet_safe": True} if spreadsheet_safe else {}
        written = result_formats.FORMATS[format](opened.sql(sql, params, seconds=seconds), target, **options)
        target.flush()
        return written


def schema(atlas: str | Path, *, format: str = "table", file: IO[bytes] | None = None) -> "Written":
    """Write what SQL sees of an atlas, `Atlas.schema()`, in one of FORMATS."""
    from foldatlas.atlas.reader import Atlas
    from foldatlas.atlas.sql import result_formats

    with Atlas.open(atlas) as opened:
        target = file if file is not None else sys.stdout.buffer
        written = result_formats.FORMATS[format](opened.schema(), target)
        target.flush()
        return written


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("atlas", type=path, metavar="ATLAS", help=ATLAS_HELP)
    parser.add_argument("sql", nargs="?", type=statement, metavar="SQL", help="one read-only SQL statement, in quotes")
    parser.add_argument("--file", type=path, metavar="FILE", help="file with the statement; - for standard input")
    parser.add_argument(
        "--schema", action="store_true", help="list tables, views, columns, macros and functions with their meaning"
    )
    parser.add_argument(
        "-p",
        "--param",
        action="append",
        default=[],
        type=parameter,
        metavar="NAME=VALUE",
        help="value of $NAME in the statement; can be repeated",
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="table", help="format of the result (default: %(default)s)"
    )
    parser.add_argument(
        "--spreadsheet-safe",
        action="store_true",
        help="csv and tsv: put an apostrophe before texts that a spreadsheet would take for formulas",
    )
    add_memory_limit(parser, "80%% of the machine's")
    parser.add_argument(
        "--time-limit", type=seconds, metavar="SECONDS", help="stop the statement after this time (default: none)"
    )


def parameter(text: str) -> tuple[str, str]:
    """Parse NAME=VALUE, in UTF-8."""
    name, equals, value = statement(text).partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name.removeprefix("$"), value


def run(arguments: argparse.Namespace) -> int:
    if arguments.format == "parquet" and sys.stdout.isatty():
        raise UsageError("Parquet is binary: redirect it to a file with > result.parquet")
    if (arguments.sql is not None) + (arguments.file is not None) + arguments.schema != 1:
        raise UsageError("give one of: the SQL, --file with a file of SQL, --schema")
    if arguments.schema:
        written = schema(arguments.atlas, format=arguments.format)
    else:
        written = query(
            arguments.atlas,
            arguments.sql if arguments.file is None else _read(arguments.file),
            dict(arguments.param),
            format=arguments.format,
            spreadsheet_safe=arguments.spreadsheet_safe,
            memory_limit=arguments.memory_limit,
            seconds=arguments.time_limit,
        )
    if not written.complete:
        say(f"only the first {written.rows:,} rows are shown: use --format csv for all")
    elif arguments.format == "table":
        say(counted(written.rows, "row"))
    return 0


def _read(name: str) -> str:
    """Return the SQL in a file. Raise QueryError."""
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise QueryError(f"{name} is not UTF-8 text") from None
    except OSError as error:
        raise QueryError(f"{name} cannot be read: {error.strerror or os.strerror(error.errno or 0)}") from None
