"""Readers of PDB and mmCIF text that are not ours: gemmi, Biopython, fixed columns. Each gives the same rows."""

import importlib.util
import io
from pathlib import Path

import gemmi
import numpy as np
from Bio.PDB import MMCIFParser, PDBParser

from foldatlas.schemas.records import ATOMS, THREE_LETTER

# `tests` is no package: the reader is loaded from its file
_spec = importlib.util.spec_from_file_location("strict_pdb", Path(__file__).with_name("strict_pdb.py"))
assert _spec and _spec.loader
strict_pdb = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(strict_pdb)
read_strictly = strict_pdb.read_strictly

Row = tuple[str, int, str, str]  # chain, number and name of the residue, name of the atom


def expected(sequence: str, lengths: list[int]) -> list[Row]:
    """Rows of a sequence cut into chains A, B and C of `lengths`."""
    rows = []
    begin = 0
    for chain, length in zip("ABC", lengths, strict=False):
        for number, letter in enumerate(sequence[begin : begin + length], 1):
            rows += [(chain, number, THREE_LETTER[letter], atom) for atom in ATOMS[letter]]
        begin += length
    return rows


def by_gemmi(model: gemmi.Model) -> tuple[list[Row], np.ndarray]:
    rows = [(c.name, r.seqid.num, r.name, a.name, a.pos.tolist(), a.b_iso) for c in model for r in c for a in r]
    return [row[:4] for row in rows], np.array([(*row[4], row[5]) for row in rows])


def by_biopython(model) -> tuple[list[Row], np.ndarray]:
    rows = [(c.id, r.id[1], r.resname, a.name, *a.coord, a.bfactor) for c in model for r in c for a in r]
    assert all(r.id[0] == " " for c in model for r in c)  # no residue is a heteroatom
    return [row[:4] for row in rows], np.array([row[4:] for row in rows], np.float64)


def by_columns(text: str) -> tuple[list[Row], np.ndarray]:
    atoms = read_strictly(text)
    assert strict_pdb.residues_seen_by_us_align(text) == len({(a.chain, a.number) for a in atoms})
    assert all(atom.element == atom.name[0] for atom in atoms)
    return [(a.chain, a.number, a.residue, a.name) for a in atoms], np.array([atom[4:8] for atom in atoms])


READERS = {
    "pdb": {
        "columns": by_columns,
        "gemmi": lambda text: by_gemmi(gemmi.read_pdb_string(text)[0]),
        "Biopython": lambda text: by_biopython(PDBParser(QUIET=False).get_structure("x", io.StringIO(text))[0]),
    },
    "cif": {
        "gemmi": lambda text: by_gemmi(gemmi.make_structure_from_block(gemmi.cif.read_string(text).sole_block())[0]),
        "Biopython": lambda text: by_biopython(MMCIFParser(QUIET=False).get_structure("x", io.StringIO(text))[0]),
    },
}
