"""A map as a `.parquetbundle`, which ProtSpace (Senoner et al. 2025) opens: `protspace serve FILE`, or its website.

Three Parquet tables one after another, with a mark between: annotations of the proteins, as texts; one row that
describes the projection; positions. Texts are written as version 2 of the format has them: `;`, `|`, `%` and control
characters as %XX. Checked with protspace 4.8.
"""

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from foldatlas.atlas.projection.points import COLUMNS, CONFIDENCE
from foldatlas.atlas.storage.commit import replacing

DELIMITER: Final = b"---PARQUET_DELIMITER---"

_VERSION: Final = {"protspace_format_version": "2"}
_NAME: Final = "FoldAtlas"
_RESERVED: Final = str.maketrans({c: f"%{ord(c):02X}" for c in ";|%\x7f"} | {chr(n): f"%{n:02X}" for n in range(32)})
_SAFE_DELIMITER: Final = DELIMITER.decode().replace("_", "%5F")


def write_protspace(
    path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch], information: Mapping[str, Any]
) -> int:
    """Write the points of `points.points` to `path`, and return their number. `information` describes the map."""
    table = pa.Table.from_batches(batches, schema)
    names = pa.array([_without_delimiter(text) for text in table.column("identifier").to_pylist()], pa.string())
    annotations = {"protein_id": names}
    for name in (CONFIDENCE, *COLUMNS):
        annotations[name] = _texts(table.column(name))
    described = {
        "projection_name": [_NAME],
        "dimensions": [2],
        "info_json": [_without_delimiter(json.dumps(dict(information)))],
        "source": [str(information.get("features", ""))],
    }
    positions = {
        "projection_name": pa.array([_NAME] * len(names)),
        "identifier": names,
        "x": table.column("x"),
        "y": table.column("y"),
        "z": pa.nulls(len(names), pa.float32()),
    }
    parts = [pa.table(annotations).replace_schema_metadata(_VERSION), pa.table(described), pa.table(positions)]
    content = [_parquet(part) for part in parts]
    assert not any(DELIMITER in part for part in content), "texts were escaped"
    with replacing(path) as part:
        part.write_bytes(DELIMITER.join(content))
    return len(names)


def _texts(column: Any) -> "pa.Array[Any]":
    """Return a column as texts, empty where it is NULL."""
    if pa.types.is_string(column.type):
        return pa.array(["" if t is None else _without_delimiter(t.translate(_RESERVED)) for t in column.to_pylist()])
    if pa.types.is_floating(column.type):
        column = pc.round(column.cast(pa.float64()), 3)
    return pc.fill_null(column.cast(pa.string()), "").combine_chunks()


def _without_delimiter(text: str) -> str:
    return text.replace(DELIMITER.decode(), _SAFE_DELIMITER)


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()
