"""The old name of `foldatlas.pipeline.engines.dask.keys`, kept for one release."""

import sys
import warnings

from foldatlas.pipeline.engines.dask.keys import main, make_keys, use_keys

__all__ = ["main", "make_keys", "use_keys"]

warnings.warn(
    "foldatlas.pipeline.dask_keys is now foldatlas.pipeline.engines.dask.keys", DeprecationWarning, stacklevel=2
)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
