"""Predictions in the integers of an atlas's files, by numpy: the reference for folding/stages.py."""

import numpy as np

from foldatlas.folding.prediction import Prediction, QuantisedPrediction, narrowed
from foldatlas.schemas.records import COORDINATE_SCALE, PAE_SCALE, PLDDT_SCALE


def quantised(prediction: Prediction) -> QuantisedPrediction:
    """Return `prediction` rounded to the nearest integers, ties to even."""
    residues, pae = prediction.residue_embedding, prediction.pae
    return QuantisedPrediction(
        sequence=prediction.sequence,
        coordinates=narrowed(np.rint(prediction.positions.astype(np.float64) * COORDINATE_SCALE).astype(np.int32)),
        plddt=np.rint(prediction.plddt.astype(np.float64) * PLDDT_SCALE).astype(np.uint16),
        ptm=prediction.ptm,
        mean_embedding=prediction.mean_embedding,
        residue_embedding=None if residues is None else residues.astype(np.float16),
        pae=None if pae is None else np.rint(pae * PAE_SCALE).astype(np.uint8),
        passes=prediction.passes,
    )
