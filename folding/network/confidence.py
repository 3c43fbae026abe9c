"""Confidence of a prediction, from logits: pLDDT, predicted aligned error and predicted TM-score.

Jumper et al. 2021, supplement 1.9.6 and 1.9.7. Every score of a protein depends on that protein alone, whatever
it is batched with.

Shapes: B batch, L residues, R rows of a chunk, N bins.
"""

from typing import Final

import torch
from torch import Tensor

NUM_PLDDT_BINS: Final = 50
NUM_PAE_BINS: Final = 64
MAX_PAE: Final = 31.0  # angstrom; the last bin holds everything above
_MIN_TM_LENGTH: Final = 19  # the TM-score's d0 is not defined for shorter chains


def plddt(logits_BLN: Tensor) -> Tensor:
    """Expected pLDDT [B, L], 0 to 100, from logits of 50 equal bins."""
    centres_N = (torch.arange(NUM_PLDDT_BINS, device=logits_BLN.device) + 0.5) * (100 / NUM_PLDDT_BINS)
    return logits_BLN.softmax(dim=-1) @ centres_N


def predicted_aligned_error(logits_BRLN: Tensor) -> Tensor:
    """Expected error [B, R, L] in angstrom of residue j when predicted and true residue i are superposed.

    Of all rows i or of some: they do not depend on each other.
    """
    return logits_BRLN.softmax(dim=-1) @ pae_centres(logits_BRLN.device)


def predicted_tm_score(logits_BLLN: Tensor, mask_BL: Tensor) -> Tensor:
    """Expected TM-score [B], 0 to 1, of each protein at its own length.

    `mask_BL` is True at residues. The score is the best of those seen from each residue's frame.
    """
    return best_alignment(tm_of_alignments(logits_BLLN, mask_BL), mask_BL)


def tm_of_alignments(logits_BRLN: Tensor, mask_BL: Tensor) -> Tensor:
    """Expected TM-score [B, R] as seen from the frame of each residue of some rows of the logits."""
    length_B = mask_BL.sum(dim=1)
    expected_BRL = _expected_tm_term(logits_BRLN, length_B)
    return (expected_BRL * mask_BL.unsqueeze(1)).sum(dim=-1) / length_B.unsqueeze(1)


def best_alignment(per_alignment_BL: Tensor, mask_BL: Tensor) -> Tensor:
    """The best score [B] of those seen from each residue."""
    return per_alignment_BL.masked_fill(~mask_BL, 0).amax(dim=1)


def interface_tm_score(logits_BLLN: Tensor, chain_BL: Tensor) -> Tensor:
    """Expected TM-score [B], 0 to 1, of pairs of residues in different chains; 0 for a single chain.

    Evans et al. 2021 (AlphaFold-Multimer), section 2.4 and `predicted_tm_score(interface=True)` of its release: d0 is
    that of all chains together, each residue's frame is scored by the residues of the other chains, and the best
    frame counts. `chain_BL` is the number of each residue's chain, negative where there is none.
    """
    return best_alignment(interface_tm_of_alignments(logits_BLLN, chain_BL, chain_BL), chain_BL >= 0)


def interface_tm_of_alignments(logits_BRLN: Tensor, chain_BR: Tensor, chain_BL: Tensor) -> Tensor:
    """The same [B, R] as seen from the frame of each residue of some rows, which belong to the chains `chain_BR`."""
    is_residue_BL = chain_BL >= 0
    expected_BRL = _expected_tm_term(logits_BRLN, is_residue_BL.sum(dim=1))
    between_BRL = (chain_BR.unsqueeze(2) != chain_BL.unsqueeze(1)) & is_residue_BL.unsqueeze(1)
    return (expected_BRL * between_BRL).sum(dim=-1) / between_BRL.sum(dim=-1).clamp(min=1)


def _expected_tm_term(logits_BRLN: Tensor, length_B: Tensor) -> Tensor:
    """Expected 1 / (1 + (error / d0)^2), [B, R, L], with the d0 of proteins of `length_B` residues."""
    d0_B = 1.24 * (length_B.clamp(min=_MIN_TM_LENGTH) - 15).float().pow(1 / 3) - 1.8
    tm_BN = 1 / (1 + (pae_centres(logits_BRLN.device) / d0_B.unsqueeze(1)).square())
    return (logits_BRLN.softmax(dim=-1) @ tm_BN[:, None, :, None]).squeeze(-1)


def pae_centres(device: torch.device) -> Tensor:
    """Centres [N] of the error bins in angstrom: 0.25, 0.75, ... 31.75."""
    width = MAX_PAE / (NUM_PAE_BINS - 2)
    return (torch.arange(NUM_PAE_BINS, device=device) + 0.5) * width
