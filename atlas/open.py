"""The old name of `foldatlas.atlas.reader`, kept for one release."""

import warnings

from foldatlas.atlas.reader import Atlas

__all__ = ["Atlas"]

warnings.warn("foldatlas.atlas.open is now foldatlas.atlas.reader", DeprecationWarning, stacklevel=2)
