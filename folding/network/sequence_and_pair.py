"""What the single representation adds to the pair representation, and the pair representation to sequence attention.

Lin et al. 2023, algorithm 1. Parameter names are those of the published ESMFold.

Shapes: B batch, L residues, R rows of a chunk, C single channels, Z pair channels, H single heads, P residues padded to
a multiple of 8.
"""

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from foldatlas.folding.network.attention import attention_bias
from foldatlas.folding.network.in_place import add_updates
from foldatlas.folding.network.kernels import policy
from foldatlas.folding.network.linear import Linear, linear
from foldatlas.folding.planning.chunks import slices


class SequenceToPair(nn.Module):
    """Pair update at ij from the product q_j k_i and the difference q_j - k_i of projected single representations."""

    def __init__(self, single_width: int, pair_width: int):
        super().__init__()
        self.layernorm = nn.LayerNorm(single_width)
        self.proj = Linear(single_width, pair_width)
        self.o_proj = Linear(pair_width, pair_width)

    def forward(self, single_BLC: Tensor, pair_BLLZ: Tensor, rows: int) -> Tensor:
        """Return `pair_BLLZ` with the update added."""
        if policy.uses_kernel(policy.FROM_SEQUENCE, pair_BLLZ, single_BLC, self.o_proj.weight):
            self._add_by_kernel(single_BLC, pair_BLLZ)
            return pair_BLLZ
        return add_updates(pair_BLLZ, self._updates(single_BLC, rows))

    def _add_by_kernel(self, single_BLC: Tensor, pair_BLLZ: Tensor) -> None:
        """Add the update in place, in one launch for all rows: the kernel needs no memory of its own."""
        from foldatlas.folding.network.kernels.updates import add_sequence_update

        query, key, product_weight, from_query_BLZ, from_key_BLZ = self._projections(single_BLC)
        add_sequence_update(
            pair_BLLZ, query.contiguous(), key.contiguous(), from_query_BLZ, from_key_BLZ, product_weight
        )

    def _updates(self, single_BLC: Tensor, rows: int) -> Iterator[tuple[slice, Tensor]]:
        query, key, product_weight, from_query_BLZ, from_key_BLZ = self._projections(single_BLC)
        for chunk in slices(single_BLC.shape[1], rows):
            update_BRLZ = linear(query.unsqueeze(1) * key[:, chunk].unsqueeze(2), product_weight)
            update_BRLZ += from_query_BLZ.unsqueeze(1)
            update_BRLZ -= from_key_BLZ[:, chunk].unsqueeze(2)
            yield chunk, update_BRLZ

    def _projections(self, single_BLC: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return q and k [B, L, Z / 2], the weight of their product, and their projections for the difference."""
        query, key = self.proj(self.layernorm(single_BLC)).chunk(2, dim=-1)
        product_weight, difference_weight = self.o_proj.weight.chunk(2, dim=-1)
        # The output projection is linear, so q and k are projected before their difference is taken: L rows, not L * L.
        from_query_BLZ = F.linear(query, difference_weight, self.o_proj.bias)
        from_key_BLZ = F.linear(key, difference_weight)
        return query, key, product_weight.contiguous(), from_query_BLZ, from_key_BLZ


class PairToSequence(nn.Module):
    """Attention bias of each head of the sequence attention from the pair representation.

    Minus infinity at padded keys (network/attention.py).
    """

    def __init__(self, pair_width: int, num_heads: int):
        super().__init__()
        self.layernorm = nn.LayerNorm(pair_width)
        self.linear = Linear(pair_width, num_heads, bias=False)

    def forward(self, pair_BRLZ: Tensor, mask_BL: Tensor) -> Tensor:
        """Return the bias [B, H, R, L] from rows of the pair representation."""
        heads = self.linear.out_features
        if not policy.uses_kernel(policy.TO_SEQUENCE, pair_BRLZ, self.linear.weight, heads=heads):
            return attention_bias(self.linear(self.layernorm(pair_BRLZ)), mask_BL)
        from foldatlas.folding.network.kernels import projections

        bias_BHRP = projections.attention_bias(pair_BRLZ, self.layernorm, self.linear, mask_BL)
        return bias_BHRP[..., : mask_BL.shape[1]]
