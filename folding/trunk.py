"""The folding trunk: blocks that update a single and a pair representation, recycled several times.

Lin et al. 2023, supplement A.3 and algorithm 1 (the block); Jumper et al. 2021, algorithms 4 (relative position)
and 32 (recycling). Parameter names are those of the released ESMFold.

Shapes: B batch, L residues, C single channels, Z pair channels, H single heads, K head width.
"""

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foldatlas.folding.attention import attention_bias
from foldatlas.folding.config import ESMFoldConfig, TrunkConfig
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
        self.proj = nn.Linear(width, 3 * width, bias=False)
        self.g_proj = nn.Linear(width, width)
        self.o_proj = nn.Linear(width, width)

    def forward(self, single_BLC: Tensor, bias_BHLL: Tensor) -> Tensor:
        # The rows of `proj` are grouped by head: query, key and value of the first head, then of the next.
        qkv_BHLK = self.proj(single_BLC).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        query, key, value = qkv_BHLK.chunk(3, dim=-1)
        attended_BHLK = F.scaled_dot_product_attention(query, key, value, attn_mask=bias_BHLL)
        return self.o_proj(self.g_proj(single_BLC).sigmoid() * attended_BHLK.transpose(1, 2).flatten(-2))


class SequenceToPair(nn.Module):
    """Pair update ij from products q_j k_i and differences q_j - k_i of projections of the single representation."""

    def __init__(self, single_width: int, pair_width: int):
        super().__init__()
        self.layernorm = nn.LayerNorm(single_width)
        self.proj = nn.Linear(single_width, pair_width)
        self.o_proj = nn.Linear(pair_width, pair_width)

    def forward(self, single_BLC: Tensor) -> Tensor:
        query, key = self.proj(self.layernorm(single_BLC)).chunk(2, dim=-1)
        of_product, of_difference = self.o_proj.weight.chunk(2, dim=-1)
        # The output projection is linear: that of the difference is taken for q and k apart, L rows instead of L * L.
        products_BLLZ = F.linear(query.unsqueeze(1) * key.unsqueeze(2), of_product)
        from_query_BLZ = F.linear(query, of_difference, self.o_proj.bias)
        from_key_BLZ = F.linear(key, of_difference)
        return products_BLLZ + from_query_BLZ.unsqueeze(1) - from_key_BLZ.unsqueeze(2)


class PairToSequence(nn.Module):
    """Attention bias of each single head, [B, L, L, H], from the pair representation."""

    def __init__(self, pair_width: int, num_heads: int):
        super().__init__()
        self.layernorm = nn.LayerNorm(pair_width)
        self.linear = nn.Linear(pair_width, num_heads, bias=False)

    def forward(self, pair_BLLZ: Tensor) -> Tensor:
        return self.linear(self.layernorm(pair_BLLZ))


class Transition(nn.Module):
    """Two layers, four times wider between, on each residue or pair. Returns the update, to be added."""

    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.ReLU(inplace=True), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


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

    def forward(self, single_BLC: Tensor, pair_BLLZ: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor]:
        bias_BHLL = attention_bias(self.pair_to_sequence(pair_BLLZ), mask_BL)
        single_BLC = single_BLC + self.seq_attention(self.layernorm_1(single_BLC), bias_BHLL)
        single_BLC = single_BLC + self.mlp_seq(single_BLC)

        pair_BLLZ = pair_BLLZ + self.sequence_to_pair(single_BLC)
        pair_BLLZ = pair_BLLZ + self.tri_mul_out(pair_BLLZ, mask_BL)
        pair_BLLZ = pair_BLLZ + self.tri_mul_in(pair_BLLZ, mask_BL)
        pair_BLLZ = pair_BLLZ + self.tri_att_start(pair_BLLZ, mask_BL)
        pair_BLLZ = pair_BLLZ + self.tri_att_end(pair_BLLZ, mask_BL)
        pair_BLLZ = pair_BLLZ + self.mlp_pair(pair_BLLZ)
        return single_BLC, pair_BLLZ


