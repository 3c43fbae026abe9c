"""Folding sequences: what callers use of the network.

Shapes: B batch, L residues.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from foldatlas.folding.esmfold import ESMFold, Folded, Wanted
from foldatlas.folding.prediction import Prediction
from foldatlas.folding.residue_constants import ATOM_EXISTS_RA
from foldatlas.folding.tokens import Batch, encode
from foldatlas.schemas.errors import NonFiniteOutput, OutOfMemory
from foldatlas.schemas.records import Settings

# torch raises a plain RuntimeError when it cannot allocate memory of the host.
_HOST_OUT_OF_MEMORY = "DefaultCPUAllocator: can't allocate memory"


class Predictor:
    """A network ready to fold. `settings` say what decides its structures."""

    def __init__(self, network: ESMFold, settings: Settings):
        self.settings = settings
        self.config = network.config
        self._network = network

    def fold(self, sequences: Sequence[str], *, mean_embedding: bool = False) -> list[Prediction]:
        """Fold `sequences` as one batch, padded to the longest; predictions come in the same order.

        A protein's prediction does not depend on what it is batched with, beyond float32 rounding (about 1e-4
        angstrom). Cut long lists with foldatlas.folding.batching first.

        Raises SequenceError for an empty list or sequence, or a character that is no upper-case letter; OutOfMemory
        when the batch does not fit; NonFiniteOutput when the network's output for any protein is not finite.
        """
        batch = encode(sequences, self._network.embedding.weight.device)
        try:
            with torch.inference_mode():
                folded = self._network(
                    batch, recycles=self.settings.recycles, wanted=Wanted(mean_embedding=mean_embedding)
                )
                return _to_predictions(sequences, batch, folded)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise _out_of_memory(sequences, batch) from error
        except RuntimeError as error:
            if _HOST_OUT_OF_MEMORY in str(error):
                raise _out_of_memory(sequences, batch) from error
            raise


def _out_of_memory(sequences: Sequence[str], batch: Batch) -> OutOfMemory:
    return OutOfMemory(
        f"{len(sequences)} proteins of up to {max(map(len, sequences))} residues do not fit into the memory of "
        f"{batch.aatype_BL.device}: fold fewer at once, or use a device with more memory"
    )


def _to_predictions(sequences: Sequence[str], batch: Batch, folded: Folded) -> list[Prediction]:
    """Cut a batch into proteins without padding, on the host."""
    aatype = batch.aatype_BL.cpu().numpy()
    positions = folded.positions_BLA3.cpu().numpy()
    plddt = folded.plddt_BL.cpu().numpy()
    ptm = folded.ptm_B.cpu().numpy()
    embedding = None if folded.mean_embedding_BD is None else folded.mean_embedding_BD.cpu().numpy()
    predictions = []
    for row, sequence in enumerate(sequences):
        length = len(sequence)
        prediction = Prediction(
            sequence=sequence,
            positions=positions[row, :length][ATOM_EXISTS_RA[aatype[row, :length]]],
            plddt=plddt[row, :length].copy(),
            ptm=float(ptm[row]),
            mean_embedding=None if embedding is None else embedding[row].copy(),
        )
        _check_finite(prediction, row, len(sequences))
        predictions.append(prediction)
    return predictions


def _check_finite(prediction: Prediction, row: int, num_proteins: int) -> None:
    values: dict[str, npt.ArrayLike] = {
        "positions": prediction.positions,
        "plddt": prediction.plddt,
        "ptm": prediction.ptm,
    }
    if prediction.mean_embedding is not None:
        values["mean_embedding"] = prediction.mean_embedding
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise NonFiniteOutput(
                f"protein {row + 1} of {num_proteins} ({len(prediction.sequence)} residues, "
                f"{prediction.sequence[:20]}...) has {name} that are not finite: the weights or the precision "
                "cannot fold it"
            )
