"""Checks of annotations: their documents, and the tables that these list."""

from collections.abc import Iterator

import pyarrow as pa

from foldatlas.atlas.annotations.documents import newest_documents, read_annotation
from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.parquet.files import open_parquet
from foldatlas.atlas.verify.fault import RESTORE, Fault, FaultKind, Step
from foldatlas.schemas.annotations import Annotation
from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.wording import counted


def next_step(name: str) -> Step:
    """Return what to do about a damaged annotation."""
    return Step(f"{RESTORE}, or add it again with `foldatlas annotate --name {name} --replace`")


def read_annotations(folder: AtlasFolder, faults: list[Fault]) -> list[Annotation]:
    """Return the annotations whose newest document can be read, and add faults of documents to `faults`."""
    found = []
    for name, path in newest_documents(folder).items():
        try:
            found.append(read_annotation(folder, path))
        except (OSError, DamagedAtlasError) as error:
            faults.append(Fault(FaultKind.DOCUMENT, path, str(error), next_step(name)))
    return [annotation for annotation in found if annotation.file is not None]


def check_annotation(folder: AtlasFolder, annotation: Annotation, bad: set[str]) -> Iterator[Fault]:
    """Yield faults of an annotation's table, unless its file is in `bad`."""
    if annotation.file is None or annotation.file.path in bad:
        return
    path, step = annotation.file.path, next_step(annotation.name)
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
