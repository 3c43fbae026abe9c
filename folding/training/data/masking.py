"""Which residues of a sequence are hidden, and what stands in their place: BERT's recipe, as ESM-2 was trained.

15 % of the residues are asked for (Devlin et al. 2019; Lin et al. 2023, A.1.1). Of those 80 % are replaced by <mask>,
10 % by a random standard residue, and 10 % stay. <cls> and <eos> are never asked for. As in fairseq the number is
15 % of the length, rounded up or down at random so that its mean is exact.

Everything comes from a generator that the caller seeds, so that a mask belongs to an example, not to a process.

Shapes: T tokens of one sequence.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from foldatlas.folding.network.tokens import AATYPE_TOKENS, CLS, EOS, MASK
from foldatlas.schemas.records import STANDARD_RESIDUES

Tokens = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

ASKED: Final = 0.15  # of the residues
HIDDEN: Final = 0.8  # of those asked for
CHANGED: Final = 0.1

_STANDARD: Final = np.array(AATYPE_TOKENS[: len(STANDARD_RESIDUES)], dtype=np.int64)


def mask(tokens_T: Tokens, generator: np.random.Generator) -> tuple[Tokens, Mask]:
    """A copy of the tokens with some replaced, and where residues are asked for (True), replaced or not."""
    residues = np.flatnonzero((tokens_T != CLS) & (tokens_T != EOS))
    number = int(ASKED * len(residues) + generator.random())
    asked = generator.permutation(residues)[:number]
    draw = generator.random(number)
    random_residue = generator.choice(_STANDARD, number)
    seen_T = tokens_T.copy()
    is_changed = (draw >= HIDDEN) & (draw < HIDDEN + CHANGED)
    seen_T[asked[draw < HIDDEN]] = MASK
    seen_T[asked[is_changed]] = random_residue[is_changed]
    is_asked_T = np.zeros(len(tokens_T), dtype=np.bool_)
    is_asked_T[asked] = True
    return seen_T, is_asked_T
