"""Tables of a search run, `novelty/<run>/` of an atlas: what was searched, what was found, and the targets.

A run searches the structures of an atlas against one version of one reference, of structures or of sequences.
docs/files.md describes every column, and is checked against this module by a test.
"""

from typing import Final

import pyarrow as pa

from foldatlas.schemas.tables import describe_field, describe_table

NOVELTY_FORMAT: Final = 1

# `state` of a row. NULL in the index (not searched), 0 (searched, no hit) and a hit are three things.
NOT_SEARCHED: Final = "not_searched"
NO_HIT: Final = "searched"
HIT: Final = "hit"

REASONS: Final[dict[str, str]] = {
    "too_short": "fewer than 30 residues with a C-alpha, which resemble any helix",
    "unreadable": "its stored coordinates cannot be read: `foldatlas verify` says more",
    "failed": "the search failed with it, alone too; `detail` has the message",
}
RETRIED: Final = ("unreadable", "failed")  # searched again by the next run

_STRUCTURE_ID = describe_field("structure_id", pa.uuid(), "the structure that was searched with, as in the atlas")
_STATE = describe_field("state", pa.string(), "not_searched, searched (without a hit) or hit")
_REASON = describe_field("reason", pa.string(), "why it was not searched; NULL where it was", nullable=True)
_DETAIL = describe_field("detail", pa.string(), "the reason in words; NULL for none", nullable=True)
_TARGET = describe_field("target", pa.string(), "name of the best hit in the reference; NULL for no hit", nullable=True)


def _hit(name: str, kind: pa.DataType, meaning: str, unit: str = "", span: str = "") -> pa.Field:
    return describe_field(name, kind, f"{meaning}; NULL for no hit", unit=unit, span=span, nullable=True)


STRUCTURE_HITS: Final = describe_table(
    "novelty_structures",
    [
        _STRUCTURE_ID,
        _STATE,
        _REASON,
        _DETAIL,
        _TARGET,
        describe_field(
            "tm_query",
            pa.float32(),
            "greatest TM-score, by the structure's residues with a C-alpha; 0: no hit; NULL: not searched",
            span="0 to 1",
            nullable=True,
        ),
        describe_field(
            "tm_target",
            pa.float32(),
            "TM-score of the same alignment by the target's residues; 0: no hit; NULL: not searched",
            span="0 to 1",
            nullable=True,
        ),
        _hit(
            "tm_confident",
            pa.float32(),
            "TM-score of the same alignment by the residues with pLDDT > 70 alone; NULL where there are none",
            span="0 to 1",
        ),
        _hit("aligned_length", pa.int32(), "aligned residues", "residues", ">= 1"),
        _hit("rmsd", pa.float32(), "of the aligned C-alphas under the transform", "angstrom", ">= 0"),
        _hit("identity", pa.float32(), "fraction of aligned residues with equal codes", span="0 to 1"),
        _hit("method", pa.string(), "align: by TM-align; bound: by the lower bound that chooses what is aligned"),
        _hit("rotation", pa.list_(pa.float64()), "R of the transform R @ x + t of the structure onto the target"),
        _hit("translation", pa.list_(pa.float64()), "t of the transform", "angstrom"),
        _hit(
            "alignment",
            pa.list_(pa.int32()),
            "blocks without gaps, 3 numbers each: first residue of the structure and of the target (from 0), length",
        ),
    ],
    version=NOVELTY_FORMAT,
)  # fmt: skip

SEQUENCE_HITS: Final = describe_table(
    "novelty_sequences",
    [
        _STRUCTURE_ID,
        _STATE,
        _REASON,
        _DETAIL,
        _TARGET,
        describe_field(
            "identity_max",
            pa.float32(),
            "greatest fraction of aligned residues with equal codes; 0: no hit; NULL: not searched",
            span="0 to 1",
            nullable=True,
        ),
        _hit("coverage", pa.float32(), "aligned fraction of the structure's sequence", span="0 to 1"),
        _hit("target_coverage", pa.float32(), "aligned fraction of the target", span="0 to 1"),
        _hit("bits", pa.int32(), "bit score of the alignment", span=">= 0"),
        _hit("evalue", pa.float64(), "expected number of such hits in the reference by chance", span=">= 0"),
    ],
    version=NOVELTY_FORMAT,
)

MEMBERS: Final = describe_table(
    "novelty_members",
    [
        describe_field("structure_id", pa.uuid(), "a structure that was not searched itself"),
        describe_field("novelty_source", pa.uuid(), "the representative of its cluster at 90 %, whose hit it inherits"),
    ],
    version=NOVELTY_FORMAT,
)

TARGETS: Final = describe_table(
    "novelty_targets",
    [
        describe_field("name", pa.string(), "unique in the reference"),
        describe_field("title", pa.string(), "title of the structure, or description of the FASTA record"),
        describe_field("length", pa.int32(), "number of residues", unit="residues", span=">= 1"),
        describe_field("sequence", pa.string(), "upper-case one-letter residue codes", span="A-Z"),
        describe_field("licence", pa.string(), "as stated when the reference was made; `unknown` where it was not"),
        describe_field("version", pa.int32(), "version of the reference in which it came", span=">= 1"),
        *(
            describe_field(
                axis,
                pa.list_(pa.float32()),
                f"{axis} of every C-alpha; NULL in a search of sequences",
                unit="angstrom",
                nullable=True,
            )
            for axis in "xyz"
        ),
    ],
    version=NOVELTY_FORMAT,
)


def _earlier(schema: pa.Schema) -> pa.Field:
    return pa.field(
        "earlier",
        pa.struct([pa.field(field.name, field.type, nullable=True) for field in schema if field != _STRUCTURE_ID]),
        nullable=True,
        metadata={
            "meaning": "the row of the run before, to be kept unless a newer entry is a better hit; NULL for none"
        },
    )


def queries_schema(hits: pa.Schema) -> pa.Schema:
    """Return the schema of a run's queries, whose `earlier` rows are of `hits`. A row group is a shard."""
    return describe_table(
        "novelty_queries",
        [
            describe_field("structure_id", pa.uuid(), "the structure to search with"),
            describe_field("structure_file", pa.string(), "its file, relative to the atlas"),
            describe_field("structure_row", pa.int32(), "its row there", span=">= 0"),
            describe_field("length", pa.int32(), "number of residues", unit="residues", span=">= 1"),
            describe_field("since", pa.int32(), "search entries that came after this version; 0: all", span=">= 0"),
            _earlier(hits),
        ],
        version=NOVELTY_FORMAT,
    )


# Kind of the reference -> the table of hits, by its name in a run.
HITS: Final[dict[str, pa.Schema]] = {"structures": STRUCTURE_HITS, "sequences": SEQUENCE_HITS}

TABLES: Final[dict[str, pa.Schema]] = {
    "structure_hits": STRUCTURE_HITS,
    "sequence_hits": SEQUENCE_HITS,
    "members": MEMBERS,
    "targets": TARGETS,
    "queries": queries_schema(STRUCTURE_HITS),
}
