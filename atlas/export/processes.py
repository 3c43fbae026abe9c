"""Run a function on many items in processes of this machine, in any order, with bounded memory.

The processes end when the parent does, also if it is killed: on Linux the kernel kills them, elsewhere each notices
after its item that the other end of its pipe, which only the parent has, is closed. They are started by spawn,
since a fork would copy locks of DuckDB's threads.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from multiprocessing.connection import Connection, wait
from typing import Any, Final, Protocol

from foldatlas.schemas.errors import FoldAtlasError, WorkerDied

_SECONDS_TO_END: Final = 5.0
_PR_SET_PDEATHSIG: Final = 1  # <linux/prctl.h>


class Worker(Protocol):
    """What each process makes once, and applies to its items."""

    def __enter__(self) -> Callable[[Any], Any]: ...
    def __exit__(self, *_: Any) -> None: ...


def in_processes(worker: Worker, items: Iterable[Any], processes: int) -> Iterator[Any]:
    """Yield the result for each item, in the order in which they finish. `worker` and items are picklable.

    With one process, or one item, the work is done in this process. An error of a worker is raised here; WorkerDied if
    one is killed.
    """
    ahead = iter(items)
    first = list(islice(ahead, 2))
    if processes < 2 or len(first) < 2:
        with worker as function:
            for item in chain(first, ahead):
                yield function(item)
        return
    context = multiprocessing.get_context("spawn")
    running: dict[Connection, Any] = {}
    try:
        for item in chain(first, ahead):
            if len(running) == processes:
                yield from _next_results(running, item)
                continue
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, worker, os.getpid()), daemon=True)
            process.start()
            theirs.close()
            running[ours] = process
            _send(ours, process, item)
        while running:
            yield from _next_results(running, None)
    finally:
        for connection in running:
            connection.close()
        for process in running.values():
            process.terminate()
            process.join(_SECONDS_TO_END)


def _next_results(running: dict[Connection, Any], item: Any) -> Iterator[Any]:
    """Wait for a process that is free, yield its result, and send it `item`, or end it if there is none."""
    connection = wait(list(running))[0]
    assert isinstance(connection, Connection)
    try:
        result, error = connection.recv()
    except (EOFError, ConnectionResetError):
        raise _died(running[connection]) from None
    if error is not None:
        raise error
    if item is not None:
        _send(connection, running[connection], item)
    else:
        connection.close()
        running.pop(connection).join(_SECONDS_TO_END)
    yield result


def _send(connection: Connection, process: Any, item: Any) -> None:
    try:
        connection.send((item,))
    except (BrokenPipeError, ConnectionResetError):
        raise _died(process) from None


def _died(process: Any) -> WorkerDied:
    process.join(_SECONDS_TO_END)
    code = process.exitcode or 0
    how = f"was killed ({signal.Signals(-code).name}; out of memory?)" if code < 0 else f"ended with exit code {code}"
    return WorkerDied(f"a process that writes files {how}: run the same command again to resume, or use --workers 1")


def _work(connection: Connection, worker: Worker, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is sent to all processes; the parent ends the work
    if sys.platform == "linux":  # else it could still write while the next try of the same work does
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before prctl was called
        return
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            with worker as function:
                while True:
                    (item,) = connection.recv()
                    connection.send((function(item), None))
        except (FoldAtlasError, OSError) as error:
            if isinstance(error, EOFError | BrokenPipeError | ConnectionResetError):
                raise
            connection.send((None, error))
