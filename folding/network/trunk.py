"""The folding trunk: blocks that update a single and a pair representation, with recycling.

Lin et al. 2023, supplement A.3 and algorithm 1 (the block); Jumper et al. 2021, algorithms 4 (relative position)
and 32 (recycling). Parameter names are those of the published ESMFold.

The pair representation is one tensor, which all updates change in place, `rows` rows at a time (planning/chunks.py).
When gradients are recorded, each update makes a new tensor from all rows at once.

Shapes: B batch, L residues, R rows of a chunk, C single channels, Z pair channels, H single heads, K head width.
"""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from foldatlas.folding.config import ESMFoldConfig, TrunkConfig
from foldatlas.folding.network.graphs import PassGraphs
from foldatlas.folding.network.in_place import add, add_updates, joined, multiply, needs_gradient
from foldatlas.folding.network.invariant_point_attention import PairRows
from foldatlas.folding.network.kernels import policy
from foldatlas.folding.network.linear import Linear, linear
from foldatlas.folding.network.rigid import Rigid
from foldatlas.folding.network.sequence_and_pair import PairToSequence, SequenceToPair
from foldatlas.folding.network.structure_module import Iteration, StructureModule
from foldatlas.folding.network.triangle import TriangleAttention, TriangleMultiplication
from foldatlas.folding.planning.chunks import slices
from foldatlas.folding.planning.cost import recomputes_structure_pair

# C-beta distances of the previous pass are recycled in 15 bins with edges from 3.375 to 21.375 angstrom.
NUM_DISTANCE_BINS: Final = 15
FIRST_DISTANCE_EDGE: Final = 3.375
LAST_DISTANCE_EDGE: Final = 21.375

# The ideal C-beta from the backbone: coefficients of (CA - N) x (C - CA), of CA - N and of C - CA.
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
        """Return the update of `single_BLC`. The bias comes in chunks of consecutive queries."""
        # The rows of `proj` are grouped by head: query, key and value of head 0, then of head 1, and so on.
        qkv_BHLK = self.proj(single_BLC).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        query, key, value = qkv_BHLK.chunk(3, dim=-1)
        gate_BLC = self.g_proj.sigmoid(single_BLC)
        attended = []
        done = 0
        for bias_BHRL in bias_chunks_BHRL:
            of_chunk = query[:, :, done : done + bias_BHRL.shape[2]]
            done += bias_BHRL.shape[2]
            attended.append(F.scaled_dot_product_attention(of_chunk, key, value, attn_mask=bias_BHRL))
        attended_BLC = torch.cat(attended, dim=2).transpose(1, 2).flatten(-2)
        return self.o_proj(multiply(gate_BLC, attended_BLC))


class Transition(nn.Module):
    """Feed-forward network on each residue or pair, with a hidden layer four times as wide. Returns the update."""

    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.LayerNorm(width), Linear(width, 4 * width), nn.ReLU(), Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        layer_norm, expand, _, contract = self.mlp
        hidden = linear(layer_norm(x), cast(Linear, expand).weight, cast(Linear, expand).bias, relu=True)
        return contract(hidden)


class PairTransition(Transition):
    """Feed-forward network on each pair, `rows` rows of the pair representation at a time."""

    def forward(self, pair_BLLZ: Tensor, mask_BL: Tensor, rows: int) -> Tensor:  # type: ignore[override]
        """Return `pair_BLLZ` with the update added."""
        chunks = slices(mask_BL.shape[1], rows)
        layer_norm, expand, _, contract = self.mlp
        if not policy.uses_kernel(policy.TRANSITION, pair_BLLZ, cast(Linear, expand).weight):
            update = super().forward
            return add_updates(pair_BLLZ, ((chunk, update(pair_BLLZ[:, chunk])) for chunk in chunks))
        from foldatlas.folding.network.kernels.updates import add_transition

        # One launch for all rows: the kernel needs no memory of its own.
        add_transition(pair_BLLZ, cast(nn.LayerNorm, layer_norm), cast(Linear, expand), cast(Linear, contract))
        return pair_BLLZ


