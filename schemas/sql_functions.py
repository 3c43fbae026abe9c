"""What SQL on an atlas has besides tables: macros of the index, which any DuckDB runs, and functions of the program.

`query --schema`, the comments in the index and docs/sql.md are made from, or tested against, these descriptions. An
argument `s` is a row with the columns sequence, x, y, z and plddt: an alias of `structures`, or a slice of one.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class SqlFunction:
    """A macro or function: its call, the SQL type that it returns (of a table: the columns), and its meaning."""

    name: str
    arguments: str
    returns: str
    meaning: str
    unit: str = ""

    @property
    def call(self) -> str:
        """The call as documentation writes it, e.g. `distance(a, b)`."""
        return f"{self.name}({self.arguments})"

    @property
    def comment(self) -> str:
        """One line, as the index stores it: `distance(a, b): distance between two positions; unit: angstrom`."""
        return f"{self.call}: {self.meaning}" + (f"; unit: {self.unit}" if self.unit else "")


# Of one value. A value is NULL where an atom or pLDDT that it needs is missing.
SCALAR_MACROS: Final = (
    SqlFunction(
        "files_at",
        "folder",
        "STRUCT",
        "the Parquet files of the atlas in `folder`, for SET VARIABLE atlas, which the views of Parquet files need",
    ),
    SqlFunction("residue_plddt", "s", "DOUBLE[]", "pLDDT of each residue", "pLDDT, 0 to 100"),
    SqlFunction("residues_below", "s, threshold", "BIGINT[]", "numbers of the residues with pLDDT below the threshold"),
    SqlFunction("c_alphas", "s", "DOUBLE[3][]", "position of each residue's C-alpha", "angstrom"),
    SqlFunction("atom_positions", "s", "DOUBLE[3][]", "position of each heavy atom, in the stored order", "angstrom"),
    SqlFunction("atom_names", "s", "VARCHAR[]", "name of each heavy atom, in the stored order"),
    SqlFunction("atom_residues", "s", "BIGINT[]", "residue number of each heavy atom, in the stored order"),
    SqlFunction(
        "atom_position",
        "s, residue, atom",
        "DOUBLE[3]",
        "position of an atom by its residue number and name; NULL if the residue has no such atom",
        "angstrom",
    ),
    SqlFunction(
        "structure_slice",
        "s, first, last",
        "STRUCT",
        "the residues `first` to `last` as a row that the other macros accept, numbered from 1",
    ),
    SqlFunction("distance", "a, b", "DOUBLE", "distance between two positions", "angstrom"),
    SqlFunction(
        "contact_map",
        "positions, cutoff := 8",
        "BOOLEAN[][]",
        "for each pair of positions whether they are nearer than the cutoff (angstrom)",
    ),
    SqlFunction(
        "radius_of_gyration",
        "positions",
        "DOUBLE",
        "root mean square distance of the positions from their centroid; missing ones are left out",
        "angstrom",
    ),
    SqlFunction("end_to_end", "positions", "DOUBLE", "distance between the first and the last position", "angstrom"),
    SqlFunction(
        "pdb_text",
        "s, first := 1",
        "VARCHAR",
        "PDB file: one chain A, residues numbered from `first`, pLDDT in the B-factor column",
    ),
)

# Of a table. `name` is a record's id or a structure_id; there is a row for each structure that it means.
TABLE_MACROS: Final = (
    SqlFunction(
        "structure",
        "name",
        "structure_id, sequence, x, y, z, plddt",
        "the row of `structures` of a record, read from its file alone",
    ),
    SqlFunction(
        "residues",
        "name",
        "structure_id, residue, letter, plddt, x, y, z",
        "one row per residue: number from 1, one-letter code, pLDDT (0 to 100), C-alpha (angstrom)",
    ),
    SqlFunction(
        "atoms",
        "name",
        "structure_id, residue, letter, atom, x, y, z, plddt",
        "one row per heavy atom: residue number and letter, atom name, position (angstrom), pLDDT (0 to 100)",
    ),
    SqlFunction(
        "contacts",
        "name, cutoff := 8, separation := 1",
        "structure_id, residue_a, residue_b, distance",
        "pairs of residues, `separation` or more apart in sequence, whose C-alphas are nearer than the cutoff "
        "(angstrom)",
    ),
)

# Only in `foldatlas query` and `Atlas`: what SQL cannot compute.
PROGRAM_FUNCTIONS: Final = (
    SqlFunction(
        "tm_align",
        "a, b",
        "STRUCT(tm_query DOUBLE, tm_target DOUBLE, aligned INTEGER, rmsd DOUBLE)",
        "TM-align of structure `a` with `b`: TM-scores (0 to 1) by the length of each, aligned residues, and their "
        "RMSD (angstrom)",
    ),
    SqlFunction("tm_score", "a, b", "DOUBLE", "TM-score by the length of `a`, 0 to 1: tm_align(a, b).tm_query"),
    SqlFunction(
        "superposed_rmsd",
        "positions_a, positions_b",
        "DOUBLE",
        "RMSD of paired positions after the best superposition; pairs with a missing position are left out",
        "angstrom",
    ),
    SqlFunction("mmcif", "s, id, ptm", "VARCHAR", "mmCIF file of a structure, with its record's id and pTM"),
)

MACROS: Final = (*SCALAR_MACROS, *TABLE_MACROS)
