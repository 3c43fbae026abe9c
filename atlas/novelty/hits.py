"""A query of a structure search, and what its search can give: not searched, no hit, or the best hit.

Shapes: L residues of the query; 4 atoms, N, C-alpha, C and C-beta.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

CONFIDENT_PLDDT: Final = 70.0
VERDICT_TM: Final = 0.5  # from here on two chains mostly share a fold (Xu & Zhang 2010, Bioinformatics 26:889)

Method = Literal["align", "bound"]


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """A structure to search with. Raise ValueError for arrays whose shapes do not fit the sequence.

    `backbone_L43` are N, C-alpha, C and C-beta in angstrom, NaN where one is missing (glycine's C-beta too); residues
    without a C-alpha take no part. `plddt_L` is 0 to 100, NaN where unknown; None if there is none.
    """

    structure_id: str
    sequence: str
    backbone_L43: Floats
    plddt_L: Floats | None = None

    def __post_init__(self) -> None:
        length = len(self.sequence)
        if self.backbone_L43.shape != (length, 4, 3):
            raise ValueError(f"the backbone of {length} residues is [L, 4, 3], not {self.backbone_L43.shape}")
        if self.plddt_L is not None and self.plddt_L.shape != (length,):
            raise ValueError(f"pLDDT of {length} residues is [L], not {self.plddt_L.shape}")

    @property
    def has_c_alpha_L(self) -> npt.NDArray[np.bool_]:
        """Whether each residue has a C-alpha."""
        return np.asarray(np.isfinite(self.backbone_L43[:, 1].sum(axis=1)))

    @property
    def is_confident_L(self) -> npt.NDArray[np.bool_]:
        """Whether each residue has a C-alpha and a pLDDT above CONFIDENT_PLDDT."""
        if self.plddt_L is None:
            return np.zeros(len(self.sequence), dtype=bool)
        return self.has_c_alpha_L & (np.nan_to_num(self.plddt_L) > CONFIDENT_PLDDT)


@dataclass(frozen=True, slots=True)
class NotSearched:
    """The query was not searched with. `reason` is "too_short": fewer C-alphas than `reference.chains.MIN_RESIDUES`."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoHit:
    """The query was searched with, and no entry could be laid on it: its TM-score is 0."""


@dataclass(frozen=True, slots=True, eq=False)
class StructureHit:
    """The entry with the greatest TM-score, normalised by the query's length; of equal scores, the first row.

    row             of the reference
    tm_query        TM-score by the query's residues with a C-alpha, 0 to 1
    tm_target       TM-score by the entry's residues, 0 to 1, of the same alignment, superposed separately
    tm_confident    TM-score of the query's confident residues (pLDDT above 70) by their number, of the same alignment,
                    superposed separately; None if there are no confident residues
    aligned_length  aligned residues
    rmsd            of them, angstrom, under rotation and translation
    identity        fraction of them with equal residue codes, 0 to 1
    method          "align": by TM-align; "bound": by the superposition of the lower bound, if its score is greater
    rotation, translation   float64 [3, 3] and [3]: `query @ rotation.T + translation` lays the query on the entry
    partners_L      int32 [L]: the entry's residue of each of the query's, or -1
    """

    row: int
    tm_query: float
    tm_target: float
    tm_confident: float | None
    aligned_length: int
    rmsd: float
    identity: float
    method: Method
    rotation: Doubles
    translation: Doubles
    partners_L: npt.NDArray[np.int32]

    @property
    def is_known(self) -> bool:
        """Whether the query shares a fold with the entry: `tm_query` is at least VERDICT_TM."""
        return self.tm_query >= VERDICT_TM


SearchResult = NotSearched | NoHit | StructureHit
