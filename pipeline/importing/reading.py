"""Read the files of a folder's chunk, or of a lane of an archive, into staged Parquet files.

A chunk is CHUNK_FILES neighbouring files of a source. It is complete when its note exists, which is written last. The
chunks of an archive are spread over lanes: each lane reads the whole archive, and the members of its own chunks, so
that several workers can read an archive that can only be read from its beginning.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import groupby
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa

from foldatlas.atlas.parquet.files import ParquetFile
from foldatlas.atlas.reference.read import Found, Member
from foldatlas.atlas.storage.commit import attempt_name
from foldatlas.atlas.storage.opening import open_storage
from foldatlas.atlas.storage.protocol import Storage
from foldatlas.pipeline import events
from foldatlas.pipeline.importing.beside import Beside, path_beside
from foldatlas.pipeline.importing.gathered import Gathered, gather
from foldatlas.pipeline.importing.options import ImportOptions
from foldatlas.pipeline.importing.rows import MAX_TEXT_BYTES, file_row, is_read, other_file
from foldatlas.pipeline.importing.sources import ARCHIVE, FILE, StructureSource
from foldatlas.pipeline.importing.staged_chunk import StagedStructures
from foldatlas.pipeline.sources.structure_files import open_members
from foldatlas.schemas.errors import SourceError
from foldatlas.schemas.import_tables import STAGED_FILES
from foldatlas.schemas.records import Outcome

CHUNK_FILES: Final = 256
TOTAL: Final = "total.json"

Begin = Callable[[int], bool]  # called with the number of a file before it is read; False for one not to be read
_SKIP_SECONDS: Final = 5.0  # between two calls of `skipping` while members of other lanes are skipped


class ReadTask(NamedTuple):
    """What one worker reads of a source.

    staging: where to write, a path or an address.
    source: the source, without its files.
    options: how files are read.
    chunk, files: of a folder, the number of a chunk, and its files.
    beside: of a folder, the JSON file beside each of `files`, "" for none.
    gathers: of an archive, whether to gather its JSON files, before its structures are read.
    lane, lanes: of an archive, the chunks whose number is `lane` modulo `lanes`.
    log: where events go.
    """

    staging: str
    source: StructureSource
    options: ImportOptions
    chunk: int = 0
    files: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    gathers: bool = False
    lane: int = 0
    lanes: int = 1
    log: events.Log | None = None


class ChunkNote(msgspec.Struct, frozen=True):
    """A staged chunk: names of its files in the staging area, and numbers of files, of accepted ones, and of residues.

    `pae` is "" for a chunk without PAE. `is_lasting` is False if a file could not be opened, which may succeed
    later with the same file.
    """

    number: int
    rows: str
    structures: str
    files: int
    accepted: int
    residues: int
    is_lasting: bool = True
    pae: str = ""


class TotalNote(msgspec.Struct, frozen=True):
    """The number of files of an archive."""

    files: int


def note_name(chunk: int) -> str:
    return f"{chunk:08d}.json"


def read_task(task: ReadTask, begin: Begin, skipping: Callable[[], None] = lambda: None) -> None:
    """Stage what the task names and is not staged yet. `skipping` is called every few seconds between files.

    Raise SourceError if the source cannot be reached.
    """
    staging = open_storage(task.staging)
    if task.source.kind == ARCHIVE and task.gathers:
        gather(task.source, staging, skipping)
    elif task.source.kind == ARCHIVE:
        _read_archive(task, staging, begin, skipping)
    elif not staging.exists(note_name(task.chunk)):
        _write_chunk(staging, task.chunk, _files_of_folder(task, begin), task.options)


def chunks_of(num_files: int) -> int:
    """Return the number of chunks of a source of so many files."""
    return -(-num_files // CHUNK_FILES)


class _File(NamedTuple):
    number: int
    path: str
    member: Member | None  # None for a file that is not read
    is_lasting: bool = True
    beside: Beside | None = None


def _files_of_folder(task: ReadTask, begin: Begin) -> Iterator[_File]:
    for place, path in enumerate(task.files):
        number = task.chunk * CHUNK_FILES + place
        if task.source.kind != FILE and not is_read(path):
            yield _File(number, path, None)
        elif not begin(number):
            yield _File(number, path, _CRASHED)
        else:
            yield _read_file(task.source, number, path, task.beside[place] if task.beside else "")


def _read_file(source: StructureSource, number: int, path: str, beside: str) -> _File:
    try:
        found = source.found if source.kind == FILE else source.file(path)
    except SourceError as error:
        if source.is_remote:
            raise
        return _File(number, path, Member(path, None, Outcome.UNREADABLE, str(error)), is_lasting=False)
    [(_, member)] = _only(found)
    if member.outcome == Outcome.UNREADABLE and source.is_remote:
        raise SourceError(f"{found.source} could not be read: {member.detail}")
    of_confidence = Beside(beside, lambda: _json_file(source, beside)) if beside else None
    return _File(number, path, member, member.outcome != Outcome.UNREADABLE, of_confidence)


def _json_file(source: StructureSource, path: str) -> Member:
    """Return the content of a JSON file beside a structure. Raise SourceError if it is remote and cannot be reached."""
    try:
        found = source.file(path)
    except SourceError as error:
        if source.is_remote:
            raise
        return Member(path, None, Outcome.UNREADABLE, str(error))
    [(_, member)] = _only(found)
    if member.outcome == Outcome.UNREADABLE and source.is_remote:
        raise SourceError(f"{found.source} could not be read: {member.detail}")
    return member


def _only(found: Found) -> list[tuple[int, Member]]:
    """Return the content of a file that is not an archive, whatever it is."""
    with closing(open_members(found, max_bytes=MAX_TEXT_BYTES)) as members:
        for number, member in members:
            if member.name:
                return [(number, Member("", None, Outcome.NOT_STRUCTURE, "an archive without the name of one"))]
            return [(number, member)]
    raise AssertionError("open_members yields at least one member")


def _read_archive(task: ReadTask, staging: Storage, begin: Begin, skipping: Callable[[], None]) -> None:
    seen = 0
    called = time.monotonic()
    done: dict[int, bool] = {}
    gathered = Gathered.of(staging)

    def wanted(number: int) -> bool:
        nonlocal seen, called
        seen = max(seen, number + 1)
        if time.monotonic() > called + _SKIP_SECONDS:
            called = time.monotonic()
            skipping()
        chunk = number // CHUNK_FILES
        if chunk % task.lanes != task.lane:
            return False
        if chunk not in done:
            done.clear()
            done[chunk] = staging.exists(note_name(chunk))
        return not done[chunk]

    def files() -> Iterator[_File]:
        nonlocal seen
        with closing(open_members(task.source.found, wanted, MAX_TEXT_BYTES)) as members:
            for number, member in members:
                seen = max(seen, number + 1)
                path = member.name
                if number // CHUNK_FILES % task.lanes != task.lane:
                    continue  # why the archive could not be read to its end: another lane's
                if not path and member.outcome == Outcome.UNREADABLE and task.source.is_remote:
                    raise SourceError(f"{task.source.name} could not be read: {member.detail}")
                if member.content is None:
                    yield _File(number, path, member)
                elif path and not is_read(path):
                    yield _File(number, path, None)
                else:
                    read = member if begin(number) else _CRASHED
                    beside = path_beside(path, gathered) if path else ""
                    yield _File(
                        number,
                        path or task.source.file_name,
                        read,
                        beside=Beside(beside, partial(gathered.member, beside)) if beside else None,
                    )

    for chunk, some in groupby(files(), key=lambda file: file.number // CHUNK_FILES):
        if not staging.exists(note_name(chunk)):
            _write_chunk(staging, chunk, some, task.options)
    staging.commit_once(TOTAL, msgspec.json.encode(TotalNote(seen)))


_CRASHED: Final = Member("", None, Outcome.CRASHED, "the process that read it crashed, or took too long")


def _write_chunk(staging: Storage, chunk: int, files: Iterator[_File], options: ImportOptions) -> None:
    """Read files and write their rows, structures and PAE, then the note."""
    attempt = attempt_name()
    files_name = f"{chunk:08d}.{attempt}.files.parquet"
    rows: list[dict[str, Any]] = []
    is_lasting = True
    with StagedStructures(staging, f"{chunk:08d}.{attempt}") as structures:
        for file in files:
            is_lasting = is_lasting and file.is_lasting
            if file.member is None:
                rows.append(other_file(file.number, file.path))
                continue
            beside = file.beside if options.reads_beside else None
            row, structure = file_row(file.number, file.path, file.member, options, beside)
            if structure is not None:
                row.update(structures.add(structure, with_pae=options.confidence))
            rows.append(row)
    with ParquetFile(staging, files_name, "staged_files", schema=STAGED_FILES) as table:
        table.write(pa.Table.from_pylist(rows, schema=STAGED_FILES))
    note = ChunkNote(
        chunk, files_name, structures.name, len(rows), structures.rows, structures.residues, is_lasting, structures.pae
    )
    staging.commit_once(note_name(chunk), msgspec.json.encode(note))
