"""The pyarrow schemas of files that an import stages, and removes at its end. They are not part of an atlas."""

from typing import Final

import pyarrow as pa

from foldatlas.schemas.tables import describe_field as _field
from foldatlas.schemas.tables import describe_table as _table

SCORE_COLUMNS: Final = (
    ("mean_plddt", pa.float32()),
    ("plddt_std", pa.float32()),
    ("num_confident", pa.int32()),
    ("fraction_confident", pa.float32()),
    ("fraction_very_high", pa.float32()),
    ("ptm", pa.float32()),
    ("num_unknown", pa.int32()),
    ("radius_of_gyration", pa.float32()),
    ("helix_fraction", pa.float32()),
    ("strand_fraction", pa.float32()),
)

STAGED_FILES: Final = _table(
    "staged_files",
    [
        _field("number", pa.int64(), "number of the file in its source", span=">= 0"),
        _field("path", pa.string(), "path of the file in its source"),
        _field("file_sha256", pa.string(), "sha256 of the file's content, decompressed; empty if it was not read"),
        _field("id", pa.string(), "id of the record"),
        _field("description", pa.string(), "title in the file; of a refused file the details"),
        _field("outcome", pa.string(), "accepted, or the reason of the refusal"),
        _field("length", pa.int32(), "number of residues; 0 for a refused file", unit="residues", span=">= 0"),
        _field("structure_id", pa.uuid(), "md5 of the sequence; NULL for a refused file", nullable=True),
        _field("sequence", pa.string(), "upper-case one-letter codes; NULL for a refused file", nullable=True),
        _field("sequence_crc64", pa.string(), "CRC-64 of the sequence; NULL for a refused file", nullable=True),
        _field("mgyp", pa.int64(), "MGnify protein number", nullable=True),
        _field("row", pa.int32(), "row of the chunk's structures; NULL for a refused file", nullable=True),
        *(_field(name, kind, "as in scores; NULL if unknown", nullable=True) for name, kind in SCORE_COLUMNS),
        _field("model", pa.string(), "the model that predicted the structure; NULL if unknown", nullable=True),
        _field(
            "model_version", pa.string(), "version of the model, or of its database; NULL if unknown", nullable=True
        ),
        _field("licence", pa.string(), "its licence; NULL if unknown", nullable=True),
        _field("origin", pa.string(), "the database or program; NULL if unknown", nullable=True),
        _field("chain", pa.string(), "the author's name of the chain; NULL if unknown", nullable=True),
        _field("plddt_source", pa.string(), "declared, stated_scale, or none", nullable=True),
        _field("unobserved", pa.int32(), "residues without any atom"),
        _field("models", pa.int32(), "models in the file, of which the first was read"),
        _field("breaks", pa.int32(), "breaks between residues that are neighbours in the sequence"),
        _field("hydrogens", pa.int32(), "hydrogens, which are not stored"),
        _field("other_atoms", pa.int32(), "other atoms that are not stored"),
        _field("beside_sha256", pa.string(), "sha256 of the JSON file beside the structure; empty if none was read"),
        _field("has_confidence_fault", pa.bool_(), "whether confidence of the structure could not be read"),
        _field("pae_row", pa.int32(), "row of the chunk's PAE; NULL for a structure without", nullable=True),
    ],
)

# The rows that a shard takes, in the order of its sequences; NULL for a sequence whose file is no longer there.
STAGED_ROWS: Final = _table(
    "staged_rows",
    [
        _field("source", pa.string(), "normalised URI of the source", nullable=True),
        _field("staging", pa.string(), "folder or address of the source's chunks", nullable=True),
        _field("files", pa.string(), "the chunk's table of files", nullable=True),
        _field("structures", pa.string(), "the chunk's structures", nullable=True),
        _field("row", pa.int32(), "row of the structure", nullable=True),
        _field("pae", pa.string(), "the chunk's PAE; empty if no structure has one", nullable=True),
    ],
)

# JSON files of an archive, in row groups of some megabytes, for the structures beside them.
GATHERED: Final = _table(
    "gathered",
    [
        _field("path", pa.string(), "path of the file in its archive"),
        _field("content", pa.binary(), "its content, decompressed"),
    ],
)
