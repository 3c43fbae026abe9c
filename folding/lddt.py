"""The old name of `foldatlas.folding.compare.lddt`, kept for one release."""

import warnings

from foldatlas.folding.compare.lddt import Lddt, lddt_all_atom, lddt_ca

__all__ = ["Lddt", "lddt_all_atom", "lddt_ca"]

warnings.warn("foldatlas.folding.lddt is now foldatlas.folding.compare.lddt", DeprecationWarning, stacklevel=2)
