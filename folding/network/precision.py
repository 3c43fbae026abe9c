"""Precision: which numbers of the network are kept in 16 bits, and which in 32 whatever is asked for.

A policy names the type of the language model and that of the trunk's blocks: their weights, the hidden states between
their layers and what their matrix products return. These stay in float32:

- the structure module, frames and atoms: positions are sums of many small turns and shifts, and one step of bfloat16
  at 50 angstrom is a quarter of an angstrom;
- recycling (its LayerNorms, the relative positions, C-beta distances): its sums start every pass, so an error there
  is fed back into all blocks;
- the average of the language model's states, and the mean embedding: sums of many terms;
- the heads (pLDDT, PAE, distogram): their softmax is what people read, and they cost less than 1 % of the time;
- rotary angles: position times frequency passes 1,000 radians, where float16 has steps of half a radian;
- the sums within softmax, LayerNorm and matrix products: torch's kernels add in float32 and round once, at the end.

The trunk is never float16: what a triangle multiplication sums over the residues passes 65,504 before its
`layer_norm_out` scales it down, and infinity there becomes NaN in every pair. bfloat16 has float32's range.
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
    """A policy. `language_model` and `trunk` are the types of their weights and hidden states."""

    name: str
    language_model: torch.dtype
    trunk: torch.dtype

    def __post_init__(self) -> None:
        if self.trunk == torch.float16:
            raise ModelError(
                f"precision {self.name!r} sets the trunk to float16, whose numbers end at 65,504: sums over the "
                "triangles of a protein pass that before they are normalised, and its structure becomes NaN; "
                "give the trunk bfloat16 or float32"
            )

    def dtype_of(self, parameter_name: str) -> torch.dtype:
        """Type of the parameter or buffer that ESMFold's state calls `parameter_name`."""
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
    # Constants of geometry are buffers too, some of them integers; the state has the floating-point ones alone.
    yield from ((name, buffer) for name, buffer in network.named_buffers() if name in network.state_dict())


FP32: Final = Precision("fp32", language_model=torch.float32, trunk=torch.float32)
BF16: Final = Precision("bf16", language_model=torch.bfloat16, trunk=torch.bfloat16)
# As ESMFold was released: the language model's weights are stored in float16, the trunk's in float32.
FP16: Final = Precision("fp16", language_model=torch.float16, trunk=torch.float32)

PRECISIONS: Final = {policy.name: policy for policy in (FP32, BF16, FP16)}


def get(name: str) -> Precision:
    """The policy called `name`. Raises ModelError for one that does not exist."""
    try:
        return PRECISIONS[name]
    except KeyError:
        raise ModelError(f"there is no precision {name!r}: give one of {', '.join(PRECISIONS)}") from None


def of(language_model: torch.dtype, trunk: torch.dtype) -> Precision:
    """The policy of a network whose parts have these types. Raises ModelError for a mixture that none describes."""
    found = Precision(f"{language_model} and {trunk}", language_model, trunk)
    for policy in PRECISIONS.values():
        if (policy.language_model, policy.trunk) == (language_model, trunk):
            return policy
    raise ModelError(f"no precision has weights of {found.name}: give one of {', '.join(PRECISIONS)}")
