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

# Threads of Beam's that read from the server until it is gone, and how long one may take to notice.
_BEAM_THREADS: Final = ("run_worker", "read_grpc_client_inputs", "wait_until_finish_read")
_THREAD_SECONDS: Final = 1.0


@contextlib.contextmanager
def quiet_job() -> Iterator[None]:
    """Within the block, and until Beam's threads have noticed that their server is gone, Beam prints nothing."""
    with _without_log(), _without_prints(), _without_lost_connections():
        try:
            yield
        finally:
            for thread in threading.enumerate():
                if thread.name.startswith(_BEAM_THREADS):
                    thread.join(_THREAD_SECONDS)


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """Beam logs under its own name, and what the job service sends on the root logger itself."""
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
    """A worker in this process prints tracebacks: it finds this `print` in its module before the built-in one."""
    sdk_worker.print = lambda *_, **__: None  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del sdk_worker.print  # type: ignore[attr-defined]


@contextlib.contextmanager
def _without_lost_connections() -> Iterator[None]:
    """Threads whose server has gone end with an RpcError, which Python would print."""
    usual = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if not isinstance(arguments.exc_value, grpc.RpcError):
            usual(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = usual
