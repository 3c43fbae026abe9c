"""The additive attention bias that the pair representation gives to the attentions of the trunk, and torch's kernels.

Shapes: B batch, L residues, H heads, K head width.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def attention_bias(bias_BLLH: Tensor, mask_BL: Tensor) -> Tensor:
    """Return the bias [B, H, L, L] (query, key) of each head, minus infinity at padded keys (`mask_BL` False).

    Rows of padded queries keep the unmasked keys, so that no row is empty and every result is finite.
    """
    return bias_BLLH.permute(0, 3, 1, 2).masked_fill(~mask_BL[:, None, None, :], float("-inf")).contiguous()


@contextmanager
def without_cudnn_attention() -> Iterator[None]:
    """In this block, torch's attention is not computed by cuDNN, which it prefers on GPUs of capability 90 and 100.

    cuDNN makes a plan for each shape of inputs, which takes the host some 30 ms; the batches of a run have hundreds of
    shapes. Flash and memory-efficient attention have one kernel for all.
    """
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)
