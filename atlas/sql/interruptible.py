"""Interruption of long statements by Ctrl-C.

DuckDB 2.0 checks for signals while it runs, but of six Ctrl-C three were lost and the query continued. The statement
therefore runs in another thread; the calling thread receives the signal and interrupts DuckDB.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, Final, TypeVar

Value = TypeVar("Value")

_SECONDS_BETWEEN_TRIES: Final = 0.1


def interruptible_call(
    connection: Any, call: Callable[[], Value], stop: Callable[[], None] | None = None, seconds: float | None = None
) -> Value:
    """Return `call()`, which uses the DuckDB `connection`, or raise what it raises.

    If an exception interrupts this thread meanwhile (KeyboardInterrupt, or that of a signal handler), the statement is
    interrupted before the exception is raised; `stop()` interrupts other work of the call. Raise TimeoutError, in the
    same way, if the call takes longer than `seconds`.
    """
    future: Future[Value] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return future.result(seconds)
    except BaseException:
        if stop is not None:
            stop()
        while not future.done():  # repeated: an interrupt before the statement begins is lost
            connection.interrupt()
            wait([future], _SECONDS_BETWEEN_TRIES)
        raise
