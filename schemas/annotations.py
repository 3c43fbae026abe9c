"""The documents of annotations: tables that users join to an atlas, in `annotations/<name>/` of the atlas.

`<generation>.json` is committed once, after the table that it lists; the highest generation of a name counts. Replacing
or dropping an annotation commits the next generation.
"""

import re
from pathlib import PurePosixPath
from typing import Final

import msgspec

from foldatlas.schemas.manifest import FileEntry

ANNOTATION_FORMAT: Final = 1
FOLDER: Final = "annotations"
# What a table may be joined by -> what its values are.
KEYS: Final[dict[str, str]] = {
    "id": "the id of a record",
    "structure_id": "md5 of the sequence, 32 hexadecimal digits with or without dashes",
    "mgyp": "MGnify protein number, with or without MGYP",
    "accession": "an id, the accession in `sp|ACCESSION|NAME`, or that of a further title of NCBI's nr",
}

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")


def check_annotation_name(name: str) -> None:
    """Raise ValueError for a name that cannot be that of an annotation: it names a view and a folder."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a name of an annotation: use up to 63 lower-case letters, digits and _, a letter first"
        )


class AnnotationColumn(msgspec.Struct, frozen=True):
    """A column: its name in SQL, its name in the user's table, and its type in DuckDB."""

    name: str
    given: str
    type: str


class Annotation(msgspec.Struct, frozen=True):
    """`annotations/<name>/<generation>.json`: a table that is joined by `key`; without `file`, it was dropped.

    `table` is the name of the user's file. Of its rows, `rows` are stored; `malformed` have another number of fields
    than the header, `null_keys` no key, and `invalid_keys` one that cannot be of this kind. `repeated_keys` keys are in
    several stored rows.
    """

    format: int
    name: str
    generation: int
    created: str
    program: str
    key: str
    table: str
    columns: tuple[AnnotationColumn, ...]
    rows: int
    malformed: int
    null_keys: int
    invalid_keys: int
    repeated_keys: int
    file: FileEntry | None

    def __post_init__(self) -> None:
        check_annotation_name(self.name)
        if self.key not in KEYS:
            raise ValueError(f"{self.key!r} is not a key of annotations")
        if self.file is not None and PurePosixPath(self.file.path).parts[:-1] != (FOLDER, self.name):
            raise ValueError(f"{self.file.path!r} is not in {FOLDER}/{self.name}/")
