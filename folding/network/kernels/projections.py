"""LayerNorm fused with the projections that read it: of both attentions, and of triangle multiplication.

Their plain twins are the projections of `GatedAttention` and `_factor` in network/triangle.py, and `PairToSequence` in
sequence_and_pair.py.

Shapes: B batch, R rows i of a chunk, L residues, Z pair channels, H heads, P residues padded to a multiple of 8. Within
kernels: M pairs of a tile, N output channels of a step.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from foldatlas.folding.network.kernels.arithmetic import layer_norm, linear, multiple_of_8, sigmoid
from foldatlas.folding.network.kernels.launch import SIZES, blocks, is_aligned, launch, padded


@triton.jit
def _tile(pair_ptr, stride_b, stride_i, stride_j, length, padded_length, rows, Z: tl.constexpr, BLOCK_M: tl.constexpr):
    """Return the pairs of this program (protein, i, j, which exist) and their channels. j runs to `padded_length`."""
    protein = tl.program_id(1).to(tl.int64)
    pairs = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)  # fewer than 2^31 up to 46,340 residues
    i_M, j_M = (pairs // padded_length).to(tl.int64), (pairs % padded_length).to(tl.int64)
    in_rows_M = i_M < rows
    exists_M = in_rows_M & (j_M < length)
    pair_M_ptr = pair_ptr + protein * stride_b + i_M * stride_i + j_M * stride_j
    pair_MZ = tl.load(pair_M_ptr[:, None] + tl.arange(0, Z)[None, :], mask=exists_M[:, None], other=0.0)
    return protein, i_M, j_M, in_rows_M, exists_M, pair_MZ


@triton.jit(do_not_specialize=SIZES)
def projections_kernel(
    pair_ptr,
    norm_weight_ptr,
    norm_bias_ptr,
    query_weight_ptr,
    key_weight_ptr,
    value_weight_ptr,
    gate_weight_ptr,
    gate_bias_ptr,
    out_ptr,
    stride_b,
    stride_i,
    stride_j,
    rows,
    length,
    eps,
    Z: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Write queries, keys, values and gates [B, R, L, 4, Z] of BLOCK_M pairs."""
    protein, i_M, j_M, _, exists_M, pair_MZ = _tile(
        pair_ptr, stride_b, stride_i, stride_j, length, length, rows, Z, BLOCK_M
    )
    normal_MZ = layer_norm(pair_MZ, norm_weight_ptr, norm_bias_ptr, eps, Z).to(pair_MZ.dtype)
    out_M_ptr = out_ptr + ((protein * rows + i_M) * length + j_M) * (4 * Z)
    for start in range(0, Z, BLOCK_N):
        outputs = start + tl.arange(0, BLOCK_N)
        out_MN_ptr = out_M_ptr[:, None] + outputs[None, :]
        query_MN = linear(normal_MZ, query_weight_ptr, gate_bias_ptr, outputs, Z, False)
        tl.store(out_MN_ptr, query_MN.to(pair_MZ.dtype), mask=exists_M[:, None])
        key_MN = linear(normal_MZ, key_weight_ptr, gate_bias_ptr, outputs, Z, False)
        tl.store(out_MN_ptr + Z, key_MN.to(pair_MZ.dtype), mask=exists_M[:, None])
        value_MN = linear(normal_MZ, value_weight_ptr, gate_bias_ptr, outputs, Z, False)
        tl.store(out_MN_ptr + 2 * Z, value_MN.to(pair_MZ.dtype), mask=exists_M[:, None])
        gate_MN = linear(normal_MZ, gate_weight_ptr, gate_bias_ptr, outputs, Z, True)
        tl.store(out_MN_ptr + 3 * Z, gate_MN.to(pair_MZ.dtype), mask=exists_M[:, None])


