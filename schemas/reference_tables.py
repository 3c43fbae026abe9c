"""Tables and documents of a reference database (`foldatlas reference`), in which novelty is searched.

A database has structures, experimental or predicted, or known sequences. docs/reference.md describes every file; a test
checks it against this module.
"""

from typing import Annotated, Final, Literal

import msgspec
import pyarrow as pa

from foldatlas.schemas.tables import describe_field, describe_table

REFERENCE_FORMAT: Final = 1
STATE_ALPHABET: Final = "ACDEFGHIKLMNPQRSTVWY"  # letter of each 3Di state 0 to 19 (van Kempen et al. 2023)
UNKNOWN_LICENCE: Final = "unknown"

Kind = Literal["structures", "sequences"]
_Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]  # no path leads out of the database
_Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
_Count = Annotated[int, msgspec.Meta(ge=0)]

_SOURCE = describe_field("source", pa.string(), "normalised URI of the file")
_MEMBER = describe_field("member", pa.string(), "name inside an archive, or shard of an atlas; empty for a plain file")
_NAME = describe_field("name", pa.string(), "unique in the database: entry id and author's chain name, or FASTA id")
_TITLE = describe_field("title", pa.string(), "title of the structure, or description of the FASTA record")
_VERSION = describe_field("version", pa.int32(), "version of the database in which it was added", span=">= 1")
_LICENCE = describe_field("licence", pa.string(), "as stated by --licence; `unknown` where it was not")
_STRUCTURE_ID = describe_field("structure_id", pa.uuid(), "md5 of the sequence, as in an atlas")
_SEQUENCE = describe_field("sequence", pa.string(), "upper-case one-letter residue codes", span="A-Z")
_LENGTH = describe_field("length", pa.int32(), "number of residues", unit="residues", span=">= 1")

STRUCTURE_ENTRIES: Final = describe_table(
    "reference_entries",
    [
        _NAME,
        _TITLE,
        describe_field("chain", pa.string(), "author's chain name"),
        _SEQUENCE,
        _LENGTH,
        _STRUCTURE_ID,
        describe_field("digest", pa.binary(32), "sha256 of sequence, C-alphas and 3Di states"),
        _VERSION,
        _LICENCE,
        _SOURCE,
        _MEMBER,
    ],
    version=REFERENCE_FORMAT,
)

SEQUENCE_ENTRIES: Final = describe_table(
    "reference_sequences",
    [_NAME, _TITLE, _SEQUENCE, _LENGTH, _STRUCTURE_ID, _VERSION, _LICENCE, _SOURCE],
    version=REFERENCE_FORMAT,
)

CHAINS: Final = describe_table(
    "reference_chains",
    [
        _SOURCE,
        _MEMBER,
        describe_field("number", pa.int32(), "number of the chain in its file, from 0", span=">= 0"),
        describe_field("chain", pa.string(), "author's chain name"),
        describe_field("name", pa.string(), "entry id and author's chain name; several chains may share one"),
        describe_field("outcome", pa.string(), "entry, identical, or why it is not an entry"),
        describe_field("length", pa.int32(), "residues with a C-alpha", unit="residues", span=">= 0"),
        describe_field("dropped", pa.int32(), "residues without a usable C-alpha", unit="residues", span=">= 0"),
        describe_field("entry", pa.string(), "name of the entry for the chain; NULL if none", nullable=True),
        _VERSION,
    ],
    version=REFERENCE_FORMAT,
)

RECORDS: Final = describe_table(
    "reference_records",
    [
        _SOURCE,
        describe_field("offset", pa.int64(), "position of the record's '>' in the uncompressed file", unit="bytes"),
        describe_field("name", pa.string(), "first word of the header"),
        describe_field("structure_id", pa.uuid(), "md5 of the sequence; NULL for a refused record", nullable=True),
        describe_field("outcome", pa.string(), "entry, identical, or the reason of the refusal (docs/files.md)"),
        _VERSION,
    ],
    version=REFERENCE_FORMAT,
)

FILES: Final = describe_table(
    "reference_files",
    [
        _SOURCE,
        _MEMBER,
        describe_field("size", pa.int64(), "of the file or archive as stored; -1 if unknown", unit="bytes"),
        describe_field("mtime_ns", pa.int64(), "when it was changed, since 1970; 0 if unknown", unit="ns"),
        describe_field("etag", pa.string(), "entity tag of the store, or empty"),
        describe_field("sha256", pa.string(), "of the text that was read, 64 hexadecimal digits; empty if none was"),
        describe_field("outcome", pa.string(), "read, or why it was not"),
        describe_field("detail", pa.string(), "the reason in words, or empty"),
        describe_field("chains", pa.int64(), "chains or records found in it", span=">= 0"),
        _LICENCE,
        _VERSION,
    ],
    version=REFERENCE_FORMAT,
)

