"""The structure module: from single and pair representations to a frame for each residue, and to atoms.

Jumper et al. 2021, algorithms 20 (iterations), 23 (backbone update) and 24 (atoms). One set of weights serves all
iterations. Torsions and side chains are asked for apart, as only the last pass needs them.

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
from foldatlas.folding.network.invariant_point_attention import InvariantPointAttention
from foldatlas.folding.network.linear import Linear
from foldatlas.folding.network.residue_constants import NUM_TORSIONS
from foldatlas.folding.network.rigid import Rigid, quaternion_to_rotation, rotate, update_quaternion

# The network counts lengths in units of 10 angstrom.
ANGSTROM_PER_UNIT: Final = 10.0
# A torsion's vector shorter than this is not scaled up to length 1; its square is compared.
TORSION_EPSILON: Final = 1e-8


class TransitionLayer(nn.Module):
    """Three layers with ReLU between, added on."""

    def __init__(self, width: int):
        super().__init__()
        self.linear_1 = Linear(width, width)
        self.linear_2 = Linear(width, width)
        self.linear_3 = Linear(width, width)

    def forward(self, x_BLC: Tensor) -> Tensor:
        return x_BLC + self.linear_3(self.linear_2(self.linear_1(x_BLC).relu()).relu())


class Transition(nn.Module):
    """Transition layers and a LayerNorm on the sum."""

    def __init__(self, config: StructureModuleConfig):
        super().__init__()
        self.layers = nn.Sequential(
            *(TransitionLayer(config.single_width) for _ in range(config.num_transition_layers))
        )
        self.layer_norm = nn.LayerNorm(config.single_width)

    def forward(self, x_BLC: Tensor) -> Tensor:
        return self.layer_norm(self.layers(x_BLC))


class BackboneUpdate(nn.Module):
    """Algorithm 23: the imaginary part of a quaternion and a shift, [B, L, 6], in each residue's own frame."""

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
    """Algorithm 20, lines 11 to 14: seven torsions of each residue as unit vectors (sine, cosine).

    Inputs pass a ReLU first, as in AlphaFold 2's code and unlike the supplement.
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
        """The torsions as vectors [B, L, 7, 2] of any length."""
        hidden = self.linear_in(state_BLC.relu()) + self.linear_initial(initial_state_BLC.relu())
        return self.linear_out(self.layers(hidden).relu()).unflatten(-1, (NUM_TORSIONS, 2))


def unit_vectors(vectors_BL72: Tensor) -> Tensor:
    """Torsions as (sine, cosine); shorter vectors than the root of TORSION_EPSILON stay shorter than 1."""
    return F.normalize(vectors_BL72, dim=-1, eps=TORSION_EPSILON**0.5)


@dataclass(frozen=True, slots=True)
class Iteration:
    """What one iteration leaves."""

    backbone: Rigid  # of each residue, [B, L], translation in angstrom
    state_BLC: Tensor


class StructureModule(nn.Module):
    """Algorithm 20 without side chains; `atoms` adds them."""

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
        self, single_BLC: Tensor, pair_BLLZ: Tensor, mask_BL: Tensor, rows: int
    ) -> tuple[Tensor, list[Iteration]]:
        """The single state before the iterations, and the last iteration; all of them where gradients are recorded.

        `pair_BLLZ` has passed `layer_norm_z`; attention takes `rows` of it at a time.
        """
        initial_state_BLC = self.layer_norm_s(single_BLC)
        iterations = self._iterations(initial_state_BLC, pair_BLLZ, mask_BL, rows)
        return initial_state_BLC, list(iterations if torch.is_grad_enabled() else deque(iterations, maxlen=1))

    def _iterations(
        self, initial_state_BLC: Tensor, pair_BLLZ: Tensor, mask_BL: Tensor, rows: int
    ) -> Iterator[Iteration]:
        bias_BHLL = self.ipa.bias(pair_BLLZ, mask_BL, rows)
        state_BLC = self.linear_in(initial_state_BLC)
        quaternion_BL4 = state_BLC.new_tensor([1.0, 0.0, 0.0, 0.0]).expand(*mask_BL.shape, 4)
        frames_BL = Rigid(quaternion_to_rotation(quaternion_BL4), state_BLC.new_zeros(*mask_BL.shape, 3))
        for _ in range(self.num_iterations):
            state_BLC = self.layer_norm_ipa(state_BLC + self.ipa(state_BLC, pair_BLLZ, bias_BHLL, frames_BL, rows))
            state_BLC = self.transition(state_BLC)
            turn_BL3, shift_BL3 = self.bb_update(state_BLC).split(3, dim=-1)
            quaternion_BL4 = update_quaternion(quaternion_BL4, turn_BL3)
            frames_BL = Rigid(
                quaternion_to_rotation(quaternion_BL4),
                frames_BL.translation + rotate(frames_BL.rotation, shift_BL3),
            )
            yield Iteration(Rigid(frames_BL.rotation, frames_BL.translation * ANGSTROM_PER_UNIT), state_BLC)
            # Rotations pass no gradient from one iteration to the one before (algorithm 20, line 20).
            quaternion_BL4 = quaternion_BL4.detach()
            frames_BL = Rigid(frames_BL.rotation.detach(), frames_BL.translation)

    def recycled_backbone(self, frames_BL: Rigid, aatype_BL: Tensor) -> Tensor:
        """N, CA and C as the next trunk pass sees them, [B, L, 3, 3] in angstrom."""
        return self.ideal_residues.recycled_backbone(frames_BL, aatype_BL)

    def atoms(self, frames_BL: Rigid, state_BLC: Tensor, initial_state_BLC: Tensor, aatype_BL: Tensor) -> Tensor:
        """All atoms, [B, L, 14, 3] in angstrom, from what `forward` returned."""
        torsions_BL72 = self.angle_resnet(state_BLC, initial_state_BLC)
        return self.ideal_residues.atoms(frames_BL, torsions_BL72, aatype_BL)
