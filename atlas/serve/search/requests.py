"""A search, its hits, and the messages between the server and the process that runs it: msgpack after a length.

The server writes one `Job` and reads `Progress` messages up to `Found` or `Failed`.
"""

import struct
from typing import IO, Final, Literal

import msgspec

Kind = Literal["sequence", "structure", "embedding"]

MAX_HITS: Final = 1_000
MAX_MESSAGE: Final = 64 << 20  # bytes
_LENGTH: Final = struct.Struct("<I")


class Sequence(msgspec.Struct, frozen=True, tag="sequence"):
    """Search by sequence. `max_evalue` is the greatest E-value of a hit."""

    sequence: str
    max_evalue: float


class Structure(msgspec.Struct, frozen=True, tag="structure"):
    """Search by structure: the text of a PDB or mmCIF file, of which `chain` is read, or a sequence and its backbone.

    `backbone` are N, C-alpha, C and C-beta, float32 [L, 4, 3] in angstrom, NaN for a missing atom. `min_tm` is the
    least TM-score of a hit, by the query's length.
    """

    min_tm: float
    text: bytes = b""
    chain: str | None = None
    sequence: str = ""
    backbone: bytes = b""


class Embedding(msgspec.Struct, frozen=True, tag="embedding"):
    """Search by embedding: float32 [D]."""

    vector: bytes


class Job(msgspec.Struct, frozen=True):
    """What a process needs: the query, the database, its own folder for temporary files, and limits.

    `limit` hits are found at most. `memory_bytes` of private memory, `processor_seconds` and `temporary_bytes` of a
    file are those of the process.
    """

    query: Sequence | Structure | Embedding
    root: str
    temporary: str
    limit: int
    threads: int
    max_residues: int
    memory_bytes: int
    processor_seconds: int
    temporary_bytes: int


class Hit(msgspec.Struct, frozen=True, omit_defaults=True):
    """A structure that was found. What another kind of search gives is None.

    identity            fraction of the aligned residues with equal codes, 0 to 1
    coverage            aligned fraction of the query, 0 to 1; target_coverage of the structure that was found
    query_start, ...    first and last aligned residue, from 1
    evalue, bits        of the alignment; the E-value is the expected number of such hits in the database by chance
    tm_query, tm_target TM-scores of one alignment by the query's and by the found structure's length, 0 to 1
    rmsd                of the aligned C-alphas, angstrom
    rotation, translation  R and t: `R @ x + t` lays the query on the structure that was found
    alignment           blocks without gaps: first residue of the query and of the structure, from 1, and length
    similarity          cosine of the embeddings, -1 to 1
    """

    structure_id: bytes
    identity: float | None = None
    coverage: float | None = None
    target_coverage: float | None = None
    query_start: int | None = None
    query_end: int | None = None
    target_start: int | None = None
    target_end: int | None = None
    evalue: float | None = None
    bits: int | None = None
    tm_query: float | None = None
    tm_target: float | None = None
    rmsd: float | None = None
    aligned_length: int | None = None
    rotation: list[list[float]] | None = None
    translation: list[float] | None = None
    alignment: list[tuple[int, int, int]] | None = None
    similarity: float | None = None


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """`fraction`, 0 to 1, of the work is done; `phase` names what is being done."""

    phase: str
    fraction: float


class Found(msgspec.Struct, frozen=True, tag="found"):
    """The hits, the best first; the length of the query in residues, 0 for an embedding; structures searched."""

    hits: list[Hit]
    query_length: int
    searched: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Why there is no result: `reason` is one of REASONS, or an outcome of `atlas.importing.structure_text`."""

    reason: str
    detail: str


Message = Progress | Found | Failed


def write(file: IO[bytes], message: Job | Message) -> None:
    """Write a message."""
    data = msgspec.msgpack.encode(message)
    file.write(_LENGTH.pack(len(data)) + data)
    file.flush()


def read(file: IO[bytes], kind: type) -> "Job | Message | None":
    """Return the next message of the type `kind`, None at the end of the file or for one that is cut off."""
    header = file.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(header)
    data = file.read(length) if length <= MAX_MESSAGE else b""
    if len(data) < length:
        return None
    return msgspec.msgpack.decode(data, type=kind)
