"""Reads the names in a file for `export --ids`.

A file is read as what its first line shows it to be: a plain list (one name a line), or what `foldatlas query` and
other programs write: CSV, TSV, JSON Lines or a JSON array. Of a table the column `id` is taken, without one
`structure_id`, without either the first (one column of TSV under another header is a list, unless the file's name
ends in `.tsv`). A name may begin with the `>` of a FASTA header; then its description is
left out. Bytes that are not UTF-8 are read as backslash escapes, as ingest stores them in ids.
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

COLUMNS: Final = ("id", "structure_id")  # the first that a table has is taken

_CELL_LIMIT: Final = 1 << 30  # characters; csv stops at 131,072 by default


@dataclass(frozen=True)
class NamesFile:
    """The names in a file. `read_as` says in words how it was read. `first_may_be_header`: the first name is the
    first row of a table whose header, if it has one, names no column of COLUMNS."""

    names: Iterator[str]
    read_as: str
    first_may_be_header: bool = False


@contextlib.contextmanager
def names_in(path: str | Path) -> Iterator[NamesFile]:
    """The names in the file at `path`, which stays open meanwhile; they stream, except from a JSON array.

    Raises UsageError for a file that cannot be read, also while the names are taken.
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
            raise UsageError(f"the ids file {path} holds a JSON array of something other than objects")
        return _of_objects(iter(objects), "a JSON array")
    delimiter = _delimiter(first, path)
    if delimiter is not None:
        csv.field_size_limit(_CELL_LIMIT)
        kind = "TSV" if delimiter == "\t" else "CSV"
        rows = csv.reader(lines, delimiter=delimiter)
        header = next(rows)
        column = _column(header)
        if column is not None:
            return NamesFile(_cells(rows, column), f"column {header[column].strip()} of {kind}")
        return NamesFile(_cells(itertools.chain([header], rows), 0), f"the first column of {kind}", True)
    return NamesFile(filter(None, map(_name, lines)), "a list")


def _delimiter(first: str, path: Path) -> str | None:
    """What separates the columns of a table that begins with the line `first`; None for a plain list."""
    if first.startswith(">"):
        return None
    for delimiter in "\t,":
        cells = next(csv.reader([first], delimiter=delimiter), [])
        if _column(cells) is not None or (len(cells) > 1 and delimiter == "\t"):
            return delimiter
    if (named := {".tsv": "\t", ".csv": ","}.get(path.suffix.lower())) is not None:
        return named
    return "," if first.startswith('"') else None  # every text that query writes as CSV is quoted


def _column(header: list[str]) -> int | None:
    """The place of the column to take, None where no column has one of the names."""
    names = [name.strip().lower() for name in header]
    return next((names.index(name) for name in COLUMNS if name in names), None)


def _cells(rows: Iterator[list[str]], column: int) -> Iterator[str]:
    return filter(None, (_name(row[column]) for row in rows if len(row) > column))


def _of_objects(rows: Iterator[dict[str, Any]], kind: str) -> NamesFile:
    first = next(rows, {})
    place = _column(list(first))
    key = list(first)[place or 0] if first else ""
    values = (row.get(key) for row in itertools.chain([first], rows))
    names = (_name(str(value)) for value in values if value is not None)
    return NamesFile(filter(None, names), f"column {key} of {kind}")


def _object(line: str, path: Path) -> dict[str, Any]:
    row = _json(line)
    if not isinstance(row, dict):
        raise UsageError(f"the ids file {path} begins as JSON Lines but holds {line.strip()[:60]!r}")
    return row


def _json(text: str) -> Any:
    """The value of a JSON text, None for a text that is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _name(text: str) -> str:
    """A name without the `>` of a FASTA header and what follows its first word."""
    text = text.strip()
    if not text.startswith(">"):
        return text
    words = text[1:].split(maxsplit=1)
    return words[0].partition("\x01")[0] if words else ""
