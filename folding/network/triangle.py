"""Triangle multiplication and triangle attention: updates of the pair representation.

Jumper et al. 2021, algorithms 11 to 14. Padding does not affect pairs of residues: the third residue of the triangle is
masked, and results at padded pairs are finite and unused. Updates are added `rows` rows of the pair representation at a
time, in place (planning/chunks.py). The incoming and ending updates are the outgoing and starting updates of the
transposed pair representation, which is a view, so nothing is copied.

Shapes: B batch, L residues, R rows of a chunk, Z pair channels, H heads, K head width. i and j are the residues of a
pair, k is the third residue of a triangle.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from foldatlas.folding.network.attention import attention_along_rows, attention_bias
from foldatlas.folding.network.in_place import add_updates, joined, multiply, needs_gradient
from foldatlas.folding.network.kernels import policy
from foldatlas.folding.network.linear import Linear, linear, products
from foldatlas.folding.planning.chunks import largest_slice, slices

_Layers = tuple[nn.Linear, nn.Linear]  # projections of the value and of its gate


class TriangleMultiplication(nn.Module):
    """Algorithm 11 (outgoing: sum over k of a_ik b_jk) or 12 (incoming: sum over k of a_ki b_kj), per channel.

    On the transposed pair representation, the incoming sum is the outgoing one with a and b exchanged.
    """

    def __init__(self, pair_width: int, *, outgoing: bool):
        super().__init__()
        self.outgoing = outgoing
        self.layer_norm_in = nn.LayerNorm(pair_width)
        self.linear_a_p = Linear(pair_width, pair_width)
        self.linear_a_g = Linear(pair_width, pair_width)
        self.linear_b_p = Linear(pair_width, pair_width)
        self.linear_b_g = Linear(pair_width, pair_width)
        self.linear_g = Linear(pair_width, pair_width)
        self.layer_norm_out = nn.LayerNorm(pair_width)
        self.linear_z = Linear(pair_width, pair_width)

    def forward(self, pair_BLLZ: Tensor, mask_BL: Tensor, rows: int) -> Tensor:
        """Return `pair_BLLZ` with the update added."""
        a, b = (self.linear_a_p, self.linear_a_g), (self.linear_b_p, self.linear_b_g)
        if policy.uses_kernel(policy.MULTIPLICATION, pair_BLLZ, self.linear_z.weight):
            first, second = (a, b) if self.outgoing else (b, a)
            self._add_by_kernels(
                pair_BLLZ if self.outgoing else pair_BLLZ.transpose(1, 2), mask_BL, rows, first, second
            )
            return pair_BLLZ
        if self.outgoing:
            return add_updates(pair_BLLZ, self._updates(pair_BLLZ, mask_BL, rows, a, b))
        transposed_BLLZ = pair_BLLZ.transpose(1, 2)
        return add_updates(transposed_BLLZ, self._updates(transposed_BLLZ, mask_BL, rows, b, a)).transpose(1, 2)

    def _updates(
        self, pair_BLLZ: Tensor, mask_BL: Tensor, rows: int, first: _Layers, second: _Layers
    ) -> Iterator[tuple[slice, Tensor]]:
        """Yield the update of each chunk of rows. Adding it does not change the input of later chunks."""
        length = mask_BL.shape[1]
        # The second factor is needed for all rows, the first only for the rows of the chunk. Masking k in one factor
        # is enough, because the other is finite.
        second_ZBLL = joined(
            (
                multiply(_factor(self.layer_norm_in(pair_BLLZ[:, chunk]), *second), mask_BL.unsqueeze(1))
                for chunk in slices(length, rows)
            ),
            length,
            axis=2,
        )
        for chunk in slices(length, rows):
            normal_BRLZ = self.layer_norm_in(pair_BLLZ[:, chunk])
            product_ZBRL = _products(_factor(normal_BRLZ, *first), second_ZBLL)
            # Transposed as a matrix: torch copies any other permutation number by number, 5 times as slowly.
            product_BRLZ = product_ZBRL.flatten(1).t().contiguous().view_as(normal_BRLZ)
            yield chunk, self.linear_z.times(self.layer_norm_out(product_BRLZ), self.linear_g.sigmoid(normal_BRLZ))

    def _add_by_kernels(self, pair_BLLZ: Tensor, mask_BL: Tensor, rows: int, first: _Layers, second: _Layers) -> None:
        """Add the update in place, by the kernels for LayerNorm, projections and gates and torch's matrix product."""
        from foldatlas.folding.network.kernels import projections, updates

        length = mask_BL.shape[1]
        if rows < length:
            second_ZBLP, _ = projections.factors(pair_BLLZ, mask_BL, self.layer_norm_in, second)
        for chunk in slices(length, rows):
            pair_BRLZ = pair_BLLZ[:, chunk]
            if rows < length:
                first_ZBRP, _ = projections.factors(pair_BRLZ, mask_BL, self.layer_norm_in, first)
            else:
                first_ZBRP, second_ZBLP = projections.factors(pair_BRLZ, mask_BL, self.layer_norm_in, first, second)
            product_ZBRL = _products(first_ZBRP, second_ZBLP)
            updates.add_multiplication_update(
                pair_BRLZ, product_ZBRL, self.layer_norm_in, self.linear_g, self.layer_norm_out, self.linear_z
            )


