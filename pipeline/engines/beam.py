"""Apache Beam, imported without its warnings about Google libraries on the root logger.

Import `beam` and `PipelineOptions` from here, and wrap imports of more of Beam in `quiet_import`.
"""

import contextlib
import gc
import logging
from collections.abc import Iterator

_collecting = gc.isenabled()
gc.disable()  # among modules that are being imported there is no garbage, and looking for it takes a sixth of the time
logging.disable(logging.WARNING)
import apache_beam as beam  # noqa: E402
from apache_beam.options.pipeline_options import PipelineOptions  # noqa: E402

logging.disable(logging.NOTSET)
if _collecting:
    gc.enable()

__all__ = ["PipelineOptions", "beam", "quiet_beam", "quiet_import"]


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Within the block, import more of Beam without its warnings on the root logger, which would also configure that
    logger for the whole process."""
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        root.removeHandler(handler)


@contextlib.contextmanager
def quiet_beam() -> Iterator[None]:
    """Within the block, keep Beam's messages below errors off the terminal."""
    logger = logging.getLogger("apache_beam")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
