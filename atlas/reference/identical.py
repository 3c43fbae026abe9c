"""Identical chains: the same sequence and nearly the same coordinates. A reference keeps one of them.

Copies reduce the recall of a search, because they displace other folds among the candidates of a query. Different
conformations are kept, since the best TM-score of a query may be to one of them. The effect of the tolerance is in
docs/decisions/0029-reference-databases.md.
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
    """Return the index of the first of `kept`, all of one sequence, within `tolerance` of `chain_L3`, or None."""
    if not kept:
        return None
    near = np.nonzero(rmsd(chain_L3, np.stack(kept)) <= tolerance)[0]
    return int(near[0]) if len(near) else None
