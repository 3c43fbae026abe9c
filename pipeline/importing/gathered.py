"""The JSON files of an archive, gathered in the staging area before its structures are read.

An archive may have the JSON file of a structure anywhere, and can only be read from its beginning. So its JSON files
are copied first, as Parquet; then each lane looks up those of its structures.
"""

import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from foldatlas.atlas.importing.confidence_json import MAX_CONFIDENCE_BYTES, is_confidence_name
from foldatlas.atlas.parquet.files import ParquetFile, open_parquet
from foldatlas.atlas.reference.read import Member
from foldatlas.atlas.storage.commit import attempt_name
from foldatlas.atlas.storage.protocol import Storage
from foldatlas.pipeline.importing.sources import StructureSource
from foldatlas.pipeline.sources.structure_files import open_members
from foldatlas.schemas.errors import SourceError
from foldatlas.schemas.import_tables import GATHERED
from foldatlas.schemas.records import Outcome

NOTE: Final = "gathered.json"
_GROUP_BYTES: Final = 8 << 20  # of JSON text in a row group
_SKIP_SECONDS: Final = 5.0  # between two calls of `skipping`


class GatheredNote(msgspec.Struct, frozen=True):
    """The name of the gathered files in the staging area, "" if the archive has none."""

    file: str


def gather(source: StructureSource, staging: Storage, skipping: Callable[[], None]) -> None:
    """Copy the JSON files of an archive, unless that was done. `skipping` is called every few seconds.

    Raise SourceError if the archive is remote and cannot be reached.
    """
    if staging.exists(NOTE):
        return
    name = f"gathered.{attempt_name()}.parquet"
    called = time.monotonic()
    rows: list[dict[str, Any]] = []
    size = 0

    def wanted(number: int) -> bool:
        nonlocal called
        if time.monotonic() > called + _SKIP_SECONDS:
            called = time.monotonic()
            skipping()
        return True

    with ParquetFile(staging, name, "gathered", schema=GATHERED) as file:

        def flush() -> None:
            if rows:
                file.write(pa.Table.from_pylist(rows, schema=GATHERED))
                rows.clear()

        members = open_members(source.found, wanted, MAX_CONFIDENCE_BYTES, is_confidence_name)
        with closing(members):
            for _, member in members:
                if not member.name and member.outcome == Outcome.UNREADABLE and source.is_remote:
                    raise SourceError(f"{source.name} could not be read: {member.detail}")
                if not isinstance(member.content, bytes) or not is_confidence_name(member.name):
                    continue
                rows.append({"path": member.name, "content": member.content})
                size += len(member.content)
                if size >= _GROUP_BYTES:
                    flush()
                    size = 0
        flush()
    staging.commit_once(NOTE, msgspec.json.encode(GatheredNote(name if file.rows else "")))


class Gathered:
    """The gathered files of an archive: a container of their paths."""

    def __init__(self, file: pq.ParquetFile | None = None):
        self._file = file
        self._places: dict[str, tuple[int, int]] = {}  # row group, row in it
        self._group = -1
        self._contents: list[bytes] = []
        for group in range(0 if file is None else file.num_row_groups):
            assert file is not None
            for row, path in enumerate(file.read_row_group(group, columns=["path"])["path"].to_pylist()):
                self._places.setdefault(path, (group, row))

    @classmethod
    def of(cls, staging: Storage) -> "Gathered":
        """Return the files that were gathered in `staging`, none if that was not done."""
        if not staging.exists(NOTE):
            return cls()
        name = msgspec.json.decode(staging.read(NOTE), type=GatheredNote).file
        return cls(open_parquet(staging, name) if name else None)

    def __contains__(self, path: object) -> bool:
        return path in self._places

    def member(self, path: str) -> Member:
        """Return a file. Neighbours in the archive are read together."""
        group, row = self._places[path]
        if group != self._group:
            assert self._file is not None
            self._contents = self._file.read_row_group(group, columns=["content"])["content"].to_pylist()
            self._group = group
        return Member(path, self._contents[row])
