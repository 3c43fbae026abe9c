"""What counts as a difference between numbers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tolerances:
    """Differences up to these are ignored. The defaults are about the precision with which values are stored."""

    plddt: float = 0.01  # pLDDT, 0 to 100: the mean, and the greatest difference of a residue
    ptm: float = 0.001
    rmsd: float = 0.01  # angstrom, of all atoms after superposition
    similarity: float = 0.001  # TM-score and sequence identity, 0 to 1
    pae: float = 0.01  # angstrom, the mean over all pairs of residues
