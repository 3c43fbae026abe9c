"""What the network says of one protein. numpy alone, so that who receives it needs no torch.

Shapes: A atoms of a protein (records.ATOMS, residue after residue), L residues, D language model channels.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The predicted structure of one protein.

    `positions` [A, 3] is in angstrom, atoms in the order of records.ATOMS, residue after residue (unknown residues
    have N, CA, C, O); `plddt` [L] is 0 to 100, each C-alpha's; `ptm` 0 to 1. `mean_embedding` [D], the language
    model's last state averaged over residues, is None unless asked for.
    """

    sequence: str
    positions: Floats
    plddt: Floats
    ptm: float
    mean_embedding: Floats | None
