"""What a Dask worker runs before anything else: `dask worker --preload foldatlas.pipeline.engines.dask.preload`.

Ctrl-C reaches every process of a terminal's group; workers and their children leave the answer to the driver.
"""

import logging
import signal
import warnings
from typing import Any, Final

SILENT: Final = logging.CRITICAL + 1


def dask_setup(_worker: Any) -> None:
    """Dask calls this when the worker starts, in its main thread."""
    be_quiet()
    # the driver tells the errors of the work, once (worker.py)
    logging.getLogger().addHandler(logging.NullHandler())


def be_quiet() -> None:
    """Ctrl-C is the driver's, and so is telling what went wrong: Dask logs 200 lines when workers end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    quiet_dask()
    import foldatlas.pipeline.engines.graph  # noqa: F401 - imports Beam without its notes on what is not installed


def quiet_dask() -> None:
    """Dask logs nothing in this process: what goes wrong is told by those who wait for it."""
    for name in ["distributed", *logging.root.manager.loggerDict]:
        if name.partition(".")[0] in ("distributed", "tornado"):
            logging.getLogger(name).setLevel(SILENT)
    warnings.filterwarnings("ignore", message=".*[Ll]arge graph.*")