def _factor(normal_BRLZ: Tensor, value: nn.Linear, gate: nn.Linear) -> Tensor:
    """Return the gated projection [Z, B, R, L].

    The product of each channel needs the channels first. Multiplying the weights by the transposed pairs, not the pairs
    by the weights, gives this layout without a copy.
    """
    pairs_NZ = normal_BRLZ.flatten(0, 2)
    value_ZN = linear(value.weight, pairs_NZ).add_(value.bias.unsqueeze(1))
    gate_ZN = linear(gate.weight, pairs_NZ).add_(gate.bias.unsqueeze(1)).sigmoid_()
    return multiply(value_ZN, gate_ZN).unflatten(1, normal_BRLZ.shape[:3])


def _products(first_ZBRL: Tensor, second_ZBLL: Tensor) -> Tensor:
    """Return the sum over k of first_ik second_jk, [Z, B, R, L]."""
    first, second = first_ZBRL.flatten(0, 1), second_ZBLL.flatten(0, 1)
    parts = [products(first[c], second[c]) for c in slices(len(second), largest_slice(second[0].numel()))]
    product = parts[0] if len(parts) == 1 else torch.cat(parts)
    return product.unflatten(0, first_ZBRL.shape[:2])


class GatedAttention(nn.Module):
    """Multi-head attention along the last residue axis of a pair representation, with a sigmoid gate."""

    def __init__(self, pair_width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.linear_q = Linear(pair_width, pair_width, bias=False)
        self.linear_k = Linear(pair_width, pair_width, bias=False)
        self.linear_v = Linear(pair_width, pair_width, bias=False)
        self.linear_g = Linear(pair_width, pair_width)
        self.linear_o = Linear(pair_width, pair_width)

    def forward(self, pair_BRLZ: Tensor, bias_BHLL: Tensor) -> Tensor:
        query, key, value = (
            projection(pair_BRLZ).unflatten(-1, (self.num_heads, -1)).transpose(-2, -3)
            for projection in (self.linear_q, self.linear_k, self.linear_v)
        )
        gate_BRLZ = self.linear_g.sigmoid(pair_BRLZ)
        # All rows i of a protein share its bias. With one call per protein it is broadcast; a call for the whole batch
        # would need it repeated R times, which is as large as the attention logits.
        gated = [
            multiply(gate_RLZ, attention_along_rows(*inputs))
            for gate_RLZ, *inputs in zip(gate_BRLZ, query, key, value, bias_BHLL, strict=True)
        ]
        return self.linear_o(torch.stack(gated) if needs_gradient(*gated) else gate_BRLZ)


class TriangleAttention(nn.Module):
    """Algorithm 13 (around the starting residue: ij attends to ik) or 14 (around the ending one: ij to kj).

    Attention around the ending residue is attention around the starting one of the transposed pair representation.
    """

    def __init__(self, pair_width: int, num_heads: int, *, starting: bool):
        super().__init__()
        self.starting = starting
        self.layer_norm = nn.LayerNorm(pair_width)
        self.linear = Linear(pair_width, num_heads, bias=False)
        self.mha = GatedAttention(pair_width, num_heads)

    def forward(self, pair_BLLZ: Tensor, mask_BL: Tensor, rows: int) -> Tensor:
        """Return `pair_BLLZ` with the update added."""
        if policy.uses_kernel(policy.ATTENTION, pair_BLLZ, self.mha.linear_o.weight, heads=self.mha.num_heads):
            self._add_by_kernels(pair_BLLZ if self.starting else pair_BLLZ.transpose(1, 2), mask_BL, rows)
            return pair_BLLZ
        if self.starting:
            return add_updates(pair_BLLZ, self._updates(pair_BLLZ, mask_BL, rows))
        transposed_BLLZ = pair_BLLZ.transpose(1, 2)
        return add_updates(transposed_BLLZ, self._updates(transposed_BLLZ, mask_BL, rows)).transpose(1, 2)

    def _updates(self, pair_BLLZ: Tensor, mask_BL: Tensor, rows: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield the update of each chunk of rows."""
        chunks = list(slices(mask_BL.shape[1], rows))
        bias_BHLL = joined(
            (attention_bias(self.linear(self.layer_norm(pair_BLLZ[:, chunk])), mask_BL) for chunk in chunks),
            mask_BL.shape[1],
            axis=2,
        )
        for chunk in chunks:
            yield chunk, self.mha(self.layer_norm(pair_BLLZ[:, chunk]), bias_BHLL)

    def _add_by_kernels(self, pair_BLLZ: Tensor, mask_BL: Tensor, rows: int) -> None:
        """Add the update in place."""
        from foldatlas.folding.network.kernels import attention, projections, updates

        mha = self.mha
        layers = (mha.linear_q, mha.linear_k, mha.linear_v, mha.linear_g)
        bias_BHLP = projections.attention_bias(pair_BLLZ, self.layer_norm, self.linear)
        for chunk in slices(mask_BL.shape[1], rows):
            pair_BRLZ = pair_BLLZ[:, chunk]
            projected_BRL4HK = projections.attention_projections(pair_BRLZ, self.layer_norm, layers, mha.num_heads)
            attended_BRLZ = attention.attention(projected_BRL4HK, bias_BHLP, mask_BL)
            updates.add_attention_update(pair_BRLZ, attended_BRLZ, mha.linear_o)
