"""Keep what Beam prints about its own end off the terminal: tens of lines that repeat one error.

Messages and exceptions of this program still come through.
"""

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Final

import grpc
from apache_beam.runners.worker import sdk_worker

# Beam's threads that read from the server until it ends, and how long each may take to end after it.
_BEAM_THREADS: Final = ("run_worker", "read_grpc_client_inputs", "wait_until_finish_read")
_THREAD_SECONDS: Final = 1.0


@contextlib.contextmanager
def quiet_job() -> Iterator[None]:
    """Within the block, and until Beam's threads have ended after their server, keep Beam from printing."""
    with _without_log(), _without_prints(), _without_lost_connections():
        try:
            yield
        finally:
            for thread in threading.enumerate():
                if thread.name.startswith(_BEAM_THREADS):
                    thread.join(_THREAD_SECONDS)


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """Silence Beam's logger, and the root logger itself, on which Beam logs messages of the job service."""
    beam, root = logging.getLogger("apache_beam"), logging.getLogger()
    level = beam.level

    def is_named(record: logging.LogRecord) -> bool:
        return record.name != "root"

    beam.setLevel(logging.CRITICAL + 1)
    root.addFilter(is_named)
    try:
        yield
    finally:
        root.removeFilter(is_named)
        beam.setLevel(level)


@contextlib.contextmanager
def _without_prints() -> Iterator[None]:
    """Silence `print` in the module of Beam's worker, which prints tracebacks where it runs in this process."""
    sdk_worker.print = lambda *_, **__: None  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del sdk_worker.print  # type: ignore[attr-defined]


@contextlib.contextmanager
def _without_lost_connections() -> Iterator[None]:
    """Silence the RpcError with which threads end when their server has ended."""
    usual = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if not isinstance(arguments.exc_value, grpc.RpcError):
            usual(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = usual
