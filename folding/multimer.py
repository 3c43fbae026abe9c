"""Several chains as one: what a network trained on single chains is shown of a complex.

The rule is that of the released ESMFold (fair-esm, `esm/esmfold/v1/misc.py`): chains are joined by 25 glycines, and
from chain to chain the residue index, by which the trunk counts relative positions, jumps by 512. The linkers take
part in the network like any residue; no output has them.

Unlike there, pTM leaves the linkers out as well: it is a score of the chains.
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
    """The chains of `A:B:C`. Raises SequenceError that names the chain which is empty or holds no residue code."""
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
    """Proteins, each of one or several chains, as the network sees them.

    Raises SequenceError for an empty list, an empty chain or a character that is no residue code.
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
            # A linker counts on from the chain before it.
            start += len(chain) + len(LINKER)
            residue_index_BL[row, start:] += INDEX_JUMP
    return replace(batch, residue_index_BL=residue_index_BL.to(device), chain_BL=chain_BL.to(device))
