"""What a Dask worker process runs first: `dask worker --preload foldatlas.pipeline.engines.dask.preload`.

Ctrl-C reaches every process of a terminal's group; workers and their children leave it to the driver.
"""

import logging
import signal
import warnings
from typing import Any, Final

SILENT: Final = logging.CRITICAL + 1


def dask_setup(_worker: Any) -> None:
    """Prepare a worker. Dask calls this when the worker starts, in its main thread."""
    be_quiet()
    # errors of the work are messages to the driver (worker.py), which logs each once
    logging.getLogger().addHandler(logging.NullHandler())


def be_quiet() -> None:
    """Ignore SIGINT and silence Dask, which logs 200 lines when workers end. The driver handles both."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    quiet_dask()
    import foldatlas.pipeline.engines.graph  # noqa: F401 - imports Beam without its notes on missing packages


def quiet_dask() -> None:
    """Silence the loggers of Dask in this process. Its failures are reported by the code that waits for its results."""
    for name in ["distributed", *logging.root.manager.loggerDict]:
        if name.partition(".")[0] in ("distributed", "tornado"):
            logging.getLogger(name).setLevel(SILENT)
    warnings.filterwarnings("ignore", message=".*[Ll]arge graph.*")
