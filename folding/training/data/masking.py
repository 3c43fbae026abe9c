"""Masking of residues: BERT's recipe, with which ESM-2 was trained.

15 % of the residues are selected for prediction (Devlin et al. 2019; Lin et al. 2023, A.1.1). Of these, 80 % are
replaced by <mask>, 10 % by a random standard residue, and 10 % are kept. <cls> and <eos> are never selected. As in
fairseq, the number is 15 % of the length, rounded up or down at random so that its mean is exact.

The caller seeds the random generator by the example, so that its mask does not depend on the process.

Shapes: T tokens of one sequence.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from foldatlas.folding.network.tokens import AATYPE_TOKENS, CLS, EOS, MASK
from foldatlas.schemas.records import STANDARD_RESIDUES

Tokens = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

SELECTED: Final = 0.15  # fraction of the residues
MASKED: Final = 0.8  # fraction of the selected residues that become <mask>
REPLACED: Final = 0.1  # fraction of the selected residues that become a random residue

_STANDARD: Final = np.array(AATYPE_TOKENS[: len(STANDARD_RESIDUES)], dtype=np.int64)


def mask(tokens_T: Tokens, generator: np.random.Generator) -> tuple[Tokens, Mask]:
    """Return the masked tokens, and True at the positions to predict, including those whose token was kept."""
    residues = np.flatnonzero((tokens_T != CLS) & (tokens_T != EOS))
    number = int(SELECTED * len(residues) + generator.random())
    selected = generator.permutation(residues)[:number]
    draw = generator.random(number)
    random_residue = generator.choice(_STANDARD, number)
    masked_T = tokens_T.copy()
    is_replaced = (draw >= MASKED) & (draw < MASKED + REPLACED)
    masked_T[selected[draw < MASKED]] = MASK
    masked_T[selected[is_replaced]] = random_residue[is_replaced]
    is_selected_T = np.zeros(len(tokens_T), dtype=np.bool_)
    is_selected_T[selected] = True
    return masked_T, is_selected_T
