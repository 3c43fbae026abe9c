"""Bounds for distances between atoms: bond lengths, bond angles and van der Waals radii.

Jumper et al. 2021, supplement 1.9.11. Between residues: lengths and angles of the peptide bond after Engh and Huber
(1991), with AlphaFold 2's values. Within a residue AlphaFold 2 reads a file of literature values; here the ideal
geometry of residue_constants.py, which has the same values, gives the length of every bond and the distance across
every bond angle, with one common deviation in place of those of the file.

Shapes: R = 21 residue types, A = 14 atoms.
"""

import functools
import math
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from foldatlas.folding.network.atoms import IdealResidues
from foldatlas.folding.network.residue_constants import ATOM_EXISTS_RA, NUM_AATYPES, NUM_ATOMS, NUM_TORSIONS
from foldatlas.folding.network.rigid import Rigid
from foldatlas.schemas.records import ATOMS, STANDARD_RESIDUES

# Peptide bond C-N: length and deviation in angstrom, to any residue and to proline.
PEPTIDE_LENGTH: Final = 1.329, 1.341
PEPTIDE_DEVIATION: Final = 0.014, 0.016
# Cosine and its deviation: 116.568 +- 1.995 and 121.352 +- 2.315 degrees.
COSINE_CA_C_N: Final = -0.4473, 0.0311
COSINE_C_N_CA: Final = -0.5203, 0.0353

TOLERANCE: Final = 12.0  # standard deviations without a penalty
CLASH_TOLERANCE: Final = 1.5  # angstrom; allowed overlap of van der Waals spheres

# Bondi (1964), angstrom.
VAN_DER_WAALS_RADIUS: Final = {"C": 1.7, "N": 1.55, "O": 1.52, "S": 1.8}

# Deviations within a residue, angstrom. Engh and Huber's are 0.01 to 0.03 for bonds, and 1 to 3 degrees for angles.
BOND_DEVIATION: Final = 0.02
ANGLE_DEVIATION: Final = 0.035
# Longer than any bond of the twenty residues (C-S: 1.81), shorter than any distance across an angle (2.1).
_MAX_BOND: Final = 1.95

# Whether the ring of proline is closed depends on its torsions, so its last bond is not part of the ideal geometry.
_PROLINE: Final = STANDARD_RESIDUES.index("P")
_PROLINE_N_CD: Final = 1.473
_PROLINE_CA_N_CD: Final = math.radians(112.0)
_PROLINE_N_CD_CG: Final = math.radians(103.2)

Floats = npt.NDArray[np.float32]


def radii() -> Floats:
    """Return the van der Waals radius [R, A] of every atom in angstrom, 0 where a residue has no such atom."""
    radius = np.zeros((NUM_AATYPES, NUM_ATOMS), np.float32)
    for aatype, residue in enumerate(STANDARD_RESIDUES + "X"):
        radius[aatype, : len(ATOMS[residue])] = [VAN_DER_WAALS_RADIUS[name[0]] for name in ATOMS[residue]]
    return radius


@functools.cache
def within_residue() -> tuple[Floats, Floats]:
    """Return the smallest and largest allowed distance [R, A, A] in angstrom of two atoms of one residue.

    For bonded atoms and atoms bonded to a common one: the ideal distance minus and plus 12 standard deviations. For
    other pairs: the sum of radii minus 1.5, and infinity. For pairs that do not exist: 0 and infinity.
    """
    ideal_RAA = _ideal_distances()
    both_RAA = ATOM_EXISTS_RA[:, :, None] & ATOM_EXISTS_RA[:, None, :] & ~np.eye(NUM_ATOMS, dtype=np.bool_)
    bonded_RAA = both_RAA & (ideal_RAA < _MAX_BOND)
    _close_proline(ideal_RAA, bonded_RAA)
    angle_RAA = both_RAA & ~bonded_RAA & (bonded_RAA.astype(np.int64) @ bonded_RAA.astype(np.int64) > 0)
    radius_RA = radii()
    lower_RAA = np.where(both_RAA, radius_RA[:, :, None] + radius_RA[:, None, :] - CLASH_TOLERANCE, 0)
    upper_RAA = np.full_like(lower_RAA, np.inf)
    for pairs_RAA, deviation in ((bonded_RAA, BOND_DEVIATION), (angle_RAA, ANGLE_DEVIATION)):
        lower_RAA = np.where(pairs_RAA, ideal_RAA - TOLERANCE * deviation, lower_RAA)
        upper_RAA = np.where(pairs_RAA, ideal_RAA + TOLERANCE * deviation, upper_RAA)
    return lower_RAA.astype(np.float32), upper_RAA.astype(np.float32)


def _ideal_distances() -> npt.NDArray[np.float64]:
    """Return distances [R, A, A] in extended residues; those of bonds and angles are the same for all torsions."""
    aatype = torch.arange(NUM_AATYPES).unsqueeze(0)
    frames = Rigid(torch.eye(3).expand(1, NUM_AATYPES, 3, 3), torch.zeros(1, NUM_AATYPES, 3))
    extended = torch.tensor([0.0, -1.0]).expand(1, NUM_AATYPES, NUM_TORSIONS, 2)
    positions_RA3 = IdealResidues().atoms(frames, extended, aatype)[0].double().numpy()
    distances: npt.NDArray[np.float64] = np.linalg.norm(positions_RA3[:, :, None] - positions_RA3[:, None], axis=-1)
    return distances


def _close_proline(ideal_RAA: npt.NDArray[np.float64], bonded_RAA: npt.NDArray[np.bool_]) -> None:
    """Set the bond N-CD and the distances across its two angles, in place."""
    ideal, (n, ca, cg, cd) = ideal_RAA[_PROLINE], (ATOMS["P"].index(name) for name in ("N", "CA", "CG", "CD"))
    bonded_RAA[_PROLINE, n, cd] = bonded_RAA[_PROLINE, cd, n] = True
    ideal[n, cd] = ideal[cd, n] = _PROLINE_N_CD
    for start, corner_length, angle, end in (
        (ca, ideal[n, ca], _PROLINE_CA_N_CD, cd),
        (cg, ideal[cd, cg], _PROLINE_N_CD_CG, n),
    ):
        across = math.sqrt(corner_length**2 + _PROLINE_N_CD**2 - 2 * corner_length * _PROLINE_N_CD * math.cos(angle))
        ideal[start, end] = ideal[end, start] = across