LEFT: Final = describe_table(
    "reference_left",
    [
        _NAME,
        _STRUCTURE_ID,
        _VERSION,
        describe_field("left", pa.int32(), "version of the database that no longer has it", span=">= 2"),
        describe_field("reason", pa.string(), "changed: its file has other content; removed: not named with --sync"),
        _SOURCE,
        _MEMBER,
    ],
    version=REFERENCE_FORMAT,
)

# Written by reading files, read by building a version; not part of a database.
STAGED_CHAINS: Final = describe_table(
    "reference_staged_chains",
    [
        *(CHAINS.field(name) for name in ("source", "member", "number", "chain", "name")),
        _TITLE,
        *(CHAINS.field(name) for name in ("outcome", "length", "dropped")),
        _SEQUENCE,
        describe_field(
            "c_alphas", pa.binary(), "float32 [length, 3], little-endian; empty for chains that are not candidates"
        ),
        describe_field("states", pa.binary(), "uint8 [length], 3Di states 0 to 19"),
        describe_field("secondary", pa.binary(), "uint8 [length], ASCII C, H, T or E"),
    ],
    version=REFERENCE_FORMAT,
)

TABLES: Final[dict[str, pa.Schema]] = {
    "entries": STRUCTURE_ENTRIES,
    "sequences": SEQUENCE_ENTRIES,
    "chains": CHAINS,
    "records": RECORDS,
    "files": FILES,
    "left": LEFT,
}

# Array of a database of structures -> its dtype, and what it holds.
ARRAYS: Final[dict[str, tuple[str, str]]] = {
    "c_alphas": ("float32", "C-alpha positions as in the file, angstrom, [residues, 3]"),
    "offsets": ("int64", "first residue of each entry, then the number of all residues, [entries + 1]"),
    "sequence": ("uint8", "residue codes, ASCII, [residues]"),
    "states": ("uint8", "3Di states, 0 to 19, in the order ACDEFGHIKLMNPQRSTVWY, [residues]"),
    "secondary": ("uint8", "secondary structure as in TM-align, ASCII: C coil, H helix, T turn, E strand, [residues]"),
    "versions": ("int32", "version in which each entry was added, not decreasing, [entries]"),
}

CHAIN_OUTCOMES: Final[dict[str, str]] = {
    "entry": "is an entry of the database",
    "identical": "has the sequence and nearly the coordinates of an entry, which represents it",
    "too_short": "fewer than 30 residues with a C-alpha: any helix would match it",
    "too_long": "more than 65,534 residues, MMseqs2's limit",
    "nucleic_acid": "DNA or RNA",
    "not_protein": "sugars, ligands or water alone",
}
FILE_OUTCOMES: Final[dict[str, str]] = {
    "read": "its chains or records are accounted for one by one",
    "not_structure": "neither PDB nor mmCIF",
    "empty": "no atoms in it",
    "unreadable": "missing, truncated, damaged, or not well-formed",
    "too_large": "more than 1 GiB of text, or a compressed file that unpacks to over 200 times its size",
    "unsafe": "a link, a device, or a name that leads out of the archive",
    "crashed": "crashed the process that read it, twice",
}


class ContentFile(msgspec.Struct, frozen=True):
    """A file of one version: its size in bytes and its sha256."""

    bytes: _Count
    sha256: _Digest


class ReferenceVersion(msgspec.Struct, frozen=True):
    """`versions/<number>.json`: one version of a reference database, committed last.

    `digest` is of the content (names, sequences, coordinates, licences, the version in which each came), not of the
    files: the same input gives the same digest on any machine. `chains` and `files` count by outcome; `chains` are
    records in a database of sequences. `contents` names every file in `data/<folder>`.
    """

    format: int
    kind: Kind
    version: Annotated[int, msgspec.Meta(ge=1)]
    digest: _Digest
    previous: str
    demo: bool
    created: str
    program: str
    licences: list[str]
    entries: _Count
    residues: _Count
    new: _Count
    left: _Count
    chains: dict[str, int]
    files: dict[str, int]
    folder: _Name
    contents: dict[_Name, ContentFile]
