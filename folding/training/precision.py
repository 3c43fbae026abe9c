"""In which types a training computes: weights, gradients, losses and the optimiser are float32, products what is asked
for."""

from typing import Final

import torch

from foldatlas.schemas.errors import UsageError

PRODUCTS: Final = {"fp32": None, "bf16": torch.bfloat16}


def type_of_products(precision: str) -> torch.dtype | None:
    """The type of matrix products where it is not that of their operands. Raises UsageError for another precision."""
    if precision not in PRODUCTS:
        raise UsageError(f"precision {precision!r} cannot be trained in: give one of {', '.join(PRODUCTS)}")
    return PRODUCTS[precision]
