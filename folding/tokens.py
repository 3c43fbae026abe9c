"""Sequences as numbers: residue types for the folding trunk, tokens for the language model.

The vocabulary is ESM-2's (Lin et al. 2023): <cls> 0, <pad> 1, <eos> 2, then the residues.

Shapes: B proteins of a batch, L residues of the longest, T = L + 2 tokens (one before, one after the residues).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from foldatlas.folding.residue_constants import UNKNOWN_AATYPE
from foldatlas.schemas.errors import SequenceError
from foldatlas.schemas.records import RESIDUES, STANDARD_RESIDUES

NUM_TOKENS: Final = 33
CLS: Final = 0
PAD: Final = 1
EOS: Final = 2

# Token of each residue type; the last is X, which stands for all that are not standard.
AATYPE_TOKENS: Final = (5, 10, 17, 13, 23, 16, 9, 6, 21, 12, 4, 15, 20, 18, 14, 8, 11, 22, 19, 7, 24)

_AATYPE: Final = dict.fromkeys(RESIDUES, UNKNOWN_AATYPE) | {
    residue: aatype for aatype, residue in enumerate(STANDARD_RESIDUES)
}


@dataclass(frozen=True, slots=True)
class Batch:
    """Proteins padded to one length.

    `aatype_BL` is the residue type, 0 to 20 (padding: 0); `mask_BL` is True where there is a residue.
    """

    aatype_BL: Tensor
    mask_BL: Tensor


def check_sequence(sequence: str) -> None:
    """Raise SequenceError unless `sequence` has residues, and nothing but upper-case residue codes."""
    if not sequence:
        raise SequenceError("the sequence is empty: give at least one residue")
    for index, residue in enumerate(sequence):
        if residue not in RESIDUES:
            raise SequenceError(
                f"position {index + 1} of {len(sequence)} holds {residue!r}, which is no residue code: "
                "write one upper-case letter, A to Z, for each residue"
            )


def encode(sequences: Sequence[str], device: torch.device | str = "cpu") -> Batch:
    """Residue types of `sequences`, padded at the end to the longest.

    Raises SequenceError for an empty list, an empty sequence or a character that is no residue code.
    """
    if not sequences:
        raise SequenceError("no sequences were given: a batch needs at least one")
    for sequence in sequences:
        check_sequence(sequence)
    aatype_BL = np.zeros((len(sequences), max(map(len, sequences))), dtype=np.int64)
    mask_BL = np.zeros(aatype_BL.shape, dtype=np.bool_)
    for row, sequence in enumerate(sequences):
        aatype_BL[row, : len(sequence)] = [_AATYPE[residue] for residue in sequence]
        mask_BL[row, : len(sequence)] = True
    return Batch(torch.from_numpy(aatype_BL).to(device), torch.from_numpy(mask_BL).to(device))


def language_tokens(batch: Batch) -> Tensor:
    """Tokens [B, T] of a batch: <cls>, residues, <eos> directly after each protein's last residue, <pad>."""
    num_proteins, length = batch.aatype_BL.shape
    residue_tokens = torch.tensor(AATYPE_TOKENS, device=batch.aatype_BL.device)
    tokens_BT = batch.aatype_BL.new_full((num_proteins, length + 2), PAD)
    tokens_BT[:, 0] = CLS
    tokens_BT[:, 1:-1] = residue_tokens[batch.aatype_BL].masked_fill(~batch.mask_BL, PAD)
    eos_position_B1 = batch.mask_BL.sum(dim=1, keepdim=True) + 1
    return tokens_BT.scatter(1, eos_position_B1, EOS)
