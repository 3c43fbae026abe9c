"""What the networks say of one protein. numpy alone, so that who receives it needs no torch.

Shapes: A atoms of a protein (records.ATOMS, residue after residue), L residues (of all chains), D language model
channels, N distogram bins.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The predicted structure of one protein, or of several chains together.

    `sequence` is the residues of all chains, one chain after the other; `chain_lengths` their lengths, None for a
    single chain. `positions` [A, 3] is in angstrom, atoms in the order of records.ATOMS, residue after residue
    (unknown residues have N, CA, C, O); `plddt` [L] is 0 to 100, each C-alpha's; `ptm` 0 to 1, and `iptm` the same
    between chains, None for a single one.

    None unless asked for: `mean_embedding` [D], the language model's last state averaged over residues, and
    `residue_embedding` [L, D] before that; `pae` [L, L], the expected error of residue j (axis 1) in angstrom, 0.25
    to 31.75, when predicted and true residue i (axis 0) are superposed; `distogram_logits` [L, L, N] of 64 equal bins
    of the C-beta distance.
    """

    sequence: str
    positions: Floats
    plddt: Floats
    ptm: float
    mean_embedding: Floats | None
    residue_embedding: Floats | None = None
    pae: Floats | None = None
    distogram_logits: Floats | None = None
    iptm: float | None = None
    chain_lengths: tuple[int, ...] | None = None

    @property
    def mean_plddt(self) -> float:
        """Mean over residues, 0 to 100."""
        return float(self.plddt.mean(dtype=np.float64))


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """Hidden states of the language model for one protein, by layer: 0 the embedding of tokens, then 1 to the last.

    `mean` [D] is each layer's average over residues; `residues` [L, D] the states themselves, None unless asked for.
    The last layer's are after the final LayerNorm.
    """

    sequence: str
    mean: dict[int, Floats]
    residues: dict[int, Floats] | None
