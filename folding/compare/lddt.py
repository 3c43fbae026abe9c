"""lDDT: the fraction of the reference's short distances that a prediction preserves. No superposition. numpy only.

Mariani, Biasini, Barbato & Schwede 2013 (Bioinformatics 29:2722). All distances between atoms of different residues
that are below 15 angstrom in the reference are included; one is preserved at a threshold if it differs by less in the
prediction. The score is the mean, over the thresholds 0.5, 1, 2 and 4 angstrom, of the preserved fraction. The score of
a chain is that of all its distances, not the mean of its residues' scores.

There are no stereochemistry checks: in the published program distances of residues with clashes or impossible bonds and
angles are not preserved. So values here are equal to or greater than those of that program.

Shapes: L residues, A = 14 atoms of a residue (records.ATOMS), N atoms, R rows of a block, P distances.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from foldatlas.folding.network.residue_constants import AMBIGUOUS_ATOMS
from foldatlas.schemas.records import ATOMS

Points = npt.NDArray[np.floating]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer]
Mask = npt.NDArray[np.bool_]

INCLUSION_RADIUS: Final = 15.0  # angstrom
THRESHOLDS: Final = (0.5, 1.0, 2.0, 4.0)  # angstrom

_EXCHANGED: Final = {
    residue: [(ATOMS[residue].index(one), ATOMS[residue].index(other)) for one, other in pairs]
    for residue, pairs in AMBIGUOUS_ATOMS.items()
}
_BLOCK: Final = 1 << 21  # distances per block: 16 MiB for each temporary array


@dataclass(frozen=True, slots=True, eq=False)
class Lddt:
    """lDDT of a chain and of each residue, 0 to 1; NaN without distances. `num_distances_L` is the number of distances
    between each residue and others."""

    score: float
    per_residue_L: Doubles
    num_distances_L: Integers


def lddt_ca(predicted_L3: Points, reference_L3: Points, observed_L: Mask | None = None) -> Lddt:
    """Return the lDDT of C-alphas in angstrom; `observed_L` is True where the reference has one (None: everywhere).

    Distances of predicted NaN are not preserved. Raise ValueError for different shapes.
    """
    if predicted_L3.shape != reference_L3.shape or reference_L3.ndim != 2:
        raise ValueError(f"C-alphas must be of one shape [L, 3]: {predicted_L3.shape=}, {reference_L3.shape=}")
    residue_N = np.flatnonzero(np.ones(len(reference_L3), np.bool_) if observed_L is None else observed_L)
    return _score(_doubles(predicted_L3)[residue_N], _doubles(reference_L3)[residue_N], residue_N, len(reference_L3))


def lddt_all_atom(sequence: str, predicted_LA3: Points, reference_LA3: Points, observed_LA: Mask) -> Lddt:
    """Return the lDDT of all heavy atoms in atom14 order, angstrom; `observed_LA` is True where the reference has one.

    The ambiguous atoms of ASP, GLU, PHE and TYR have either the reference's or the exchanged names, whichever preserve
    more distances to unambiguous atoms of other residues (Mariani et al. 2013). Distances of predicted NaN are not
    preserved. Raise ValueError for different shapes.
    """
    shape = reference_LA3.shape
    if predicted_LA3.shape != shape or observed_LA.shape != shape[:2] or len(sequence) != shape[0]:
        raise ValueError(
            f"{len(sequence)} residues need arrays [L, 14, 3] and [L, 14]: {predicted_LA3.shape=}, {shape=}, "
            f"{observed_LA.shape=}"
        )
    predicted_LA3 = _doubles(predicted_LA3)
    residue_N, atom_N = np.nonzero(observed_LA)
    reference_N3 = _doubles(reference_LA3)[residue_N, atom_N]
    exchanged_LA3, is_ambiguous_LA = _exchanged(sequence, predicted_LA3)
    ambiguous_N = np.flatnonzero(is_ambiguous_LA[residue_N, atom_N])
    if len(ambiguous_N):
        certain_N = np.flatnonzero(~is_ambiguous_LA[residue_N, atom_N])
        as_named_L, as_exchanged_L = (
            _preserved_by_residue(
                given_LA3[residue_N, atom_N], reference_N3, residue_N, len(sequence), ambiguous_N, certain_N
            )[0]
            for given_LA3 in (predicted_LA3, exchanged_LA3)
        )
        better_L = as_exchanged_L > as_named_L
        predicted_LA3[better_L] = exchanged_LA3[better_L]
    return _score(predicted_LA3[residue_N, atom_N], reference_N3, residue_N, len(sequence))


def _doubles(positions: Points) -> Doubles:
    """Return a copy in float64."""
    return positions.astype(np.float64)


def _exchanged(sequence: str, positions_LA3: Doubles) -> tuple[Doubles, Mask]:
    """Return the positions with all ambiguous names exchanged, and the mask [L, A] of ambiguous atoms."""
    exchanged_LA3 = positions_LA3.copy()
    is_ambiguous_LA = np.zeros(positions_LA3.shape[:2], np.bool_)
    letters_L = np.array(list(sequence))
    for residue, pairs in _EXCHANGED.items():
        rows = np.flatnonzero(letters_L == residue)
        for one, other in pairs:
            exchanged_LA3[rows, one], exchanged_LA3[rows, other] = positions_LA3[rows, other], positions_LA3[rows, one]
            is_ambiguous_LA[rows, one] = is_ambiguous_LA[rows, other] = True
    return exchanged_LA3, is_ambiguous_LA


def _score(predicted_N3: Doubles, reference_N3: Doubles, residue_N: Integers, length: int) -> Lddt:
    preserved_L, number_L = _preserved_by_residue(predicted_N3, reference_N3, residue_N, length)
    with np.errstate(invalid="ignore"):
        per_residue_L = preserved_L / number_L
    total = int(number_L.sum())
    return Lddt(float(preserved_L.sum() / total) if total else float("nan"), per_residue_L, number_L)


def _preserved_by_residue(
    predicted_N3: Doubles,
    reference_N3: Doubles,
    residue_N: Integers,
    length: int,
    rows: Integers | None = None,
    columns: Integers | None = None,
) -> tuple[Doubles, Integers]:
    """Return the sum of preserved fractions of distances, and the number of distances, for each residue [L].

    Distances are from the atoms `rows` to the atoms `columns` (None: all).
    """
    rows = np.arange(len(residue_N)) if rows is None else rows
    columns = np.arange(len(residue_N)) if columns is None else columns
    preserved_L, number_L = np.zeros(length), np.zeros(length, np.int64)
    if not len(columns):
        return preserved_L, number_L
    step = max(1, _BLOCK // len(columns))
    for start in range(0, len(rows), step):
        part_R = rows[start : start + step]
        squares_RN = np.zeros((len(part_R), len(columns)))
        for axis in range(3):
            squares_RN += (reference_N3[part_R, axis, np.newaxis] - reference_N3[columns, axis]) ** 2
        counts_RN = squares_RN < INCLUSION_RADIUS**2
        counts_RN &= residue_N[part_R, np.newaxis] != residue_N[columns]
        row_P, column_P = np.nonzero(counts_RN)
        one_P, other_P = part_R[row_P], columns[column_P]
        predicted_P = np.sqrt(((predicted_N3[one_P] - predicted_N3[other_P]) ** 2).sum(axis=1))
        error_P = np.abs(predicted_P - np.sqrt(squares_RN[row_P, column_P]))
        fraction_P = sum((error_P < threshold).astype(np.float64) for threshold in THRESHOLDS) / len(THRESHOLDS)
        preserved_L += np.bincount(residue_N[one_P], weights=fraction_P, minlength=length)
        number_L += np.bincount(residue_N[one_P], minlength=length)
    return preserved_L, number_L
