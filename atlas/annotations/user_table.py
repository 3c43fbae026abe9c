"""A user's table, CSV, TSV or Parquet, as a Parquet file with names of columns that SQL can use.

The first row of CSV and TSV is the header. Values are read as text, in UTF-8; other bytes are written as \\xNN. An
unquoted empty field is NULL. A row with another number of fields than the header is left out and counted.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq

from foldatlas.schemas.annotations import KEYS
from foldatlas.schemas.errors import UsageError

MAX_NAME: Final = 120  # characters of a column's name
_DELIMITERS: Final = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t"}
_COMPRESSED: Final = (".gz", ".bz2", ".zst")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Columns of an annotation's view that come from the atlas.
_TAKEN: Final = (*KEYS, "source", "rowid")


@dataclass
class UserTable:
    """A table as it was read: `names` are for SQL, `given` those of the file; `malformed` counts rows left out."""

    given: list[str]
    names: list[str]
    key: int
    malformed: int = 0


def read_user_table(path: Path, key: str, column: str | None, out: Path) -> UserTable:
    """Copy the table at `path` into the Parquet file `out`, and return what it has.

    `column` is the name of the column with the key, by default `key`; the key's column is called `key` in `out`. Raise
    UsageError for a file that is no such table or lacks the column.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give a table as CSV, TSV or Parquet")
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in _COMPRESSED]
    suffix = suffixes[-1] if suffixes else ""
    try:
        if suffix in (".parquet", ".pq"):
            return _copy_parquet(path, key, column, out)
        if suffix not in _DELIMITERS:
            raise UsageError(
                f"{path}: a table's name ends with .csv, .tsv, .tab, .txt or .parquet (text also with .gz, .bz2, .zst)"
            )
        return _copy_text(path, _DELIMITERS[suffix], key, column, out)
    except (OSError, ValueError, pa.ArrowException, csv.Error) as error:
        if isinstance(error, UsageError):
            raise
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{path} cannot be read as a table: {reason}") from error


def _copy_text(path: Path, delimiter: str, key: str, column: str | None, out: Path) -> UserTable:
    with pa.input_stream(str(path), compression="detect") as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="backslashreplace", newline="")
        header = next(csv.reader(text, delimiter=delimiter), [])
    if not any(header):
        raise UsageError(f"{path} has no header: its first row must name the columns")
    table = _named(path, header, key, column)

    def count_malformed(row: Any) -> str:
        table.malformed += 1
        return "skip"

    names = [f"f{number}" for number in range(len(header))]
    with pa.input_stream(str(path), compression="detect") as stream:
        reader = pv.open_csv(
            stream,
            read_options=pv.ReadOptions(autogenerate_column_names=True, skip_rows_after_names=1, use_threads=False),
            parse_options=pv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=count_malformed
            ),
            convert_options=pv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.binary()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        _write((_as_text(batch) for batch in reader), pa.schema([(name, pa.string()) for name in table.names]), out)
    return table


def _as_text(batch: pa.RecordBatch) -> list[pa.Array]:
    """Return the columns of a batch of bytes as texts."""
    columns = []
    for column in batch.columns:
        try:
            columns.append(column.cast(pa.string()))
        except pa.ArrowInvalid:
            values = column.to_pylist()
            texts = [None if value is None else value.decode("utf-8", "backslashreplace") for value in values]
            columns.append(pa.array(texts, pa.string()))
    return columns


def _copy_parquet(path: Path, key: str, column: str | None, out: Path) -> UserTable:
    with pq.ParquetFile(path) as file:
        table = _named(path, file.schema_arrow.names, key, column)
        fields = [pa.field(name, field.type) for name, field in zip(table.names, file.schema_arrow, strict=True)]
        _write((batch.columns for batch in file.iter_batches()), pa.schema(fields), out)
    return table


def _write(batches: Iterator[Sequence[pa.Array]], schema: pa.Schema, out: Path) -> None:
    with pq.ParquetWriter(out, schema, compression="zstd", compression_level=1) as writer:
        for columns in batches:
            writer.write_batch(pa.RecordBatch.from_arrays(list(columns), schema=schema))


def _named(path: Path, given: list[str], key: str, column: str | None) -> UserTable:
    """Choose the names of columns, and find the column with the key."""
    wanted = key if column is None else column
    found = [number for number, name in enumerate(given) if name == wanted] or [
        number for number, name in enumerate(given) if name.strip().lower() == wanted.lower()
    ]
    if len(found) != 1:
        columns = ", ".join(repr(name) for name in given[:20]) + (", ..." if len(given) > 20 else "")
        problem = f"no column {wanted!r}" if not found else f"{len(found)} columns {wanted!r}"
        raise UsageError(f"{path} has {problem}: choose the one with the key by --column; its columns are {columns}")
    names: list[str] = []
    taken = {name.lower() for name in _TAKEN}
    for number, name in enumerate(given):
        if number == found[0]:
            names.append(key)
            continue
        names.append(_free(name, number, taken))
        taken.add(names[-1].lower())
    return UserTable(list(given), names, found[0])


def _free(given: str, number: int, taken: set[str]) -> str:
    """Return a name without control characters that differs from those taken by more than case."""
    name = _CONTROL.sub("_", given.strip())[:MAX_NAME] or f"column_{number + 1}"
    free, count = name, 1
    while free.lower() in taken:
        count += 1
        free = f"{name}_{count}"
    return free
