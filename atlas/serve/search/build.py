"""Build the search database of an atlas, or bring it up to date, from the index and the files of structures.

Segments whose content is unchanged are kept. Small ones are built again together with what is new, so that the number
of segments stays in proportion to the size of the atlas. Each segment is written aside and renamed: an interrupted run
resumes with the next segment, and a server reads the old database until the document is replaced.
"""

import contextlib
import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa

from foldatlas.atlas.folder import SEARCH, AtlasFolder, now
from foldatlas.atlas.parquet.coordinates import StoredStructure, decode_structures, structure_ids_of
from foldatlas.atlas.parquet.files import open_parquet
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.reference.from_atlas import backbone_of
from foldatlas.atlas.serve.search.documents import (
    DOCUMENT,
    FORMAT,
    SEGMENT_DOCUMENT,
    SEGMENT_RESIDUES,
    SEGMENTS,
    SearchDatabase,
    Segment,
    read_database,
    segment_folder,
)
from foldatlas.atlas.serve.search.segments import SegmentWriter
from foldatlas.atlas.storage.commit import hidden, hidden_owner, replacing, sync_folder
from foldatlas.schemas.errors import DamagedAtlasError, FoldAtlasError, UsageError
from foldatlas.schemas.tables import STRUCTURES_PER_ROW_GROUP
from foldatlas.schemas.version import program_version

_SMALL: Final = 4  # a segment of fewer residues than the limit divided by this is built again with what is new
_PRESENT: Final = (
    "scores WHERE structure_id IN (SELECT structure_id FROM records WHERE state = 'folded' AND NOT superseded)"
)


@dataclass(frozen=True)
class _File:
    """A file of structures: which of its rows are searched, as a digest, and the file of their embeddings."""

    path: str
    embeddings: str | None
    digest: str
    residues: int


def search_folder(folder: AtlasFolder, given: str | Path | None = None) -> Path:
    """Return where the search database of an atlas is: `given`, or beside a local index. Raise UsageError."""
    if given is not None:
        return Path(given).absolute()
    if not folder.is_local:
        raise UsageError(f"{folder.uri} is on a store, and a search database is memory-mapped: give a local folder")
    return folder.root / SEARCH


def build_search(
    atlas: str | Path,
    root: Path,
    *,
    segment_residues: int = SEGMENT_RESIDUES,
    on_progress: Callable[[int, int], None] = lambda done, all: None,
) -> SearchDatabase:
    """Bring the search database in the folder `root` up to date with the index of `atlas`, and return its document.

    `on_progress` is called with the residues that are finished, and all that have to be read. A structures file that
    cannot be read is left out and listed as unreadable; the next run tries it again.
    """
    with _locked(root), Atlas.open(atlas) as opened:
        before = read_database(root)
        [(contents,)] = opened.sql("SELECT contents FROM settings").rows()
        files = _files(opened)
        kept, waiting = _divided(before.segments if before else (), files, segment_residues)
        done, total = 0, sum(file.residues for group in waiting for file in group)
        unreadable: dict[str, str] = {}
        made = []
        for group in waiting:
            made.append(_segment(opened, root, group, unreadable))
            done += sum(file.residues for file in group)
            on_progress(done, total)
        segments = tuple(sorted((*kept, *filter(None, made)), key=lambda segment: segment.name))
        document = SearchDatabase(FORMAT, now(), program_version(), contents, segments, unreadable)
        with replacing(root / DOCUMENT) as path:
            path.write_bytes(msgspec.json.format(msgspec.json.encode(document, order="deterministic"), indent=1))
        _delete(root, {segment.name for segment in segments})
    return document


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Lock the database for writing, and delete what ended runs left. Raise UsageError while another run writes."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"{root} is being written by another run: wait for it, or stop it") from error
        for path in (root / SEGMENTS).iterdir() if (root / SEGMENTS).is_dir() else ():
            if hidden_owner(path) is not None:
                shutil.rmtree(path, ignore_errors=True)
        yield


def _delete(root: Path, listed: set[str]) -> None:
    """Delete segments that the document does not list. Processes that have them open keep them."""
    for path in (root / SEGMENTS).iterdir() if (root / SEGMENTS).is_dir() else ():
        if path.name not in listed:
            shutil.rmtree(path, ignore_errors=True)


