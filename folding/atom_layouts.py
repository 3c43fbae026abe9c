"""The old name of `foldatlas.folding.compare.atom_layouts`, kept for one release."""

import warnings

from foldatlas.folding.compare.atom_layouts import atom14, atom37

__all__ = ["atom14", "atom37"]

warnings.warn(
    "foldatlas.folding.atom_layouts is now foldatlas.folding.compare.atom_layouts", DeprecationWarning, stacklevel=2
)
