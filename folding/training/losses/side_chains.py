"""Atoms that define the torsions and rigid groups of each residue type, and side chains with ambiguous names.

Jumper et al. 2021, supplement table 2 (torsions and rigid groups) and table 3 (ambiguous names). The tables are derived
from residue_constants.py: the axis of a chi angle goes from the origin of the previous group to that of its own group,
whose first atom defines the angle.

Tables are indexed by `aatype`. Atom indices are those of records.ATOMS; in TORSION_ATOMS_RT4, 0 to 13 are the atoms of
the previous residue, and 14 to 27 those of the residue itself.

Shapes: R = 21 residue types, A = 14 atoms, G = 8 rigid groups, T = 7 torsions.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from foldatlas.folding.network.residue_constants import (
    AMBIGUOUS_ATOMS,
    ATOM_EXISTS_RA,
    ATOM_GROUP_RA,
    NUM_AATYPES,
    NUM_ATOMS,
    NUM_GROUPS,
    NUM_TORSIONS,
)
from foldatlas.schemas.records import ATOMS, STANDARD_RESIDUES

N: Final = 0
CA: Final = 1
C: Final = 2
O: Final = 3  # noqa: E741 - the atom's name
CB: Final = 4

OMEGA: Final = 0
PHI: Final = 1
PSI: Final = 2
PSI_GROUP: Final = 3
CHI1_GROUP: Final = 4

# Number, from 1, of the chi angle whose rotation by 180 degrees exchanges the ambiguous atoms.
_SYMMETRIC_CHI: Final = {"D": 2, "E": 3, "F": 2, "Y": 2}
MAX_AMBIGUOUS: Final = 4  # ambiguous atoms of one residue


def _torsion_tables() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    atoms = np.zeros((NUM_AATYPES, NUM_TORSIONS, 4), np.int64)
    exists = np.zeros((NUM_AATYPES, NUM_TORSIONS), np.bool_)
    own = NUM_ATOMS  # offset of the residue's own atoms
    for aatype in range(NUM_AATYPES):
        atoms[aatype, OMEGA] = CA, C, own + N, own + CA
        atoms[aatype, PHI] = C, own + N, own + CA, own + C
        atoms[aatype, PSI] = own + N, own + CA, own + C, own + O  # the oxygen is opposite to the next nitrogen
        exists[aatype, : PSI + 1] = True
        chain = [N, CA, CB]
        for group in range(CHI1_GROUP, NUM_GROUPS):
            members = np.flatnonzero(ATOM_EXISTS_RA[aatype] & (ATOM_GROUP_RA[aatype] == group))
            if members.size == 0:
                break
            chain.append(int(members[0]))
            atoms[aatype, group - 1] = [own + atom for atom in chain[-4:]]
            exists[aatype, group - 1] = True
    return atoms, exists


def _group_tables() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    atoms = np.zeros((NUM_AATYPES, NUM_GROUPS, 4), np.int64)
    exists = np.zeros((NUM_AATYPES, NUM_GROUPS), np.bool_)
    atoms[:, 0] = CA, C, N, CA
    exists[:, 0] = True
    for group in range(PSI_GROUP, NUM_GROUPS):
        _, axis_start, axis_end, definer = TORSION_ATOMS_RT4[:, group - 1].T - NUM_ATOMS
        atoms[:, group] = np.stack([axis_start, axis_end, definer, axis_end], axis=1)
        exists[:, group] = TORSION_EXISTS_RT[:, group - 1]
    return atoms * exists[..., None], exists


def _ambiguity_tables() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    swap = np.tile(np.arange(NUM_ATOMS), (NUM_AATYPES, 1))
    ambiguous = np.full((NUM_AATYPES, MAX_AMBIGUOUS), -1, np.int64)
    symmetric = np.zeros((NUM_AATYPES, NUM_TORSIONS), np.bool_)
    for residue, pairs in AMBIGUOUS_ATOMS.items():
        aatype = STANDARD_RESIDUES.index(residue)
        atoms = [ATOMS[residue].index(name) for pair in pairs for name in pair]
        for first, second in zip(atoms[::2], atoms[1::2], strict=True):
            swap[aatype, first], swap[aatype, second] = second, first
        ambiguous[aatype, : len(atoms)] = atoms
        symmetric[aatype, PSI + _SYMMETRIC_CHI[residue]] = True
    return swap, ambiguous, symmetric


TORSION_ATOMS_RT4, TORSION_EXISTS_RT = _torsion_tables()
"""The four atoms of each torsion, and whether the residue has it (omega and phi need a previous residue)."""
GROUP_ATOMS_RG4, GROUP_EXISTS_RG = _group_tables()
"""Start and end of a group's x axis, an atom in its xy plane, and its origin; whether the group has heavy atoms."""
SWAP_RA, AMBIGUOUS_ATOMS_R4, SYMMETRIC_RT = _ambiguity_tables()
"""The atom with which each is exchanged; ambiguous atoms (padded with -1); torsions with a period of 180 degrees."""
