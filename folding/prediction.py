"""Results of the networks for one protein. They need numpy only, not torch.

`Prediction` and `Embedding` have the numbers of the network; `QuantisedPrediction` those of an atlas's files, which the
process that owns the device sends to the one that writes them.

Shapes: A atoms of a protein (records.ATOMS, residue after residue), L residues (of all chains), D language model
channels, N distogram bins.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The predicted structure of one protein, or of a complex of several chains.

    sequence            residues of all chains, concatenated
    positions           [A, 3] angstrom; atoms in the order of records.ATOMS, residue after residue (N, CA, C and O of
                        unknown residues)
    plddt               [L] 0 to 100, of each C-alpha
    ptm                 0 to 1
    iptm                0 to 1; None for a single chain
    chain_lengths       residues of each chain; None for a single chain

    On request, otherwise None:

    mean_embedding      [D] the language model's last hidden state, averaged over residues
    residue_embedding   [L, D] the language model's last hidden state
    pae                 [L, L] angstrom, 0.25 to 31.75: the expected error of residue j (axis 1) when the predicted and
                        true frames of residue i (axis 0) are superposed
    distogram_logits    [L, L, N] logits of 64 equal bins of the C-beta distance

    passes              trunk passes that ran; None if recycling could not stop early
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
    passes: int | None = None

    @property
    def mean_plddt(self) -> float:
        """Mean pLDDT over residues, 0 to 100."""
        return float(self.plddt.mean(dtype=np.float64))


@dataclass(frozen=True, slots=True, eq=False)
class QuantisedPrediction:
    """The predicted structure of one protein, in the integers of an atlas's files.

    sequence            residues of the chain
    coordinates         int16 or int32 [A, 3], 0.01 angstrom; atoms as in Prediction
    plddt               uint16 [L], 0 to 10,000: 0.01 of pLDDT
    ptm                 0 to 1

    On request, otherwise None:

    mean_embedding      float32 [D], as in Prediction
    residue_embedding   float16 [L, D]
    pae                 uint8 [L, L], 0.125 angstrom

    passes              as in Prediction
    """

    sequence: str
    coordinates: npt.NDArray[np.int16] | npt.NDArray[np.int32]
    plddt: npt.NDArray[np.uint16]
    ptm: float
    mean_embedding: Floats | None = None
    residue_embedding: npt.NDArray[np.float16] | None = None
    pae: npt.NDArray[np.uint8] | None = None
    passes: int | None = None


def narrowed(coordinates: npt.NDArray[np.int32]) -> npt.NDArray[np.int16] | npt.NDArray[np.int32]:
    """Return `coordinates` in 16 bits if all of them fit, that is up to 327 angstrom."""
    limit = np.iinfo(np.int16).max
    if coordinates.size and np.abs(coordinates).max() > limit:
        return coordinates
    return coordinates.astype(np.int16)


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """Hidden states of the language model for one protein, by layer: 0 is the token embedding.

    `mean` [D] is the average over residues; `residues` [L, D] are the states of each residue, None unless requested.
    Those of the last layer are after the final LayerNorm.
    """

    sequence: str
    mean: dict[int, Floats]
    residues: dict[int, Floats] | None