class Block(nn.Module):
    """One block of the trunk (Lin et al. 2023, algorithm 1). Every update is added to the representation it changes."""

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
        self.mlp_pair = PairTransition(pair_width)

    def forward(self, single_BLC: Tensor, pair_BLLZ: Tensor, mask_BL: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        """Return the updated single and pair representations.

        `mask_BL` is True at residues. Without gradients, the returned pair representation is `pair_BLLZ` itself,
        changed in place, `rows` rows at a time.
        """
        chunks = list(slices(mask_BL.shape[1], rows))

        # 1. Residues attend to each other. The pair representation at i, j adds a bias to the attention of residue i to
        #    residue j.
        bias_chunks_BHRL = (self.pair_to_sequence(pair_BLLZ[:, chunk], mask_BL) for chunk in chunks)
        single_BLC = single_BLC + self.seq_attention(self.layernorm_1(single_BLC), bias_chunks_BHRL)

        # 2. A feed-forward network on each residue.
        single_BLC = single_BLC + self.mlp_seq(single_BLC)

        # 3. The updated residues i and j change the pair i, j: product and difference of their projections.
        pair_BLLZ = self.sequence_to_pair(single_BLC, pair_BLLZ, rows)

        # 4. The pair i, j is combined with the other two edges of all triangles i, j, k: summed over k along outgoing
        #    edges (i, k and j, k), then along incoming ones (k, i and k, j).
        pair_BLLZ = self.tri_mul_out(pair_BLLZ, mask_BL, rows)
        pair_BLLZ = self.tri_mul_in(pair_BLLZ, mask_BL, rows)

        # 5. The pair i, j attends to the pairs with which it shares its starting residue (i, k), then to those with
        #    which it shares its ending residue (k, j), biased by the third edge of the triangle.
        pair_BLLZ = self.tri_att_start(pair_BLLZ, mask_BL, rows)
        pair_BLLZ = self.tri_att_end(pair_BLLZ, mask_BL, rows)

        # 6. A feed-forward network on each pair.
        return single_BLC, self.mlp_pair(pair_BLLZ, mask_BL, rows)


class RelativePosition(nn.Module):
    """Embedding of the clamped sequence separation of each pair (Jumper et al. 2021, algorithm 4).

    Row 0 of the table was trained for padded pairs. No output depends on those, so it is never looked up here.
    """

    def __init__(self, config: TrunkConfig):
        super().__init__()
        self.max_distance = config.max_relative_position
        self.embedding = nn.Embedding(2 * self.max_distance + 2, config.pair_width)

    def forward(self, length: int, chunk: slice, residue_index_BL: Tensor | None = None) -> Tensor:
        """Return the embedding [R, L, Z] of j - i for the rows i in `chunk`.

        With `residue_index_BL`, return the embedding [B, R, L, Z] of the difference of residue indices.
        """
        if residue_index_BL is None:
            residue_index_BL = torch.arange(length, device=self.embedding.weight.device)
        distance_BRL = residue_index_BL.unsqueeze(-2) - residue_index_BL[..., chunk].unsqueeze(-1)
        return self.embedding(distance_BRL.clamp(-self.max_distance, self.max_distance) + self.max_distance + 1)


@dataclass(frozen=True, slots=True)
class Pass:
    """Results of a pass, of which the next one is computed."""

    single_BLC: Tensor
    pair_BLLZ: Tensor
    initial_state_BLC: Tensor  # single representation of the structure module before its first iteration
    iterations: list[Iteration]  # the last iteration; all of them when gradients are recorded

    def of_proteins(self, rows: Sequence[int]) -> "Pass":
        """Return a copy for these rows of the batch."""
        index = torch.tensor(rows, device=self.pair_BLLZ.device)
        return Pass(
            self.single_BLC[index],
            self.pair_BLLZ[index],
            self.initial_state_BLC[index],
            [
                Iteration(
                    Rigid(one.backbone.rotation[index], one.backbone.translation[index]),
                    one.state_BLC[index],
                )
                for one in self.iterations
            ],
        )


@dataclass(frozen=True, slots=True)
class TrunkOutput:
    """Output of the last pass: the pair representation, and the structure module's results."""

    pair_BLLZ: Tensor
    initial_state_BLC: Tensor  # as in Pass
    iterations: list[Iteration]

    @classmethod
    def of(cls, last: Pass) -> "TrunkOutput":
        """Return what the heads read of the last pass."""
        return cls(last.pair_BLLZ, last.initial_state_BLC, last.iterations)

    @property
    def backbone(self) -> Rigid:
        """Backbone frames [B, L] after the last iteration, translation in angstrom."""
        return self.iterations[-1].backbone

    @property
    def state_BLC(self) -> Tensor:
        """Single representation of the structure module after its last iteration."""
        return self.iterations[-1].state_BLC


class FoldingTrunk(nn.Module):
    """The blocks and the structure module, run `recycles` + 1 times."""

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
        # For training: recompute the activations of each block for the gradients (activation checkpointing).
        self.checkpoint = False
        # For training: the dtype of matrix products in the blocks; weights and representations stay float32.
        self.autocast: torch.dtype | None = None
        # For GPUs: recorded launches of short proteins.
        self.graphs: PassGraphs | None = None

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the blocks' weights and of the representations between blocks; all else is float32."""
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
        """Return the frames and representations after `recycles` + 1 passes from `initial_single_BLC`.

        The initial pair representation is zero. The blocks process `rows` rows of the pair representation at a time:
        fewer need less memory. `residue_index_BL` numbers the residues for relative positions; None means 0 to L - 1.
        Gradients, if recorded, go through the last pass only (Jumper et al. 2021, algorithm 31), and `rows` must be L.
        """
        records_gradients = torch.is_grad_enabled()
        done = None
        for recycle in range(recycles + 1):
            with torch.set_grad_enabled(records_gradients and recycle == recycles):
                done = self.next_pass(initial_single_BLC, aatype_BL, mask_BL, done, rows, residue_index_BL)
        assert done is not None
        return TrunkOutput.of(done)

    def next_pass(
        self,
        initial_single_BLC: Tensor,
        aatype_BL: Tensor,
        mask_BL: Tensor,
        before: "Pass | None",
        rows: int,
        residue_index_BL: Tensor | None = None,
    ) -> "Pass":
        """Return the pass that follows `before` (None: the first). Without gradients, tensors of `before` may be
        overwritten. Other arguments as for `forward`."""
        # 1. The input of the pass: for the first, constants; for later ones, the previous pass's representations and
        #    C-beta distances.
        if before is None:
            single_BLC, pair_BLLZ = self._start(initial_single_BLC, mask_BL, rows, residue_index_BL)
        else:
            single_BLC = initial_single_BLC + self.recycle_s_norm(before.single_BLC)
            backbone_BL33 = self.structure_module.recycled_backbone(before.iterations[-1].backbone, aatype_BL)
            pair_BLLZ = self._recycle_pair(before.pair_BLLZ, ideal_beta(backbone_BL33), rows, residue_index_BL)
        # 2. The blocks refine both representations, and the structure module turns them into a backbone frame for each
        #    residue.
        run_pass = partial(self._pass, rows=rows)
        inputs = single_BLC.to(self.dtype), pair_BLLZ, mask_BL
        if self.graphs is None or torch.is_grad_enabled() or rows < mask_BL.shape[1]:
            return run_pass(*inputs)
        done: Pass = self.graphs.run(run_pass, *inputs)
        return done

    def _pass(self, single_BLC: Tensor, pair_BLLZ: Tensor, mask_BL: Tensor, rows: int) -> "Pass":
        """Run the blocks and the structure module. Without gradients, `pair_BLLZ` is changed in place.

        For CUDA graphs (graphs.py) it reads nothing from the device and copies nothing to it.
        """
        single_BLC, pair_BLLZ = self._blocks(single_BLC, pair_BLLZ, mask_BL, rows)
        single_BLC = single_BLC.float()
        initial_state_BLC, iterations = self.structure_module(
            self.trunk2sm_s(single_BLC), self._structure_pair(pair_BLLZ, rows), mask_BL, rows
        )
        return Pass(single_BLC, pair_BLLZ, initial_state_BLC, iterations)

    def _start(
        self, initial_single_BLC: Tensor, mask_BL: Tensor, rows: int, residue_index_BL: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the single and pair representation before the first pass.

        The recycled representations are zero then, of which LayerNorm gives its bias; all distances are in bin 0, whose
        embedding is trained like the others.
        """
        num_proteins, length = mask_BL.shape
        start_Z = self.recycle_z_norm.bias + self.recycle_disto.weight[0]
        pair_chunks = (
            (self.pairwise_positional_embedding(length, chunk, residue_index_BL) + start_Z)
            .to(self.dtype)
            .expand(num_proteins, -1, -1, -1)
            for chunk in slices(length, rows)
        )
        # contiguous() copies: the expanded tensor shares memory between proteins and could not be changed in place.
        return initial_single_BLC + self.recycle_s_norm.bias, joined(pair_chunks, length, axis=1).contiguous()

    def _blocks(self, single_BLC: Tensor, pair_BLLZ: Tensor, mask_BL: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        device = single_BLC.device.type
        # torch.autocast refuses the meta device, even if it is not enabled.
        with (
            contextlib.nullcontext()
            if device == "meta"
            else torch.autocast(device, self.autocast, enabled=self.autocast is not None)
        ):
            for block in self.blocks:
                if self.checkpoint and torch.is_grad_enabled():
                    single_BLC, pair_BLLZ = checkpoint(block, single_BLC, pair_BLLZ, mask_BL, rows, use_reentrant=False)
                else:
                    single_BLC, pair_BLLZ = block(single_BLC, pair_BLLZ, mask_BL, rows)
        return single_BLC, pair_BLLZ

    def _structure_pair(self, pair_BLLZ: Tensor, rows: int) -> PairRows:
        """Return rows of the pair representation for the structure module, float32.

        Of a long protein they are computed again each time: kept, they take up to twice the memory of the pairs.
        """
        length = pair_BLLZ.shape[1]

        def of_chunk(chunk: slice) -> Tensor:
            return self.structure_module.layer_norm_z(self.trunk2sm_z(pair_BLLZ[:, chunk].float()))

        if recomputes_structure_pair(length, rows):
            return of_chunk
        whole_BLLZ = joined((of_chunk(chunk) for chunk in slices(length, rows)), length, axis=1)
        return lambda chunk: whole_BLLZ[:, chunk]

    def _recycle_pair(self, pair_BLLZ: Tensor, beta_BL3: Tensor, rows: int, residue_index_BL: Tensor | None) -> Tensor:
        """Return the pair representation before the next pass, from that after the previous one."""
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
    """Return ideal C-beta positions [B, L, 3] in angstrom from N, CA and C of each residue, glycine included."""
    nitrogen, alpha, carbon = backbone_BL33.unbind(dim=-2)
    to_alpha, to_carbon = alpha - nitrogen, carbon - alpha
    a, b, c = C_BETA_COEFFICIENTS
    normal = torch.linalg.cross(to_alpha, to_carbon)
    return a * normal + b * to_alpha + c * to_carbon + alpha


def distance_bins(row_BR3: Tensor, column_BL3: Tensor) -> Tensor:
    """Return the bin [B, R, L], 0 to 14, of the distance between each two points, in angstrom."""
    squared_BRL = (row_BR3.unsqueeze(2) - column_BL3.unsqueeze(1)).square_().sum(dim=-1)
    edges = torch.linspace(
        FIRST_DISTANCE_EDGE, LAST_DISTANCE_EDGE, NUM_DISTANCE_BINS - 1, device=squared_BRL.device
    ).square()
    return torch.bucketize(squared_BRL, edges)
