"""Forward pass for training: from crops of experimental chains to all outputs that the losses read.

The language model reads whole chains, or a window of MAX_WINDOW residues around the crop; the trunk reads the crop. The
window is our own choice. For folding see ESMFold.forward, which has no gradients and fewer outputs.

Shapes: B crops, L residues of the longest, W residues of the longest window, T = W + 2 tokens, D channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from foldatlas.folding.compare.experimental import Chain
from foldatlas.folding.network.esmfold import ESMFold
from foldatlas.folding.network.residue_constants import NUM_ATOMS
from foldatlas.folding.network.structure_module import unit_vectors
from foldatlas.folding.network.tokens import Batch, encode, language_tokens
from foldatlas.folding.training.data.crops import Crop
from foldatlas.folding.training.losses.outputs import NetworkOutputs
from foldatlas.folding.training.losses.targets import Targets, make_targets

MAX_WINDOW: Final = 1024  # residues that the language model reads, as in its own training; longer for longer crops


@dataclass(frozen=True, slots=True)
class Examples:
    """Crops, padded to the longest, with their targets."""

    windows: Batch  # the window of the chain around each crop
    starts: list[int]  # start of each crop in its window
    batch: Batch  # the crops
    targets: Targets


def make_examples(chains: Sequence[Chain], crops: Sequence[Crop], device: torch.device | str = "cpu") -> Examples:
    """Return the network's input and the targets for `crops` of `chains`, on `device`."""
    windows, starts = [], []
    for crop in crops:
        sequence = chains[crop.chain].sequence
        window = max(MAX_WINDOW, crop.length)
        first = max(0, min(crop.start - (window - crop.length) // 2, len(sequence) - window))
        windows.append(sequence[first : first + window])
        starts.append(crop.start - first)
    batch = encode(
        [chains[crop.chain].sequence[crop.start : crop.start + crop.length] for crop in crops], device=device
    )
    shape = (*batch.aatype_BL.shape, NUM_ATOMS)
    positions, observed = np.zeros((*shape, 3), np.float32), np.zeros(shape, np.bool_)
    for row, crop in enumerate(crops):
        part = slice(crop.start, crop.start + crop.length)
        positions[row, : crop.length] = chains[crop.chain].positions_LA3[part]
        observed[row, : crop.length] = chains[crop.chain].observed_LA[part]
    targets = make_targets(
        torch.from_numpy(positions).to(device),
        torch.from_numpy(observed).to(device),
        batch.aatype_BL,
        batch.mask_BL,
    )
    return Examples(encode(windows, device=device), starts, batch, targets)


def forward(network: ESMFold, examples: Examples, recycles: int, *, train_language_model: bool) -> NetworkOutputs:
    """Return the outputs for the losses, with gradients if they are recorded.

    Gradients include the language model only with `train_language_model`; the weights of its hidden states are always
    trained.
    """
    batch = examples.batch
    states_BLD = _states(network, examples, train_language_model)
    single_BLC = network.esm_s_mlp(states_BLD) + network.embedding(batch.aatype_BL)
    trunk = network.trunk(single_BLC, batch.aatype_BL, batch.mask_BL, recycles, batch.mask_BL.shape[1])
    module = network.trunk.structure_module
    torsion_vectors = [
        module.angle_resnet.vectors(iteration.state_BLC, trunk.initial_state_BLC) for iteration in trunk.iterations
    ]
    groups = module.ideal_residues.groups(trunk.backbone, unit_vectors(torsion_vectors[-1]), batch.aatype_BL)
    pair_BLLZ = trunk.pair_BLLZ.float()
    return NetworkOutputs(
        frames=[iteration.backbone for iteration in trunk.iterations],
        torsion_vectors=torsion_vectors,
        group_frames=[groups],
        positions=[module.ideal_residues.atoms_of_groups(groups, batch.aatype_BL)],
        distogram_logits_BLLN=network.distogram_head((pair_BLLZ + pair_BLLZ.transpose(1, 2)) / 2),
        pae_logits_BLLN=network.ptm_head(pair_BLLZ),
        plddt_logits_BLN=network.plddt_logits(trunk.state_BLC),
    )


def _states(network: ESMFold, examples: Examples, train: bool) -> Tensor:
    """Return the weighted sum of the language model's hidden states at the residues of each crop, [B, L, D]."""
    tokens_BT = language_tokens(examples.windows)
    length = examples.batch.mask_BL.shape[1]
    first_B1 = torch.tensor(examples.starts, device=tokens_BT.device).unsqueeze(1)
    # The 1 is for the <cls> token; padding of a crop reads an arbitrary token.
    token_BL = (1 + first_B1 + torch.arange(length, device=tokens_BT.device)).clamp(max=tokens_BT.shape[1] - 1)
    weights_N = network.esm_s_combine.softmax(dim=0)
    summed: Tensor | None = None
    with torch.set_grad_enabled(train and torch.is_grad_enabled()):
        states = [
            x_BTD.take_along_dim(token_BL.unsqueeze(-1), dim=1).float()
            for x_BTD in network.esm.hidden_states(tokens_BT)
        ]
    for weight, state_BLD in zip(weights_N, states, strict=True):
        summed = weight * state_BLD if summed is None else summed + weight * state_BLD
    assert summed is not None
    return summed
