"""Annotations in the index.

    annotation.<name>   the rows of the annotation, sorted by its key
    annotations         one row per annotation: key, file, numbers of rows
    <name>              a view of the rows of folded present records, with their id, source and structure_id

Tables of annotations that an index to be continued has already are kept.
"""

from typing import Any, Final

import pyarrow as pa

from foldatlas.atlas.annotations.documents import annotations_of
from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.sql.text import escape_glob, literal, quoted
from foldatlas.atlas.storage.scratch import LocalCopies
from foldatlas.schemas.annotations import Annotation

SCHEMA: Final = "annotation"

_PRESENT: Final = "state = 'folded' AND NOT superseded"
# One row per record and accession: its id, the accession in sp|ACCESSION|NAME, and those of further titles.
_ACCESSIONS: Final = (
    f"SELECT id, source, structure_id, id AS accession FROM records WHERE {_PRESENT} UNION ALL "
    "SELECT id, source, structure_id, split_part(id, '|', 2) AS accession FROM records "
    f"WHERE {_PRESENT} AND regexp_matches(id, '^(sp|tr)[|][^|]') UNION ALL "
    "SELECT records.id, records.source, records.structure_id, titles.accession FROM titles "
    f'JOIN records USING (id, source, "offset") WHERE {_PRESENT}'
)
_LISTED: Final = pa.schema(
    [
        ("name", pa.string()),
        ("key", pa.string()),
        ("table_file", pa.string()),
        ("rows", pa.int64()),
        ("malformed", pa.int64()),
        ("null_keys", pa.int64()),
        ("invalid_keys", pa.int64()),
        ("repeated_keys", pa.int64()),
        ("created", pa.string()),
        ("sha256", pa.string()),
    ]
)


def make_annotations(connection: Any, folder: AtlasFolder, copies: LocalCopies) -> list[Annotation]:
    """Make the tables of the atlas's annotations, and return these."""
    current = annotations_of(folder)
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    had: dict[str, str] = {}
    if connection.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'annotations'").fetchall()[0][0]:
        had = dict(connection.execute("SELECT name, sha256 FROM annotations").fetchall())
    same = {one.name for one in current if one.file is not None and had.get(one.name) == one.file.sha256}
    for name in had.keys() - same:
        connection.execute(f"DROP TABLE {SCHEMA}.{quoted(name)}")
    for annotation in current:
        if annotation.name not in same and annotation.file is not None:
            [path] = copies.have([annotation.file.path])
            connection.execute(
                f"CREATE TABLE {SCHEMA}.{quoted(annotation.name)} AS FROM read_parquet({literal(escape_glob(path))})"
            )
    rows = [
        {
            "name": one.name,
            "key": one.key,
            "table_file": one.table,
            "rows": one.rows,
            "malformed": one.malformed,
            "null_keys": one.null_keys,
            "invalid_keys": one.invalid_keys,
            "repeated_keys": one.repeated_keys,
            "created": one.created,
            "sha256": one.file.sha256 if one.file is not None else None,
        }
        for one in current
    ]
    connection.register("given", pa.Table.from_pylist(rows, schema=_LISTED))
    connection.execute("CREATE OR REPLACE TABLE annotations AS FROM given ORDER BY name")
    connection.unregister("given")
    return current


def create_annotation_views(connection: Any, annotations: list[Annotation]) -> None:
    """Make the view of each annotation, with the names of its columns in the user's table as comments.

    A name that this program gives to a table or view of its own has no view.
    """
    taken = {
        name
        for (name,) in connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main' UNION ALL "
            "SELECT view_name FROM duckdb_views() WHERE schema_name = 'main'"
        ).fetchall()
    }
    for annotation in annotations:
        if annotation.name in taken:
            continue
        view, key = quoted(annotation.name), annotation.key
        own = [column for column in annotation.columns if column.name != key]
        if key == "accession":
            records, shown = f"({_ACCESSIONS}) AS records", ["id", "source", "structure_id", "accession"]
        else:
            records, shown = f"(FROM records WHERE {_PRESENT}) AS records", ["id", "source", "structure_id"]
            shown += ["mgyp"] if key == "mgyp" else []
        selected = ", ".join(
            [f"records.{name}" for name in shown] + [f"annotated.{quoted(column.name)}" for column in own]
        )
        connection.execute(
            f"CREATE VIEW {view} AS SELECT {selected} FROM {records} "
            f"JOIN {SCHEMA}.{view} AS annotated ON annotated.{key} = records.{key}"
        )
        meaning = literal(f"one row per protein and row of the annotation ({annotation.table})")
        connection.execute(f"COMMENT ON VIEW {view} IS {meaning}")
        for column in own:
            meaning = literal(f"{column.given} of {annotation.table}")
            connection.execute(f"COMMENT ON COLUMN {view}.{quoted(column.name)} IS {meaning}")
