"""The scores of one structure, computed from its values as they are stored."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from foldatlas.folding.compare.shape import helix_and_strand_fractions, radius_of_gyration
from foldatlas.schemas.records import ATOMS, UNKNOWN_RESIDUES
from foldatlas.schemas.tables import COORDINATE_SCALE, PLDDT_SCALE

Floats = npt.NDArray[np.floating]

CONFIDENT_PLDDT: Final = 70.0
VERY_HIGH_PLDDT: Final = 90.0
_OF_PLDDT: Final = ("mean_plddt", "plddt_std", "num_confident", "fraction_confident", "fraction_very_high")


def score_row(sequence: str, positions: Floats, plddt: Floats | None, ptm: float | None) -> dict[str, Any]:
    """Return a row of `scores` (schemas.tables.SCORES) but for its ids, from the values as stored, so that it agrees
    with the stored structure.

    `positions` is [A, 3] angstrom, NaN for missing atoms; `plddt` [L] 0 to 100, NaN for a residue without one. Scores
    of pLDDT are of the residues that have one; fractions are of all residues. Without any pLDDT, or pTM, the scores are
    None.
    """
    alphas = np.rint(positions[alpha_rows(sequence)].astype(np.float64) * COORDINATE_SCALE) / COORDINATE_SCALE
    helix, strand = helix_and_strand_fractions(alphas)
    present = alphas[~np.isnan(alphas).any(axis=1)]
    return {
        "length": len(sequence),
        **_plddt_scores(len(sequence), plddt),
        "ptm": ptm,
        "num_unknown": sum(sequence.count(residue) for residue in UNKNOWN_RESIDUES),
        "radius_of_gyration": radius_of_gyration(present) if len(present) else 0.0,
        "helix_fraction": helix,
        "strand_fraction": strand,
    }


def _plddt_scores(length: int, plddt: Floats | None) -> dict[str, Any]:
    if plddt is None or np.isnan(plddt).all():
        return dict.fromkeys(_OF_PLDDT)
    values = np.rint(plddt[~np.isnan(plddt)].astype(np.float64) * PLDDT_SCALE) / PLDDT_SCALE
    confident = int((values > CONFIDENT_PLDDT).sum())
    return {
        "mean_plddt": float(values.mean()),
        "plddt_std": float(values.std()),
        "num_confident": confident,
        "fraction_confident": confident / length,
        "fraction_very_high": int((values > VERY_HIGH_PLDDT).sum()) / length,
    }


def alpha_rows(sequence: str) -> npt.NDArray[np.int64]:
    """Return the index of each residue's C-alpha among a protein's atoms."""
    counts = np.array([len(ATOMS[residue]) for residue in sequence])
    return np.concatenate(([0], np.cumsum(counts)[:-1])) + 1
