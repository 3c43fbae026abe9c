"""The schemas of an atlas's tables, by the format in its header.

Format 1 is of folded structures, which have all scores. Format 2 is of imported ones: scores can be NULL, records name
their file, and a table `provenance` has the origin of each structure. The settings of an atlas decide its format.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import pyarrow as pa

from foldatlas.schemas.records import Settings
from foldatlas.schemas.tables import (
    FORMAT_VERSION,
    NEEDED_TABLES,
    RECORDS,
    SCORES,
    SHARD_TABLES,
    TABLES,
    describe_field,
    describe_table,
)

IMPORTED_FORMAT: Final = 2
NEWEST_FORMAT: Final = IMPORTED_FORMAT

IMPORTED: Final = "imported"  # the model in the settings of an atlas of imported structures
IMPORTED_SETTINGS: Final = Settings(model=IMPORTED, weights=IMPORTED, recycles=0, precision=IMPORTED)

PROVENANCE: Final = "provenance"
# Values of `provenance.plddt_source`.
DECLARED: Final = "declared"
STATED_SCALE: Final = "stated_scale"
NO_PLDDT: Final = "none"

_ABSENT: Final = {
    "mean_plddt": "NULL without any pLDDT",
    "plddt_std": "NULL without any pLDDT",
    "num_confident": "NULL without any pLDDT",
    "fraction_confident": "NULL without any pLDDT",
    "fraction_very_high": "NULL without any pLDDT",
    "ptm": "NULL if the file has none",
}


def _nullable(field: pa.Field, when: str) -> pa.Field:
    """Return `field` as one that can be NULL, with the reason added to its meaning."""
    metadata = {key.decode(): value.decode() for key, value in field.metadata.items()}
    return field.with_nullable(True).with_metadata({**metadata, "meaning": f"{metadata['meaning']}; {when}"})


_RECORDS_2: Final = describe_table(
    "records",
    [
        *RECORDS,
        describe_field("path", pa.string(), "path of the file within its source; NULL if unknown", nullable=True),
        describe_field(
            "file_sha256",
            pa.string(),
            "sha256 of the file's content, decompressed, 64 hexadecimal digits; NULL if it was not read",
            nullable=True,
        ),
        describe_field(
            "file_mean_plddt",
            pa.float32(),
            "mean pLDDT of this file's own model, also where that of another file was kept; NULL without pLDDT",
            unit="pLDDT",
            span="0 to 100",
            nullable=True,
        ),
    ],
    IMPORTED_FORMAT,
)

_SCORES_2: Final = describe_table(
    "scores",
    [_nullable(field, _ABSENT[field.name]) if field.name in _ABSENT else field for field in SCORES],
    IMPORTED_FORMAT,
)

_PROVENANCE: Final = describe_table(
    PROVENANCE,
    [
        SCORES.field("structure_id"),
        describe_field("source", pa.string(), "normalised URI of the folder, archive or file that was imported"),
        describe_field(
            "path", pa.string(), "path of the structure's file within its source; NULL if unknown", nullable=True
        ),
        describe_field(
            "file_sha256",
            pa.string(),
            "sha256 of the file's content, decompressed, 64 hexadecimal digits; NULL if unknown",
            nullable=True,
        ),
        describe_field("chain", pa.string(), "the author's name of the chain; NULL if unknown", nullable=True),
        describe_field("model", pa.string(), "model that predicted the structure; NULL if unknown", nullable=True),
        describe_field(
            "model_version", pa.string(), "version of the model, or of its database; NULL if unknown", nullable=True
        ),
        describe_field("licence", pa.string(), "licence of the structure; NULL if unknown", nullable=True),
        describe_field(
            "origin",
            pa.string(),
            "database or program that wrote the file, as AlphaFold DB; NULL if unknown",
            nullable=True,
        ),
        describe_field(
            "plddt_source",
            pa.string(),
            "declared (the file states what its B-factors are), stated_scale (--plddt-scale), or none",
        ),
        describe_field("unobserved", pa.int32(), "residues without any atom", unit="residues", span="0 to length - 1"),
        describe_field(
            "breaks", pa.int32(), "breaks between residues that are neighbours in the sequence", span=">= 0"
        ),
        describe_field("hydrogens", pa.int32(), "hydrogens in the file, which are not stored", span=">= 0"),
        describe_field("other_atoms", pa.int32(), "other atoms of the chain that are not stored, as OXT", span=">= 0"),
        describe_field("models", pa.int32(), "models in the file, of which the first was read", span=">= 1"),
    ],
    IMPORTED_FORMAT,
)


def _of_format_2(name: str, schema: pa.Schema) -> pa.Schema:
    return describe_table(name, schema, IMPORTED_FORMAT)


_STORED_PAE: Final = TABLES["pae"].field("pae")
_PAE_2: Final = describe_table(
    "pae",
    [
        *(TABLES["pae"].field(name) for name in ("structure_id", "length")),
        _STORED_PAE.with_metadata({**_STORED_PAE.metadata, "range": "0 to 254, that is 0 to 31.75 angstrom"}),
    ],
    IMPORTED_FORMAT,
)

_TABLES_2: Final = {
    **{name: _of_format_2(name, schema) for name, schema in TABLES.items()},
    "records": _RECORDS_2,
    "scores": _SCORES_2,
    "pae": _PAE_2,
    PROVENANCE: _PROVENANCE,
}
_SCHEMAS: Final[Mapping[int, Mapping[str, pa.Schema]]] = {
    FORMAT_VERSION: MappingProxyType(TABLES),
    IMPORTED_FORMAT: MappingProxyType(_TABLES_2),
}
# All tables that a shard of an atlas of any format can have.
ALL_SHARD_TABLES: Final = (*SHARD_TABLES, PROVENANCE)


def format_of(settings: Settings) -> int:
    """Return the format of an atlas with these settings."""
    return IMPORTED_FORMAT if settings.model == IMPORTED else FORMAT_VERSION


def tables_of(version: int) -> Mapping[str, pa.Schema]:
    """Return the schemas of an atlas's tables by name. Raise KeyError for an unknown format."""
    return _SCHEMAS[version]


def table_schema(table: str, version: int) -> pa.Schema:
    """Return the schema of a table. Raise KeyError for an unknown format, or a table that it does not have."""
    return _SCHEMAS[version][table]


def needed_tables(version: int) -> tuple[str, ...]:
    """Return the tables that every committed shard has."""
    return (*NEEDED_TABLES, PROVENANCE) if version >= IMPORTED_FORMAT else NEEDED_TABLES
