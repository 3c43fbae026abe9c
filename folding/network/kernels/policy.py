"""The policy: which updates are computed by kernels that not every device has, and which by plain torch.

An update runs as a kernel if all of these hold:

- its kernels were approved for this device, dtype and sizes by self_check.py, which compares them with the plain code;
- the pair representation is bfloat16. In float32 the plain code is kept, whose results are the reference;
- no gradient is recorded: the kernels have no derivative and write in place.

Attention of the language model within packed sequences is torch's variable-length attention if that was approved, for
bfloat16 and float16; it has a derivative. Otherwise it is one call of torch's attention for each length.

Products in FP8 (fp8.py) are torch's `_scaled_mm` if that was approved, and are computed in float32 otherwise.

So a network that was not loaded by models.py, or a device that was not checked, uses plain torch. FOLDATLAS_KERNELS=off
in the environment turns all kernels off.
"""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from foldatlas.folding.network.in_place import needs_gradient
from foldatlas.folding.network.kernels.launch import HEAD_WIDTHS, SEQUENCE_HEADS, WIDTHS, installed

MULTIPLICATION: Final = "triangle multiplication"
ATTENTION: Final = "triangle attention"
TRANSITION: Final = "pair transition"
FROM_SEQUENCE: Final = "pair update from the sequence"
TO_SEQUENCE: Final = "pair bias of the sequence attention"
UPDATES: Final = (MULTIPLICATION, ATTENTION, TRANSITION, FROM_SEQUENCE, TO_SEQUENCE)
PACKED_ATTENTION: Final = "attention of packed sequences"
FP8_PRODUCTS: Final = "FP8 product of the language model"
FP8_CAPABILITY: Final = (8, 9)  # of a GPU with FP8 tensor cores

_VARIABLE: Final = "FOLDATLAS_KERNELS"


@dataclass(frozen=True, slots=True)
class Case:
    """What a comparison of a kernel with the plain code is valid for."""

    device: str
    dtype: torch.dtype
    width: int  # pair channels; of packed attention, the width of a head; of FP8 products, channels of the input
    heads: int  # of the attention, if it is one; 0 for other updates


_approved: set[tuple[str, Case]] = set()
_forced: list[frozenset[str]] = []


def uses_kernel(update: str, pair_BLLZ: Tensor, *parameters: Tensor, heads: int = 0) -> bool:
    """Return whether `update`, one of UPDATES, of `pair_BLLZ` runs as a kernel. `parameters`: its weights."""
    if needs_gradient(pair_BLLZ, *parameters):
        return False
    if _forced:
        return update in _forced[-1]
    case = Case(str(pair_BLLZ.device), pair_BLLZ.dtype, pair_BLLZ.shape[-1], heads)
    return (update, case) in _approved


def attends_in_one_call(value_1HNK: Tensor) -> bool:
    """Return whether attention within packed sequences, with values [1, H, N, K], is variable-length attention."""
    if _forced:
        return PACKED_ATTENTION in _forced[-1]
    case = Case(str(value_1HNK.device), value_1HNK.dtype, value_1HNK.shape[3], value_1HNK.shape[1])
    return (PACKED_ATTENTION, case) in _approved


def multiplies_in_fp8(values_MK: Tensor) -> bool:
    """Return whether a product of `values_MK` [M, K], in FP8, is computed by FP8 units."""
    if _forced:
        return FP8_PRODUCTS in _forced[-1]
    return (FP8_PRODUCTS, Case(str(values_MK.device), values_MK.dtype, values_MK.shape[1], 0)) in _approved


def can_multiply_in_fp8(device: str) -> bool:
    """Return whether `device` has FP8 units and torch an operator for them, which may be checked there."""
    return (
        device.startswith("cuda")
        and torch.cuda.get_device_capability(device) >= FP8_CAPABILITY
        and hasattr(torch, "_scaled_mm")
        and os.environ.get(_VARIABLE, "on") != "off"
    )


def can_attend_in_one_call(case: Case) -> bool:
    """Return whether there is variable-length attention for `case` that may be checked on its device."""
    return (
        case.device.startswith("cuda")
        and case.dtype in (torch.float16, torch.bfloat16)
        and case.width % 8 == 0  # of flash attention
        and case.width <= 256
        and importlib.util.find_spec("torch.nn.attention.varlen") is not None  # a prototype in torch 2.11 to 2.13
        and os.environ.get(_VARIABLE, "on") != "off"
    )


def can_run(update: str, case: Case) -> bool:
    """Return whether there are kernels of `update` for `case` that may be checked on its device."""
    return (
        case.device.startswith("cuda")
        and case.dtype == torch.bfloat16
        and case.width in WIDTHS
        and _has_heads(update, case)
        and installed()
        and os.environ.get(_VARIABLE, "on") != "off"
    )


def _has_heads(update: str, case: Case) -> bool:
    if update == ATTENTION:
        return case.width / case.heads in HEAD_WIDTHS
    return update != TO_SEQUENCE or case.heads in SEQUENCE_HEADS


def approve(update: str, case: Case) -> None:
    """Let `update` run as a kernel in `case`, for the rest of this process."""
    _approved.add((update, case))


@contextmanager
def forced(*updates: str) -> Iterator[None]:
    """In this block, run `updates` as kernels on any device and dtype, and all others by plain torch.

    For comparisons: by self_check.py, tests and benchmarks.
    """
    _forced.append(frozenset(updates))
    try:
        yield
    finally:
        _forced.pop()
