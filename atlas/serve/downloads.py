"""Downloads of the proteins that meet a filter, as streams: a tar of structure files, Parquet, FASTA, a manifest.

A download that is cut off is resumed after the cursor of the last whole file, which the manifest gives. The last member
of a tar is its own manifest, so a tar without `manifest.jsonl` is incomplete.
"""

import hashlib
import io
import string
import tarfile
import uuid
from collections.abc import Iterator
from typing import IO, Any, Final, cast
from urllib.parse import quote

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from foldatlas.atlas.export.fasta_files import fasta_text
from foldatlas.atlas.serve.catalogue import COLUMNS, Protein, steps
from foldatlas.atlas.serve.contents import Contents
from foldatlas.atlas.serve.current import Served
from foldatlas.atlas.serve.filters import Key, Matching, ProteinFilter
from foldatlas.atlas.serve.pieces import PiecesFile
from foldatlas.atlas.sql.query import read_only
from foldatlas.schemas.errors import UsageError

MANIFEST: Final = "manifest.jsonl"
_PIECE: Final = 256 << 10  # bytes; pieces of a stream are at least so large, but the last
_RECORDS: Final = 500  # of FASTA in a piece
_SAFE: Final = "".join(sorted(set(string.punctuation) - {"%", ">"}))  # in ids of FASTA, beside letters and digits
_JSON: Final = msgspec.json.Encoder()


def tar_stream(
    served: Served, contents: Contents, wanted: ProteinFilter | Matching, after: Key | None, limit: int, format: str
) -> Iterator[bytes]:
    """Yield a tar of one structure file per structure, and the manifest as its last member.

    Names are structure ids: ids of records may be anything. A structure beyond the limits of the format is in the
    manifest with the reason and has no file.
    """
    return tar_of(served, contents, (each for step in steps(served, wanted, after, limit) for _, each in step), format)


def tar_of(served: Served, contents: Contents, proteins: Iterator[Protein], format: str) -> Iterator[bytes]:
    """Yield a tar of the structure files of `proteins`, in which records of one structure follow each other."""
    sink = PiecesFile()
    lines: list[bytes] = []
    previous: tuple[Any, dict[str, Any]] | None = None
    with tarfile.open(fileobj=cast(IO[bytes], sink), mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for protein in proteins:
            if previous is not None and previous[0] == protein.structure_id:
                entry = dict(previous[1])
            else:
                entry = {"name": f"{protein.structure_id}.{format}"}
                try:
                    data = contents.structure_file(served, protein, format)
                    entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                    _add(tar, entry["name"], data)
                except UsageError as error:
                    entry = {"name": None, "reason": str(error)}
                previous = protein.structure_id, entry
            lines.append(_manifest_line(protein, entry))
            if sink.size >= _PIECE:
                yield sink.take()
        _add(tar, MANIFEST, b"".join(lines))
    yield sink.take()


def manifest_stream(served: Served, wanted: ProteinFilter | Matching, after: Key | None, limit: int) -> Iterator[bytes]:
    """Yield a line of JSON for each record of a download: its ids and the cursor to resume after it."""
    for step in steps(served, wanted, after, limit):
        yield b"".join(_manifest_line(protein, {}) for _, protein in step)


def parquet_stream(
    served: Served, contents: Contents, wanted: ProteinFilter | Matching, after: Key | None, limit: int
) -> Iterator[bytes]:
    """Yield a Parquet file of rows of `proteins` with their sequences, and the cursor to resume after each row."""
    schema = parquet_schema(served)
    sink = PiecesFile()
    with pq.ParquetWriter(pa.PythonFile(cast(IO[bytes], sink), mode="w"), schema, compression="zstd") as writer:
        for step in steps(served, wanted, after, limit):
            rows = [
                {
                    **{name: _plain(value) for name, value in row.items()},
                    "sequence": contents.sequence(served, protein),
                    "cursor": _key_of(protein).text(),
                }
                for row, protein in step
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            if sink.size >= _PIECE:
                yield sink.take()
    yield sink.take()


def fasta_stream(
    served: Served, contents: Contents, wanted: ProteinFilter | Matching, after: Key | None, limit: int
) -> Iterator[bytes]:
    """Yield a FASTA record for each protein: its id, structure_id, pLDDT and pTM in the header.

    Ids are percent-encoded where they have spaces, control characters, `%`, `>` or what is not ASCII, so that an id is
    one word, and no id makes a header of its own.
    """
    for step in steps(served, wanted, after, limit):
        for begin in range(0, len(step), _RECORDS):
            records = (_fasta_record(served, contents, protein) for _, protein in step[begin : begin + _RECORDS])
            yield "".join(records).encode()


def _fasta_record(served: Served, contents: Contents, protein: Protein) -> str:
    facts = {"structure_id": protein.structure_id, "plddt": protein.mean_plddt, "ptm": protein.ptm}
    described = " ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in facts.items()
        if value is not None
    )
    return fasta_text(quote(protein.id, safe=_SAFE), described, contents.sequence(served, protein))


def parquet_schema(served: Served) -> pa.Schema:
    """Return the schema of `parquet_stream`."""
    described = read_only(served.new_cursor(), f"SELECT {', '.join(COLUMNS)} FROM proteins LIMIT 0")
    return pa.schema(
        [*described.batches(as_text=True).schema, pa.field("sequence", pa.string()), pa.field("cursor", pa.string())]
    )


def prepared(stream: Iterator[bytes]) -> Iterator[bytes]:
    """Return `stream` after its first piece was made, so that an error at its beginning is raised here."""
    first = next(stream, b"")

    def pieces() -> Iterator[bytes]:
        yield first
        yield from stream

    return pieces()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    member.mode = 0o644
    tar.addfile(member, io.BytesIO(data))


def _manifest_line(protein: Protein, entry: dict[str, Any]) -> bytes:
    described = {"structure_id": str(protein.structure_id), "id": protein.id, "source": protein.source}
    return _JSON.encode({**described, **entry, "cursor": _key_of(protein).text()}) + b"\n"


def _key_of(protein: Protein) -> Key:
    return Key(protein.structure_id, protein.id, protein.source)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, uuid.UUID) else value
