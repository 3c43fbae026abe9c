"""Output projections and whole updates, fused with their LayerNorm, gate and the addition to the pairs.

Their plain twins are the ends of `_updates` and `GatedAttention` in network/triangle.py, and `SequenceToPair` in
sequence_and_pair.py and `Transition` in trunk.py.
Each program reads and writes its own pairs alone, so the pair representation is changed in place.

Shapes: B batch, R rows i of a chunk, L residues, Z pair channels. Within kernels: M pairs of a tile, N output channels
or hidden channels of a step.
"""

import triton
import triton.language as tl
from torch import Tensor, nn

from foldatlas.folding.network.kernels.arithmetic import layer_norm, linear, multiple_of_8, sigmoid
from foldatlas.folding.network.kernels.launch import SIZES, blocks, is_aligned, launch


@triton.jit
def _pairs(pair_ptr, stride_b, stride_i, stride_j, rows, length, BLOCK_M: tl.constexpr):
    """Return the pairs of this program: protein, i, j, which exist, and where their channels begin."""
    protein = tl.program_id(1).to(tl.int64)
    pairs = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)  # fewer than 2^31 up to 46,340 residues
    i_M, j_M = (pairs // length).to(tl.int64), (pairs % length).to(tl.int64)
    return protein, i_M, j_M, i_M < rows, pair_ptr + protein * stride_b + i_M * stride_i + j_M * stride_j


@triton.jit
def _add(pair_ptrs, update, exists_M):
    """Add `update` (float32) to the pairs at `pair_ptrs`; both are [M, channels]."""
    old = tl.load(pair_ptrs, mask=exists_M[:, None], other=0.0).to(tl.float32)
    tl.store(pair_ptrs, (old + update).to(pair_ptrs.dtype.element_ty), mask=exists_M[:, None])


@triton.jit(do_not_specialize=SIZES)
def multiplication_update_kernel(
    product_ptr,
    pair_ptr,
    norm_in_weight_ptr,
    norm_in_bias_ptr,
    gate_weight_ptr,
    gate_bias_ptr,
    norm_out_weight_ptr,
    norm_out_bias_ptr,
    weight_ptr,
    bias_ptr,
    stride_b,
    stride_i,
    stride_j,
    channel_stride,
    rows,
    length,
    eps,
    Z: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Add linear(LayerNorm(product)) * sigmoid(gate(LayerNorm(pair))) to BLOCK_M pairs. `product` is [Z, B, R, L]."""
    if ALIGNED:
        length, channel_stride = multiple_of_8(length), multiple_of_8(channel_stride)
    protein, i_M, j_M, exists_M, pair_M_ptr = _pairs(pair_ptr, stride_b, stride_i, stride_j, rows, length, BLOCK_M)
    channels = tl.arange(0, Z)
    pair_MZ = tl.load(pair_M_ptr[:, None] + channels[None, :], mask=exists_M[:, None], other=0.0)
    normal_MZ = layer_norm(pair_MZ, norm_in_weight_ptr, norm_in_bias_ptr, eps, Z).to(pair_MZ.dtype)

    product_M_ptr = product_ptr + (protein * rows + i_M) * length + j_M
    product_MZ = tl.load(
        product_M_ptr[:, None] + channels.to(tl.int64)[None, :] * channel_stride, mask=exists_M[:, None], other=0.0
    )
    product_MZ = layer_norm(product_MZ, norm_out_weight_ptr, norm_out_bias_ptr, eps, Z).to(pair_MZ.dtype)

    for start in range(0, Z, BLOCK_N):
        outputs = start + tl.arange(0, BLOCK_N)
        update_MN = linear(product_MZ, weight_ptr, bias_ptr, outputs, Z, True)
        update_MN *= sigmoid(linear(normal_MZ, gate_weight_ptr, gate_bias_ptr, outputs, Z, True))
        _add(pair_M_ptr[:, None] + outputs[None, :], update_MN, exists_M)


@triton.jit(do_not_specialize=SIZES)
def attention_update_kernel(
    attended_ptr,
    pair_ptr,
    weight_ptr,
    bias_ptr,
    stride_b,
    stride_i,
    stride_j,
    rows,
    length,
    Z: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Add linear(attended) to BLOCK_M pairs. `attended` is [B, R, L, Z]."""
    protein, i_M, j_M, exists_M, pair_M_ptr = _pairs(pair_ptr, stride_b, stride_i, stride_j, rows, length, BLOCK_M)
    attended_M_ptr = attended_ptr + ((protein * rows + i_M) * length + j_M) * Z
    attended_MZ = tl.load(attended_M_ptr[:, None] + tl.arange(0, Z)[None, :], mask=exists_M[:, None], other=0.0)
    for start in range(0, Z, BLOCK_N):
        outputs = start + tl.arange(0, BLOCK_N)
        update_MN = linear(attended_MZ, weight_ptr, bias_ptr, outputs, Z, True)
        _add(pair_M_ptr[:, None] + outputs[None, :], update_MN, exists_M)


@triton.jit(do_not_specialize=SIZES)
def sequence_update_kernel(
    query_ptr,
    key_ptr,
    from_query_ptr,
    from_key_ptr,
    pair_ptr,
    weight_ptr,
    stride_b,
    stride_i,
    stride_j,
    rows,
    length,
    Z: tl.constexpr,
    K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Add linear(query_j * key_i) + from_query_j - from_key_i to BLOCK_M pairs. The first two are [B, L, K]."""
    protein, i_M, j_M, exists_M, pair_M_ptr = _pairs(pair_ptr, stride_b, stride_i, stride_j, rows, length, BLOCK_M)
    i_M = protein * length + i_M
    j_M = protein * length + j_M
    channels = tl.arange(0, K)
    query_MK = tl.load(query_ptr + j_M[:, None] * K + channels[None, :], mask=exists_M[:, None], other=0.0)
    key_MK = tl.load(key_ptr + i_M[:, None] * K + channels[None, :], mask=exists_M[:, None], other=0.0)
    product_MK = (query_MK.to(tl.float32) * key_MK.to(tl.float32)).to(query_MK.dtype)
    for start in range(0, Z, BLOCK_N):
        outputs = start + tl.arange(0, BLOCK_N)
        update_MN = linear(product_MK, weight_ptr, weight_ptr, outputs, K, False)
        from_query_MN_ptr = from_query_ptr + j_M[:, None] * Z + outputs[None, :]
        update_MN += tl.load(from_query_MN_ptr, mask=exists_M[:, None], other=0.0).to(tl.float32)
        from_key_MN_ptr = from_key_ptr + i_M[:, None] * Z + outputs[None, :]
        update_MN -= tl.load(from_key_MN_ptr, mask=exists_M[:, None], other=0.0).to(tl.float32)
        _add(pair_M_ptr[:, None] + outputs[None, :], update_MN, exists_M)


@triton.jit(do_not_specialize=SIZES)
def transition_kernel(
    pair_ptr,
    norm_weight_ptr,
    norm_bias_ptr,
    expand_weight_ptr,
    expand_bias_ptr,
    contract_weight_ptr,
    contract_bias_ptr,
    stride_b,
    stride_i,
    stride_j,
    rows,
    length,
    eps,
    Z: tl.constexpr,
    HIDDEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Add contract(ReLU(expand(LayerNorm(pair)))) to BLOCK_M pairs. The hidden layer is never in memory."""
    _, _, _, exists_M, pair_M_ptr = _pairs(pair_ptr, stride_b, stride_i, stride_j, rows, length, BLOCK_M)
    channels = tl.arange(0, Z)
    pair_MZ_ptr = pair_M_ptr[:, None] + channels[None, :]
    pair_MZ = tl.load(pair_MZ_ptr, mask=exists_M[:, None], other=0.0)
    normal_MZ = layer_norm(pair_MZ, norm_weight_ptr, norm_bias_ptr, eps, Z).to(pair_MZ.dtype)
    update_MZ = tl.zeros([BLOCK_M, Z], tl.float32)
    for start in range(0, HIDDEN, BLOCK_N):
        hidden_channels = start + tl.arange(0, BLOCK_N)
        hidden_MN = linear(normal_MZ, expand_weight_ptr, expand_bias_ptr, hidden_channels, Z, True)
        hidden_MN = tl.where(hidden_MN < 0, 0.0, hidden_MN)  # keeps NaN, as the plain path does
        weight_NZ = tl.load(contract_weight_ptr + channels[None, :] * HIDDEN + hidden_channels[:, None])
        update_MZ += tl.dot(hidden_MN.to(pair_MZ.dtype), weight_NZ, input_precision="ieee")
    update_MZ += tl.load(contract_bias_ptr + channels).to(tl.float32)[None, :]
    _add(pair_MZ_ptr, update_MZ, exists_M)


def block_sizes(width: int) -> dict[str, int]:
    """Return pairs of a tile, channels of a step, warps and pipeline stages, for `width` pair channels."""
    return {"BLOCK_M": 64, "BLOCK_N": 32, "num_warps": 4 if width < 256 else 8, "num_stages": 2}


def _launch(kernel: object, pair_BRLZ: Tensor, *tensors: Tensor, sizes: tuple[float, ...] = (), **options: int) -> None:
    proteins, rows, length, width = pair_BRLZ.shape
    assert pair_BRLZ.stride(3) == 1
    options = {"Z": width, **block_sizes(width), **options}
    grid = (blocks(rows * length, options["BLOCK_M"]), proteins)
    launch(kernel, grid, *tensors, *pair_BRLZ.stride()[:3], *sizes, **options)


def add_multiplication_update(
    pair_BRLZ: Tensor,
    product_ZBRL: Tensor,
    norm_in: nn.LayerNorm,
    gate: nn.Linear,
    norm_out: nn.LayerNorm,
    layer: nn.Linear,
) -> None:
    """Add layer(norm_out(product)) * sigmoid(gate(norm_in(pair))) to `pair_BRLZ`, in place."""
    assert product_ZBRL.is_contiguous() and norm_in.eps == norm_out.eps
    of_layers = [tensor for module in (norm_in, gate, norm_out, layer) for tensor in (module.weight, module.bias)]
    sizes = (product_ZBRL.stride(0), *pair_BRLZ.shape[1:3], norm_in.eps)
    aligned = is_aligned(pair_BRLZ.shape[2])
    _launch(multiplication_update_kernel, pair_BRLZ, product_ZBRL, pair_BRLZ, *of_layers, sizes=sizes, ALIGNED=aligned)


def add_attention_update(pair_BRLZ: Tensor, attended_BRLZ: Tensor, layer: nn.Linear) -> None:
    """Add layer(attended) to `pair_BRLZ`, in place."""
    assert attended_BRLZ.is_contiguous()
    sizes = pair_BRLZ.shape[1:3]
    _launch(attention_update_kernel, pair_BRLZ, attended_BRLZ, pair_BRLZ, layer.weight, layer.bias, sizes=sizes)


def add_sequence_update(
    pair_BLLZ: Tensor,
    query_BLK: Tensor,
    key_BLK: Tensor,
    from_query_BLZ: Tensor,
    from_key_BLZ: Tensor,
    weight_ZK: Tensor,
) -> None:
    """Add weight (query_j * key_i) + from_query_j - from_key_i to `pair_BLLZ`, in place."""
    tensors = (query_BLK, key_BLK, from_query_BLZ, from_key_BLZ, weight_ZK)
    assert all(tensor.is_contiguous() for tensor in tensors)
    *of_residues, weight = tensors
    _launch(
        sequence_update_kernel,
        pair_BLLZ,
        *of_residues,
        pair_BLLZ,
        weight,
        sizes=pair_BLLZ.shape[1:3],
        K=query_BLK.shape[2],
        num_warps=4,  # with 8, Triton 3.7 spills at 256 channels; with 2 stages, 3.6 does for capability 100
        num_stages=3,
    )


def add_transition(pair_BRLZ: Tensor, norm: nn.LayerNorm, expand: nn.Linear, contract: nn.Linear) -> None:
    """Add contract(ReLU(expand(norm(pair)))) to `pair_BRLZ`, in place."""
    of_layers = [tensor for module in (norm, expand, contract) for tensor in (module.weight, module.bias)]
    sizes = (*pair_BRLZ.shape[1:3], norm.eps)
    _launch(transition_kernel, pair_BRLZ, pair_BRLZ, *of_layers, sizes=sizes, HIDDEN=expand.out_features)
