"""Initial weights of the folding head.

Jumper et al. 2021, supplement 1.11.4: the last layers of residual updates are zero, so that each block is initially the
identity; gates are initially open; other layers preserve the variance of their input (LeCun), those before a ReLU
double it (He). The language model's weights are given.

Each tensor is a function of the seed and of its name, independent of the other tensors.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from foldatlas.folding.config import ESMFoldConfig
from foldatlas.folding.network.esmfold import ESMFold
from foldatlas.folding.network.layout import without_values
from foldatlas.folding.weights import fitting

# Its softplus is 1, so that the point terms of all heads have weight 1 at first (Jumper et al. 2021, algorithm 22).
_HEAD_WEIGHT: Final = math.log(math.e - 1)

_LAYER_NORM: Final = re.compile(r"(layer_?norm\w*|_norm|mlp(_seq|_pair)?\.0|esm_s_mlp\.0|lddt_head\.0)\.(weight|bias)")
_GATE: Final = re.compile(r"\.(g_proj|linear_g|linear_a_g|linear_b_g)\.(weight|bias)")
_ZERO: Final = re.compile(
    r"\.(seq_attention\.o_proj|sequence_to_pair\.o_proj|mlp_seq\.mlp\.3|mlp_pair\.mlp\.3|linear_z|mha\.linear_o"
    r"|ipa\.linear_out|transition\.layers\.\d+\.linear_3|bb_update\.linear|angle_resnet\.layers\.\d+\.linear_2)\."
    r"|^(distogram_head|ptm_head|lddt_head\.3)\."
)
_BEFORE_RELU: Final = re.compile(
    r"(mlp_seq\.mlp\.1|mlp_pair\.mlp\.1|transition\.layers\.\d+\.linear_[12]|angle_resnet\.layers\.\d+\.linear_1"
    r"|esm_s_mlp\.1)\.weight"
)


def network(config: ESMFoldConfig, language_model: Mapping[str, Tensor], seed: int) -> ESMFold:
    """Return a network of these sizes with new weights and those of `language_model`, named `esm.*`.

    Raise ModelError if the language model's weights do not fit.
    """
    with without_values():
        shapes = {name: tuple(tensor.shape) for name, tensor in ESMFold(config).state_dict().items()}
    new = {name: initial(name, shape, seed) for name, shape in shapes.items() if not name.startswith("esm.")}
    return fitting.build(config, {**new, **language_model})


def initial(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Return the initial value of the tensor `name`, float32."""
    is_bias = name.endswith(".bias")
    if _LAYER_NORM.search(name) or (_GATE.search(name) and is_bias):
        return torch.zeros(shape) if is_bias and not _GATE.search(name) else torch.ones(shape)
    if name.endswith("head_weights"):
        return torch.full(shape, _HEAD_WEIGHT)
    if is_bias or name == "esm_s_combine" or _GATE.search(name) or _ZERO.search(name):
        return torch.zeros(shape)
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    normal = torch.randn(shape, generator=torch.Generator().manual_seed(int.from_bytes(digest[:8], "little")))
    if "embed" in name or "recycle_disto" in name:
        return normal
    return normal * math.sqrt((2 if _BEFORE_RELU.search(name) else 1) / shape[1])
