"""Launches of Triton kernels, and what all of them share.

Triton is optional (extra `gpu-test`, or installed with a CUDA build of torch). Modules with kernels import it, so they
are imported only if `installed()`.

A kernel gets pointers, sizes and strides. Strides and sizes of one axis are 32-bit numbers; offsets into a tensor are
computed with 64 bits, because a pair representation of 128 channels has 2^31 elements at 4,096 residues.

Triton compiles a variant of a kernel for sizes that are 1, and one for multiples of 16. Ours are compiled for multiples
of 8, which is how batches on a GPU are padded, and for all other sizes: a constant ALIGNED, and SIZES, whose values
Triton does not consider. So self_check.py runs each variant that is used.
"""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import torch

WIDTHS: Final = (32, 64, 128, 256)  # pair channels for which kernels exist
HEAD_WIDTHS: Final = (16, 32, 64)  # of triangle attention
SEQUENCE_HEADS: Final = (4, 8, 16, 32, 64)
SIZES: Final = ["rows", "length", "padded_length", "channel_stride"]  # arguments without variants of Triton's own
ALIGNMENT: Final = 8  # rows of a matrix product's 16-bit operands start at multiples of 16 bytes

_recorders: list[Callable[["Launch"], None]] = []


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel, its grid and arguments: of a launch that is recorded in place of being made."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.kernel.__name__)


@cache
def installed() -> bool:
    """Return whether Triton can be imported."""
    return importlib.util.find_spec("triton") is not None


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Run `kernel` on the device of its first argument, or record the launch inside `recording`."""
    if _recorders:
        _recorders[-1](Launch(kernel, grid, arguments, options))
        return
    if arguments[0].device.type == "cuda":
        with torch.cuda.device(arguments[0].device):
            kernel[grid](*arguments, **options)
    else:
        kernel[grid](*arguments, **options)


@contextmanager
def recording(record: Callable[[Launch], None]) -> Iterator[None]:
    """In this block, call `record` for each launch in place of making it."""
    _recorders.append(record)
    try:
        yield
    finally:
        _recorders.pop()


def padded(length: int) -> int:
    """Return `length` rounded up to ALIGNMENT."""
    return -(-length // ALIGNMENT) * ALIGNMENT


def is_aligned(length: int) -> bool:
    """Return whether `length` is a multiple of ALIGNMENT: the kernels' constant ALIGNED."""
    return length % ALIGNMENT == 0


def blocks(size: int, block: int) -> int:
    """Return the number of blocks of `block` that cover `size`."""
    return -(-size // block)
