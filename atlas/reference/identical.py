"""Chains that a reference needs once: the same sequence, and nearly the same coordinates.

Copies crowd the candidates of a search: ten of one chain take the places of nine other folds. A conformation that
differs is kept, since the best TM-score of a query may be against it. docs/decisions/0029-reference-databases.md has
what the tolerance costs.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

TOLERANCE: Final = 0.25  # angstrom, RMSD of all C-alphas after superposition


def rmsd(first_L3: Floats, others_BL3: Floats) -> npt.NDArray[np.float64]:
    """Return the RMSD in angstrom of `first_L3` to each of `others_BL3`, superposed by proper rotations: [B].

    Kabsch 1976, from singular values alone: a mirror image is not superposed.
    """
    first = first_L3.astype(np.float64) - first_L3.mean(axis=0, dtype=np.float64)
    others = others_BL3.astype(np.float64)
    others -= others.mean(axis=1, keepdims=True)
    covariance = np.einsum("li,blj->bij", first, others)
    values = np.linalg.svd(covariance, compute_uv=False)
    values[:, 2] *= np.where(np.linalg.det(covariance) < 0, -1.0, 1.0)
    total = (first**2).sum() + (others**2).sum(axis=(1, 2)) - 2 * values.sum(axis=1)
    found: npt.NDArray[np.float64] = np.sqrt(np.maximum(total, 0.0) / len(first))
    return found


def find_identical(chain_L3: Floats, kept: Sequence[Floats], tolerance: float = TOLERANCE) -> int | None:
    """Return which of `kept`, chains of the same sequence, `chain_L3` is identical to: the first within `tolerance`."""
    if not kept:
        return None
    near = np.nonzero(rmsd(chain_L3, np.stack(kept)) <= tolerance)[0]
    return int(near[0]) if len(near) else None
