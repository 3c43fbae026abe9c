"""Results of the networks for one protein. They need numpy only, not torch.

`Prediction` and `Embedding` have the numbers of the network; `QuantisedPrediction` those of an atlas's files, which the
process that owns the device sends to the one that writes them.

Shapes: A atoms of a protein (records.ATOMS, residue after residue), L residues (of all chains), D language model
channels, N distogram bins.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foldatlas.schemas.errors import NonFiniteOutput
from foldatlas.schemas.records import COORDINATE_SCALE, PAE_SCALE, PLDDT_SCALE

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


def quantised(prediction: Prediction) -> QuantisedPrediction:
    """Return `prediction` in the integers of an atlas's files, rounded to the nearest, ties to even.

    Raise NonFiniteOutput for a value that is NaN, infinite or outside the range of its integers.
    """
    coordinates = np.rint(prediction.positions.astype(np.float64) * COORDINATE_SCALE)
    plddt = np.rint(prediction.plddt.astype(np.float64) * PLDDT_SCALE)
    pae = None if prediction.pae is None else np.rint(prediction.pae * PAE_SCALE)
    with np.errstate(over="ignore"):
        residues = None if prediction.residue_embedding is None else prediction.residue_embedding.astype(np.float16)
    for name, is_stored in (
        ("positions", np.abs(coordinates) <= np.iinfo(np.int32).max),
        ("plddt", (plddt >= 0) & (plddt <= 100 * PLDDT_SCALE)),
        ("ptm", np.isfinite(prediction.ptm)),
        ("mean_embedding", prediction.mean_embedding is None or np.isfinite(prediction.mean_embedding)),
        ("residue_embedding", residues is None or np.isfinite(residues)),
        ("pae", pae is None or (pae >= 0) & (pae <= np.iinfo(np.uint8).max)),
    ):
        if not np.all(is_stored):
            raise NonFiniteOutput(
                f"a protein of {len(prediction.sequence)} residues ({prediction.sequence[:20]}...) has {name} values "
                "that are not finite, or too large to be stored"
            )
    return QuantisedPrediction(
        sequence=prediction.sequence,
        coordinates=narrowed(coordinates.astype(np.int32)),
        plddt=plddt.astype(np.uint16),
        ptm=prediction.ptm,
        mean_embedding=prediction.mean_embedding,
        residue_embedding=residues,
        pae=None if pae is None else pae.astype(np.uint8),
        passes=prediction.passes,
    )


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
