"""Linear layers, by the fastest exact kernel of the machine.

On a CPU torch computes float32 matrix products by MKL, which uses half of the vector unit on processors that are not
Intel's. oneDNN, which torch ships and uses for 16-bit products, uses all of it: 215 against 90 GFLOP/s, measured on one
thread of an AMD EPYC with AVX-512. Both multiply and add in float32. oneDNN also applies a sigmoid, or multiplies by a
tensor, before it writes and rounds the result. See docs/decisions/0009-speed-on-a-cpu.md.
"""

from functools import cache
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foldatlas.folding.network.in_place import multiply
from foldatlas.folding.planning import primitive_caches

primitive_caches.limit()

# With fewer rows per product, the overhead of a call for each product of a batch is greater than the gain.
_MIN_PRODUCT_ROWS: Final = 96

# Of results of about 1 in the trial of oneDNN: a few roundings.
_TOLERANCES: Final = {torch.float32: 1e-5, torch.bfloat16: 0.03}


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, relu: bool = False) -> Tensor:
    """Return `x` [..., I] times the transpose of `weight` [O, I], plus `bias` [O], with ReLU if `relu`."""
    y = (_by_onednn if _uses_onednn(x, weight) else F.linear)(x, weight, bias)
    # Not fused: oneDNN's ReLU turns NaN into 0, which would hide broken weights. Fusing saves no time either.
    return y.relu_() if relu else y


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None, then: str = "none") -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, then, [], "")


def _times_by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None, factor: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise.binary(x, factor, weight, bias, "mul")


def products(a_NIK: Tensor, b_NJK: Tensor) -> Tensor:
    """Return the product of `a` and the transpose of `b` for each of N: [N, I, J]."""
    if a_NIK.dtype == torch.float32 and _uses_onednn(a_NIK, b_NJK) and min(b_NJK.shape[1:]) >= _MIN_PRODUCT_ROWS:
        product_NIJ = a_NIK.new_empty(*a_NIK.shape[:2], b_NJK.shape[1])
        for product_IJ, a_IK, b_JK in zip(product_NIJ, a_NIK, b_NJK, strict=True):
            product_IJ.copy_(linear(a_IK, b_JK))
        return product_NIJ
    return torch.bmm(a_NIK, b_NJK.transpose(1, 2))


def _uses_onednn(x: Tensor, weight: Tensor) -> bool:
    # The operator has no derivative, so torch's own product is used when gradients are recorded. It does not convert
    # its inputs, which differ in dtype under torch.autocast.
    is_plain = x.device.type == "cpu" and x.dtype == weight.dtype and not torch.is_grad_enabled()
    return is_plain and has_onednn(x.dtype)


@cache
def has_onednn(dtype: torch.dtype) -> bool:
    """Return whether this torch has the operator for `dtype` and it gives the same results as torch's own product.

    The operator is used by torch's compiler and is not part of the documented interface: other versions may lack it or
    change its arguments, and processors without AVX-512 lack bfloat16. So it is tried once, on a small product.
    """
    if dtype not in _TOLERANCES or not torch.backends.mkldnn.is_available():
        return False
    x = torch.linspace(-1, 1, 12, dtype=dtype).reshape(2, 2, 3)
    weight, bias = torch.linspace(1, -2, 12, dtype=dtype).reshape(4, 3), torch.linspace(-1, 1, 4, dtype=dtype)
    factor = torch.linspace(1, 0, 16, dtype=dtype).reshape(2, 2, 4)

    def same(found: Tensor, expected: Tensor) -> bool:
        return torch.allclose(found, expected, atol=_TOLERANCES[dtype])

    try:
        return all(
            same(_by_onednn(x, weight, of), y := F.linear(x, weight, of))
            and same(_by_onednn(x, weight, of, "sigmoid"), y.sigmoid())
            and same(_times_by_onednn(x, weight, of, factor), y * factor)
            for of in (bias, None)
        )
    except (AttributeError, RuntimeError, TypeError):
        return False


class Linear(nn.Linear):
    """nn.Linear, computed by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)

    def sigmoid(self, x: Tensor) -> Tensor:
        """Return the sigmoid of the output."""
        # In float32 oneDNN's sigmoid has other last bits than torch's.
        if x.dtype == torch.bfloat16 and _uses_onednn(x, self.weight):
            return _by_onednn(x, self.weight, self.bias, "sigmoid")
        return self(x).sigmoid_()

    def times(self, x: Tensor, factor: Tensor) -> Tensor:
        """Return the output times `factor`, of the same shape."""
        if _uses_onednn(x, self.weight):
            return _times_by_onednn(x, self.weight, self.bias, factor)
        return multiply(self(x), factor)
