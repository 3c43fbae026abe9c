"""3Di states and secondary structure of a chain, from its backbone.

3Di: van Kempen et al. 2023 (Foldseek). Secondary structure: Zhang and Skolnick 2005 (TM-align), from distances between
C-alphas alone. Shapes: L residues.
"""

from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]

COIL, HELIX, TURN, STRAND = (ord(letter) for letter in "CHTE")

# TM-align's ideal distances in angstrom between residues i-2 to i+2, as (first, second, helix, strand).
_PAIRS: Final = (
    (0, 4, 6.37, 13.0),
    (0, 3, 5.18, 10.4),
    (1, 4, 5.18, 10.4),
    (0, 2, 5.45, 6.1),
    (1, 3, 5.45, 6.1),
    (2, 4, 5.45, 6.1),
)
_HELIX_TOLERANCE: Final = 2.1
_STRAND_TOLERANCE: Final = 1.42
_TURN_DISTANCE: Final = 8.0


def structural_states(n_L3: Floats, ca_L3: Floats, c_L3: Floats, cb_L3: Floats) -> Codes:
    """Return the 3Di state of each residue, uint8 [L], 0 to 19 in the order of `reference_tables.STATE_ALPHABET`.

    Positions are [L, 3] in angstrom, NaN for a missing atom; a missing C-beta is placed from the backbone. A residue
    without a state of its own gets D, as in Foldseek.
    """
    states = _encoder().encode_atoms(ca_L3, cb_L3, n_L3, c_L3)
    return np.ma.filled(states, _INVALID_STATE).astype(np.uint8)


_INVALID_STATE: Final = 2  # D


@lru_cache(maxsize=1)
def _encoder() -> Any:
    import mini3di

    return mini3di.Encoder()


def secondary_structure(ca_L3: Floats) -> Codes:
    """Return ASCII C, H, T or E for each residue, uint8 [L]. The first and the last two residues are coil."""
    secondary = np.full(len(ca_L3), COIL, dtype=np.uint8)
    if len(ca_L3) < 5:
        return secondary
    inner = len(ca_L3) - 4
    at = [ca_L3[place : place + inner].astype(np.float64) for place in range(5)]
    distances = [np.linalg.norm(at[first] - at[second], axis=1) for first, second, _, _ in _PAIRS]
    is_helix = np.ones(inner, dtype=bool)
    is_strand = np.ones(inner, dtype=bool)
    for distance, (_, _, helix, strand) in zip(distances, _PAIRS, strict=True):
        is_helix &= np.abs(distance - helix) < _HELIX_TOLERANCE
        is_strand &= np.abs(distance - strand) < _STRAND_TOLERANCE
    found = np.where(distances[0] < _TURN_DISTANCE, TURN, COIL)
    secondary[2:-2] = np.where(is_helix, HELIX, np.where(is_strand, STRAND, found))
    return secondary
