"""Write the rows of a query as table, csv, tsv, json, jsonl or parquet.

All formats but `table` are written batch by batch: memory does not grow with the number of rows.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from foldatlas.atlas.sql.query import Result
from foldatlas.atlas.sql.text import clip, display_width, escape_controls

MAX_TABLE_ROWS: Final = 1_000  # the column widths of a table need all its rows in memory
MAX_CELL_WIDTH: Final = 60  # characters
ROWS_PER_PARQUET_GROUP: Final = 100_000

_JSON: Final = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True)
class Written:
    """The number of rows written; `complete` is False if a table was cut at MAX_TABLE_ROWS."""

    rows: int
    complete: bool = True


def write_table(result: Result, file: IO[bytes]) -> Written:
    """Write aligned columns, at most MAX_TABLE_ROWS rows. Long cells end in `…`; control characters are escaped.

    The result of EXPLAIN is written as plain text.
    """
    if result.is_plan:
        for batch in result.batches():
            for text in batch.column(1).to_pylist():
                file.write("\n".join(map(escape_controls, text.split("\n"))).encode())
        return Written(1)
    rows: list[list[str]] = []
    complete = True
    for batch in result.batches(as_text=True):
        for row in zip(*(_json_values(column) for column in batch.columns), strict=True):
            if len(rows) == MAX_TABLE_ROWS:
                complete = False
                break
            rows.append([_cell(value) for value in row])
        if not complete:
            break
    header = [clip(escape_controls(name), MAX_CELL_WIDTH) for name in result.columns]
    widths = [max(map(display_width, cells)) for cells in zip(header, *rows, strict=True)]
    numeric = [_NUMERIC.fullmatch(name) is not None for name in result.types]
    for cells in (header, ["-" * width for width in widths], *rows):
        padded = (
            " " * (width - display_width(cell)) + cell if right else cell + " " * (width - display_width(cell))
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        )
        file.write("  ".join(padded).rstrip().encode() + b"\n")
    return Written(len(rows), complete)


def write_csv(result: Result, file: IO[bytes], *, spreadsheet_safe: bool = False) -> Written:
    """Write CSV as in RFC 4180, with a header: texts are quoted, NULL is an empty field and an empty text is `""`.

    Lists and structs are JSON texts; NaN is `nan`. With `spreadsheet_safe`, a text that a spreadsheet would take for a
    formula has an apostrophe before it (`_escape_formulas`).
    """
    reader = result.batches(as_text=True)
    nested = [pa.types.is_nested(arrow_type) for arrow_type in reader.schema.types]
    fields = [pa.field(f.name, pa.string()) if n else f for f, n in zip(reader.schema, nested, strict=True)]
    if spreadsheet_safe:
        safe_names = _escape_formulas(pa.array(result.columns, pa.string())).to_pylist()
        fields = [field.with_name(name) for field, name in zip(fields, safe_names, strict=True)]
    schema = pa.schema(fields)
    rows = 0
    with pyarrow.csv.CSVWriter(file, schema) as writer:
        for batch in reader:
            columns = [_json_texts(column) if n else column for column, n in zip(batch.columns, nested, strict=True)]
            if spreadsheet_safe:
                columns = [_escape_formulas(column) for column in columns]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
            rows += batch.num_rows
    return Written(rows)


def write_tsv(result: Result, file: IO[bytes], *, spreadsheet_safe: bool = False) -> Written:
    """Write tab-separated values with a header.

    Texts that are empty or contain a tab, a quote or a line break are quoted as in RFC 4180, others are not. NULL is an
    empty field; lists and structs are JSON texts. `spreadsheet_safe` is as in `write_csv`.
    """

    def escaped(column: Any) -> Any:
        return _escape_formulas(column) if spreadsheet_safe else column

    reader = result.batches(as_text=True)
    names = _tsv_texts(escaped(pa.array(result.columns, pa.string()))).to_pylist()
    file.write("\t".join(names).encode() + b"\n")
    rows = 0
    for batch in reader:
        texts = [
            _tsv_texts(
                _json_texts(column) if pa.types.is_nested(column.type) else pc.cast(escaped(column), pa.string())
            )
            for column in batch.columns
        ]
        for row in zip(*(column.to_pylist() for column in texts), strict=True):
            file.write("\t".join(row).encode() + b"\n")
        rows += batch.num_rows
    return Written(rows)


def write_jsonl(result: Result, file: IO[bytes]) -> Written:
    """Write one JSON object per line. NULL, NaN and infinities are null; 128-bit integers are numbers."""
    rows = 0
    for batch in result.batches(as_text=True):
        file.write(_JSON.encode_lines(list(_json_rows(batch))))
        rows += batch.num_rows
    return Written(rows)


def write_json(result: Result, file: IO[bytes]) -> Written:
    """Write one JSON array of objects, one object per line, with values as in jsonl."""
    rows = 0
    file.write(b"[")
    for batch in result.batches(as_text=True):
        for row in _json_rows(batch):
            file.write((b",\n" if rows else b"\n") + _JSON.encode(row))
            rows += 1
    file.write(b"\n]\n" if rows else b"]\n")
    return Written(rows)


def write_parquet(result: Result, file: IO[bytes]) -> Written:
    """Write Parquet with the columns' types (UUIDs, timestamps, lists)."""
    reader = result.batches(rows=ROWS_PER_PARQUET_GROUP)
    rows = 0
    with pq.ParquetWriter(file, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)
            rows += batch.num_rows
    return Written(rows)


