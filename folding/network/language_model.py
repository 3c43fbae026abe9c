"""The protein language model ESM-2: a transformer over residues whose hidden states are the trunk's input.

Lin et al. 2023, supplement A.1.1: pre-LayerNorm layers with rotary position embedding (Su et al. 2021). The trunk reads
a learned average of all hidden states. It is accumulated while the layers run, so the states (37 in the 3B model) are
never all in memory.

Folding and training pack sequences of different lengths (segments.py); everything else pads them. All use the same
layers.

Shapes: B batch, T tokens (residues and the two ends), L = T - 2 residues, N tokens of a pack, S its sequences,
D channels, H heads, K head width. A pack is a batch of one: its states are [1, N, D].
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from foldatlas.folding.config import LanguageModelConfig
from foldatlas.folding.network.fp8 import Fp8Linear, Quantised, quantised
from foldatlas.folding.network.linear import Linear
from foldatlas.folding.network.segments import Segments
from foldatlas.folding.network.tokens import MASK, NUM_TOKENS, PAD
from foldatlas.folding.planning.chunks import slices

# ESM-2 was trained with 15 % of the tokens selected, 80 % of which had a zeroed embedding. Embeddings of sequences with
# another fraction of masked tokens (usually none) are scaled to the same mean magnitude ("token dropout").
TOKEN_DROPOUT_SCALE: Final = 1.0 - 0.15 * 0.8

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # query, key, value [B, H, T, K] -> attended values, same shape


class Rotation:
    """Rotary position embedding of tokens at `positions_T`, with angles in float32 for weights of any dtype.

    The frequencies are those stored with the weights: ESM-2's were rounded to half precision in training.
    """

    def __init__(self, inv_freq: Tensor, positions_T: Tensor):
        angles_TK = torch.outer(positions_T.float(), inv_freq.float()).repeat(1, 2)
        self.cos_TK = angles_TK.cos()
        self.sin_TK = angles_TK.sin()

    def __call__(self, x_BHTK: Tensor) -> Tensor:
        """Rotate each pair of channels (k, k + K/2) by its angle, in float32; return the dtype of `x_BHTK`."""
        first, second = x_BHTK.chunk(2, dim=-1)
        return (x_BHTK * self.cos_TK + torch.cat((-second, first), dim=-1) * self.sin_TK).to(x_BHTK.dtype)


class SelfAttention(nn.Module):
    """Multi-head self-attention with rotary position embedding."""

    def __init__(self, config: LanguageModelConfig):
        super().__init__()
        self.num_heads = config.num_heads
        self.scale = config.head_width**-0.5
        self.q_proj = Linear(config.width, config.width)
        self.k_proj = Linear(config.width, config.width)
        self.v_proj = Linear(config.width, config.width)
        self.out_proj = Linear(config.width, config.width)

    def forward(self, x_BTD: Tensor, rotation: Rotation, attend: Attend) -> Tensor:
        # In FP8 the three projections share the conversion of their input.
        x = quantised(x_BTD) if isinstance(self.q_proj, Fp8Linear) else x_BTD
        query, key, value = (self._heads(projection, x) for projection in (self.q_proj, self.k_proj, self.v_proj))
        # The query is scaled before the rotation, as in training; in float32 the order affects only the last bits.
        attended_BHTK = attend(rotation(query * self.scale), rotation(key), value)
        return self.out_proj(attended_BHTK.transpose(1, 2).flatten(-2))

    def probabilities(
        self, x_BTD: Tensor, rotation: Rotation, key_mask_B11T: Tensor, num_heads: int
    ) -> Iterator[Tensor]:
        """Yield attention probabilities [B, H, T, T] (query, key) in float32, of `num_heads` heads at a time.

        `forward` does not compute them: its fused kernel never materialises the map.
        """
        query, key = (self._heads(projection, x_BTD) for projection in (self.q_proj, self.k_proj))
        query, key = rotation(query * self.scale), rotation(key)
        for chunk in slices(self.num_heads, num_heads):
            logits_BHTT = query[:, chunk] @ key[:, chunk].transpose(-1, -2)
            yield logits_BHTT.masked_fill_(~key_mask_B11T, float("-inf")).softmax(dim=-1, dtype=torch.float32)

    def _heads(self, projection: nn.Module, x: Tensor | Quantised) -> Tensor:
        """Return a projection, split into heads: [B, H, T, K]."""
        projected: Tensor = projection(x)
        return projected.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class Layer(nn.Module):
    """A pre-LayerNorm transformer layer: self-attention and a two-layer feed-forward network with exact (erf) GELU.

    With `recomputes`, training stores only the layer's input and recomputes its activations for the gradients.
    """

    recomputes = False

    def __init__(self, config: LanguageModelConfig):
        super().__init__()
        self.self_attn_layer_norm = nn.LayerNorm(config.width)
        self.self_attn = SelfAttention(config)
        self.final_layer_norm = nn.LayerNorm(config.width)
        self.fc1 = Linear(config.width, config.transition_width)
        self.fc2 = Linear(config.transition_width, config.width)

    def forward(self, x_BTD: Tensor, rotation: Rotation, attend: Attend) -> Tensor:
        if self.recomputes and torch.is_grad_enabled():
            result: Tensor = checkpoint(
                self._compute, x_BTD, rotation, attend, use_reentrant=False, preserve_rng_state=False
            )
            return result
        return self._compute(x_BTD, rotation, attend)

    def _compute(self, x_BTD: Tensor, rotation: Rotation, attend: Attend) -> Tensor:
        x_BTD = x_BTD + self.self_attn(self.self_attn_layer_norm(x_BTD), rotation, attend)
        return x_BTD + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x_BTD))))


class LanguageModel(nn.Module):
    """ESM-2 without its masked-token and contact heads, which folding does not use (language_heads.py)."""

    inv_freq: Tensor

    def __init__(self, config: LanguageModelConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(NUM_TOKENS, config.width)
        self.register_buffer("inv_freq", torch.zeros(config.head_width // 2))
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.emb_layer_norm_after = nn.LayerNorm(config.width)

    def use_fp8(self) -> None:
        """Convert the weights of all linear layers to FP8 (fp8.py). Raise ModelError if a width does not allow it."""
        for layer in self.layers:
            linears = [(name, module) for name, module in layer.named_modules() if isinstance(module, nn.Linear)]
            for name, module in linears:
                layer.set_submodule(name, Fp8Linear(module))

    def forward(
        self, tokens_BT: Tensor, state_weights_N: Tensor, lengths: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the weighted sum of all hidden states, and the last one: [B, L, D] each, float32, at residues only.

        `state_weights_N` are the weights of the N = layers + 1 hidden states; the last state is after the final
        LayerNorm. With `lengths`, the number of residues of each protein, the sequences are packed if they differ from
        L, so that nothing is computed for padding. Values at padding are finite and have no meaning.
        """
        if lengths is None:
            states = self.hidden_states(tokens_BT)
        elif min(lengths) + 2 == tokens_BT.shape[1]:
            states = self.hidden_states(tokens_BT, padded=False)
        else:
            segments = Segments([length + 2 for length in lengths], tokens_BT.device)
            at_N = segments.positions_N + segments.sequence_N * tokens_BT.shape[1]
            weighted_1ND, x_1ND = weighted_sum(
                self.packed_states(tokens_BT.flatten().index_select(0, at_N), segments), state_weights_N
            )
            weighted_BTD, x_BTD = (
                state_1ND.new_zeros(tokens_BT.numel(), self.config.width)
                .index_copy(0, at_N, state_1ND.squeeze(0))
                .unflatten(0, tokens_BT.shape)
                for state_1ND in (weighted_1ND, x_1ND)
            )
            return weighted_BTD[:, 1:-1], x_BTD[:, 1:-1].float()
        weighted_BTD, x_BTD = weighted_sum(states, state_weights_N)
        return weighted_BTD[:, 1:-1], x_BTD[:, 1:-1].float()

    def hidden_states(self, tokens_BT: Tensor, *, padded: bool = True) -> Iterator[Tensor]:
        """Yield the embedding and the state after each layer, [B, T, D]; the last one after the final LayerNorm.

        `padded` False states that no token is padding: attention without a mask has faster kernels on a GPU.
        """
        rotation, key_mask_B11T = self._positions_and_mask(tokens_BT)
        mask = key_mask_B11T if padded else None
        attend = partial(F.scaled_dot_product_attention, attn_mask=mask, scale=1.0)
        return self._states(self._embed(tokens_BT), rotation, attend)

    def packed_states(self, tokens_N: Tensor, segments: Segments) -> Iterator[Tensor]:
        """Yield the same, [1, N, D], of a pack of sequences, as if each was run alone."""
        rotation = Rotation(self.inv_freq, segments.positions_N)
        is_masked_N = tokens_N == MASK
        num_masked_S = is_masked_N.new_zeros(segments.lengths_S.shape, dtype=torch.long).index_add(
            0, segments.sequence_N, is_masked_N.long()
        )
        unmasked_fraction_S = 1 - num_masked_S / segments.lengths_S
        x_1ND = self._scaled(tokens_N.unsqueeze(0), unmasked_fraction_S[segments.sequence_N].view(1, -1, 1))
        return self._states(x_1ND, rotation, segments.attend)

    def packed_state(self, tokens_N: Tensor, segments: Segments) -> Tensor:
        """Return the last hidden state [N, D] of a pack of sequences, the same as if each was run alone."""
        last_1ND = deque(self.packed_states(tokens_N, segments), maxlen=1).pop()
        return last_1ND.squeeze(0)

    def _states(self, x_BTD: Tensor, rotation: Rotation, attend: Attend) -> Iterator[Tensor]:
        yield x_BTD
        for index, layer in enumerate(self.layers, start=1):
            x_BTD = layer(x_BTD, rotation, attend)
            if index == len(self.layers):
                x_BTD = self.emb_layer_norm_after(x_BTD)
            yield x_BTD

    def attention_maps(self, tokens_BT: Tensor, num_heads: int) -> Iterator[Tensor]:
        """Yield attention probabilities [B, H, T, T], `num_heads` heads of a layer at a time, in order."""
        rotation, key_mask_B11T = self._positions_and_mask(tokens_BT)
        states = self.hidden_states(tokens_BT)
        for layer in self.layers:
            layer = cast(Layer, layer)
            x_BTD = next(states)  # the layer's input; the output of the last layer is never computed
            normal_BTD = layer.self_attn_layer_norm(x_BTD)
            yield from layer.self_attn.probabilities(normal_BTD, rotation, key_mask_B11T, num_heads)

    def _positions_and_mask(self, tokens_BT: Tensor) -> tuple[Rotation, Tensor]:
        positions_T = torch.arange(tokens_BT.shape[1], device=self.inv_freq.device)
        return Rotation(self.inv_freq, positions_T), (tokens_BT != PAD)[:, None, None, :]

    def _embed(self, tokens_BT: Tensor) -> Tensor:
        unmasked_fraction_B = 1 - (tokens_BT == MASK).sum(dim=1) / (tokens_BT != PAD).sum(dim=1)
        return self._scaled(tokens_BT, unmasked_fraction_B[:, None, None])

    def _scaled(self, tokens_BT: Tensor, unmasked_fraction_BT1: Tensor) -> Tensor:
        """Return token embeddings, zero at masks, scaled by the unmasked fraction of each token's sequence."""
        x_BTD = self.embed_tokens(tokens_BT).masked_fill((tokens_BT == MASK).unsqueeze(-1), 0)
        return x_BTD * TOKEN_DROPOUT_SCALE / unmasked_fraction_BT1.to(x_BTD.dtype)


def weighted_sum(states: Iterator[Tensor], weights_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of N states with `weights_N`, in float32, and the last state."""
    x_BTD = next(states)
    weighted_BTD = weights_N[0] * x_BTD.float()
    for index, x_BTD in enumerate(states, start=1):
        weighted_BTD = weighted_BTD + weights_N[index] * x_BTD.float()
    return weighted_BTD, x_BTD