@triton.jit(do_not_specialize=SIZES)
def bias_kernel(
    pair_ptr,
    norm_weight_ptr,
    norm_bias_ptr,
    weight_ptr,
    mask_ptr,
    out_ptr,
    stride_b,
    stride_i,
    stride_j,
    rows,
    length,
    padded_length,
    eps,
    Z: tl.constexpr,
    H: tl.constexpr,
    MASKED: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    """Write the attention bias [B, H, R, P] of BLOCK_M pairs; columns from L on are not written.

    If MASKED it is minus infinity where j is masked.
    """
    padded_length = multiple_of_8(padded_length)
    if ALIGNED:
        length = multiple_of_8(length)
    protein, i_M, j_M, _, exists_M, pair_MZ = _tile(
        pair_ptr, stride_b, stride_i, stride_j, length, length, rows, Z, BLOCK_M
    )
    # The plain path rounds the LayerNorm's result to the representation's dtype before the product.
    normal_MZ = layer_norm(pair_MZ, norm_weight_ptr, norm_bias_ptr, eps, Z).to(pair_MZ.dtype)
    kept_M = exists_M
    if MASKED:
        kept_M = tl.load(mask_ptr + protein * length + j_M, mask=exists_M, other=0) != 0
    if H >= 16:
        heads = tl.arange(0, H)
        bias_MH = linear(normal_MZ, weight_ptr, weight_ptr, heads, Z, False)
        if MASKED:
            bias_MH = tl.where(kept_M[:, None], bias_MH, float("-inf"))
        first_M = (protein * H * rows + i_M) * padded_length + j_M
        out_HM_ptr = out_ptr + heads.to(tl.int64)[:, None] * rows * padded_length + first_M[None, :]
        tl.store(out_HM_ptr, tl.trans(bias_MH.to(pair_MZ.dtype)), mask=exists_M[None, :])
    else:
        channels = tl.arange(0, Z)
        normal_MZ = normal_MZ.to(tl.float32)
        for head in range(H):
            weight_Z = tl.load(weight_ptr + head * Z + channels).to(tl.float32)
            bias_M = tl.sum(normal_MZ * weight_Z[None, :], axis=1)
            if MASKED:
                bias_M = tl.where(kept_M, bias_M, float("-inf"))
            out_M_ptr = out_ptr + ((protein * H + head) * rows + i_M) * padded_length + j_M
            tl.store(out_M_ptr, bias_M.to(pair_MZ.dtype), mask=exists_M)


@triton.jit(do_not_specialize=SIZES)
def factors_kernel(
    pair_ptr,
    norm_weight_ptr,
    norm_bias_ptr,
    mask_ptr,
    first_weight_ptr,
    first_bias_ptr,
    first_gate_weight_ptr,
    first_gate_bias_ptr,
    second_weight_ptr,
    second_bias_ptr,
    second_gate_weight_ptr,
    second_gate_bias_ptr,
    first_ptr,
    second_ptr,
    stride_b,
    stride_i,
    stride_j,
    channel_stride,
    rows,
    length,
    padded_length,
    eps,
    Z: tl.constexpr,
    BOTH: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Write one or both gated projections [Z, B, R, P] of BLOCK_M pairs, zero where j is masked or beyond L."""
    padded_length, channel_stride = multiple_of_8(padded_length), multiple_of_8(channel_stride)
    protein, i_M, j_M, in_rows_M, exists_M, pair_MZ = _tile(
        pair_ptr, stride_b, stride_i, stride_j, length, padded_length, rows, Z, BLOCK_M
    )
    kept_M = tl.load(mask_ptr + protein * length + j_M, mask=exists_M, other=0) != 0
    normal_MZ = layer_norm(pair_MZ, norm_weight_ptr, norm_bias_ptr, eps, Z).to(pair_MZ.dtype)
    out_M = (protein * rows + i_M) * padded_length + j_M
    for start in range(0, Z, BLOCK_N):
        outputs = start + tl.arange(0, BLOCK_N)
        out_NM = outputs.to(tl.int64)[:, None] * channel_stride + out_M[None, :]
        gate_MN = sigmoid(linear(normal_MZ, first_gate_weight_ptr, first_gate_bias_ptr, outputs, Z, True))
        factor_MN = gate_MN * linear(normal_MZ, first_weight_ptr, first_bias_ptr, outputs, Z, True)
        factor_MN = tl.where(kept_M[:, None], factor_MN, 0.0).to(pair_MZ.dtype)
        tl.store(first_ptr + out_NM, tl.trans(factor_MN), mask=in_rows_M[None, :])
        if BOTH:
            gate_MN = sigmoid(linear(normal_MZ, second_gate_weight_ptr, second_gate_bias_ptr, outputs, Z, True))
            factor_MN = gate_MN * linear(normal_MZ, second_weight_ptr, second_bias_ptr, outputs, Z, True)
            factor_MN = tl.where(kept_M[:, None], factor_MN, 0.0).to(pair_MZ.dtype)
            tl.store(second_ptr + out_NM, tl.trans(factor_MN), mask=in_rows_M[None, :])


def block_sizes(width: int) -> dict[str, int]:
    """Return pairs of a tile, output channels of a step, warps and pipeline stages, for `width` pair channels."""
    return {"BLOCK_M": 64, "BLOCK_N": 32, "num_warps": 4 if width < 256 else 8, "num_stages": 2}


def attention_projections(pair_BRLZ: Tensor, norm: nn.LayerNorm, layers: Sequence[nn.Linear], num_heads: int) -> Tensor:
    """Return query, key, value and gate [B, R, L, 4, H, Z / H] of LayerNorm(pair). Only the gate has a bias."""
    proteins, rows, length, width = pair_BRLZ.shape
    assert pair_BRLZ.stride(3) == 1
    query, key, value, gate = layers
    out = pair_BRLZ.new_empty(proteins, rows, length, 4, num_heads, width // num_heads)
    options = block_sizes(width)
    launch(
        projections_kernel,
        (blocks(rows * length, options["BLOCK_M"]), proteins),
        pair_BRLZ,
        norm.weight,
        norm.bias,
        query.weight,
        key.weight,
        value.weight,
        gate.weight,
        gate.bias,
        out,
        *pair_BRLZ.stride()[:3],
        rows,
        length,
        norm.eps,
        Z=width,
        **options,
    )
    return out


def attention_bias(pair_BRLZ: Tensor, norm: nn.LayerNorm, layer: nn.Linear, mask_BL: Tensor | None = None) -> Tensor:
    """Return the bias [B, H, R, P] of LayerNorm(pair) for each head. Columns from L on are unset.

    With `mask_BL` it is minus infinity where that is False for j.
    """
    proteins, rows, length, width = pair_BRLZ.shape
    assert pair_BRLZ.stride(3) == 1 and (mask_BL is None or mask_BL.is_contiguous())
    num_heads = layer.out_features
    out = pair_BRLZ.new_empty(proteins, num_heads, rows, padded(length))
    options = block_sizes(width)
    del options["BLOCK_N"]
    launch(
        bias_kernel,
        (blocks(rows * length, options["BLOCK_M"]), proteins),
        pair_BRLZ,
        norm.weight,
        norm.bias,
        layer.weight,
        layer.weight if mask_BL is None else mask_BL.view(torch.uint8),
        out,
        *pair_BRLZ.stride()[:3],
        rows,
        length,
        padded(length),
        norm.eps,
        Z=width,
        H=num_heads,
        MASKED=mask_BL is not None,
        ALIGNED=is_aligned(length),
        **options,
    )
    return out


def factors(
    pair_BRLZ: Tensor,
    mask_BL: Tensor,
    norm: nn.LayerNorm,
    first: tuple[nn.Linear, nn.Linear],
    second: tuple[nn.Linear, nn.Linear] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the gated projections [Z, B, R, P] of LayerNorm(pair), zero where j is masked or beyond L.

    `first` and `second` are the layers of the value and of its gate. Without `second`, both results are the first.
    """
    proteins, rows, length, width = pair_BRLZ.shape
    assert pair_BRLZ.stride(3) == 1 and mask_BL.is_contiguous()
    first_ZBRP = pair_BRLZ.new_empty(width, proteins, rows, padded(length))
    second_ZBRP = first_ZBRP if second is None else torch.empty_like(first_ZBRP)
    options = block_sizes(width)
    weights = [tensor for layer in (*first, *(second or first)) for tensor in (layer.weight, layer.bias)]
    launch(
        factors_kernel,
        (blocks(rows * padded(length), options["BLOCK_M"]), proteins),
        pair_BRLZ,
        norm.weight,
        norm.bias,
        mask_BL.view(torch.uint8),
        *weights,
        first_ZBRP,
        second_ZBRP,
        *pair_BRLZ.stride()[:3],
        first_ZBRP.stride(0),
        rows,
        length,
        padded(length),
        norm.eps,
        Z=width,
        BOTH=second is not None,
        **options,
    )
    return first_ZBRP, second_ZBRP
