"""The old name of `foldatlas.pipeline.engines.dask.preload`, kept for one release."""

import warnings

from foldatlas.pipeline.engines.dask.preload import be_quiet, dask_setup, quiet_dask

__all__ = ["be_quiet", "dask_setup", "quiet_dask"]

warnings.warn(
    "foldatlas.pipeline.dask_preload is now foldatlas.pipeline.engines.dask.preload", DeprecationWarning, stacklevel=2
)
