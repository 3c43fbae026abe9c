"""Read the names in a file for `export --ids`.

The first line determines the format: a plain list (one name per line), or CSV, TSV, JSON Lines or a JSON array, as
`foldatlas query` and other programs write them. Of a table the column `id` is used, or else `structure_id`, or else the
first column (one column of TSV under another header is a list, unless the file's name ends in `.tsv`). A name may begin
with the `>` of a FASTA header; its description is then ignored. Bytes that are not UTF-8 are read as backslash escapes,
as planning stores them in ids.
"""

import contextlib
import csv
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from foldatlas.schemas.errors import UsageError

COLUMNS: Final = ("id", "structure_id")  # the first one that a table has is used

_CELL_LIMIT: Final = 1 << 30  # characters; the default of csv is 131,072


@dataclass(frozen=True)
class NamesFile:
    """The names in a file.

    `read_as` describes in words how it was read. `first_may_be_header`: the first name may be the header of a table
    without a column of COLUMNS.
    """

    names: Iterator[str]
    read_as: str
    first_may_be_header: bool = False


@contextlib.contextmanager
def names_in(path: str | Path) -> Iterator[NamesFile]:
    """Open the file at `path` and yield its names, which are read as they are consumed, except from a JSON array.

    Raise UsageError for a file that cannot be read, also while the names are consumed.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", errors="backslashreplace", newline="") as file:
            yield _read(file, Path(path))
    except (OSError, csv.Error) as error:
        raise UsageError(f"the ids file {path} cannot be read: {error}") from error


def _read(file: IO[str], path: Path) -> NamesFile:
    first = next((line for line in file if line.strip()), "")
    lines = itertools.chain([first], file)
    text = first.strip()
    if text.startswith("{") and isinstance(_json(text), dict):
        return _of_objects((_object(line, path) for line in lines if line.strip()), "JSON Lines")
    if text.startswith("[") and (rows := _json("".join(lines) if text == "[" else text)) is not None:
        objects = [row for row in rows if isinstance(row, dict)]
        if len(objects) != len(rows):
            raise UsageError(f"the ids file {path} is a JSON array with items that are not objects")
        return _of_objects(iter(objects), "a JSON array")
    delimiter = _delimiter(first, path)
    if delimiter is not None:
        csv.field_size_limit(_CELL_LIMIT)
        table = "TSV" if delimiter == "\t" else "CSV"
        rows = csv.reader(lines, delimiter=delimiter)
        header = next(rows)
        column = _column(header)
        if column is not None:
            return NamesFile(_cells(rows, column), f"column {header[column].strip()} of {table}")
        return NamesFile(_cells(itertools.chain([header], rows), 0), f"the first column of {table}", True)
    return NamesFile(filter(None, map(_name, lines)), "a list")


def _delimiter(first: str, path: Path) -> str | None:
    """Return the delimiter of a table that begins with the line `first`, or None for a plain list."""
    if first.startswith(">"):
        return None
    for delimiter in "\t,":
        cells = next(csv.reader([first], delimiter=delimiter), [])
        if len(cells) > 1 and (delimiter == "\t" or _column(cells) is not None):
            return delimiter
    if (named := {".tsv": "\t", ".csv": ","}.get(path.suffix.lower())) is not None:
        return named
    # one column: foldatlas query quotes every text in CSV
    return "," if first.startswith('"') or _column([first]) is not None else None


def _column(header: list[str]) -> int | None:
    """Return the index of the column to use, or None if no column has one of the names."""
    names = [name.strip().lower() for name in header]
    return next((names.index(name) for name in COLUMNS if name in names), None)


def _cells(rows: Iterator[list[str]], column: int) -> Iterator[str]:
    return filter(None, (_name(row[column]) for row in rows if len(row) > column))


def _of_objects(rows: Iterator[dict[str, Any]], format: str) -> NamesFile:
    first = next(rows, {})
    index = _column(list(first))
    key = list(first)[index or 0] if first else ""
    values = (row.get(key) for row in itertools.chain([first], rows))
    names = (_name(str(value)) for value in values if value is not None)
    return NamesFile(filter(None, names), f"column {key} of {format}")


def _object(line: str, path: Path) -> dict[str, Any]:
    row = _json(line)
    if not isinstance(row, dict):
        raise UsageError(f"the ids file {path} begins as JSON Lines but has the line {line.strip()[:60]!r}")
    return row


def _json(text: str) -> Any:
    """Return the value of a JSON text, or None if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _name(text: str) -> str:
    """Return a name without the `>` of a FASTA header and the text after its first word."""
    text = text.strip()
    if not text.startswith(">"):
        return text
    words = text[1:].split(maxsplit=1)
    return words[0].partition("\x01")[0] if words else ""
