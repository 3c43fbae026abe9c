"""Predicted aligned errors as JSON, in the layout of AlphaFold DB."""

from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

ENDING: Final = ".pae.json"  # in place of the ending of the structure's file


def pae_document(errors_LL: npt.NDArray[np.float32]) -> list[dict[str, Any]]:
    """Return errors, in angstrom, as AlphaFold DB writes them: row i has those of all residues on the frame of i."""
    return [
        {"predicted_aligned_error": errors_LL.tolist(), "max_predicted_aligned_error": float(errors_LL.max(initial=0))}
    ]


def pae_json(errors_LL: npt.NDArray[np.float32]) -> bytes:
    """Return `pae_document` as JSON text."""
    return msgspec.json.encode(pae_document(errors_LL))
