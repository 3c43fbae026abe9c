"""Triangle attention with pair bias, mask and gate, without logits in memory.

Jumper et al. 2021, algorithms 13 and 14, lines 5 to 7. Softmax is computed over blocks of keys with running maximum
and sum (Dao et al. 2022, algorithm 1). Its plain twin is `GatedAttention` in network/triangle.py.

Shapes: B batch, R rows i of a chunk, L residues, H heads, K head width, P residues padded to a multiple of 8.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from foldatlas.folding.network.kernels.arithmetic import multiple_of_8, sigmoid
from foldatlas.folding.network.kernels.launch import SIZES, blocks, is_aligned, launch


@triton.jit(do_not_specialize=SIZES)
def attention_kernel(
    projected_ptr,
    bias_ptr,
    mask_ptr,
    out_ptr,
    rows,
    length,
    padded_length,
    scale,
    H: tl.constexpr,
    K: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """One program: BLOCK_M queries of one head, row and protein. Programs of consecutive rows share the bias's block.

    `projected` [B, R, L, 4, H, K] holds queries, keys, values and gates before their sigmoid.
    """
    LOG2_E: tl.constexpr = 1.4426950408889634
    padded_length = multiple_of_8(padded_length)
    if ALIGNED:
        length = multiple_of_8(length)
    program = tl.program_id(0)
    row = program % rows
    program //= rows
    query_blocks = tl.cdiv(length, BLOCK_M)
    block = program % query_blocks
    program //= query_blocks
    head = program % H
    protein = (program // H).to(tl.int64)

    channels = tl.arange(0, K)
    stride: tl.constexpr = 4 * H * K
    queries = block * BLOCK_M + tl.arange(0, BLOCK_M)
    inside_M = queries < length
    first_pair = (protein * rows + row) * length
    base_ptr = projected_ptr + first_pair * stride + head * K
    query_MK = tl.load(
        base_ptr + queries.to(tl.int64)[:, None] * stride + channels[None, :], mask=inside_M[:, None], other=0.0
    )
    bias_row_ptr = (
        bias_ptr
        + (protein * H + head) * length * padded_length
        + tl.where(inside_M, queries, 0).to(tl.int64)[:, None] * padded_length
    )

    maximum_M = tl.full([BLOCK_M], float("-inf"), tl.float32)
    sum_M = tl.zeros([BLOCK_M], tl.float32)
    total_MK = tl.zeros([BLOCK_M, K], tl.float32)
    for start in range(0, length, BLOCK_N):
        keys = start + tl.arange(0, BLOCK_N)
        inside_N = keys < length
        key_ptr = base_ptr + keys.to(tl.int64)[:, None] * stride + channels[None, :]
        key_NK = tl.load(key_ptr + H * K, mask=inside_N[:, None], other=0.0)
        bias_MN = tl.load(bias_row_ptr + keys[None, :], mask=inside_N[None, :], other=0.0)
        kept_N = tl.load(mask_ptr + protein * length + keys, mask=inside_N, other=0)
        logit_MN = tl.dot(query_MK, tl.trans(key_NK), input_precision="ieee") * (scale * LOG2_E)
        logit_MN += bias_MN.to(tl.float32) * LOG2_E
        logit_MN = tl.where((kept_N != 0)[None, :], logit_MN, float("-inf"))

        new_maximum_M = tl.maximum(maximum_M, tl.max(logit_MN, axis=1))
        # Minus infinity as long as every key so far is masked; then the weights are 0, not NaN.
        finite_M = tl.where(new_maximum_M == float("-inf"), 0.0, new_maximum_M)
        weight_MN = tl.exp2(logit_MN - finite_M[:, None])
        shrink_M = tl.exp2(maximum_M - finite_M)
        sum_M = sum_M * shrink_M + tl.sum(weight_MN, axis=1)
        value_NK = tl.load(key_ptr + 2 * H * K, mask=inside_N[:, None], other=0.0)
        total_MK = total_MK * shrink_M[:, None]
        total_MK += tl.dot(weight_MN.to(value_NK.dtype), value_NK, input_precision="ieee")
        maximum_M = new_maximum_M

    gate_ptr = base_ptr + queries.to(tl.int64)[:, None] * stride + channels[None, :] + 3 * H * K
    gate_MK = tl.load(gate_ptr, mask=inside_M[:, None], other=0.0).to(tl.float32)
    out_MK = total_MK / tl.where(sum_M == 0, 1.0, sum_M)[:, None] * sigmoid(gate_MK)
    out_at = (first_pair + queries.to(tl.int64))[:, None] * (H * K) + head * K + channels[None, :]
    tl.store(out_ptr + out_at, out_MK.to(out_ptr.dtype.element_ty), mask=inside_M[:, None])


def block_sizes(head_width: int) -> dict[str, int]:
    """Return queries and keys of a block, warps and pipeline stages."""
    return {"BLOCK_M": 64, "BLOCK_N": 64, "num_warps": 4, "num_stages": 2 if head_width > 32 else 3}


def attention(projected_BRL4HK: Tensor, bias_BHLP: Tensor, mask_BL: Tensor) -> Tensor:
    """Return gated attention [B, R, L, H * K] along L. Queries whose keys are all masked get zeros.

    `projected_BRL4HK` holds queries, keys, values and gates (before their sigmoid), contiguous. `bias_BHLP` (query,
    key) is added to the logits; `mask_BL` is True at keys to attend to.
    """
    proteins, rows, length, _, heads, width = projected_BRL4HK.shape
    assert projected_BRL4HK.is_contiguous() and bias_BHLP.is_contiguous() and mask_BL.is_contiguous()
    out_BRLZ = projected_BRL4HK.new_empty(proteins, rows, length, heads * width)
    options = block_sizes(width)
    programs = rows * blocks(length, options["BLOCK_M"]) * heads * proteins
    launch(
        attention_kernel,
        (programs,),
        projected_BRL4HK,
        bias_BHLP,
        mask_BL.view(torch.uint8),
        out_BRLZ,
        rows,
        length,
        bias_BHLP.shape[-1],
        width**-0.5,
        H=heads,
        K=width,
        ALIGNED=is_aligned(length),
        **options,
    )
    return out_BRLZ
