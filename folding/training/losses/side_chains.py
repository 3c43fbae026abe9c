"""Which atoms define the torsions and rigid groups of a residue, and which side chains may be named in two ways.

Jumper et al. 2021, supplement table 2 (torsions and rigid groups) and table 3 (ambiguous names). The tables follow
from residue_constants.py: a chi's axis runs from the origin of the group before to its own, and the first atom of the
group defines the angle.

Tables are indexed by `aatype`. Places of atoms are those of records.ATOMS; in TORSION_ATOMS_RT4 the residue before
comes first: 0 to 13 are its atoms, 14 to 27 those of the residue.

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

# Chi angles whose turn by 180 degrees gives the same atoms under other names, counted from 1, and those names.
_SYMMETRIC_CHI: Final = {"D": 2, "E": 3, "F": 2, "Y": 2}
MAX_AMBIGUOUS: Final = 4  # atoms of one residue


def _torsion_tables() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    atoms = np.zeros((NUM_AATYPES, NUM_TORSIONS, 4), np.int64)
    exists = np.zeros((NUM_AATYPES, NUM_TORSIONS), np.bool_)
    here = NUM_ATOMS
    for aatype in range(NUM_AATYPES):
        atoms[aatype, OMEGA] = CA, C, here + N, here + CA
        atoms[aatype, PHI] = C, here + N, here + CA, here + C
        atoms[aatype, PSI] = here + N, here + CA, here + C, here + O  # the oxygen lies opposite the next nitrogen
        exists[aatype, : PSI + 1] = True
        chain = [N, CA, CB]
        for group in range(CHI1_GROUP, NUM_GROUPS):
            members = np.flatnonzero(ATOM_EXISTS_RA[aatype] & (ATOM_GROUP_RA[aatype] == group))
            if members.size == 0:
                break
            chain.append(int(members[0]))
            atoms[aatype, group - 1] = [here + atom for atom in chain[-4:]]
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
        places = [ATOMS[residue].index(name) for pair in pairs for name in pair]
        for first, second in zip(places[::2], places[1::2], strict=True):
            swap[aatype, first], swap[aatype, second] = second, first
        ambiguous[aatype, : len(places)] = places
        symmetric[aatype, PSI + _SYMMETRIC_CHI[residue]] = True
    return swap, ambiguous, symmetric


TORSION_ATOMS_RT4, TORSION_EXISTS_RT = _torsion_tables()
"""Four atoms of each torsion, and whether the residue has it (omega and phi: where a residue comes before)."""
GROUP_ATOMS_RG4, GROUP_EXISTS_RG = _group_tables()
"""Start and end of a group's x axis, the atom that y leans to, and the origin; whether the group has heavy atoms."""
SWAP_RA, AMBIGUOUS_ATOMS_R4, SYMMETRIC_RT = _ambiguity_tables()
"""The atom that may bear the name instead; atoms with two names (-1: none); torsions that are the same at 180 more."""
