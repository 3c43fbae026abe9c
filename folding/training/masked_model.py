"""ESM-2 as it is trained: the language model with its masked-token head, on packed sequences.

The head's decoder is the token embedding (Lin et al. 2023, as RoBERTa), so the network has one tensor for both. Logits
are computed where they are asked for alone.

Shapes: N tokens of a pack, M of them asked for, D channels.
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
from foldatlas.folding.training.optimisers import like, whole
from foldatlas.folding.weights import atomic_files
from foldatlas.folding.weights.fitting import CONFIG_KEY
from foldatlas.schemas.errors import ModelError

# Standard deviation of a matrix at first, times the root of its inputs: BERT's 0.02 at BERT's width, 1,024. So `nano`
# learnt 8 sequences of 30 residues by heart in 400 steps (perplexity 1.01), with 0.02 itself not (3.7).
INITIAL_SCALE: Final = 0.02 * 1_024**0.5
ROTARY_BASE: Final = 10_000.0


class TiedHead(nn.Module):
    """language_heads.MaskedHead, its decoder given by the caller."""

    def __init__(self, config: LanguageModelConfig):
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)
        self.layer_norm = nn.LayerNorm(config.width)
        self.bias = nn.Parameter(torch.zeros(NUM_TOKENS))

    def forward(self, state_MD: Tensor, embedding_VD: Tensor) -> Tensor:
        return F.linear(self.layer_norm(F.gelu(self.dense(state_MD))), embedding_VD, self.bias)


class MaskedLanguageModel(nn.Module):
    """Logits of the 33 tokens at places of packed sequences."""

    def __init__(self, config: LanguageModelConfig, *, recomputes: bool = False):
        super().__init__()
        self.config = config
        self.esm = LanguageModel(config)
        self.lm_head = TiedHead(config)
        for layer in self.esm.layers:
            cast(Layer, layer).recomputes = recomputes

    def forward(self, tokens_N: Tensor, segments: Segments, at_M: Tensor) -> Tensor:
        """Logits [M, 33] in float32 of tokens `at_M` of a pack."""
        state_ND = self.esm.packed_state(tokens_N, segments)
        return self.lm_head(state_ND[at_M], self.esm.embed_tokens.weight).float()

    def initialise(self, seed: int) -> None:
        """First values: a function of the seed and a tensor's name, however the network is cut over processes."""
        self.load({name: _first_values(name, parameter, seed) for name, parameter in self.named_parameters()})

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes up every parameter from `tensors`, by name. Raises ModelError where one is missing or does not fit."""
        for name, parameter in self.named_parameters():
            value = tensors.get(name)
            if value is None or value.shape != parameter.shape:
                found = "nothing" if value is None else f"shape {tuple(value.shape)}"
                raise ModelError(f"the checkpoint has {found} for {name}, which needs {tuple(parameter.shape)}")
            with torch.no_grad():
                parameter.copy_(like(value, parameter))
        # Buffers are made, not learnt; on the meta device they had no values.
        self.esm.inv_freq.copy_(rotary_frequencies(self.config))

    def parameters_on_host(self, *, keep: bool = True) -> dict[str, Tensor]:
        """Every parameter, whole, by name; all processes of a run must call it together (optimisers.whole)."""
        return whole(dict(self.named_parameters()), keep=keep)


def save(parameters: Mapping[str, Tensor], config: LanguageModelConfig, path: Path) -> None:
    """Write a language model's file, whole or not at all: `esm.*`, `lm_head.*`, the sizes in its metadata."""
    from safetensors.torch import save_file

    state = {name: tensor.contiguous() for name, tensor in parameters.items()}
    state["esm.inv_freq"] = rotary_frequencies(config)
    written = atomic_files.temporary_path(path)
    save_file(state, written, metadata={CONFIG_KEY: json.dumps({"language_model": asdict(config)})})
    atomic_files.rename_into_place(written, path)


def rotary_frequencies(config: LanguageModelConfig) -> Tensor:
    """Radians a token for each pair of channels of a head (Su et al. 2021), float32."""
    half = config.head_width // 2
    return (ROTARY_BASE ** (-torch.arange(half, dtype=torch.float64) / half)).float()


def _first_values(name: str, parameter: Tensor, seed: int) -> Tensor:
    if parameter.dim() == 1:
        is_layer_norm_scale = name.endswith("weight")  # of the tensors with one axis, these alone
        return torch.full(parameter.shape, 1.0 if is_layer_norm_scale else 0.0)
    of_name = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:7], "little")
    generator = torch.Generator().manual_seed(of_name)
    return torch.empty(parameter.shape).normal_(std=INITIAL_SCALE * parameter.shape[1] ** -0.5, generator=generator)
