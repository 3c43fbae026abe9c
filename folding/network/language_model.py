"""The protein language model ESM-2: a transformer over residues whose hidden states feed the folding trunk.

Lin et al. 2023, supplement A.1.1 (pre-normalised layers, rotary positions after Su et al. 2021). The trunk wants a
learned average of all hidden states; it is summed while the layers run, so that 37 states never lie in memory.

Inference pads the sequences of a batch; training packs them end to end (segments.py). Both go through the same layers.

Shapes: B batch, T tokens (residues and the two ends), L = T - 2 residues, N tokens of a pack, S its sequences,
D channels, H heads, K head width. A pack is a batch of one: its states are [1, N, D].
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from foldatlas.folding.config import LanguageModelConfig
from foldatlas.folding.network.linear import Linear
from foldatlas.folding.network.segments import Segments
from foldatlas.folding.network.tokens import MASK, NUM_TOKENS, PAD
from foldatlas.folding.planning.chunks import slices

# ESM-2 was trained with 15 % of the tokens hidden, 80 % of those by zeroing the embedding. Sequences of which another
# part is hidden (mostly none) are scaled to the same average size.
TOKEN_DROPOUT_SCALE: Final = 1.0 - 0.15 * 0.8

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # query, key, value [B, H, T, K] -> attended, the same shape


class Rotation:
    """Cosine and sine of the rotary angles of the tokens at `positions_T`, in float32 whatever the weights.

    The angles come from the frequencies stored with the weights: ESM-2's were rounded to half precision in training.
    """

    def __init__(self, inv_freq: Tensor, positions_T: Tensor):
        angles_TK = torch.outer(positions_T.float(), inv_freq.float()).repeat(1, 2)
        self.cos_TK = angles_TK.cos()
        self.sin_TK = angles_TK.sin()

    def __call__(self, x_BHTK: Tensor) -> Tensor:
        """Rotate each pair of channels (k, k + K/2) by its angle; computed in float32, returned in `x`'s type."""
        first, second = x_BHTK.chunk(2, dim=-1)
        return (x_BHTK * self.cos_TK + torch.cat((-second, first), dim=-1) * self.sin_TK).to(x_BHTK.dtype)