class RelativePosition(nn.Module):
    """A learned vector for each pair's clamped distance along the chain.

    Row 0 of the table was trained for padded pairs. Nothing ever reads those, so they are not looked up here.
    """

    def __init__(self, config: TrunkConfig):
        super().__init__()
        self.max_distance = config.max_relative_position
        self.embedding = nn.Embedding(2 * self.max_distance + 2, config.pair_width)

    def forward(self, length: int, residue_index_BL: Tensor | None = None) -> Tensor:
        """Embedding [L, L, Z]; at ij that of j - i, or [B, L, L, Z] of the difference of their residue indices."""
        if residue_index_BL is None:
            residue_index_BL = torch.arange(length, device=self.embedding.weight.device)
        distance_BLL = residue_index_BL.unsqueeze(-2) - residue_index_BL.unsqueeze(-1)
        return self.embedding(distance_BLL.clamp(-self.max_distance, self.max_distance) + self.max_distance + 1)


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
        self.trunk2sm_s = nn.Linear(trunk.single_width, structure.single_width)
        self.trunk2sm_z = nn.Linear(trunk.pair_width, structure.pair_width)
        self.structure_module = StructureModule(structure)

    def forward(
        self,
        initial_single_BLC: Tensor,
        aatype_BL: Tensor,
        mask_BL: Tensor,
        recycles: int,
        residue_index_BL: Tensor | None = None,
    ) -> TrunkOutput:
        """Refine `initial_single_BLC` (the initial pair representation is zero) into frames of residues.

        `residue_index_BL` is what relative positions count by; None means the place in the sequence.
        """
        num_proteins, length = aatype_BL.shape
        # Before the first pass the recycled representations are zero, which LayerNorm turns into its bias, and all
        # distances lie in bin 0, whose vector is trained like the others.
        single_BLC = initial_single_BLC + self.recycle_s_norm.bias
        start_Z = self.recycle_z_norm.bias + self.recycle_disto.weight[0]
        pair_BLLZ = (self.pairwise_positional_embedding(length, residue_index_BL) + start_Z).expand(
            num_proteins, -1, -1, -1
        )
        for recycle in range(recycles + 1):
            for block in self.blocks:
                single_BLC, pair_BLLZ = block(single_BLC, pair_BLLZ, mask_BL)
            backbone, state_BLC, initial_state_BLC = self.structure_module(
                self.trunk2sm_s(single_BLC), self.trunk2sm_z(pair_BLLZ), mask_BL
            )
            if recycle < recycles:
                bins_BLL = distance_bins(self.structure_module.recycled_backbone(backbone, aatype_BL))
                single_BLC = initial_single_BLC + self.recycle_s_norm(single_BLC)
                pair_BLLZ = self.recycle_z_norm(pair_BLLZ) + self.recycle_disto(bins_BLL)
                pair_BLLZ = pair_BLLZ + self.pairwise_positional_embedding(length, residue_index_BL)
        return TrunkOutput(pair_BLLZ, backbone, state_BLC, initial_state_BLC)


def distance_bins(backbone_BL33: Tensor) -> Tensor:
    """Bin [B, L, L] of each pair's ideal C-beta distance; `backbone_BL33` is N, CA, C in angstrom."""
    nitrogen, alpha, carbon = backbone_BL33.unbind(dim=-2)
    to_alpha, to_carbon = alpha - nitrogen, carbon - alpha
    of_normal, of_alpha, of_carbon = C_BETA_COEFFICIENTS
    normal = torch.linalg.cross(to_alpha, to_carbon)
    beta_BL3 = of_normal * normal + of_alpha * to_alpha + of_carbon * to_carbon + alpha
    squared_BLL = (beta_BL3.unsqueeze(1) - beta_BL3.unsqueeze(2)).square().sum(dim=-1)
    edges = torch.linspace(
        FIRST_DISTANCE_EDGE, LAST_DISTANCE_EDGE, NUM_DISTANCE_BINS - 1, device=squared_BLL.device
    ).square()
    return torch.bucketize(squared_BLL, edges)
