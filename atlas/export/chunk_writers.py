"""Write the files of one chunk of an export, in the process that the chunk was given to.

DuckDB is not imported here: the processes need structures files and the writers of formats alone.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from foldatlas.atlas.export.bundles import ENDING, bin_name, compressed, tar_member
from foldatlas.atlas.export.chunks import Rows
from foldatlas.atlas.export.fasta_files import fasta_text
from foldatlas.atlas.export.formats import STRUCTURE_FORMATS
from foldatlas.atlas.export.journal import (
    Chunk,
    Member,
    Part,
    Unwritable,
    WrittenFile,
    finished_chunk,
    parts_folder,
    write_chunk,
    write_file,
)
from foldatlas.atlas.export.subset_atlas import write_atlas_chunk
from foldatlas.atlas.export.three_di_files import three_di_text
from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.parquet.coordinates import StoredStructure, decode_structures
from foldatlas.atlas.parquet.stored_pae import PaeReader
from foldatlas.atlas.parquet.structures import StructureLocation, StructureReader, by_row_group
from foldatlas.atlas.storage.protocol import Storage
from foldatlas.atlas.writers.pae_files import ENDING as PAE_ENDING
from foldatlas.atlas.writers.pae_files import pae_json
from foldatlas.atlas.writers.structure_files import structure_writer
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.records import format_structure_id

FASTA: Final = "proteins.fasta"
THREE_DI: Final = "proteins_ss.fasta"  # the name that Foldseek gives to a database of states

Row = dict[str, Any]


def pae_files_of(folder: AtlasFolder) -> dict[str, str]:
    """Return the pae file of each structures file of an atlas that has one."""
    entries = folder.entries().values()
    return {entry.files["structures"].path: entry.files["pae"].path for entry in entries if "pae" in entry.files}


class Written(NamedTuple):
    """A chunk that is written: its rows, and whether an earlier try had written it."""

    rows: int
    was_finished: bool


@dataclass
class ChunkWriter:
    """Writes chunks; a context manager that yields the function for one chunk (`processes.Worker`).

    `atlas` is read, `target` written; `members` is the format of the files in tar bundles. `resumed`: an earlier try
    may have finished some chunks. `subset` are arguments of `write_atlas_chunk`, for Parquet. `pae_files`: of the
    structures whose PAE is to be written, the pae file by structures file.
    """

    atlas: Storage
    target: Storage
    format: str
    members: str
    resumed: bool
    subset: dict[str, Any] = field(default_factory=dict)
    pae_files: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Callable[[Rows], Written]:
        self._open = contextlib.ExitStack()
        with self._open:
            self._reader = self._open.enter_context(StructureReader(self.atlas, self._columns()))
            self._pae = self._open.enter_context(contextlib.closing(PaeReader(self.atlas, self.pae_files)))
            format = self.members if self.format == "tar" else self.format
            if format in STRUCTURE_FORMATS:
                self._text_of = self._open.enter_context(structure_writer(format))
            self._open = self._open.pop_all()
        return self._write

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def _columns(self) -> list[str] | None:
        return ["structure_id", "sequence"] if self.format == "fasta" else None

    def _write(self, rows: Rows) -> Written:
        """Write a chunk and its document, unless an earlier try did."""
        table = rows.table()
        was_finished = self.resumed and finished_chunk(self.target, rows.number) is not None
        if not was_finished:
            if self.format in STRUCTURE_FORMATS:
                chunk = self._structure_files(table)
            elif self.format == "tar":
                chunk = self._bundles(rows.number, table)
            elif self.format == "parquet":
                chunk = write_atlas_chunk(
                    self.target, rows.number, table, self._stored(table), pae=self._pae, **self.subset
                )
            else:
                chunk = self._fasta(rows.number, table)
            write_chunk(self.target, rows.number, chunk)
        return Written(table.num_rows, was_finished)

    def _stored(self, table: pa.Table) -> Iterator[tuple[pa.Table, pa.Table, pa.Array]]:
        """Yield rows of the chunk, the distinct structures that they have, and the structure of each row."""
        identities: Any = table.column("structure_id").combine_chunks()
        files, numbers = (table.column(name).to_pylist() for name in ("structure_file", "structure_row"))
        locations = map(StructureLocation, identities.storage.to_pylist(), files, numbers)
        begin = 0
        for together in by_row_group(locations):
            distinct = {location.row: number for number, location in enumerate(dict.fromkeys(together))}
            which = pa.array([distinct[location.row] for location in together], pa.int64())
            yield table.slice(begin, len(together)), self._reader.rows(list(dict.fromkeys(together))), which
            begin += len(together)

    def _structures(self, table: pa.Table) -> Iterator[tuple[Row, StoredStructure]]:
        for rows, stored, which in self._stored(table):
            structures = decode_structures(stored)
            yield from zip(rows.to_pylist(), (structures[number] for number in which.to_pylist()), strict=True)

    def _contents(self, table: pa.Table, unwritable: list[Unwritable]) -> Iterator[tuple[Row, bytes]]:
        """Yield each row with the content of its structure file; add those without one to `unwritable`."""
        for row, structure in self._structures(table):
            described = {"model": row["model"], "mean_plddt": row["mean_plddt"], "ptm": row["ptm"]}
            try:
                yield row, self._text_of(structure, name=row["id"], **described)
            except UsageError as error:
                unwritable.append(Unwritable(row["id"], row["source"], str(error)))

    def _structure_files(self, table: pa.Table) -> Chunk:
        files: list[WrittenFile] = []
        written: list[Row] = []
        unwritable: list[Unwritable] = []
        for row, content in self._contents(table, unwritable):
            written.append(row)
            write_file(self.target, row["file_name"], content)
            files.append(
                WrittenFile(row["file_name"], len(content), hashlib.sha256(content).hexdigest(), **_described(row))
            )
        files += self._pae_of(written)
        return Chunk(len(written), files=files, unwritable=unwritable)

    def _pae_of(self, rows: list[Row]) -> Iterator[WrittenFile]:
        """Write the PAE of each row that has one, beside its structure."""
        for row in rows:
            errors = self._pae.matrix(row["structure_file"], row["structure_id"].bytes)
            if errors is not None:
                name = row["file_name"].removesuffix(f".{self.format}") + PAE_ENDING
                content = pae_json(errors)
                write_file(self.target, name, content)
                yield WrittenFile(name, len(content), hashlib.sha256(content).hexdigest(), **_described(row))

    def _bundles(self, number: int, table: pa.Table) -> Chunk:
        tars: dict[str, bytearray] = {}
        members: list[Member] = []
        unwritable: list[Unwritable] = []
        for row, content in self._contents(table, unwritable):
            stem = bin_name(row["ptm"], row["mean_plddt"])
            name = f"{stem}/{row['file_name']}"
            tars.setdefault(stem + ENDING, bytearray()).extend(tar_member(name, content))
            digest = hashlib.sha256(content).hexdigest()
            members.append(Member(stem + ENDING, name, len(content), digest, **_described(row)))
        parts = [self._part(number, name, compressed(bytes(tar))) for name, tar in sorted(tars.items())]
        return Chunk(len(members), parts=parts, members=members, unwritable=unwritable)

    def _fasta(self, number: int, table: pa.Table) -> Chunk:
        sequences: list[str] = []
        states: list[str] = []
        if self.format == "fasta":
            for rows, stored, which in self._stored(table):
                letters = pc.take(stored.column("sequence"), which).to_pylist()
                sequences += [_fasta_of(row, text) for row, text in zip(rows.to_pylist(), letters, strict=True)]
        else:
            for row, structure in self._structures(table):
                sequences.append(_fasta_of(row, structure.sequence))
                states.append(_fasta_of(row, three_di_text(structure)))
        parts = [self._part(number, FASTA, "".join(sequences).encode())]
        if self.format == "3di":
            parts.append(self._part(number, THREE_DI, "".join(states).encode()))
        return Chunk(len(sequences), parts=parts)

    def _part(self, number: int, whole: str, content: bytes) -> Part:
        name = f"{parts_folder(whole)}/{number:09d}"  # in the order of the chunks, as files are listed
        write_file(self.target, name, content)
        return Part(whole, name, len(content), hashlib.sha256(content).hexdigest())


def _described(row: Row) -> dict[str, str]:
    identity = row["structure_id"]
    return {"id": row["id"], "source": row["source"], "structure_id": format_structure_id(identity.bytes)}


def _fasta_of(row: Row, text: str) -> str:
    return fasta_text(row["id"], row["description"], text)
