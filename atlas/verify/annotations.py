"""Checks of annotations: their documents, and the tables that these list; and tables written again from the index."""

from collections.abc import Iterator

import duckdb
import msgspec
import pyarrow as pa

from foldatlas.atlas.annotations.annotate import commit_next, store_rows
from foldatlas.atlas.annotations.documents import newest_annotations, newest_documents, read_annotation
from foldatlas.atlas.folder import AtlasFolder, now
from foldatlas.atlas.index.annotations import SCHEMA
from foldatlas.atlas.index.published import index_of
from foldatlas.atlas.parquet.files import open_parquet
from foldatlas.atlas.sql.text import first_line, quoted
from foldatlas.atlas.verify.digests import DigestCount
from foldatlas.atlas.verify.fault import RESTORE, Fault, FaultKind, Mend, Step
from foldatlas.schemas.annotations import Annotation
from foldatlas.schemas.errors import DamagedAtlasError, NotAnAtlasError
from foldatlas.schemas.version import program_version
from foldatlas.schemas.wording import counted


def next_step(name: str) -> Step:
    """Return what to do about a damaged annotation."""
    return Step(f"{RESTORE}, or add it again with `foldatlas annotate --name {name} --replace`")


def rows_step(name: str) -> Step:
    """Return what to do about the damaged table of an annotation: the index has its rows."""
    text = f"{RESTORE}, write it again from the index with --repair, or `foldatlas annotate --name {name} --replace`"
    return Step(text, Mend.ANNOTATION, name)


def restore_annotation(folder: AtlasFolder, name: str) -> None:
    """Write the table of an annotation again, from its rows in the index.

    Raise DamagedAtlasError if the index does not have the rows of this table.
    """
    annotation = newest_annotations(folder)[name]
    try:
        with index_of(folder).open({}) as connection:
            known = connection.execute("SELECT sha256, rows FROM annotations WHERE name = ?", [name]).fetchall()
            if annotation.file is None or known != [(annotation.file.sha256, annotation.rows)]:
                raise DamagedAtlasError("the index does not have its rows: add it again with `foldatlas annotate`")
            table = f"{SCHEMA}.{quoted(name)}"
            file = store_rows(folder, connection, table, name, annotation.key, annotation.rows)
    except (duckdb.Error, NotAnAtlasError) as error:
        what = f"the index cannot be read ({first_line(error)}): add it again with `foldatlas annotate`"
        raise DamagedAtlasError(what) from error
    commit_next(folder, msgspec.structs.replace(annotation, created=now(), program=program_version(), file=file))


def read_annotations(folder: AtlasFolder, faults: list[Fault], digests: DigestCount) -> list[Annotation]:
    """Return the annotations whose newest document can be read, add faults of documents to `faults`, and count
    digests."""
    found = []
    for name, path in newest_documents(folder).items():
        try:
            found.append(read_annotation(folder, path))
            digests.add(folder.storage.read(path))
        except (OSError, DamagedAtlasError) as error:
            faults.append(Fault(FaultKind.DOCUMENT, path, str(error), next_step(name)))
    return [annotation for annotation in found if annotation.file is not None]


def check_annotation(folder: AtlasFolder, annotation: Annotation, bad: set[str]) -> Iterator[Fault]:
    """Yield faults of an annotation's table, unless its file is in `bad`."""
    if annotation.file is None or annotation.file.path in bad:
        return
    path, step = annotation.file.path, rows_step(annotation.name)
    try:
        with open_parquet(folder.storage, path) as file:
            rows, names = file.metadata.num_rows, file.schema_arrow.names
    except (OSError, ValueError, pa.ArrowException) as error:
        yield Fault(FaultKind.DAMAGED, path, f"it cannot be read: {error}", step)
        return
    if not rows == annotation.rows == annotation.file.rows:
        yield Fault(FaultKind.ROWS, path, f"it has {counted(rows, 'row')}, its document {annotation.rows:,}", step)
    if names != [column.name for column in annotation.columns]:
        yield Fault(FaultKind.SCHEMA, path, f"its columns are {names}, its document has others", step)
