"""Encoding of sequences: residue types for the folding trunk, tokens for the language model.

The vocabulary is ESM-2's (Lin et al. 2023): <cls> 0, <pad> 1, <eos> 2, then the residues.

Shapes: B proteins of a batch, L residues of the longest, T = L + 2 tokens (<cls>, residues, <eos>).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from foldatlas.folding.network.residue_constants import UNKNOWN_AATYPE
from foldatlas.schemas.errors import SequenceError
from foldatlas.schemas.records import RESIDUES, STANDARD_RESIDUES

NUM_TOKENS: Final = 33
CLS: Final = 0
PAD: Final = 1
EOS: Final = 2
UNKNOWN: Final = 3
MASK: Final = 32

# Token of each residue type; the last is X, the type of all residues that are not standard.
AATYPE_TOKENS: Final = (5, 10, 17, 13, 23, 16, 9, 6, 21, 12, 4, 15, 20, 18, 14, 8, 11, 22, 19, 7, 24)

# ESM-2's own tokens: B, U, Z and O have one of their own, although the trunk has no type for them; J has none.
LANGUAGE_TOKENS: Final = {
    **dict(zip(STANDARD_RESIDUES, AATYPE_TOKENS, strict=False)),
    "X": 24,
    "B": 25,
    "U": 26,
    "Z": 27,
    "O": 28,
    "J": UNKNOWN,
}
NO_CHAIN: Final = -1

_AATYPE: Final = dict.fromkeys(RESIDUES, UNKNOWN_AATYPE) | {
    residue: aatype for aatype, residue in enumerate(STANDARD_RESIDUES)
}


@dataclass(frozen=True, slots=True)
class Batch:
    """Proteins padded to one length.

    `aatype_BL` is the residue type, 0 to 20 (0 at padding); `mask_BL` is True at residues and linkers. If any protein
    has several chains, `residue_index_BL` gives the positions from which relative positions are computed, and
    `chain_BL` the number of each residue's chain, NO_CHAIN at linkers and padding; otherwise both are None. `lengths`
    are the sums of `mask_BL` over each protein, known without reading the device; None if they are not.
    """

    aatype_BL: Tensor
    mask_BL: Tensor
    residue_index_BL: Tensor | None = None
    chain_BL: Tensor | None = None
    lengths: tuple[int, ...] | None = None

    @property
    def is_residue_BL(self) -> Tensor:
        """True at the residues of the chains; False at padding, and at linkers, which the network does read."""
        return self.mask_BL if self.chain_BL is None else self.chain_BL != NO_CHAIN


def check_sequence(sequence: str) -> None:
    """Raise SequenceError if `sequence` is empty or has a character other than an upper-case residue code."""
    if not sequence:
        raise SequenceError("the sequence is empty: give at least one residue")
    for index, residue in enumerate(sequence):
        if residue not in RESIDUES:
            raise SequenceError(
                f"position {index + 1} of {len(sequence)} has {residue!r}, which is not a residue code: "
                "use one upper-case letter, A to Z, for each residue"
            )


def check_batch(sequences: Sequence[str]) -> None:
    """Raise SequenceError for an empty list, a single string or an element that is not a string.

    A single string would otherwise be read as a list of one-residue proteins.
    """
    if isinstance(sequences, str):
        raise SequenceError(f"one string was given, {sequences[:20]!r}: give a list of sequences")
    if not sequences:
        raise SequenceError("no sequences were given: a batch needs at least one")
    for number, sequence in enumerate(sequences, start=1):
        if not isinstance(sequence, str):
            found = type(sequence).__name__
            raise SequenceError(f"sequence {number} of {len(sequences)} is a {found}, {sequence!r:.40}: give strings")


def check_sequences(sequences: Sequence[str]) -> None:
    """Raise SequenceError as `check_batch`, and as `check_sequence` for each sequence."""
    check_batch(sequences)
    for sequence in sequences:
        check_sequence(sequence)


def encode(sequences: Sequence[str], device: torch.device | str = "cpu") -> Batch:
    """Return the residue types of `sequences`, padded at the end to the longest.

    Raise SequenceError for an empty list, an empty sequence or a character that is not a residue code.
    """
    check_sequences(sequences)
    aatype_BL = np.zeros((len(sequences), max(map(len, sequences))), dtype=np.int64)
    mask_BL = np.zeros(aatype_BL.shape, dtype=np.bool_)
    for row, sequence in enumerate(sequences):
        aatype_BL[row, : len(sequence)] = [_AATYPE[residue] for residue in sequence]
        mask_BL[row, : len(sequence)] = True
    lengths = tuple(map(len, sequences))
    return Batch(torch.from_numpy(aatype_BL).to(device), torch.from_numpy(mask_BL).to(device), lengths=lengths)


def widened(batch: Batch, proteins: int, length: int) -> Batch:
    """Return `batch` padded to `proteins` and `length`. The proteins that are added have one residue each."""
    added, columns = proteins - len(batch.mask_BL), length - batch.mask_BL.shape[1]
    if not added and not columns:
        return batch

    def pad(values_BL: Tensor, value: int) -> Tensor:
        return F.pad(values_BL, (0, columns, 0, added), value=value)

    mask_BL = pad(batch.mask_BL, False)
    mask_BL[len(batch.mask_BL) :, 0] = True
    chain_BL = None if batch.chain_BL is None else pad(batch.chain_BL, NO_CHAIN)
    if chain_BL is not None:
        chain_BL[len(batch.mask_BL) :, 0] = 0
    return Batch(
        pad(batch.aatype_BL, 0),
        mask_BL,
        None if batch.residue_index_BL is None else pad(batch.residue_index_BL, 0),
        chain_BL,
        None if batch.lengths is None else batch.lengths + (1,) * added,
    )


def of_proteins(batch: Batch, rows: Sequence[int]) -> Batch:
    """Return the batch of these rows of `batch`, with the same padding."""
    index = torch.tensor(rows, device=batch.mask_BL.device)
    return Batch(
        batch.aatype_BL[index],
        batch.mask_BL[index],
        None if batch.residue_index_BL is None else batch.residue_index_BL[index],
        None if batch.chain_BL is None else batch.chain_BL[index],
        None if batch.lengths is None else tuple(batch.lengths[row] for row in rows),
    )


def language_tokens(batch: Batch) -> Tensor:
    """Return the tokens [B, T] of a batch: <cls>, residues, <eos> directly after the last residue, <pad>."""
    num_proteins, length = batch.aatype_BL.shape
    residue_tokens = _aatype_tokens(batch.aatype_BL.device)
    tokens_BT = batch.aatype_BL.new_full((num_proteins, length + 2), PAD)
    tokens_BT[:, 0] = CLS
    tokens_BT[:, 1:-1] = residue_tokens[batch.aatype_BL].masked_fill(~batch.mask_BL, PAD)
    eos_position_B1 = batch.mask_BL.sum(dim=1, keepdim=True) + 1
    return tokens_BT.scatter(1, eos_position_B1, EOS)


@cache
def _aatype_tokens(device: torch.device) -> Tensor:
    """Return AATYPE_TOKENS on `device`. Copied there once, since the host waits for the copy."""
    with torch.inference_mode(False):  # training reads it too
        return torch.tensor(AATYPE_TOKENS, device="cpu").to(device)


def encode_language(sequences: Sequence[str], device: torch.device | str = "cpu") -> Tensor:
    """Return ESM-2's own tokens [B, T] of `sequences`: <cls>, residues, <eos>, <pad>.

    Folding encodes B, Z, U and O as X; here each has its own token, with which ESM-2 was trained. J is <unk>.
    Raise SequenceError as `encode`.
    """
    check_sequences(sequences)
    tokens_BT = np.full((len(sequences), max(map(len, sequences)) + 2), PAD, dtype=np.int64)
    for row, sequence in enumerate(sequences):
        tokens_BT[row, : len(sequence) + 2] = [CLS, *(LANGUAGE_TOKENS[residue] for residue in sequence), EOS]
    return torch.from_numpy(tokens_BT).to(device)
