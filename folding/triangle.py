"""Updates of a pair representation from triangles of residues.

Jumper et al. 2021, algorithms 11 to 14. Valid pairs never see padding: the residue that closes the triangle is
masked, and what is computed for padded pairs is finite and unused.

Shapes: B batch, L residues, Z pair channels, H heads, K head width. In letters of a pair, i and j are its
residues, k the third of the triangle.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foldatlas.folding.attention import attention_bias


class TriangleMultiplication(nn.Module):
    """Algorithm 11 (outgoing: sum over k of a_ik b_jk) or 12 (incoming: sum over k of a_ki b_kj), per channel."""

    def __init__(self, pair_width: int, *, outgoing: bool):
        super().__init__()
        self.outgoing = outgoing
        self.layer_norm_in = nn.LayerNorm(pair_width)
        self.linear_a_p = nn.Linear(pair_width, pair_width)
        self.linear_a_g = nn.Linear(pair_width, pair_width)
        self.linear_b_p = nn.Linear(pair_width, pair_width)
        self.linear_b_g = nn.Linear(pair_width, pair_width)
        self.linear_g = nn.Linear(pair_width, pair_width)
        self.layer_norm_out = nn.LayerNorm(pair_width)
        self.linear_z = nn.Linear(pair_width, pair_width)

    def forward(self, pair_BLLZ: Tensor, mask_BL: Tensor) -> Tensor:
        """The update of `pair_BLLZ`, to be added to it."""
        pair_BLLZ = self.layer_norm_in(pair_BLLZ)
        a_BLLZ = self.linear_a_g(pair_BLLZ).sigmoid() * self.linear_a_p(pair_BLLZ)
        b_BLLZ = self.linear_b_g(pair_BLLZ).sigmoid() * self.linear_b_p(pair_BLLZ)
        # Channels first, for one matrix product a channel. Masking k in one factor is enough: the other is finite.
        a_BZLL, b_BZLL = a_BLLZ.permute(0, 3, 1, 2), b_BLLZ.permute(0, 3, 1, 2)
        if self.outgoing:
            product_BZLL = (a_BZLL * mask_BL[:, None, None, :]) @ b_BZLL.transpose(-1, -2)
        else:
            product_BZLL = (a_BZLL * mask_BL[:, None, :, None]).transpose(-1, -2) @ b_BZLL
        update_BLLZ = self.linear_z(self.layer_norm_out(product_BZLL.permute(0, 2, 3, 1)))
        return self.linear_g(pair_BLLZ).sigmoid() * update_BLLZ


class GatedAttention(nn.Module):
    """Multi-head attention along the last residue axis of a pair representation, with a sigmoid gate."""

    def __init__(self, pair_width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.linear_q = nn.Linear(pair_width, pair_width, bias=False)
        self.linear_k = nn.Linear(pair_width, pair_width, bias=False)
        self.linear_v = nn.Linear(pair_width, pair_width, bias=False)
        self.linear_g = nn.Linear(pair_width, pair_width)
        self.linear_o = nn.Linear(pair_width, pair_width)

    def forward(self, pair_BLLZ: Tensor, bias_BHLL: Tensor) -> Tensor:
        attended_BLLZ = self._attend(pair_BLLZ, bias_BHLL)
        return self.linear_o(self.linear_g(pair_BLLZ).sigmoid() * attended_BLLZ)

    def _attend(self, pair_BLLZ: Tensor, bias_BHLL: Tensor) -> Tensor:
        query, key, value = (
            projection(pair_BLLZ).unflatten(-1, (self.num_heads, -1)).transpose(-2, -3)
            for projection in (self.linear_q, self.linear_k, self.linear_v)
        )
        # All rows i of one protein share its bias. One call a protein keeps that a broadcast: a call for the whole
        # batch would need the bias repeated L times, as large as the attention logits it avoids. The bias has four
        # axes because torch's fused kernel takes no fewer: without it this is 4 times slower.
        attended = [
            F.scaled_dot_product_attention(*of_protein)
            for of_protein in zip(query, key, value, bias_BHLL.unsqueeze(1), strict=True)
        ]
        return torch.stack(attended).transpose(-2, -3).flatten(-2)


class TriangleAttention(nn.Module):
    """Algorithm 13 (around the starting residue: ij attends to ik) or 14 (around the ending one: ij to kj).

    The ending one is the starting one on the transposed pair representation.
    """

    def __init__(self, pair_width: int, num_heads: int, *, starting: bool):
        super().__init__()
        self.starting = starting
        self.layer_norm = nn.LayerNorm(pair_width)
        self.linear = nn.Linear(pair_width, num_heads, bias=False)
        self.mha = GatedAttention(pair_width, num_heads)

    def forward(self, pair_BLLZ: Tensor, mask_BL: Tensor) -> Tensor:
        """The update of `pair_BLLZ`, to be added to it."""
        if not self.starting:
            pair_BLLZ = pair_BLLZ.transpose(1, 2)
        pair_BLLZ = self.layer_norm(pair_BLLZ)
        update_BLLZ = self.mha(pair_BLLZ, attention_bias(self.linear(pair_BLLZ), mask_BL))
        return update_BLLZ if self.starting else update_BLLZ.transpose(1, 2)
