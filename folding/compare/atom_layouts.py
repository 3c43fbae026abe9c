"""A prediction's atoms in the layouts of other programs: AlphaFold 2's `atom14` and `atom37` (Jumper et al. 2021,
supplement 1.2). numpy only.

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

_PLACE_14: Final = {residue: tuple(range(len(atoms))) for residue, atoms in ATOMS.items()}
_PLACE_37: Final = {residue: tuple(ATOM37.index(atom) for atom in atoms) for residue, atoms in ATOMS.items()}


def atom14(sequence: str, positions_A3: Floats) -> tuple[Floats, Mask]:
    """Positions [L, 14, 3], zero where there is no atom, and the mask [L, 14], True where there is one."""
    return _spread(sequence, positions_A3, _PLACE_14, NUM_ATOM14)


def atom37(sequence: str, positions_A3: Floats) -> tuple[Floats, Mask]:
    """The same by atom name, in the order of ATOM37: [L, 37, 3] and [L, 37]."""
    return _spread(sequence, positions_A3, _PLACE_37, len(ATOM37))


def _spread(
    sequence: str, positions_A3: Floats, places: dict[str, tuple[int, ...]], num_atoms: int
) -> tuple[Floats, Mask]:
    residue_A = [row for row, residue in enumerate(sequence) for _ in places[residue]]
    place_A = [place for residue in sequence for place in places[residue]]
    if positions_A3.shape != (len(place_A), 3):
        raise ValueError(f"the sequence has {len(place_A)} atoms, the positions are {positions_A3.shape}")
    spread = np.zeros((len(sequence), num_atoms, 3), np.float32)
    mask = np.zeros((len(sequence), num_atoms), np.bool_)
    spread[residue_A, place_A] = positions_A3
    mask[residue_A, place_A] = True
    return spread, mask
