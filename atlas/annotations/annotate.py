"""Add, replace and drop annotations of an atlas, in a folder or on a store.

The table is read and checked first; the Parquet file is written under a hidden name and then renamed; the document that
lists it is committed last. The files of earlier generations are deleted after that.
"""

import contextlib
from pathlib import Path
from typing import Final

import duckdb
import msgspec

from foldatlas.atlas.annotations.documents import commit_annotation, newest_annotations, sweep_annotations
from foldatlas.atlas.annotations.key_values import select_rows, write_rows
from foldatlas.atlas.annotations.user_table import read_user_table
from foldatlas.atlas.folder import AtlasFolder, now
from foldatlas.atlas.sql.interruptible import interruptible_call
from foldatlas.atlas.sql.text import first_line
from foldatlas.atlas.storage.commit import attempt_name
from foldatlas.atlas.storage.protocol import file_sha256
from foldatlas.atlas.storage.scratch import work_folder
from foldatlas.schemas.annotations import ANNOTATION_FORMAT, FOLDER, KEYS, Annotation, check_annotation_name
from foldatlas.schemas.errors import StoreError, UsageError
from foldatlas.schemas.manifest import FileEntry
from foldatlas.schemas.version import program_version

_MEMORY_LIMIT: Final = "50%"


def add_annotation(
    folder: AtlasFolder, path: Path, *, name: str, key: str, column: str | None = None, replace: bool = False
) -> Annotation:
    """Store the table at `path` as the annotation `name`, joined by `key` (schemas.annotations.KEYS).

    `column` is the table's column with the key, by default the one called `key`. Raise UsageError, with nothing
    changed, for a table that cannot be used, a name that is taken, or an annotation that exists without `replace`.
    """
    _check(folder, name, key)
    sweep_annotations(folder)
    before = newest_annotations(folder).get(name)
    if before is not None and before.file is not None and not replace:
        raise UsageError(
            f"{folder.uri} has an annotation {name} (of {before.table}): give --replace, or another name by --name"
        )
    with work_folder() as work:
        table = read_user_table(path, key, column, work / "staged.parquet")
        config: dict[str, str | bool | int | float | list[str]] = {
            "temp_directory": str(work / "spill"),
            "memory_limit": _MEMORY_LIMIT,
        }
        with duckdb.connect(config=config) as connection:
            try:
                counts, columns = interruptible_call(
                    connection, lambda: select_rows(connection, work / "staged.parquet", table, key)
                )
                if not counts.rows:
                    raise UsageError(
                        f"{path} has no row with a valid key in {table.given[table.key]!r}: {key} is {KEYS[key]}"
                    )
                file = store_rows(folder, connection, "annotation_rows", name, key, counts.rows)
            except duckdb.Error as error:
                raise UsageError(f"{path} cannot be read as a table: {first_line(error)}") from error
    return commit_next(
        folder,
        Annotation(
            format=ANNOTATION_FORMAT,
            name=name,
            generation=0,
            created=now(),
            program=program_version(),
            key=key,
            table=path.name,
            columns=tuple(columns),
            rows=counts.rows,
            malformed=table.malformed,
            null_keys=counts.null_keys,
            invalid_keys=counts.invalid_keys,
            repeated_keys=counts.repeated_keys,
            file=file,
        ),
    )


def drop_annotation(folder: AtlasFolder, name: str) -> Annotation:
    """Drop an annotation and delete its table. Raise UsageError if there is none."""
    before = newest_annotations(folder).get(name)
    if before is None or before.file is None:
        others = ", ".join(other.name for other in newest_annotations(folder).values() if other.file is not None)
        raise UsageError(f"{folder.uri} has no annotation {name!r}; it has {others or 'no annotations'}")
    return commit_next(folder, msgspec.structs.replace(before, created=now(), program=program_version(), file=None))


def store_rows(
    folder: AtlasFolder, connection: duckdb.DuckDBPyConnection, table: str, name: str, key: str, rows: int
) -> FileEntry:
    """Write a table of `connection` as a new file of the annotation `name`."""
    path = f"{FOLDER}/{name}/rows.{attempt_name()}.parquet"
    with folder.storage.building(path) as target:
        interruptible_call(connection, lambda: write_rows(connection, table, key, target))
        size, digest = target.stat().st_size, file_sha256(target)
    return FileEntry(path, rows, size, digest)


def _check(folder: AtlasFolder, name: str, key: str) -> None:
    if key not in KEYS:
        raise UsageError(f"{key!r} is not a key; a table is joined by {', '.join(KEYS)}")
    try:
        check_annotation_name(name)
    except ValueError as error:
        raise UsageError(f"{error}: choose one by --name") from error
    with duckdb.connect() as connection:
        reserved = connection.execute(
            "SELECT count(*) FROM duckdb_keywords() WHERE keyword_name = ? AND keyword_category <> 'unreserved'", [name]
        ).fetchall()
    if reserved[0][0]:
        raise UsageError(f"{name} is a word of SQL: choose another name by --name")


def commit_next(folder: AtlasFolder, annotation: Annotation) -> Annotation:
    """Commit `annotation` as the next generation of its name, and delete the files of earlier ones."""
    while True:
        before = newest_annotations(folder).get(annotation.name)
        generation = 0 if before is None else before.generation + 1
        annotation = msgspec.structs.replace(annotation, generation=generation)
        if commit_annotation(folder, annotation):
            break
    if before is not None and before.file is not None:
        with contextlib.suppress(StoreError):  # what a store does not delete now, a sweep deletes later
            folder.storage.delete(before.file.path)
    return annotation
