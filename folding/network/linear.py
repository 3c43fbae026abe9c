"""Linear layers, through the fastest exact kernel of the machine.

torch sends float32 matrix products on a CPU to MKL, which on processors that are not Intel's leaves half of the
vector unit idle. oneDNN, which torch ships and uses for 16 bits, does not: measured on an AMD EPYC with AVX-512, one
thread, 215 against 90 GFLOP/s. Both multiply and add in float32. docs/decisions/0009-speed-on-a-cpu.md has the rest.
"""

from functools import cache
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foldatlas.folding.planning import primitive_caches

primitive_caches.bound()

# Smaller products (in rows of a batch of them) lose more to each call than they gain.
_MIN_PRODUCT_ROWS: Final = 96


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, relu: bool = False) -> Tensor:
    """`x` [..., I] times the transpose of `weight` [O, I], plus `bias` [O], then ReLU if asked for."""
    y = (_by_onednn if _uses_onednn(x) else F.linear)(x, weight, bias)
    # Apart: oneDNN's own turns what is not a number into 0, so that broken weights would not show. It takes as long.
    return y.relu_() if relu else y


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def products(a_NIK: Tensor, b_NJK: Tensor) -> Tensor:
    """For each of N, `a` times the transpose of `b`: [N, I, J]."""
    if _uses_onednn(a_NIK) and min(b_NJK.shape[1:]) >= _MIN_PRODUCT_ROWS:
        product_NIJ = a_NIK.new_empty(*a_NIK.shape[:2], b_NJK.shape[1])
        for product_IJ, a_IK, b_JK in zip(product_NIJ, a_NIK, b_NJK, strict=True):
            product_IJ.copy_(linear(a_IK, b_JK))
        return product_NIJ
    return torch.bmm(a_NIK, b_NJK.transpose(1, 2))


def _uses_onednn(x: Tensor) -> bool:
    # The operator has no derivative: with gradients, torch's own.
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_grad_enabled() and has_onednn()


@cache
def has_onednn() -> bool:
    """Whether this torch has the operator, and it computes what torch's own product does.

    It is what torch's compiler calls and no part of the documented interface: another version may lack it, want other
    arguments or mean something else by them. So it is tried once, on a product of a few numbers.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    x = torch.linspace(-1, 1, 12).reshape(2, 2, 3)
    weight, bias = torch.linspace(1, -2, 12).reshape(4, 3), torch.linspace(-1, 1, 4)
    try:
        return all(torch.allclose(_by_onednn(x, weight, of), F.linear(x, weight, of), atol=1e-5) for of in (bias, None))
    except (AttributeError, RuntimeError, TypeError):
        return False


class Linear(nn.Linear):
    """nn.Linear, its product taken by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)
