"""The member of a cluster that is shown: the one of greatest confidence, chosen after clustering.

As the ESM Metagenomic Atlas chooses them (Lin et al. 2023): the greatest pTM x mean pLDDT. Clusters do not depend on
the choice.
"""

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


def confidence(mean_plddt_N: Doubles, ptm_N: Doubles) -> Doubles:
    """Return pTM x mean pLDDT, [N], 0 to 100; mean pLDDT where there is no pTM (NaN), 0 where there is neither."""
    product = np.where(np.isnan(ptm_N), mean_plddt_N, ptm_N * mean_plddt_N)
    return np.nan_to_num(product, nan=0.0)


def representatives(centres_N: npt.NDArray[np.integer], confidence_N: Doubles) -> Rows:
    """Return for each row the representative of its cluster, [N]: the row of greatest confidence, of equals the first.

    `centres_N` is equal for rows of one cluster, and a row's number.
    """
    rows = np.arange(len(centres_N))
    order = np.lexsort((rows, -confidence_N, centres_N))
    is_first = np.diff(centres_N[order], prepend=-1) != 0
    chosen = np.zeros(len(centres_N), dtype=np.int64)
    chosen[centres_N[order[is_first]]] = order[is_first]
    found: Rows = chosen[centres_N]
    return found
