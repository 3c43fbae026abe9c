"""The folding trunk: blocks that update a single and a pair representation, recycled several times.

Lin et al. 2023, supplement A.3 and algorithm 1 (the block); Jumper et al. 2021, algorithms 4 (relative position)
and 32 (recycling). Parameter names are those of the released ESMFold.

The pair representation is one tensor that all updates change in place, `rows` rows at a time (planning/chunks.py).
Where gradients are recorded each update makes a new one, and all rows are worked on at once.

Shapes: B batch, L residues, R rows of a chunk, C single channels, Z pair channels, H single heads, K head width.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from foldatlas.folding.config import ESMFoldConfig, TrunkConfig
from foldatlas.folding.network.attention import attention_bias
from foldatlas.folding.network.in_place import add, add_updates, joined, multiply, needs_gradient
from foldatlas.folding.network.linear import Linear, linear
from foldatlas.folding.network.rigid import Rigid
from foldatlas.folding.network.structure_module import Iteration, StructureModule
from foldatlas.folding.network.triangle import TriangleAttention, TriangleMultiplication
from foldatlas.folding.planning.chunks import slices

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
        gate_BLC = self.g_proj(single_BLC).sigmoid_()
        attended = []
        done = 0
        for bias_BHRL in bias_chunks_BHRL:
            of_chunk = query[:, :, done : done + bias_BHRL.shape[2]]
            done += bias_BHRL.shape[2]
            attended.append(F.scaled_dot_product_attention(of_chunk, key, value, attn_mask=bias_BHRL))
        attended_BLC = torch.cat(attended, dim=2).transpose(1, 2).flatten(-2)
        return self.o_proj(multiply(gate_BLC, attended_BLC))


class SequenceToPair(nn.Module):
    """Pair update ij from products q_j k_i and differences q_j - k_i of projections of the single representation."""

    def __init__(self, single_width: int, pair_width: int):
        super().__init__()
        self.layernorm = nn.LayerNorm(single_width)
        self.proj = Linear(single_width, pair_width)
        self.o_proj = Linear(pair_width, pair_width)

    def forward(self, single_BLC: Tensor, pair_BLLZ: Tensor, rows: int) -> Tensor:
        """`pair_BLLZ` with the update added."""
        return add_updates(pair_BLLZ, self._updates(single_BLC, rows))

    def _updates(self, single_BLC: Tensor, rows: int) -> Iterator[tuple[slice, Tensor]]:
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
            yield chunk, update_BRLZ


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

    def forward(self, single_BLC: Tensor, pair_BLLZ: Tensor, mask_BL: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        """The new representations; without gradients, the pair representation is `pair_BLLZ` updated in place."""
        chunks = list(slices(mask_BL.shape[1], rows))
        bias_chunks_BHRL = (attention_bias(self.pair_to_sequence(pair_BLLZ[:, chunk]), mask_BL) for chunk in chunks)
        single_BLC = single_BLC + self.seq_attention(self.layernorm_1(single_BLC), bias_chunks_BHRL)
        single_BLC = single_BLC + self.mlp_seq(single_BLC)

        pair_BLLZ = self.sequence_to_pair(single_BLC, pair_BLLZ, rows)
        pair_BLLZ = self.tri_mul_out(pair_BLLZ, mask_BL, rows)
        pair_BLLZ = self.tri_mul_in(pair_BLLZ, mask_BL, rows)
        pair_BLLZ = self.tri_att_start(pair_BLLZ, mask_BL, rows)
        pair_BLLZ = self.tri_att_end(pair_BLLZ, mask_BL, rows)
        of_chunks = ((chunk, self.mlp_pair(pair_BLLZ[:, chunk])) for chunk in chunks)
        return single_BLC, add_updates(pair_BLLZ, of_chunks)


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
    initial_state_BLC: Tensor  # the structure module's single representation before its first iteration
    iterations: list[Iteration]  # the last, and where gradients are recorded all

    @property
    def backbone(self) -> Rigid:
        """Of each residue, translation in angstrom."""
        return self.iterations[-1].backbone

    @property
    def state_BLC(self) -> Tensor:
        """The structure module's single representation after its last iteration."""
        return self.iterations[-1].state_BLC


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
        # For training. True: a block's activations are computed again when gradients need them.
        self.checkpoint = False
        # The type in which the products of the blocks are taken, while weights and pair representation stay float32.
        self.autocast: torch.dtype | None = None

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
        relative positions count by; None means the place in the sequence. Gradients, where they are recorded, pass
        through the last pass alone (Jumper et al. 2021, algorithm 31), and `rows` must be all.
        """
        records_gradients = torch.is_grad_enabled()
        iterations: list[Iteration] = []
        for recycle in range(recycles + 1):
            with torch.set_grad_enabled(records_gradients and recycle == recycles):
                if not iterations:
                    single_BLC, pair_BLLZ = self._start(initial_single_BLC, mask_BL, rows, residue_index_BL)
                else:
                    single_BLC = initial_single_BLC + self.recycle_s_norm(single_BLC)
                    beta_BL3 = ideal_beta(self.structure_module.recycled_backbone(iterations[-1].backbone, aatype_BL))
                    pair_BLLZ = self._recycle_pair(pair_BLLZ, beta_BL3, rows, residue_index_BL)
                single_BLC, pair_BLLZ = self._blocks(single_BLC.to(self.dtype), pair_BLLZ, mask_BL, rows)
                single_BLC = single_BLC.float()
                initial_state_BLC, iterations = self.structure_module(
                    self.trunk2sm_s(single_BLC), self._structure_pair(pair_BLLZ, rows), mask_BL, rows
                )
        return TrunkOutput(pair_BLLZ, initial_state_BLC, iterations)

    def _start(
        self, initial_single_BLC: Tensor, mask_BL: Tensor, rows: int, residue_index_BL: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The representations before the first pass.

        What is recycled is zero then, which LayerNorm turns into its bias, and all distances lie in bin 0, whose vector
        is trained like the others.
        """
        num_proteins, length = mask_BL.shape
        start_Z = self.recycle_z_norm.bias + self.recycle_disto.weight[0]
        of_chunks = (
            (self.pairwise_positional_embedding(length, chunk, residue_index_BL) + start_Z)
            .to(self.dtype)
            .expand(num_proteins, -1, -1, -1)
            for chunk in slices(length, rows)
        )
        # A copy: what the proteins of a batch share must not be written to.
        return initial_single_BLC + self.recycle_s_norm.bias, joined(of_chunks, length, axis=1).contiguous()

    def _blocks(self, single_BLC: Tensor, pair_BLLZ: Tensor, mask_BL: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        with torch.autocast(single_BLC.device.type, self.autocast, enabled=self.autocast is not None):
            for block in self.blocks:
                if self.checkpoint and torch.is_grad_enabled():
                    single_BLC, pair_BLLZ = checkpoint(block, single_BLC, pair_BLLZ, mask_BL, rows, use_reentrant=False)
                else:
                    single_BLC, pair_BLLZ = block(single_BLC, pair_BLLZ, mask_BL, rows)
        return single_BLC, pair_BLLZ

    def _structure_pair(self, pair_BLLZ: Tensor, rows: int) -> Tensor:
        """The pair representation that the structure module reads, float32."""
        length = pair_BLLZ.shape[1]
        of_chunks = (
            self.structure_module.layer_norm_z(self.trunk2sm_z(pair_BLLZ[:, chunk].float()))
            for chunk in slices(length, rows)
        )
        return joined(of_chunks, length, axis=1)

    def _recycle_pair(self, pair_BLLZ: Tensor, beta_BL3: Tensor, rows: int, residue_index_BL: Tensor | None) -> Tensor:
        """The pair representation before the next pass, from that after the last."""
        length = pair_BLLZ.shape[1]
        for chunk in slices(length, rows):
            recycled_BRLZ = self.recycle_z_norm(pair_BLLZ[:, chunk].float())
            recycled_BRLZ = add(recycled_BRLZ, self.recycle_disto(distance_bins(beta_BL3[:, chunk], beta_BL3)))
            recycled_BRLZ = add(recycled_BRLZ, self.pairwise_positional_embedding(length, chunk, residue_index_BL))
            if needs_gradient(recycled_BRLZ):
                return recycled_BRLZ.to(self.dtype)
            pair_BLLZ[:, chunk] = recycled_BRLZ
        return pair_BLLZ


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
