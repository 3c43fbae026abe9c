"""The pyarrow schemas of the tables of an atlas.

The metadata of each field has its `meaning`, and `unit` and `range` if it has these, so that Parquet files are
self-describing. A test checks `docs/files.md` against this module.
"""

from collections.abc import Iterable
from typing import Any, Final

import pyarrow as pa

# scales of the columns below, exported from here too
from foldatlas.schemas.records import COORDINATE_SCALE as COORDINATE_SCALE
from foldatlas.schemas.records import PAE_SCALE as PAE_SCALE
from foldatlas.schemas.records import PLDDT_SCALE as PLDDT_SCALE

FORMAT_VERSION: Final = 1

# Structures per row group: with 64, 31.8 bytes per residue and 2.7 ms to read one; with a whole shard, 31.6 and 137 ms.
STRUCTURES_PER_ROW_GROUP: Final = 64
MAX_SHARDS_PER_FILE: Final = 256  # row groups in one sequences file: 40,000 would make its footer 28 MB


def describe_field(
    name: str, arrow_type: pa.DataType, meaning: str, *, unit: str = "", span: str = "", nullable: bool = False
) -> pa.Field:
    """Return a column with its meaning, unit and range as metadata."""
    metadata = {"meaning": meaning, **({"unit": unit} if unit else {}), **({"range": span} if span else {})}
    return pa.field(name, arrow_type, nullable=nullable, metadata=metadata)


def describe_table(name: str, fields: Iterable[pa.Field], version: int = FORMAT_VERSION) -> pa.Schema:
    """Return a schema that names its table and the version of its format."""
    return pa.schema(list(fields), metadata={"foldatlas.table": name, "foldatlas.format": str(version)})


_field, _table = describe_field, describe_table


_STRUCTURE_ID = _field("structure_id", pa.uuid(), "md5 of the sequence's upper-case letters, as a UUID")
_LENGTH = _field("length", pa.int32(), "number of residues", unit="residues", span="1 to max-length")
_SEQUENCE = _field("sequence", pa.string(), "upper-case one-letter residue codes", span="A-Z")