def _files(atlas: Atlas) -> list[_File]:
    """Return the files of structures that proteins have, by path."""
    rows = atlas.sql(
        "WITH found AS (SELECT structure_file::VARCHAR AS path, count(*) AS n, sum(length)::BIGINT AS residues, "
        f"bit_xor(md5_number(structure_id::VARCHAR)) AS mixed FROM {_PRESENT} GROUP BY ALL), "
        "beside AS (SELECT mine.path, max(others.path) AS embeddings FROM files AS mine "
        "JOIN files AS others USING (plan, shard) WHERE mine.table_name = 'structures' "
        "AND others.table_name = 'embeddings' GROUP BY ALL) "
        "SELECT path, embeddings, n, mixed::VARCHAR, residues FROM found LEFT JOIN beside USING (path) ORDER BY path"
    ).rows()
    return [
        _File(path, embeddings, _digest(path, embeddings or "", str(n), mixed), residues)
        for path, embeddings, n, mixed, residues in rows
    ]


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _divided(before: tuple[Segment, ...], files: list[_File], limit: int) -> tuple[list[Segment], list[list[_File]]]:
    """Return the segments that stay, and the groups of files of those that are built."""
    current = {file.path: file.digest for file in files}
    same = [segment for segment in before if all(current.get(path) == seen for path, seen in segment.files.items())]
    covered = {path for segment in same for path in segment.files}
    kept = same
    if any(file.path not in covered for file in files):
        kept = [segment for segment in same if segment.residues >= limit // _SMALL]
        covered = {path for segment in kept for path in segment.files}
    groups: list[list[_File]] = []
    room = 0
    for file in files:
        if file.path in covered:
            continue
        if file.residues > room:
            groups.append([])
            room = limit
        groups[-1].append(file)
        room -= file.residues
    return kept, groups


def _segment(atlas: Atlas, root: Path, files: list[_File], unreadable: dict[str, str]) -> Segment | None:
    """Write a segment unless an interrupted run has, and return it; None if none of its files can be read."""
    folder = segment_folder(root, _digest(*(file.digest for file in files)))
    if folder.is_dir():
        return _document(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = hidden(folder)
    try:
        wanted = _rows_of(atlas, [file.path for file in files])
        with SegmentWriter(temporary) as writer:
            for file in files:
                try:
                    _add_file(writer, atlas.folder, file, wanted[file.path])
                except (OSError, ValueError, pa.ArrowException, FoldAtlasError) as error:
                    unreadable[file.path] = " ".join(str(error).split())[:200]
        read = [file for file in files if file.path not in unreadable]
        if not read:
            return None
        folder = segment_folder(root, _digest(*(file.digest for file in read)))
        if folder.is_dir():
            return _document(folder)
        segment = writer.segment(folder.name, {file.path: file.digest for file in read})
        (temporary / SEGMENT_DOCUMENT).write_bytes(msgspec.json.encode(segment))
        sync_folder(temporary)
        temporary.rename(folder)
        sync_folder(folder.parent)
        return segment
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _document(folder: Path) -> Segment:
    return msgspec.json.decode((folder / SEGMENT_DOCUMENT).read_bytes(), type=Segment)


def _rows_of(atlas: Atlas, paths: list[str]) -> dict[str, dict[int, bytes]]:
    """Return the structure_id by row of each file."""
    found: dict[str, dict[int, bytes]] = {}
    result = atlas.sql(
        f"SELECT structure_file::VARCHAR, structure_row, structure_id FROM {_PRESENT} "
        "AND structure_file::VARCHAR IN (SELECT unnest($paths)) ORDER BY ALL",
        {"paths": paths},
    )
    for path, row, identity in result.rows():
        found.setdefault(path, {})[row] = identity.bytes
    return found


def _add_file(writer: SegmentWriter, folder: AtlasFolder, file: _File, wanted: Mapping[int, bytes]) -> None:
    """Add the rows `wanted` of a file. It is read before anything is written: a damaged one adds nothing."""
    structures = list(_structures(folder, file.path, wanted))
    vectors = _vectors(folder, file.embeddings) if file.embeddings else {}
    for structure in structures:
        identity = structure.structure_id
        writer.add(structure.sequence, backbone_of(structure), identity, vectors.get(identity))


def _structures(folder: AtlasFolder, path: str, wanted: Mapping[int, bytes]) -> Iterator[StoredStructure]:
    groups = sorted({row // STRUCTURES_PER_ROW_GROUP for row in wanted})
    with open_parquet(folder.storage, path) as file:
        for group in groups:
            begin = group * STRUCTURES_PER_ROW_GROUP
            for row, structure in enumerate(decode_structures(file.read_row_group(group)), begin):
                if row in wanted:
                    if structure.structure_id != wanted[row]:
                        raise DamagedAtlasError(f"row {row} of {path} is another structure than in the index")
                    yield structure


def _vectors(folder: AtlasFolder, path: str) -> dict[bytes, Any]:
    """Return the embeddings of a file by structure_id."""
    with open_parquet(folder.storage, path) as file:
        table = file.read(["structure_id", "mean"])
    column: Any = table.column("mean").combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False)
    ends = column.offsets.to_numpy()
    return {
        identity: values[begin - ends[0] : end - ends[0]]
        for identity, begin, end in zip(structure_ids_of(table), ends[:-1], ends[1:], strict=True)
    }
