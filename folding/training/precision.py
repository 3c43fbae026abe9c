"""Mixed precision in training: weights, gradients, losses and optimiser state are float32; matrix products may be
bfloat16."""

from typing import Final

import torch

from foldatlas.schemas.errors import UsageError

PRODUCTS: Final = {"fp32": None, "bf16": torch.bfloat16}


def autocast_dtype(precision: str) -> torch.dtype | None:
    """Return the dtype of matrix products; None means that of their operands. Raise UsageError for an unknown name."""
    if precision not in PRODUCTS:
        raise UsageError(f"precision {precision!r} cannot be used for training: give one of {', '.join(PRODUCTS)}")
    return PRODUCTS[precision]
