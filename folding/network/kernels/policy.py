"""The policy: which updates of the pair representation are computed by Triton kernels, and which by plain torch.

An update runs as a kernel if all of these hold:

- its kernels were approved for this device, dtype and sizes by self_check.py, which compares them with the plain code;
- the pair representation is bfloat16. In float32 the plain code is kept, whose results are the reference;
- no gradient is recorded: the kernels have no derivative and write in place.

So a network that was not loaded by models.py, or a device that was not checked, uses plain torch. FOLDATLAS_KERNELS=off
in the environment turns all kernels off.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from foldatlas.folding.network.in_place import needs_gradient
from foldatlas.folding.network.kernels.launch import HEAD_WIDTHS, WIDTHS, installed

MULTIPLICATION: Final = "triangle multiplication"
ATTENTION: Final = "triangle attention"
TRANSITION: Final = "pair transition"
UPDATES: Final = (MULTIPLICATION, ATTENTION, TRANSITION)

_VARIABLE: Final = "FOLDATLAS_KERNELS"


@dataclass(frozen=True, slots=True)
class Case:
    """What a comparison of a kernel with the plain code is valid for."""

    device: str
    dtype: torch.dtype
    width: int  # pair channels
    heads: int  # of triangle attention; 0 for other updates


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


def can_run(case: Case) -> bool:
    """Return whether there are kernels for `case` that may be checked on its device."""
    return (
        case.device.startswith("cuda")
        and case.dtype == torch.bfloat16
        and case.width in WIDTHS
        and (case.heads == 0 or case.width / case.heads in HEAD_WIDTHS)
        and installed()
        and os.environ.get(_VARIABLE, "on") != "off"
    )


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
