"""Encoding of complexes for a network that was trained on single chains.

As in the published ESMFold (fair-esm, `esm/esmfold/v1/misc.py`), chains are joined by a linker of 25 glycines, and the
residue index, from which the trunk computes relative positions, increases by 512 from chain to chain. The network
processes linkers like other residues; no output includes them.

Unlike there, pTM excludes the linkers too.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import torch

from foldatlas.folding.network.tokens import NO_CHAIN, Batch, check_sequence, encode
from foldatlas.schemas.errors import SequenceError

SEPARATOR: Final = ":"
LINKER: Final = "G" * 25
INDEX_JUMP: Final = 512


def split_chains(sequence: str) -> list[str]:
    """Return the chains of `A:B:C`. Raise SequenceError, with the number of the chain, for an invalid chain."""
    chains = sequence.split(SEPARATOR)
    for number, chain in enumerate(chains, start=1):
        try:
            check_sequence(chain)
        except SequenceError as error:
            if len(chains) == 1:
                raise
            raise SequenceError(f"chain {number} of {len(chains)}: {error}") from error
    return chains


def encode_complexes(complexes: Sequence[Sequence[str]], device: torch.device | str = "cpu") -> Batch:
    """Return the network's input for proteins of one or several chains each.

    Raise SequenceError for an empty list, an empty chain or a character that is not a residue code.
    """
    batch = encode([LINKER.join(chains) for chains in complexes], device)
    if all(len(chains) == 1 for chains in complexes):
        return batch
    residue_index_BL = torch.arange(batch.mask_BL.shape[1]).repeat(len(complexes), 1)
    chain_BL = torch.full_like(residue_index_BL, NO_CHAIN)
    for row, chains in enumerate(complexes):
        start = 0
        for number, chain in enumerate(chains):
            chain_BL[row, start : start + len(chain)] = number
            # The residue index continues through the linker after the chain, then jumps.
            start += len(chain) + len(LINKER)
            residue_index_BL[row, start:] += INDEX_JUMP
    return replace(batch, residue_index_BL=residue_index_BL.to(device), chain_BL=chain_BL.to(device))
