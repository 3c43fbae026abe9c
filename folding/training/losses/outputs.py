"""What a forward pass in training hands to the losses.

Shapes: B batch, L residues, A = 14 atoms, G = 8 rigid groups, N bins.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from foldatlas.folding.network.rigid import Rigid


@dataclass(frozen=True, slots=True)
class NetworkOutputs:
    """The last trunk pass, with gradients; float32 but for logits, which may come in 16 bits.

    `frames` and `torsion_vectors` have one entry for each iteration of the structure module, the last one last.
    `group_frames` and `positions` need the last iteration alone: one entry is enough, the last entry is read. Any of
    the last five may be None when its loss has weight 0, and `torsion_vectors` may be empty.

    AlphaFold 2 stops the gradient of the rotations between iterations (algorithm 20, line 20); that is the network's
    business and not seen here.
    """

    frames: Sequence[Rigid]  # [B, L]; the translation is the C-alpha in angstrom
    torsion_vectors: Sequence[Tensor]  # [B, L, 7, 2]; (sine, cosine) before they are scaled to length 1
    group_frames: Sequence[Rigid]  # [B, L, G], angstrom; made of the scaled torsions
    positions: Sequence[Tensor]  # [B, L, A, 3], angstrom; atoms in the order of records.ATOMS
    distogram_logits_BLLN: Tensor | None = None  # 64 bins, symmetric
    pae_logits_BLLN: Tensor | None = None  # 64 bins; [i, j] is the error of residue j in the frame of residue i
    plddt_logits_BLN: Tensor | None = None  # 50 bins, of the C-alpha
