"""Arithmetic within kernels: sizes, LayerNorm of a tile of pairs, sigmoid, and matrix products.

Suffixes are Triton block shapes: M pairs of a tile, Z pair channels, N output channels of a step.
"""

import triton
import triton.language as tl


@triton.jit
def multiple_of_8(size):
    """Return `size`, a multiple of 8, so that the compiler can derive this.

    It then reads and writes 8 consecutive bfloat16 numbers at once where addresses depend on `size`.
    """
    return size // 8 * 8


@triton.jit
def layer_norm(x_MZ, weight_ptr, bias_ptr, eps, Z: tl.constexpr):
    """Return LayerNorm over the channels of `x_MZ`, in float32."""
    channels = tl.arange(0, Z)
    x_MZ = x_MZ.to(tl.float32)
    centered_MZ = x_MZ - (tl.sum(x_MZ, axis=1) / Z)[:, None]
    variance_M = tl.sum(centered_MZ * centered_MZ, axis=1) / Z
    weight_Z = tl.load(weight_ptr + channels).to(tl.float32)
    bias_Z = tl.load(bias_ptr + channels).to(tl.float32)
    return centered_MZ * tl.rsqrt(variance_M + eps)[:, None] * weight_Z[None, :] + bias_Z[None, :]


@triton.jit
def sigmoid(x):
    return 1.0 / (1.0 + tl.exp2(x * -1.4426950408889634))


@triton.jit
def linear(x_MZ, weight_ptr, bias_ptr, outputs_N, Z: tl.constexpr, BIAS: tl.constexpr):
    """Return outputs `outputs_N` of a linear layer with weight [O, Z], in float32."""
    channels = tl.arange(0, Z)
    weight_ZN = tl.load(weight_ptr + outputs_N[None, :] * Z + channels[:, None])
    y_MN = tl.dot(x_MZ, weight_ZN, input_precision="ieee")
    if BIAS:
        y_MN += tl.load(bias_ptr + outputs_N).to(tl.float32)[None, :]
    return y_MN
