"""The annotations of merged atlases: the rows of all atlases that have one of a name, each distinct row once.

Annotations of one name must have the same key and the same columns, since their rows are united.
"""

from collections.abc import Sequence

import duckdb
import msgspec

from foldatlas.atlas.annotations.annotate import store_rows
from foldatlas.atlas.annotations.documents import annotations_of, commit_annotation
from foldatlas.atlas.annotations.key_values import count_rows
from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.sql.text import escape_glob, first_line, literal
from foldatlas.atlas.storage.scratch import work_folder
from foldatlas.schemas.annotations import Annotation
from foldatlas.schemas.errors import DamagedAtlasError, UsageError

Found = list[tuple[AtlasFolder, Annotation]]


def annotations_by_name(folders: Sequence[AtlasFolder]) -> dict[str, Found]:
    """Return the annotations of several atlases by name. Raise UsageError for a name with different keys or columns."""
    found: dict[str, Found] = {}
    for folder in folders:
        for annotation in annotations_of(folder):
            same = found.setdefault(annotation.name, [])
            if same and _shape(same[0][1]) != _shape(annotation):
                raise UsageError(
                    f"the annotation {annotation.name} of {same[0][0].uri} is {_words(same[0][1])}, that of "
                    f"{folder.uri} {_words(annotation)}: drop one, or add it under another name"
                )
            same.append((folder, annotation))
    return found


def _shape(annotation: Annotation) -> tuple[str, list[tuple[str, str]]]:
    return annotation.key, [(column.name, column.type) for column in annotation.columns]


def _words(annotation: Annotation) -> str:
    columns = ", ".join(f"{column.name!r} {column.type}" for column in annotation.columns[:10])
    return f"keyed by {annotation.key} with {columns}"


def unite_annotations(new: AtlasFolder, found: dict[str, Found]) -> None:
    """Write the annotations of `annotations_by_name` to the local atlas `new`. Raise DamagedAtlasError."""
    for name, annotations in found.items():
        first = annotations[0][1]
        paths = [folder.root / one.file.path for folder, one in annotations if one.file is not None]
        files = ", ".join(literal(escape_glob(path)) for path in paths)
        distinct = "DISTINCT " if len(paths) > 1 else ""
        with work_folder() as work, duckdb.connect(config={"temp_directory": str(work / "spill")}) as connection:
            try:
                connection.execute(f"CREATE TEMP TABLE united AS SELECT {distinct}* FROM read_parquet([{files}])")
                rows, repeated = count_rows(connection, "united", first.key)
                file = store_rows(new, connection, "united", name, first.key, rows)
            except duckdb.Error as error:
                raise DamagedAtlasError(f"the annotation {name} cannot be read: {first_line(error)}") from error
        united = msgspec.structs.replace(
            first,
            generation=0,
            table=", ".join(dict.fromkeys(one.table for _, one in annotations)),
            rows=rows,
            malformed=sum(one.malformed for _, one in annotations),
            null_keys=sum(one.null_keys for _, one in annotations),
            invalid_keys=sum(one.invalid_keys for _, one in annotations),
            repeated_keys=repeated,
            file=file,
        )
        commit_annotation(new, united)