FORMATS: Final[dict[str, Callable[..., Written]]] = {
    "table": write_table,
    "csv": write_csv,
    "tsv": write_tsv,
    "json": write_json,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
}

_FORMULA: Final = r"^[ ]*[=+\-@\t\r\n\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}]"  # the last four: full width
_NUMBER: Final = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_NUMERIC: Final = re.compile(r"U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL\(.*\)")


def _json_rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    names = batch.schema.names
    for row in zip(*(_json_values(column) for column in batch.columns), strict=True):
        yield dict(zip(names, row, strict=True))


def _json_values(column: "pa.Array[Any]") -> list[Any]:
    """Return Python values; a float32 becomes the float64 with the same shortest text (0.7, not 0.699999988)."""
    values: list[Any] = _shortest(column).to_pylist(maps_as_pydicts="lossy")
    return values


def _shortest(column: Any) -> Any:
    arrow_type = column.type
    if pa.types.is_float32(arrow_type):
        return pc.cast(pc.cast(column, pa.string()), pa.float64())
    if pa.types.is_list(arrow_type) and pa.types.is_float32(arrow_type.value_type):
        values = _shortest(column.values)
        return pa.ListArray.from_arrays(column.offsets, values, mask=column.is_null() if column.null_count else None)
    return column


def _json_texts(column: "pa.Array[Any]") -> "pa.Array[Any]":
    texts = [None if value is None else _JSON.encode(value).decode() for value in _json_values(column)]
    return pa.array(texts, pa.string())


def _escape_formulas(column: Any) -> Any:
    """Return a column of texts with an apostrophe before those that a spreadsheet would take for a formula.

    These begin with =, +, -, @, a tab or a line break, after any spaces, and are not numbers. Other types are returned
    as they are.
    """
    if not pa.types.is_string(column.type):
        return column
    is_formula = pc.and_(
        pc.match_substring_regex(column, _FORMULA), pc.invert(pc.match_substring_regex(column, _NUMBER))
    )
    return pc.if_else(pc.fill_null(is_formula, False), pc.binary_join_element_wise("'", column, ""), column)


def _tsv_texts(column: Any) -> Any:
    """Return texts as fields of a TSV file: quoted where necessary, empty for NULL."""
    doubled = pc.replace_substring(column, '"', '""')
    enclosed = pc.binary_join_element_wise('"', doubled, '"', "")
    plain = pc.invert(pc.match_substring_regex(column, '^$|[\\t\\n\\r"]'))
    return pc.fill_null(pc.if_else(plain, column, enclosed), "")


def _cell(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict):
        return clip(escape_controls(_JSON.encode(value).decode()), MAX_CELL_WIDTH)
    return clip(escape_controls(str(value)), MAX_CELL_WIDTH)
