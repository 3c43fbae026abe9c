"""Tables of clustering (`foldatlas cluster`), in `clusters/<run>/` of an atlas.

docs/clusters.md describes what they mean, docs/files.md every file; a test checks the latter against this module.
"""

from typing import Final

import pyarrow as pa

from foldatlas.schemas.tables import describe_field, describe_table

CLUSTER_FORMAT: Final = 1
LEVELS: Final = {"identity90": "90", "identity30": "30", "structure": "_structure"}  # level -> how its columns end

_STRUCTURE_ID = describe_field("structure_id", pa.uuid(), "md5 of the sequence, as in the atlas")


def _sequence_level(percent: int) -> list[pa.Field]:
    return [
        describe_field(
            f"cluster{percent}",
            pa.uuid(),
            f"structure_id of the representative of its cluster at {percent} % identity: the member of greatest pTM x "
            "mean pLDDT",
        ),
        describe_field(f"centre{percent}", pa.uuid(), "structure_id of the member that linclust made the centre"),
        describe_field(
            f"identity{percent}",
            pa.float32(),
            "sequence identity to the centre, of the aligned columns; NULL where MMseqs2 aligns nothing",
            span="0 to 1",
            nullable=True,
        ),
        describe_field(
            f"coverage{percent}",
            pa.float32(),
            "fraction of it, or of the centre if that is less, in this alignment; NULL where MMseqs2 aligns nothing",
            span="0 to 1",
            nullable=True,
        ),
    ]


MEMBERS: Final = describe_table(
    "cluster_members",
    [
        _STRUCTURE_ID,
        *_sequence_level(90),
        *_sequence_level(30),
        describe_field(
            "cluster_structure",
            pa.uuid(),
            "structure_id of the representative of its cluster by structure; NULL where its cluster30's representative "
            "is too short to be compared",
            nullable=True,
        ),
        describe_field(
            "centre_structure",
            pa.uuid(),
            "structure_id of the centre of that cluster: a representative of a cluster30; NULL as before",
            nullable=True,
        ),
        describe_field(
            "tm_structure",
            pa.float32(),
            "TM-score of its cluster30's representative to the centre, by the longer of the two; NULL as before",
            span="0 to 1",
            nullable=True,
        ),
    ],
    version=CLUSTER_FORMAT,
)


def _list_of(kind: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", kind, nullable=False))


# Sorted by length, longest first, then structure_id: rows of PAIRS. Residues without a C-alpha are left out.
CHAINS: Final = describe_table(
    "cluster_chains",
    [
        _STRUCTURE_ID,
        describe_field("length", pa.int32(), "residues with a C-alpha", unit="residues", span=">= 30"),
        *(
            describe_field(axis, _list_of(pa.int32()), f"{axis} of each C-alpha", unit="0.01 angstrom")
            for axis in "xyz"
        ),
        describe_field("states", pa.string(), "3Di state of each residue, a letter (reference_tables.STATE_ALPHABET)"),
        describe_field(
            "descriptor",
            pa.list_(pa.field("element", pa.int16(), nullable=False), 104),
            "composition of states by quarters, and distances of residues: near for structures of one fold",
        ),
        describe_field("is_new", pa.bool_(), "whether the run compared it with all; the others, with new ones alone"),
    ],
    version=CLUSTER_FORMAT,
)

PAIRS: Final = describe_table(
    "cluster_pairs",
    [
        describe_field("longer", pa.int32(), "row of the longer structure in cluster_chains", span=">= 0"),
        describe_field("shorter", pa.int32(), "row of the other one: greater than `longer`", span=">= 1"),
        describe_field(
            "tm",
            pa.float32(),
            "TM-score by the longer that a superposition reaches: the greatest may be more",
            span="0.5 to 1",
        ),
    ],
    version=CLUSTER_FORMAT,
)


def _linclust_level(percent: int) -> list[pa.Field]:
    return [
        describe_field(f"centre{percent}", pa.int32(), f"row of the centre of its cluster at {percent} %", span=">= 0"),
        *_sequence_level(percent)[2:],
    ]


# Sorted by the length of the sequence, longest first, then structure_id.
LINCLUST: Final = describe_table(
    "cluster_linclust", [*_linclust_level(90), *_linclust_level(30)], version=CLUSTER_FORMAT
)

CLUSTER_TABLES: Final[dict[str, pa.Schema]] = {
    "members": MEMBERS,
    "chains": CHAINS,
    "pairs": PAIRS,
    "linclust": LINCLUST,
}
