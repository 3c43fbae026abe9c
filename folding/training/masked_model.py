"""ESM-2 for training: the language model with its masked-token head, on packed sequences.

The head's decoder is tied to the token embedding (Lin et al. 2023, as in RoBERTa). Logits are computed at the masked
positions only.

Shapes: N tokens of a pack, M masked positions, D channels, V = 33 tokens of the vocabulary.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foldatlas.folding.config import LanguageModelConfig
from foldatlas.folding.network.language_model import LanguageModel, Layer
from foldatlas.folding.network.segments import Segments
from foldatlas.folding.network.tokens import NUM_TOKENS
from foldatlas.folding.training.optimisers import gathered, like
from foldatlas.folding.weights import atomic_files
from foldatlas.folding.weights.fitting import CONFIG_KEY
from foldatlas.schemas.errors import ModelError

# Initial standard deviation of a matrix times the root of its number of inputs: BERT's 0.02 at BERT's width, 1,024.
# With this, nano memorised 8 sequences of 30 residues in 400 steps (perplexity 1.01), with a constant 0.02 it did not
# (3.7).
INITIAL_SCALE: Final = 0.02 * 1_024**0.5
ROTARY_BASE: Final = 10_000.0


class TiedHead(nn.Module):
    """language_heads.MaskedHead with a decoder that the caller provides."""

    def __init__(self, config: LanguageModelConfig):
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)
        self.layer_norm = nn.LayerNorm(config.width)
        self.bias = nn.Parameter(torch.zeros(NUM_TOKENS))

    def forward(self, state_MD: Tensor, embedding_VD: Tensor) -> Tensor:
        return F.linear(self.layer_norm(F.gelu(self.dense(state_MD))), embedding_VD, self.bias)


class MaskedLanguageModel(nn.Module):
    """ESM-2 with its masked-token head, for packed sequences."""

    def __init__(self, config: LanguageModelConfig, *, recomputes: bool = False):
        super().__init__()
        self.config = config
        self.esm = LanguageModel(config)
        self.lm_head = TiedHead(config)
        for layer in self.esm.layers:
            cast(Layer, layer).recomputes = recomputes

    def forward(self, tokens_N: Tensor, segments: Segments, at_M: Tensor) -> Tensor:
        """Return logits [M, 33] in float32 at the positions `at_M` of a pack."""
        state_ND = self.esm.packed_state(tokens_N, segments)
        return self.lm_head(state_ND[at_M], self.esm.embed_tokens.weight).float()

    def initialise(self, seed: int) -> None:
        """Set the initial values, which are a function of the seed and of tensor names, independent of sharding."""
        self.load({name: _initial_values(name, parameter, seed) for name, parameter in self.named_parameters()})

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Load every parameter from `tensors`, by name. Raise ModelError if one is missing or has a wrong shape."""
        for name, parameter in self.named_parameters():
            value = tensors.get(name)
            if value is None or value.shape != parameter.shape:
                found = "nothing" if value is None else f"shape {tuple(value.shape)}"
                raise ModelError(
                    f"the checkpoint has {found} for {name}, which needs {tuple(parameter.shape)}: use another folder"
                )
            with torch.no_grad():
                parameter.copy_(like(value, parameter))
        # Buffers are not in the checkpoint, and had no values on the meta device.
        self.esm.inv_freq.copy_(rotary_frequencies(self.config))

    def parameters_on_host(self, *, keep: bool = True) -> dict[str, Tensor]:
        """Return every parameter, gathered, by name. Collective: every process must call it (optimisers.gathered)."""
        return gathered(dict(self.named_parameters()), keep=keep)


def save(parameters: Mapping[str, Tensor], config: LanguageModelConfig, path: Path) -> None:
    """Write a language model to `path` atomically: `esm.*` and `lm_head.*`, with the sizes in the metadata."""
    from safetensors.torch import save_file

    state = {name: tensor.contiguous() for name, tensor in parameters.items()}
    state["esm.inv_freq"] = rotary_frequencies(config)
    temporary = atomic_files.temporary_path(path)
    save_file(state, temporary, metadata={CONFIG_KEY: json.dumps({"language_model": asdict(config)})})
    atomic_files.rename_into_place(temporary, path)


def rotary_frequencies(config: LanguageModelConfig) -> Tensor:
    """Return the rotary frequency of each pair of channels of a head, radians per token (Su et al. 2021), float32."""
    half = config.head_width // 2
    return (ROTARY_BASE ** (-torch.arange(half, dtype=torch.float64) / half)).float()


def _initial_values(name: str, parameter: Tensor, seed: int) -> Tensor:
    if parameter.dim() == 1:
        is_layer_norm_scale = name.endswith("weight")  # the only weights with one axis
        return torch.full(parameter.shape, 1.0 if is_layer_norm_scale else 0.0)
    tensor_seed = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:7], "little")
    generator = torch.Generator().manual_seed(tensor_seed)
    return torch.empty(parameter.shape).normal_(std=INITIAL_SCALE * parameter.shape[1] ** -0.5, generator=generator)
