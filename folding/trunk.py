"""The folding trunk: blocks that update a single and a pair representation, recycled several times.

Lin et al. 2023, supplement A.3 and algorithm 1 (the block); Jumper et al. 2021, algorithms 4 (relative position)
and 32 (recycling). Parameter names are those of the released ESMFold.

The pair representation is one tensor that all updates change in place, `rows` rows at a time (chunks.py).

Shapes: B batch, L residues, R rows of a chunk, C single channels, Z pair channels, H single heads, K head width.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foldatlas.folding.attention import attention_bias
from foldatlas.folding.chunks import slices
from foldatlas.folding.config import ESMFoldConfig, TrunkConfig
from foldatlas.folding.linear import Linear, linear
from foldatlas.folding.rigid import Rigid
from foldatlas.folding.structure_module import StructureModule
from foldatlas.folding.triangle import TriangleAttention, TriangleMultiplication

# Distances between C-betas of the pass before are recycled in 15 bins: edges from 3.375 to 21.375 angstrom.
NUM_DISTANCE_BINS: Final = 15
FIRST_DISTANCE_EDGE: Final = 3.375
LAST_DISTANCE_EDGE: Final = 21.375

# Ideal C-beta of any residue from its backbone: coefficients of (CA - N) x (C - CA), CA - N and C - CA.
C_BETA_COEFFICIENTS: Final = (-0.58273431, 0.56802827, -0.54067466)


class SequenceAttention(nn.Module):
    """Gated self-attention over residues, biased by the pair representation."""

    def __init__(self, config: TrunkConfig):
        super().__init__()
        width = config.single_width
        self.num_heads = config.num_single_heads
        self.proj = Linear(width, 3 * width, bias=False)
        self.g_proj = Linear(width, width)
        self.o_proj = Linear(width, width)

    def forward(self, single_BLC: Tensor, bias_chunks_BHRL: Iterable[Tensor]) -> Tensor:
        """The update of `single_BLC`; the bias comes in chunks of consecutive queries."""
        # The rows of `proj` are grouped by head: query, key and value of the first head, then of the next.
        qkv_BHLK = self.proj(single_BLC).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        query, key, value = qkv_BHLK.chunk(3, dim=-1)
        gated_BLC = self.g_proj(single_BLC).sigmoid_()
        done = 0
        for bias_BHRL in bias_chunks_BHRL:
            chunk = slice(done, done + bias_BHRL.shape[2])
            attended = F.scaled_dot_product_attention(query[:, :, chunk], key, value, attn_mask=bias_BHRL)
            gated_BLC[:, chunk] *= attended.transpose(1, 2).flatten(-2)
            done = chunk.stop
        return self.o_proj(gated_BLC)


class SequenceToPair(nn.Module):
    """Pair update ij from products q_j k_i and differences q_j - k_i of projections of the single representation."""

    def __init__(self, single_width: int, pair_width: int):
        super().__init__()
        self.layernorm = nn.LayerNorm(single_width)
        self.proj = Linear(single_width, pair_width)
        self.o_proj = Linear(pair_width, pair_width)

    def forward(self, single_BLC: Tensor, pair_BLLZ: Tensor, rows: int) -> None:
        """Add the update to `pair_BLLZ`."""
        query, key = self.proj(self.layernorm(single_BLC)).chunk(2, dim=-1)
        of_product, of_difference = self.o_proj.weight.chunk(2, dim=-1)
        # The output projection is linear: that of the difference is taken for q and k apart, L rows instead of L * L.
        of_product = of_product.contiguous()
        from_query_BLZ = F.linear(query, of_difference, self.o_proj.bias)
        from_key_BLZ = F.linear(key, of_difference)
        for chunk in slices(single_BLC.shape[1], rows):
            update_BRLZ = linear(query.unsqueeze(1) * key[:, chunk].unsqueeze(2), of_product)
            update_BRLZ += from_query_BLZ.unsqueeze(1)
            update_BRLZ -= from_key_BLZ[:, chunk].unsqueeze(2)
            pair_BLLZ[:, chunk] += update_BRLZ


class PairToSequence(nn.Module):
    """Attention bias of each single head, [B, R, L, H], from rows of the pair representation."""

    def __init__(self, pair_width: int, num_heads: int):
        super().__init__()
        self.layernorm = nn.LayerNorm(pair_width)
        self.linear = Linear(pair_width, num_heads, bias=False)

    def forward(self, pair_BRLZ: Tensor) -> Tensor:
        return self.linear(self.layernorm(pair_BRLZ))


class Transition(nn.Module):
    """Two layers, four times wider between, on each residue or pair. Returns the update, to be added."""

    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.LayerNorm(width), Linear(width, 4 * width), nn.ReLU(), Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        normalise, wide, _, narrow = self.mlp
        return narrow(linear(normalise(x), cast(Linear, wide).weight, cast(Linear, wide).bias, relu=True))


class Block(nn.Module):
    """One round of updates: single from pair, pair from single, then pair from triangles."""

    def __init__(self, config: TrunkConfig):
        super().__init__()
        single_width, pair_width, num_pair_heads = config.single_width, config.pair_width, config.num_pair_heads
        self.pair_to_sequence = PairToSequence(pair_width, config.num_single_heads)
        self.layernorm_1 = nn.LayerNorm(single_width)
        self.seq_attention = SequenceAttention(config)
        self.mlp_seq = Transition(single_width)
        self.sequence_to_pair = SequenceToPair(single_width, pair_width)
        self.tri_mul_out = TriangleMultiplication(pair_width, outgoing=True)
        self.tri_mul_in = TriangleMultiplication(pair_width, outgoing=False)
        self.tri_att_start = TriangleAttention(pair_width, num_pair_heads, starting=True)
        self.tri_att_end = TriangleAttention(pair_width, num_pair_heads, starting=False)
        self.mlp_pair = Transition(pair_width)

    def forward(self, single_BLC: Tensor, pair_BLLZ: Tensor, mask_BL: Tensor, rows: int) -> Tensor:
        """The new single representation; `pair_BLLZ` is updated in place."""
        chunks = list(slices(mask_BL.shape[1], rows))
        bias_chunks_BHRL = (attention_bias(self.pair_to_sequence(pair_BLLZ[:, chunk]), mask_BL) for chunk in chunks)
        single_BLC = single_BLC + self.seq_attention(self.layernorm_1(single_BLC), bias_chunks_BHRL)
        single_BLC = single_BLC + self.mlp_seq(single_BLC)

        self.sequence_to_pair(single_BLC, pair_BLLZ, rows)
        self.tri_mul_out(pair_BLLZ, mask_BL, rows)
        self.tri_mul_in(pair_BLLZ, mask_BL, rows)
        self.tri_att_start(pair_BLLZ, mask_BL, rows)
        self.tri_att_end(pair_BLLZ, mask_BL, rows)
        for chunk in chunks:
            pair_BLLZ[:, chunk] += self.mlp_pair(pair_BLLZ[:, chunk])
        return single_BLC


class RelativePosition(nn.Module):
    """A learned vector for each pair's clamped distance along the chain.

    Row 0 of the table was trained for padded pairs. Nothing ever reads those, so they are not looked up here.
    """

    def __init__(self, config: TrunkConfig):
        super().__init__()
        self.max_distance = config.max_relative_position
        self.embedding = nn.Embedding(2 * self.max_distance + 2, config.pair_width)

    def forward(self, length: int, chunk: slice, residue_index_BL: Tensor | None = None) -> Tensor:
        """Embedding [R, L, Z] of the rows i in `chunk`, at ij that of j - i.

        With residue indices [B, R, L, Z], of the difference of these.
        """
        if residue_index_BL is None:
            residue_index_BL = torch.arange(length, device=self.embedding.weight.device)
        distance_BRL = residue_index_BL.unsqueeze(-2) - residue_index_BL[..., chunk].unsqueeze(-1)
        return self.embedding(distance_BRL.clamp(-self.max_distance, self.max_distance) + self.max_distance + 1)


@dataclass(frozen=True, slots=True)
class TrunkOutput:
    """What the last pass leaves: the pair representation and what the structure module made of it."""

    pair_BLLZ: Tensor
    backbone: Rigid  # of each residue, translation in angstrom
    state_BLC: Tensor  # the structure module's single representation, after its last iteration
    initial_state_BLC: Tensor  # and before its first


class FoldingTrunk(nn.Module):
    """All blocks and the structure module, run `recycles` + 1 times."""

    def __init__(self, config: ESMFoldConfig):
        super().__init__()
        trunk, structure = config.trunk, config.structure_module
        self.pairwise_positional_embedding = RelativePosition(trunk)
        self.blocks = nn.ModuleList(Block(trunk) for _ in range(trunk.num_blocks))
        self.recycle_s_norm = nn.LayerNorm(trunk.single_width)
        self.recycle_z_norm = nn.LayerNorm(trunk.pair_width)
        self.recycle_disto = nn.Embedding(NUM_DISTANCE_BINS, trunk.pair_width)
        self.trunk2sm_s = Linear(trunk.single_width, structure.single_width)
        self.trunk2sm_z = Linear(trunk.pair_width, structure.pair_width)
        self.structure_module = StructureModule(structure)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the blocks' weights and of the representations between them; all else is float32."""
        return cast(Block, self.blocks[0]).seq_attention.proj.weight.dtype

    def forward(
        self,
        initial_single_BLC: Tensor,
        aatype_BL: Tensor,
        mask_BL: Tensor,
        recycles: int,
        rows: int,
        residue_index_BL: Tensor | None = None,
    ) -> TrunkOutput:
        """Refine `initial_single_BLC` (the initial pair representation is zero) into frames of residues.

        `rows` of the pair representation are worked on at a time: fewer take less memory. `residue_index_BL` is what
        relative positions count by; None means the place in the sequence.
        """
        num_proteins, length = aatype_BL.shape
        pair_BLLZ = initial_single_BLC.new_empty(
            num_proteins, length, length, self.recycle_z_norm.weight.shape[0], dtype=self.dtype
        )
        # Before the first pass the recycled representations are zero, which LayerNorm turns into its bias, and all
        # distances lie in bin 0, whose vector is trained like the others.
        single_BLC = initial_single_BLC + self.recycle_s_norm.bias
        start_Z = self.recycle_z_norm.bias + self.recycle_disto.weight[0]
        for chunk in slices(length, rows):
            pair_BLLZ[:, chunk] = self.pairwise_positional_embedding(length, chunk, residue_index_BL) + start_Z
        for recycle in range(recycles + 1):
            single_BLC = single_BLC.to(self.dtype)
            for block in self.blocks:
                single_BLC = block(single_BLC, pair_BLLZ, mask_BL, rows)
            single_BLC = single_BLC.float()
            backbone, state_BLC, initial_state_BLC = self.structure_module(
                self.trunk2sm_s(single_BLC), self._structure_pair(pair_BLLZ, rows), mask_BL, rows
            )
            if recycle < recycles:
                single_BLC = initial_single_BLC + self.recycle_s_norm(single_BLC)
                beta_BL3 = ideal_beta(self.structure_module.recycled_backbone(backbone, aatype_BL))
                self._recycle_pair(pair_BLLZ, beta_BL3, rows, residue_index_BL)
        return TrunkOutput(pair_BLLZ, backbone, state_BLC, initial_state_BLC)

    def _structure_pair(self, pair_BLLZ: Tensor, rows: int) -> Tensor:
        """The pair representation that the structure module reads, float32."""
        structure_BLLZ = pair_BLLZ.new_empty(*pair_BLLZ.shape[:3], self.trunk2sm_z.weight.shape[0], dtype=torch.float32)
        for chunk in slices(pair_BLLZ.shape[1], rows):
            projected_BRLZ = self.trunk2sm_z(pair_BLLZ[:, chunk].float())
            structure_BLLZ[:, chunk] = self.structure_module.layer_norm_z(projected_BRLZ)
        return structure_BLLZ

    def _recycle_pair(self, pair_BLLZ: Tensor, beta_BL3: Tensor, rows: int, residue_index_BL: Tensor | None) -> None:
        """Turn the pair representation after one pass into that before the next, in place."""
        length = pair_BLLZ.shape[1]
        for chunk in slices(length, rows):
            recycled_BRLZ = self.recycle_z_norm(pair_BLLZ[:, chunk].float())
            recycled_BRLZ += self.recycle_disto(distance_bins(beta_BL3[:, chunk], beta_BL3))
            recycled_BRLZ += self.pairwise_positional_embedding(length, chunk, residue_index_BL)
            pair_BLLZ[:, chunk] = recycled_BRLZ


def ideal_beta(backbone_BL33: Tensor) -> Tensor:
    """C-beta [B, L, 3] of each residue's N, CA, C, in angstrom, as if none were a glycine."""
    nitrogen, alpha, carbon = backbone_BL33.unbind(dim=-2)
    to_alpha, to_carbon = alpha - nitrogen, carbon - alpha
    of_normal, of_alpha, of_carbon = C_BETA_COEFFICIENTS
    normal = torch.linalg.cross(to_alpha, to_carbon)
    return of_normal * normal + of_alpha * to_alpha + of_carbon * to_carbon + alpha


def distance_bins(row_BR3: Tensor, column_BL3: Tensor) -> Tensor:
    """Bin [B, R, L] of the distance of each pair of points, in angstrom."""
    squared_BRL = (row_BR3.unsqueeze(2) - column_BL3.unsqueeze(1)).square_().sum(dim=-1)
    edges = torch.linspace(
        FIRST_DISTANCE_EDGE, LAST_DISTANCE_EDGE, NUM_DISTANCE_BINS - 1, device=squared_BRL.device
    ).square()
    return torch.bucketize(squared_BRL, edges)
