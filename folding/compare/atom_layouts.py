"""Conversion of a prediction's atoms to AlphaFold 2's layouts `atom14` and `atom37`. numpy only.

Jumper et al. 2021, supplement 1.2.

Shapes: A atoms of a protein (records.ATOMS, residue after residue), L residues.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from foldatlas.schemas.records import ATOMS

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

NUM_ATOM14: Final = 14
ATOM37: Final = (
    "N CA C CB O CG CG1 CG2 OG OG1 SG CD CD1 CD2 ND1 ND2 OD1 OD2 SD CE CE1 CE2 CE3 NE NE1 NE2 OE1 OE2 CH2 NH1 NH2 OH "
    "CZ CZ2 CZ3 NZ OXT".split()
)  # the last, the terminal oxygen, is not predicted

_INDEX_14: Final = {residue: tuple(range(len(atoms))) for residue, atoms in ATOMS.items()}
_INDEX_37: Final = {residue: tuple(ATOM37.index(atom) for atom in atoms) for residue, atoms in ATOMS.items()}


def atom14(sequence: str, positions_A3: Floats) -> tuple[Floats, Mask]:
    """Return positions [L, 14, 3], zero where a residue has no such atom, and the mask [L, 14] of existing atoms."""
    return _spread(sequence, positions_A3, _INDEX_14, NUM_ATOM14)


def atom37(sequence: str, positions_A3: Floats) -> tuple[Floats, Mask]:
    """Return the same by atom name, in the order of ATOM37: [L, 37, 3] and [L, 37]."""
    return _spread(sequence, positions_A3, _INDEX_37, len(ATOM37))


def _spread(
    sequence: str, positions_A3: Floats, indices: dict[str, tuple[int, ...]], num_atoms: int
) -> tuple[Floats, Mask]:
    residue_A = [row for row, residue in enumerate(sequence) for _ in indices[residue]]
    index_A = [index for residue in sequence for index in indices[residue]]
    if positions_A3.shape != (len(index_A), 3):
        raise ValueError(f"the sequence has {len(index_A)} atoms, the positions are {positions_A3.shape}")
    spread = np.zeros((len(sequence), num_atoms, 3), np.float32)
    mask = np.zeros((len(sequence), num_atoms), np.bool_)
    spread[residue_A, index_A] = positions_A3
    mask[residue_A, index_A] = True
    return spread, mask