class SelfAttention(nn.Module):
    """Multi-head attention with rotary positions."""

    def __init__(self, config: LanguageModelConfig):
        super().__init__()
        self.num_heads = config.num_heads
        self.scale = config.head_width**-0.5
        self.q_proj = Linear(config.width, config.width)
        self.k_proj = Linear(config.width, config.width)
        self.v_proj = Linear(config.width, config.width)
        self.out_proj = Linear(config.width, config.width)

    def forward(self, x_BTD: Tensor, rotation: Rotation, attend: Attend) -> Tensor:
        query, key, value = (self._heads(projection, x_BTD) for projection in (self.q_proj, self.k_proj, self.v_proj))
        # The query is scaled before the rotation, as in training; in float32 the order changes the last bits only.
        attended_BHTK = attend(rotation(query * self.scale), rotation(key), value)
        return self.out_proj(attended_BHTK.transpose(1, 2).flatten(-2))

    def probabilities(
        self, x_BTD: Tensor, rotation: Rotation, key_mask_B11T: Tensor, num_heads: int
    ) -> Iterator[Tensor]:
        """How much each token (axis 2) attends to each other (axis 3), [B, H, T, T] in float32, `num_heads` heads at a
        time. `forward` never has it whole."""
        query, key = (self._heads(projection, x_BTD) for projection in (self.q_proj, self.k_proj))
        query, key = rotation(query * self.scale), rotation(key)
        for chunk in slices(self.num_heads, num_heads):
            logits_BHTT = query[:, chunk] @ key[:, chunk].transpose(-1, -2)
            yield logits_BHTT.masked_fill_(~key_mask_B11T, float("-inf")).softmax(dim=-1, dtype=torch.float32)

    def _heads(self, projection: nn.Linear, x_BTD: Tensor) -> Tensor:
        """A projection by heads, [B, H, T, K]."""
        return projection(x_BTD).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class Layer(nn.Module):
    """Attention and a two-layer transition with GELU (the exact one), each normalised first and added on.

    Where `recomputes` is True, training keeps the input alone and computes what is inside once more for the gradients.
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
            kept: Tensor = checkpoint(
                self._compute, x_BTD, rotation, attend, use_reentrant=False, preserve_rng_state=False
            )
            return kept
        return self._compute(x_BTD, rotation, attend)

    def _compute(self, x_BTD: Tensor, rotation: Rotation, attend: Attend) -> Tensor:
        x_BTD = x_BTD + self.self_attn(self.self_attn_layer_norm(x_BTD), rotation, attend)
        return x_BTD + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x_BTD))))


class LanguageModel(nn.Module):
    """ESM-2 without its masked-token and contact heads, which folding does not use: see language_heads.py."""

    inv_freq: Tensor

    def __init__(self, config: LanguageModelConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(NUM_TOKENS, config.width)
        self.register_buffer("inv_freq", torch.zeros(config.head_width // 2))
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.emb_layer_norm_after = nn.LayerNorm(config.width)

    def forward(self, tokens_BT: Tensor, state_weights_N: Tensor) -> tuple[Tensor, Tensor]:
        """Run all layers.

        `state_weights_N` weighs the N = layers + 1 hidden states; the last is after the final LayerNorm. Returns
        the weighted sum of the states and the last state, both [B, L, D] in float32, without the two end tokens.
        Values at padding are finite and mean nothing.
        """
        states = self.hidden_states(tokens_BT)
        x_BTD = next(states)
        weighted_BTD = state_weights_N[0] * x_BTD.float()
        for index, x_BTD in enumerate(states, start=1):
            weighted_BTD = weighted_BTD + state_weights_N[index] * x_BTD.float()
        return weighted_BTD[:, 1:-1], x_BTD[:, 1:-1].float()

    def hidden_states(self, tokens_BT: Tensor) -> Iterator[Tensor]:
        """The embedding and the state after each layer, [B, T, D], one at a time; the last after its LayerNorm."""
        rotation, key_mask_B11T = self._positions_and_mask(tokens_BT)
        attend = partial(F.scaled_dot_product_attention, attn_mask=key_mask_B11T, scale=1.0)
        x_BTD = self._embed(tokens_BT)
        yield x_BTD
        for index, layer in enumerate(self.layers, start=1):
            x_BTD = layer(x_BTD, rotation, attend)
            if index == len(self.layers):
                x_BTD = self.emb_layer_norm_after(x_BTD)
            yield x_BTD

    def packed_state(self, tokens_N: Tensor, segments: Segments) -> Tensor:
        """The last state [N, D] of sequences that lie end to end, as if each had been run alone."""
        rotation = Rotation(self.inv_freq, segments.positions_N)
        is_masked_N = tokens_N == MASK
        num_masked_S = is_masked_N.new_zeros(segments.lengths_S.shape, dtype=torch.long).index_add(
            0, segments.sequence_N, is_masked_N.long()
        )
        part_seen_S = 1 - num_masked_S / segments.lengths_S
        x_1ND = self._scaled(tokens_N.unsqueeze(0), part_seen_S[segments.sequence_N].view(1, -1, 1))
        for layer in self.layers:
            x_1ND = layer(x_1ND, rotation, segments.attend)
        return self.emb_layer_norm_after(x_1ND).squeeze(0)

    def attention_maps(self, tokens_BT: Tensor, num_heads: int) -> Iterator[Tensor]:
        """Attention probabilities, [B, H, T, T], `num_heads` heads of a layer at a time, in their order."""
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
        part_seen_B = 1 - (tokens_BT == MASK).sum(dim=1) / (tokens_BT != PAD).sum(dim=1)
        return self._scaled(tokens_BT, part_seen_B[:, None, None])

    def _scaled(self, tokens_BT: Tensor, part_seen_BT1: Tensor) -> Tensor:
        """Embeddings, zero at masks, scaled up by how much of its sequence each token sees."""
        x_BTD = self.embed_tokens(tokens_BT).masked_fill((tokens_BT == MASK).unsqueeze(-1), 0)
        return x_BTD * TOKEN_DROPOUT_SCALE / part_seen_BT1.to(x_BTD.dtype)
