"""3Di states of stored structures as text, for Foldseek (van Kempen et al. 2024)."""

import numpy as np

from foldatlas.atlas.writers.chains import ATOM_ROWS, Structure, chains_of

BACKBONE = ("N", "CA", "C", "CB")


def three_di_text(structure: Structure) -> str:
    """Return a letter per residue, as Foldseek's databases store them.

    Residues without a state of their own, such as the first and the last, have D. numba, which compiles the
    computation, is imported at the first call. Raise UsageError for an invalid structure.
    """
    from foldatlas.folding.compare.three_di import three_di_letters, three_di_states

    chains = chains_of(structure)
    atoms = np.full((len(BACKBONE), len(chains.sequence), 3), np.nan, np.float32)
    names = np.array([BACKBONE.index(atom) if atom in BACKBONE else -1 for _, atom in ATOM_ROWS])[chains.rows]
    used = names >= 0
    atoms[names[used], chains.residues[used]] = chains.positions[used]
    n, c_alpha, c, c_beta = atoms
    return three_di_letters(three_di_states(n, c_alpha, c, c_beta))
