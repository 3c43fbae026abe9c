"""3Di states and secondary structure of a chain, from its backbone, as `folding.compare` computes them.

numba, which compiles both, is imported at the first call. Shapes: L residues.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]

_LETTERS: Final = np.frombuffer(b"CHTE", np.uint8)  # of tm_work.COIL, HELIX, TURN and STRAND, which are 0 to 3


def structural_states(n_L3: Floats, ca_L3: Floats, c_L3: Floats, cb_L3: Floats) -> Codes:
    """Return the 3Di state of each residue, uint8 [L], 0 to 19 in the order of `reference_tables.STATE_ALPHABET`.

    Positions are [L, 3] in angstrom, NaN for a missing atom; a missing C-beta is placed from the backbone. A residue
    without a state of its own gets D, as in Foldseek (van Kempen et al. 2024).
    """
    from foldatlas.folding.compare.three_di import three_di_states

    return three_di_states(n_L3, ca_L3, c_L3, cb_L3)


def secondary_structure(ca_L3: Floats) -> Codes:
    """Return ASCII C, H, T or E for each residue, uint8 [L]: coil, helix, turn or strand.

    Assigned from the distances between C-alphas as in TM-align (Zhang and Skolnick 2005). The first and the last two
    residues are coil.
    """
    from foldatlas.folding.compare import tm_align

    return _LETTERS[tm_align.secondary_structure(ca_L3)]
