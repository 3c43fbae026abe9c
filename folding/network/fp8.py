"""Matrix products of the language model in FP8: weights and activations of 8 bits, sums in float32.

The format is e4m3 (Micikevicius et al. 2022, "FP8 formats for deep learning"): 4 significant bits, up to 448. Each
output channel of a weight has a scale, and so has each token of an activation, computed when it is used; a scale maps
the largest magnitude to 448. The trunk is never FP8: rounding of pairs to 8 bits breaks ESMFold (arXiv 2310.19624).

On a GPU the product is torch's `_scaled_mm` if it was approved there (kernels/policy.py). Elsewhere the same rounded
values are multiplied in float32: the same numbers but for rounding of the sums, more slowly than in bfloat16.

Shapes: M tokens, K input channels, O output channels.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from foldatlas.folding.network.kernels import policy
from foldatlas.folding.network.linear import linear
from foldatlas.schemas.errors import ModelError

FORMAT: Final = torch.float8_e4m3fn
LARGEST: Final = 448.0  # of the format
_LEAST_MAGNITUDE: Final = 1e-30  # of a row; its scale stays finite in bfloat16
_MULTIPLE: Final = 16  # of channels, for FP8 tensor cores


@dataclass(frozen=True, slots=True)
class Quantised:
    """Rows in FP8: the value of a number is `values` times the `scale` of its row. `shape` is that before the rows were
    flattened."""

    values_MK: Tensor
    scale_M1: Tensor  # float32
    shape: torch.Size

    def float(self) -> Tensor:
        """Return the values [M, K] in float32."""
        return self.values_MK.float() * self.scale_M1


def quantised(x: Tensor) -> Quantised:
    """Return `x` [..., K] in FP8, with a scale for each row. A row with NaN or infinity has NaN.

    In bfloat16 three passes over memory: the largest magnitude, the multiplication by the scale's inverse, which is
    rounded to bfloat16, and the conversion.
    """
    rows_MK = x.reshape(-1, x.shape[-1])
    largest_M1 = torch.linalg.vector_norm(rows_MK, ord=float("inf"), dim=-1, keepdim=True, dtype=torch.float32)
    inverse_M1 = (LARGEST / largest_M1.clamp_(min=_LEAST_MAGNITUDE)).to(x.dtype)
    return Quantised((rows_MK * inverse_M1).to(FORMAT), inverse_M1.float().reciprocal(), x.shape)


def product(x: Quantised, weight: Quantised, bias_O: Tensor, dtype: torch.dtype) -> Tensor:
    """Return `x` times the transpose of `weight` [O, K], plus `bias_O`, as [..., O] of `dtype`."""
    multiply = scaled_product if policy.multiplies_in_fp8(x.values_MK) else plain_product
    return multiply(x, weight, bias_O, dtype).unflatten(0, x.shape[:-1])


def scaled_product(x: Quantised, weight: Quantised, bias_O: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the product [M, O] by torch's operator, which takes these scales with bfloat16 results and biases.

    Sums are in float32, not in the fewer bits of Hopper's fast accumulation.
    """
    result: Tensor = torch._scaled_mm(
        x.values_MK,
        weight.values_MK.t(),  # column by column, as the operator reads it
        scale_a=x.scale_M1,
        scale_b=weight.scale_M1.t(),
        bias=bias_O.to(torch.bfloat16),
        out_dtype=torch.bfloat16,
        use_fast_accum=False,
    )
    return result.to(dtype)


def plain_product(x: Quantised, weight: Quantised, bias_O: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the product [M, O] by a product in float32."""
    sum_MO = linear(x.values_MK.float(), weight.values_MK.float())
    return (sum_MO * x.scale_M1 * weight.scale_M1.t() + bias_O.float()).to(dtype)


class Fp8Linear(nn.Module):
    """A linear layer of the language model with its weight in FP8. It has no derivative."""

    values_OK: Tensor
    scale_O1: Tensor
    bias_O: Tensor

    def __init__(self, layer: nn.Linear):
        """Convert `layer`. Raise ModelError if its widths are no multiple of 16."""
        super().__init__()
        if layer.in_features % _MULTIPLE or layer.out_features % _MULTIPLE:
            raise ModelError(
                f"precision fp8 needs widths of the language model that are multiples of {_MULTIPLE}, and a layer has "
                f"{layer.in_features} and {layer.out_features} channels: use bf16"
            )
        weight = quantised(layer.weight.detach())
        self.register_buffer("values_OK", weight.values_MK)
        self.register_buffer("scale_O1", weight.scale_M1)
        self.register_buffer("bias_O", layer.bias.detach())

    def forward(self, x: Tensor | Quantised) -> Tensor:
        """Return the product with `x` [..., K] and the bias, in the dtype of the bias."""
        weight = Quantised(self.values_OK, self.scale_O1, self.values_OK.shape)
        x = x if isinstance(x, Quantised) else quantised(x)
        return product(x, weight, self.bias_O, self.bias_O.dtype)
