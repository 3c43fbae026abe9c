"""Precision policies: which tensors of the network have 16 bits. All others are float32 under every policy.

A policy gives the dtype of the language model and of the trunk's blocks: of their weights, the hidden states between
their layers and the results of their matrix products. These parts are always float32:

- the structure module, frames and atoms: positions are sums of many small rotations and shifts, and the spacing of
  bfloat16 values at 50 angstrom is a quarter of an angstrom;
- recycling (its LayerNorms, relative positions, C-beta distances): it is the input of the next pass, so its errors
  affect every block;
- the average of the language model's states, and the mean embedding: sums of many terms;
- the heads (pLDDT, PAE, distogram): they are outputs for the user, and take less than 1 % of the time;
- rotary angles: position times frequency exceeds 1,000 radians, where the spacing of float16 values is half a radian;
- the sums within softmax, LayerNorm and matrix products: torch's kernels add in float32 and round once, at the end.

The trunk is never float16: the sum over residues in a triangle multiplication exceeds 65,504 before `layer_norm_out`
normalises it, and its infinity becomes NaN in every pair. bfloat16 has the range of float32.

The policy `fp8` is `bf16` with the matrix products of the language model's linear layers in 8 bits (fp8.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn

from foldatlas.schemas.errors import ModelError

_LANGUAGE_MODEL: Final = "esm."
_ROTARY_FREQUENCIES: Final = "esm.inv_freq"
_BLOCKS: Final = "trunk.blocks."


@dataclass(frozen=True, slots=True)
class Precision:
    """A policy: the dtypes of weights and hidden states of the language model and of the trunk's blocks."""

    name: str
    language_model: torch.dtype
    trunk: torch.dtype
    fp8_products: bool = False  # of the language model's linear layers (fp8.py), after a conversion to `language_model`

    def __post_init__(self) -> None:
        if self.trunk == torch.float16:
            raise ModelError(
                f"precision {self.name!r} sets the trunk to float16, whose largest number is 65,504: sums of triangle "
                "multiplication exceed it before they are normalised, and the structure becomes NaN; use bfloat16 or "
                "float32 for the trunk"
            )

    def dtype_of(self, parameter_name: str) -> torch.dtype:
        """Return the dtype of the parameter or buffer `parameter_name` of ESMFold's state dict."""
        if parameter_name == _ROTARY_FREQUENCIES:
            return torch.float32
        if parameter_name.startswith(_LANGUAGE_MODEL):
            return self.language_model
        return self.trunk if parameter_name.startswith(_BLOCKS) else torch.float32

    def apply(self, network: nn.Module) -> None:
        """Convert the weights of an ESMFold, in place."""
        for name, tensor in _tensors(network):
            tensor.data = tensor.data.to(self.dtype_of(name))


def _tensors(network: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from network.named_parameters()
    # The constants of ideal geometry are buffers too, but not part of the state dict.
    yield from ((name, buffer) for name, buffer in network.named_buffers() if name in network.state_dict())


FP32: Final = Precision("fp32", language_model=torch.float32, trunk=torch.float32)
BF16: Final = Precision("bf16", language_model=torch.bfloat16, trunk=torch.bfloat16)
FP8: Final = Precision("fp8", language_model=torch.bfloat16, trunk=torch.bfloat16, fp8_products=True)
# As ESMFold was released: weights of the language model in float16, of the trunk in float32.
FP16: Final = Precision("fp16", language_model=torch.float16, trunk=torch.float32)

PRECISIONS: Final = {policy.name: policy for policy in (FP32, BF16, FP16, FP8)}


def get(name: str) -> Precision:
    """Return the policy `name`. Raise ModelError if there is none of this name."""
    try:
        return PRECISIONS[name]
    except KeyError:
        raise ModelError(f"unknown precision {name!r}: use one of {', '.join(PRECISIONS)}") from None


def of(language_model: torch.dtype, trunk: torch.dtype) -> Precision:
    """Return the policy with these dtypes, without FP8. Raise ModelError if there is none."""
    found = Precision(f"{language_model} and {trunk}", language_model, trunk)
    for policy in PRECISIONS.values():
        if (policy.language_model, policy.trunk) == (language_model, trunk):
            return policy
    raise ModelError(f"no precision has weights of {found.name}: use one of {', '.join(PRECISIONS)}")
