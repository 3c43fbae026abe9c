"""Attention of the trunk: the bias from the pair representation, torch's kernels, and another for bfloat16 on CPUs.

Shapes: B batch, L residues, R rows of a chunk, Q queries of a part, H heads, K head width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from foldatlas.folding.planning.chunks import slices

# Logits that one thread computes at a time: 2 MB of float32, which stay in the caches of a core.
_LOGITS_PER_THREAD: Final = 2**19


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


def attention_along_rows(query_RHLK: Tensor, key_RHLK: Tensor, value_RHLK: Tensor, bias_HLL: Tensor) -> Tensor:
    """Return attention within each of R rows of pairs, all with the same bias: [R, L, H * K]."""
    if query_RHLK.device.type == "cpu" and query_RHLK.dtype == torch.bfloat16 and not torch.is_grad_enabled():
        return _in_parts(query_RHLK, key_RHLK, value_RHLK, bias_HLL)
    # The bias has four axes because torch's fused kernel requires them; without that kernel this takes 4 times as long.
    attended_RHLK = F.scaled_dot_product_attention(query_RHLK, key_RHLK, value_RHLK, attn_mask=bias_HLL.unsqueeze(0))
    return attended_RHLK.transpose(1, 2).flatten(-2)


def _in_parts(query_RHLK: Tensor, key_RHLK: Tensor, value_RHLK: Tensor, bias_HLL: Tensor) -> Tensor:
    """Return the same, computed from few logits at a time. Logits and softmax are float32, as in torch's fused kernel.

    For bfloat16 on a CPU it takes 0.7 of the fused kernel's time (docs/decisions/0009-speed-on-a-cpu.md).
    """
    num_rows, heads, length, width = query_RHLK.shape
    # At most the size of the query: fewer rows need less memory.
    num_logits = min(query_RHLK.numel(), _LOGITS_PER_THREAD * torch.get_num_threads())
    rows = max(1, num_logits // (heads * length * length))
    queries = max(1, min(length, num_logits // (rows * heads * length)))
    bias_HLL = bias_HLL.float()
    logits_RHQL = bias_HLL.new_empty(rows, heads, queries, length)
    weights_RHQL = query_RHLK.new_empty(rows, heads, queries, length)
    attended_RLHK = query_RHLK.new_empty(num_rows, length, heads, width)
    for of_rows in slices(num_rows, rows):
        key_NLK, value_NLK = key_RHLK[of_rows].flatten(0, 1).float(), value_RHLK[of_rows].flatten(0, 1)
        for of_queries in slices(length, queries):
            query_RHQK = query_RHLK[of_rows, :, of_queries]
            part = slice(len(query_RHQK)), slice(None), slice(query_RHQK.shape[2])
            logits_NQL = logits_RHQL[part].copy_(bias_HLL[:, of_queries]).flatten(0, 1)
            logits_NQL.baddbmm_(query_RHQK.flatten(0, 1).float(), key_NLK.transpose(1, 2), alpha=width**-0.5)
            torch.softmax(logits_NQL, dim=-1, out=logits_NQL)
            weights_NQL = weights_RHQL[part].flatten(0, 1).copy_(logits_NQL)
            attended_RHQK = torch.bmm(weights_NQL, value_NLK).view_as(query_RHQK)
            attended_RLHK[of_rows, of_queries] = attended_RHQK.transpose(1, 2)
    return attended_RLHK.flatten(2)
