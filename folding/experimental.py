"""The old name of `foldatlas.folding.compare.experimental`, kept for one release."""

import warnings

from foldatlas.folding.compare.experimental import Chain, read_chains

__all__ = ["Chain", "read_chains"]

warnings.warn(
    "foldatlas.folding.experimental is now foldatlas.folding.compare.experimental", DeprecationWarning, stacklevel=2
)
