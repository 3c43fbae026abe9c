"""Confidence scores from logits: pLDDT, predicted aligned error (PAE), predicted TM-score (pTM) and ipTM.

Jumper et al. 2021, supplement 1.9.6 and 1.9.7. The scores of a protein do not depend on the others in its batch.

Shapes: B batch, L residues, R rows of a chunk, N bins.
"""

from typing import Final

import torch
from torch import Tensor

NUM_PLDDT_BINS: Final = 50
NUM_PAE_BINS: Final = 64
MAX_PAE: Final = 31.0  # angstrom; the last bin holds all greater errors
_MIN_TM_LENGTH: Final = 19  # residues; d0 of the TM-score is not defined for shorter chains


def plddt(logits_BLN: Tensor) -> Tensor:
    """Return the expected pLDDT [B, L], 0 to 100, from logits of 50 equal bins."""
    centres_N = (torch.arange(NUM_PLDDT_BINS, device=logits_BLN.device) + 0.5) * (100 / NUM_PLDDT_BINS)
    return logits_BLN.softmax(dim=-1) @ centres_N


def predicted_aligned_error(logits_BRLN: Tensor) -> Tensor:
    """Return the expected error [B, R, L] in angstrom of residue j when the frames of residue i are superposed.

    The rows i are independent: `logits_BRLN` may hold all of them or some.
    """
    return logits_BRLN.softmax(dim=-1) @ pae_centres(logits_BRLN.device)


def tm_of_alignments(logits_BRLN: Tensor, mask_BL: Tensor) -> Tensor:
    """Return the expected TM-score [B, R], 0 to 1, for superposition on the frame of each of R residues.

    Each protein is scored at its own length: `mask_BL` is True at its residues. pTM is the best of all its alignments
    (`best_alignment`).
    """
    length_B = mask_BL.sum(dim=1)
    expected_BRL = _expected_tm_term(logits_BRLN, length_B)
    return (expected_BRL * mask_BL.unsqueeze(1)).sum(dim=-1) / length_B.unsqueeze(1)


def best_alignment(per_alignment_BL: Tensor, mask_BL: Tensor) -> Tensor:
    """Return the best score [B] over the alignments on each residue; `mask_BL` is True at residues."""
    return per_alignment_BL.masked_fill(~mask_BL, 0).amax(dim=1)


def interface_tm_of_alignments(logits_BRLN: Tensor, chain_BR: Tensor, chain_BL: Tensor) -> Tensor:
    """Return the expected interface TM-score [B, R], 0 to 1, for superposition on the frame of each of R residues.

    Evans et al. 2021 (AlphaFold-Multimer), section 2.4, and `predicted_tm_score(interface=True)` of its release: d0 is
    that of all chains together, and each alignment is scored on the residues of the other chains. ipTM is the best of
    all alignments (`best_alignment`); it is 0 for a single chain.

    `chain_BL` numbers each residue's chain and is negative at padding and linkers; `chain_BR` are its R entries.
    """
    is_residue_BL = chain_BL >= 0
    expected_BRL = _expected_tm_term(logits_BRLN, is_residue_BL.sum(dim=1))
    between_BRL = (chain_BR.unsqueeze(2) != chain_BL.unsqueeze(1)) & is_residue_BL.unsqueeze(1)
    return (expected_BRL * between_BRL).sum(dim=-1) / between_BRL.sum(dim=-1).clamp(min=1)


def _expected_tm_term(logits_BRLN: Tensor, length_B: Tensor) -> Tensor:
    """Return the expected 1 / (1 + (error / d0)^2), [B, R, L], with d0 of proteins of `length_B` residues."""
    d0_B = 1.24 * (length_B.clamp(min=_MIN_TM_LENGTH) - 15).float().pow(1 / 3) - 1.8
    tm_BN = 1 / (1 + (pae_centres(logits_BRLN.device) / d0_B.unsqueeze(1)).square())
    return (logits_BRLN.softmax(dim=-1) @ tm_BN[:, None, :, None]).squeeze(-1)


def pae_centres(device: torch.device) -> Tensor:
    """Return the centres [N] of the error bins in angstrom: 0.25, 0.75, ... 31.75."""
    width = MAX_PAE / (NUM_PAE_BINS - 2)
    return (torch.arange(NUM_PAE_BINS, device=device) + 0.5) * width
