"""Precision of predicted contacts. numpy only.

As in CASP: of pairs of residues at least 24 apart in the sequence (long range), the L/5 with the highest rank are
taken; the precision is the fraction of them whose C-betas are within 8 angstrom in the reference. For glycine the
C-alpha is used.

Shapes: L residues, A = 14 atoms of a residue (records.ATOMS), N distogram bins.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.floating]
Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

CONTACT: Final = 8.0  # angstrom
LONG_RANGE: Final = 24  # residues between the two, in the given sequence
PART: Final = 5  # L/5 pairs are evaluated
FIRST_EDGE: Final = 2.3125  # angstrom; edges of AlphaFold 2's distogram, whose first and last bins are open
LAST_EDGE: Final = 21.6875

_CA, _CB = 1, 4  # indices in atom14


def c_betas(sequence: str, positions_LA3: Points, observed_LA: Mask) -> tuple[Points, Mask]:
    """Return C-betas [L, 3], C-alphas for glycine and unknown residues, and the mask [L] of the observed ones."""
    has_c_beta_L = np.array([residue in "ARNDCQEHILKMFPSTWYV" for residue in sequence], np.bool_)
    atom_L = np.where(has_c_beta_L, _CB, _CA)
    rows_L = np.arange(len(sequence))
    return positions_LA3[rows_L, atom_L], observed_LA[rows_L, atom_L]


def distances(points_L3: Points) -> Doubles:
    """Return the distances [L, L] between points."""
    points_L3 = points_L3.astype(np.float64)
    squares_LL = np.zeros((len(points_L3), len(points_L3)))
    for axis in range(3):
        squares_LL += (points_L3[:, axis, np.newaxis] - points_L3[:, axis]) ** 2
    return np.sqrt(squares_LL)


def contact_probabilities(distogram_logits_LLN: npt.NDArray[np.floating]) -> Doubles:
    """Return the probability [L, L], 0 to 1, of distogram bins that end at 8 angstrom or below (7.94 with 64 bins)."""
    num_bins = distogram_logits_LLN.shape[-1]
    num_within = int((np.linspace(FIRST_EDGE, LAST_EDGE, num_bins - 1) <= CONTACT).sum())
    probabilities_LL = np.empty(distogram_logits_LLN.shape[:2])
    for row, logits_LN in enumerate(distogram_logits_LLN):  # one row at a time, to save memory
        exponentials_LN = np.exp(logits_LN.astype(np.float64) - logits_LN.max(axis=-1, keepdims=True))
        probabilities_LL[row] = exponentials_LN[:, :num_within].sum(axis=-1) / exponentials_LN.sum(axis=-1)
    return probabilities_LL


def contact_precision(rank_LL: npt.NDArray[np.floating], reference_L3: Points, observed_L: Mask) -> float:
    """Return the precision, 0 to 1, of the L/5 (at least one) long-range pairs with the highest `rank_LL`.

    `rank_LL` is symmetric: a contact probability, or a predicted distance with negative sign. `reference_L3` are the
    C-betas of the reference in angstrom; pairs with an unobserved one are excluded from the ranking. NaN if the
    reference has no long-range contact.
    """
    length = len(reference_L3)
    one_P, other_P = np.triu_indices(length, LONG_RANGE)
    both_P = observed_L[one_P] & observed_L[other_P]
    one_P, other_P = one_P[both_P], other_P[both_P]
    difference_P3 = reference_L3[one_P].astype(np.float64) - reference_L3[other_P]
    is_contact_P = (difference_P3**2).sum(axis=1) < CONTACT**2
    if not is_contact_P.any():
        return float("nan")
    # Stable sort: pairs of equal rank are taken in the order of the chain, on every machine.
    first_P = np.argsort(-rank_LL[one_P, other_P], kind="stable")[: max(1, length // PART)]
    return float(is_contact_P[first_P].mean())