def _integers(arrow_type: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", arrow_type, nullable=True))


RECORDS: Final = _table(
    "records",
    [
        _field("source", pa.string(), "normalised URI of the file"),
        _field(
            "offset",
            pa.int64(),
            "position of the record's '>' in the uncompressed source (in GenBank, of its CDS line; of a gene in a "
            "contig, of its leftmost nucleotide)",
            unit="bytes",
            span=">= 0",
        ),
        _field(
            "id",
            pa.string(),
            "first word of the header (GenBank: protein_id or locus_tag); bytes not in UTF-8 are written as \\xNN",
        ),
        _field("description", pa.string(), "the header after the id"),
        _field("length", pa.int32(), "letters in the sequence as read", unit="residues", span=">= 0"),
        _field("structure_id", pa.uuid(), "md5 of the sequence; NULL for a refused record", nullable=True),
        _field(
            "sequence_crc64",
            pa.string(),
            "CRC-64 (ISO 3309) of the sequence as in UniProt, 16 hexadecimal digits; NULL for a refused record",
            nullable=True,
        ),
        _field("mgyp", pa.int64(), "MGnify protein number; NULL if the id is not one", span=">= 0", nullable=True),
        _field(
            "is_fragment",
            pa.bool_(),
            "whether the header states that the protein is a fragment; NULL if it does not state it",
            nullable=True,
        ),
        _field("outcome", pa.string(), "accepted, repeated, or the reason of the refusal"),
    ],
)

# Written and read by planning; not part of an atlas.
STAGING: Final = _table(
    "staging",
    [
        *RECORDS,
        _field("sequence", pa.string(), "upper-case one-letter codes; NULL for a refused record", nullable=True),
    ],
)

SEQUENCES: Final = _table("sequences", [_STRUCTURE_ID, _SEQUENCE, _LENGTH])

STRUCTURES: Final = _table(
    "structures",
    [
        _STRUCTURE_ID,
        _SEQUENCE,
        *(
            _field(
                axis,
                _integers(pa.int32()),
                f"{axis} of every heavy atom, residue by residue in the order of foldatlas.schemas.records.ATOMS; "
                "NULL for a missing atom",
                unit="0.01 angstrom",
            )
            for axis in "xyz"
        ),
        _field(
            "plddt",
            _integers(pa.uint16()),
            "predicted lDDT of each residue's C-alpha; NULL if missing",
            unit="0.01 of pLDDT",
            span="0 to 10000, that is pLDDT 0 to 100",
        ),
    ],
)

SCORES: Final = _table(
    "scores",
    [
        _STRUCTURE_ID,
        _LENGTH,
        _field("mean_plddt", pa.float32(), "mean pLDDT over residues", unit="pLDDT", span="0 to 100"),
        _field("plddt_std", pa.float32(), "standard deviation of pLDDT over residues", unit="pLDDT", span="0 to 50"),
        _field("num_confident", pa.int32(), "residues with pLDDT above 70", unit="residues", span="0 to length"),
        _field("fraction_confident", pa.float32(), "fraction of residues with pLDDT above 70", span="0 to 1"),
        _field("fraction_very_high", pa.float32(), "fraction of residues with pLDDT above 90", span="0 to 1"),
        _field("ptm", pa.float32(), "predicted TM-score", span="0 to 1"),
        _field("num_unknown", pa.int32(), "residues that are X, B, Z, U, O or J", unit="residues", span="0 to length"),
        _field("radius_of_gyration", pa.float32(), "of the C-alphas", unit="angstrom", span=">= 0"),
        _field("helix_fraction", pa.float32(), "fraction of residues in helices by P-SEA", span="0 to 1"),
        _field("strand_fraction", pa.float32(), "fraction of residues in strands by P-SEA", span="0 to 1"),
        _field("structure_row", pa.int32(), "row of this structure in its structures file", span=">= 0"),
    ],
)

EMBEDDINGS: Final = _table(
    "embeddings",
    [
        _STRUCTURE_ID,
        _field(
            "mean",
            pa.list_(pa.field("element", pa.float32(), nullable=False)),
            "mean over residues of the language model's last hidden layer, after its final LayerNorm",
        ),
    ],
)

# Half precision, because this table is by far the largest: 1.84 bytes per channel, 3.71 in single precision, for an
# error of at most 2^-11 of a value. Byte stream split would need 1.70, but DuckDB cannot read it. Hidden states after
# a LayerNorm are far below 65,504.
RESIDUE_EMBEDDINGS: Final = _table(
    "residue_embeddings",
    [
        _STRUCTURE_ID,
        _LENGTH,
        _field(
            "residues",
            pa.list_(pa.field("element", pa.float16(), nullable=False)),
            "the language model's last hidden layer, after its final LayerNorm: all channels of the first residue, "
            "then of the next",
        ),
    ],
)

PAE: Final = _table(
    "pae",
    [
        _STRUCTURE_ID,
        _LENGTH,
        _field(
            "pae",
            pa.list_(pa.field("element", pa.uint8(), nullable=False)),
            "predicted aligned error, row by row: in row i the expected error of each residue when predicted and true "
            "residue i are superposed",
            unit="0.125 angstrom",
            span="2 to 254, that is 0.25 to 31.75 angstrom",
        ),
    ],
)

# Written by `foldatlas embed`; not part of an atlas. The metadata of its file has model, weights and layer.
EMBEDDED: Final = _table(
    "embedded",
    [
        *(RECORDS.field(name) for name in ("source", "offset", "id")),
        _STRUCTURE_ID,
        _LENGTH,
        _field(
            "mean",
            pa.list_(pa.field("element", pa.float32(), nullable=False)),
            "mean over residues of the language model's chosen layer; NULL if it failed",
            nullable=True,
        ),
        _field(
            "residues",
            pa.list_(pa.field("element", pa.float16(), nullable=False)),
            "that layer: all channels of the first residue, then of the next; NULL unless --per-residue",
            nullable=True,
        ),
        _field("error", pa.string(), "why this record has no embedding; NULL if it has one", nullable=True),
    ],
)

FAILURES: Final = _table(
    "failures",
    [
        _STRUCTURE_ID,
        _field("stage", pa.string(), "the step that failed: fold"),
        _field("error", pa.string(), "the reason, one line"),
        _field("attempts", pa.int32(), "number of tries", span=">= 1"),
    ],
)

TABLES: Final[dict[str, pa.Schema]] = {
    "records": RECORDS,
    "sequences": SEQUENCES,
    "structures": STRUCTURES,
    "scores": SCORES,
    "embeddings": EMBEDDINGS,
    "residue_embeddings": RESIDUE_EMBEDDINGS,
    "pae": PAE,
    "failures": FAILURES,
}
# Written by folding a shard: always, and on request, by this option of `foldatlas fold`.
NEEDED_TABLES: Final = ("structures", "scores", "failures")
OPTIONAL_TABLES: Final[dict[str, str]] = {
    "embeddings": "--embeddings mean",
    "residue_embeddings": "--embeddings residue",
    "pae": "--pae",
}
SHARD_TABLES: Final = (*NEEDED_TABLES, *OPTIONAL_TABLES)


# Options of pyarrow.parquet.ParquetWriter that all tables share.
_WRITE_OPTIONS: Final[dict[str, Any]] = {"compression": "zstd", "compression_level": 3, "version": "2.6"}
_PLAIN: Final[dict[str, Any]] = {"use_dictionary": False, "write_statistics": False}
_DELTA: Final = "DELTA_BINARY_PACKED"

# Options by table, where they differ. Statistics are written only where readers skip row groups by them: of ids in
# `sequences`, but not in other tables, where ids are hashes in no order.
_TABLE_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    # read once; 0.5 us and 153 bytes per record, with the default options 1.3 us and 157 bytes
    "staging": {"compression_level": 1, "use_dictionary": ["source", "outcome"], "write_statistics": False},
    "sequences": {"use_dictionary": False, "write_statistics": ["structure_id", "length"]},
    # coordinates of neighbouring atoms differ little
    "structures": {
        **_PLAIN,
        "column_encoding": {f"{column}.list.element": _DELTA for column in ("x", "y", "z", "plddt")},
    },
    "embeddings": _PLAIN,
    "residue_embeddings": _PLAIN,
    # errors of neighbouring pairs differ little: 0.73 bytes per pair, 0.91 as plain bytes
    "pae": {**_PLAIN, "column_encoding": {"pae.list.element": _DELTA}},
    "embedded": {**_PLAIN, "use_dictionary": ["source"]},
    "gathered": _PLAIN,
}


def write_options(table: str) -> dict[str, Any]:
    """Return the options of `pyarrow.parquet.ParquetWriter` for one table."""
    return {**_WRITE_OPTIONS, **_TABLE_OPTIONS.get(table, {})}
