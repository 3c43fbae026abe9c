"""The structure module: from single and pair representations to a backbone frame for each residue, and to atoms.

Jumper et al. 2021, algorithms 20 (iterations), 23 (backbone update) and 24 (atoms). All iterations share their weights.
Torsions and side chains are computed by a separate method, because only the last pass needs them.

Shapes: B batch, L residues, C single channels, Z pair channels.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foldatlas.folding.config import StructureModuleConfig
from foldatlas.folding.network.atoms import IdealResidues
from foldatlas.folding.network.invariant_point_attention import InvariantPointAttention, PairRows
from foldatlas.folding.network.linear import Linear
from foldatlas.folding.network.residue_constants import NUM_TORSIONS
from foldatlas.folding.network.rigid import Rigid, quaternion_to_rotation, rotate, update_quaternion

# The network's unit of length is 10 angstrom.
ANGSTROM_PER_UNIT: Final = 10.0
# Squared length below which a torsion vector is not scaled up to length 1.
TORSION_EPSILON: Final = 1e-8


class TransitionLayer(nn.Module):
    """Three linear layers with ReLU between them, and a residual connection."""

    def __init__(self, width: int):
        super().__init__()
        self.linear_1 = Linear(width, width)
        self.linear_2 = Linear(width, width)
        self.linear_3 = Linear(width, width)

    def forward(self, x_BLC: Tensor) -> Tensor:
        return x_BLC + self.linear_3(self.linear_2(self.linear_1(x_BLC).relu()).relu())


class Transition(nn.Module):
    """Transition layers, followed by LayerNorm."""

    def __init__(self, config: StructureModuleConfig):
        super().__init__()
        self.layers = nn.Sequential(
            *(TransitionLayer(config.single_width) for _ in range(config.num_transition_layers))
        )
        self.layer_norm = nn.LayerNorm(config.single_width)

    def forward(self, x_BLC: Tensor) -> Tensor:
        return self.layer_norm(self.layers(x_BLC))


class BackboneUpdate(nn.Module):
    """Algorithm 23: rotation (imaginary part of a quaternion) and shift, [B, L, 6], in the frame of each residue."""

    def __init__(self, config: StructureModuleConfig):
        super().__init__()
        self.linear = Linear(config.single_width, 6)

    def forward(self, state_BLC: Tensor) -> Tensor:
        return self.linear(state_BLC)


class TorsionBlock(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.linear_1 = Linear(width, width)
        self.linear_2 = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.linear_2(self.linear_1(x.relu()).relu())


class TorsionNetwork(nn.Module):
    """Algorithm 20, lines 11 to 14: the seven torsion angles of each residue as unit vectors (sine, cosine).

    Both inputs go through a ReLU first, as in AlphaFold 2's code; the supplement has none there.
    """

    def __init__(self, config: StructureModuleConfig):
        super().__init__()
        width = config.torsion_width
        self.linear_in = Linear(config.single_width, width)
        self.linear_initial = Linear(config.single_width, width)
        self.layers = nn.Sequential(*(TorsionBlock(width) for _ in range(config.num_torsion_blocks)))
        self.linear_out = Linear(width, 2 * NUM_TORSIONS)

    def forward(self, state_BLC: Tensor, initial_state_BLC: Tensor) -> Tensor:
        return unit_vectors(self.vectors(state_BLC, initial_state_BLC))

    def vectors(self, state_BLC: Tensor, initial_state_BLC: Tensor) -> Tensor:
        """Return the torsions as vectors [B, L, 7, 2] that are not normalised."""
        hidden = self.linear_in(state_BLC.relu()) + self.linear_initial(initial_state_BLC.relu())
        return self.linear_out(self.layers(hidden).relu()).unflatten(-1, (NUM_TORSIONS, 2))


def unit_vectors(vectors_BL72: Tensor) -> Tensor:
    """Normalise vectors to (sine, cosine); those shorter than the root of TORSION_EPSILON stay shorter than 1."""
    return F.normalize(vectors_BL72, dim=-1, eps=TORSION_EPSILON**0.5)


@dataclass(frozen=True, slots=True)
class Iteration:
    """Result of one iteration."""

    backbone: Rigid  # backbone frames [B, L], translation in angstrom
    state_BLC: Tensor  # single representation


class StructureModule(nn.Module):
    """Algorithm 20. `forward` computes the backbone frames, `atoms` the side chains."""

    def __init__(self, config: StructureModuleConfig):
        super().__init__()
        self.num_iterations = config.num_iterations
        self.layer_norm_s = nn.LayerNorm(config.single_width)
        self.layer_norm_z = nn.LayerNorm(config.pair_width)
        self.linear_in = Linear(config.single_width, config.single_width)
        self.ipa = InvariantPointAttention(config)
        self.layer_norm_ipa = nn.LayerNorm(config.single_width)
        self.transition = Transition(config)
        self.bb_update = BackboneUpdate(config)
        self.angle_resnet = TorsionNetwork(config)
        self.ideal_residues = IdealResidues()

    def forward(
        self, single_BLC: Tensor, pair_rows: PairRows, mask_BL: Tensor, rows: int
    ) -> tuple[Tensor, list[Iteration]]:
        """Return the initial single representation, and the last iteration; all of them if gradients are recorded.

        `pair_rows` gives rows of the pair representation, already normalised by `layer_norm_z`; attention processes
        `rows` of them at a time.
        """
        initial_state_BLC = self.layer_norm_s(single_BLC)
        iterations = self._iterations(initial_state_BLC, pair_rows, mask_BL, rows)
        return initial_state_BLC, list(iterations if torch.is_grad_enabled() else deque(iterations, maxlen=1))

    def _iterations(
        self, initial_state_BLC: Tensor, pair_rows: PairRows, mask_BL: Tensor, rows: int
    ) -> Iterator[Iteration]:
        # The pair representation does not change, so its bias is the same in every iteration.
        bias_BHLL = self.ipa.bias(pair_rows, mask_BL, rows)
        state_BLC = self.linear_in(initial_state_BLC)
        # All residues start at the origin with the identity rotation (black hole initialisation, algorithm 20).
        # Built on the device: CUDA graphs cannot hold copies from the host.
        quaternion_BL4 = F.pad(state_BLC.new_ones(*mask_BL.shape, 1), (0, 3))
        frames_BL = Rigid(quaternion_to_rotation(quaternion_BL4), state_BLC.new_zeros(*mask_BL.shape, 3))
        for _ in range(self.num_iterations):
            # 1. Residues attend to each other; distances between points in their present frames affect the weights.
            state_BLC = self.layer_norm_ipa(state_BLC + self.ipa(state_BLC, pair_rows, bias_BHLL, frames_BL, rows))

            # 2. A feed-forward network on each residue.
            state_BLC = self.transition(state_BLC)

            # 3. Each residue proposes a rotation and a shift in its own frame; they are composed with the frame.
            rotation_BL3, shift_BL3 = self.bb_update(state_BLC).split(3, dim=-1)
            quaternion_BL4 = update_quaternion(quaternion_BL4, rotation_BL3)
            frames_BL = Rigid(
                quaternion_to_rotation(quaternion_BL4),
                frames_BL.translation + rotate(frames_BL.rotation, shift_BL3),
            )
            yield Iteration(Rigid(frames_BL.rotation, frames_BL.translation * ANGSTROM_PER_UNIT), state_BLC)

            # 4. In training, gradients of rotations stop between iterations (algorithm 20, line 20).
            quaternion_BL4 = quaternion_BL4.detach()
            frames_BL = Rigid(frames_BL.rotation.detach(), frames_BL.translation)

    def recycled_backbone(self, frames_BL: Rigid, aatype_BL: Tensor) -> Tensor:
        """Return N, CA and C for recycling into the next trunk pass, [B, L, 3, 3] in angstrom."""
        return self.ideal_residues.recycled_backbone(frames_BL, aatype_BL)

    def atoms(self, frames_BL: Rigid, state_BLC: Tensor, initial_state_BLC: Tensor, aatype_BL: Tensor) -> Tensor:
        """Return all atoms [B, L, 14, 3] in angstrom from the results of `forward`."""
        torsions_BL72 = self.angle_resnet(state_BLC, initial_state_BLC)
        return self.ideal_residues.atoms(frames_BL, torsions_BL72, aatype_BL)
