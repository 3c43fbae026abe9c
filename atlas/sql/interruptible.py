"""Ctrl-C during a long statement.

DuckDB 2.0 looks for signals while it runs, but of six Ctrl-C three were lost and the query ran on. So the statement
runs in a thread of its own, and the caller, who gets the signal, tells DuckDB to stop.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, Final, TypeVar

Value = TypeVar("Value")

_SECONDS_BETWEEN_TRIES: Final = 0.1


def stoppable(connection: Any, call: Callable[[], Value], stop: Callable[[], None] | None = None) -> Value:
    """Returns `call()`, which uses the DuckDB `connection`, and raises what it raises.

    Where the caller is interrupted meanwhile (KeyboardInterrupt, or what a signal handler raises), the statement is
    stopped first; `stop()` ends what else the call may be at.
    """
    future: Future[Value] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return future.result()
    except BaseException:
        if stop is not None:
            stop()
        while not future.done():  # one interrupt is lost if it comes before the statement begins
            connection.interrupt()
            wait([future], _SECONDS_BETWEEN_TRIES)
        raise
