"""A child process and the connection to it, as its parent uses them: messages with deadlines, and the child's end."""

import contextlib
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Final

from foldatlas.pipeline import events
from foldatlas.pipeline.interruption import stopping
from foldatlas.pipeline.workers.messages import Message
from foldatlas.pipeline.workers.process import start_child
from foldatlas.pipeline.workers.wire import Arrays, WireError, receive, send
from foldatlas.schemas.errors import FoldAtlasError, Interrupted, WorkerDied, WorkerTimeout

STALL_SECONDS: Final = 20.0  # the child hangs if a message stops halfway, in either direction, for so long
END_SECONDS: Final = 60.0  # a killed process that has not ended after that is blocked in a device driver
POLL_SECONDS: Final = 0.2  # between two looks at the clock and at the stop flag, while waiting for a message
_EXIT_SECONDS: Final = 10.0  # from the end of the connection to that of the process


class Link:
    """A child process and the connection to it.

    After WorkerDied, WorkerTimeout and Interrupted of any method it is of no more use, and is to be ended by `kill`.
    """

    def __init__(self, process: subprocess.Popen[bytes], connection: Connection):
        self.process = process
        self._connection = connection

    @classmethod
    def started(cls, command: Callable[[int], list[str]]) -> "Link":
        """Start a child, whose command line is `command` of the descriptor that it inherits."""
        ours, theirs = socket.socketpair()
        # without a timeout, a child that is stopped in the middle of a message would block its parent for ever
        for direction in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, direction, struct.pack("ll", *divmod(round(STALL_SECONDS * 1e6), 10**6)))
        with contextlib.ExitStack() as stack:
            stack.enter_context(theirs)
            stack.callback(ours.close)  # without a process; otherwise it is detached
            process = start_child(command(theirs.fileno()), theirs.fileno())
            return cls(process, Connection(ours.detach()))

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def send(self, message: Message) -> None:
        """Send a message. Raise WorkerTimeout if the child does not take it. One that ended is found by `receive`."""
        try:
            send(self._connection, message)
        except BlockingIOError:
            raise WorkerTimeout(f"it accepted no work for {STALL_SECONDS:.0f} s") from None
        except OSError:
            pass

    def receive(self, seconds: float, since: float) -> tuple[Message, Arrays]:
        """Return the child's next message. Raise WorkerTimeout if none comes within `seconds` of `since`, WorkerDied if
        the child ended, and Interrupted if the run is to stop."""
        try:
            while not self._connection.poll(POLL_SECONDS):
                if stopping():
                    raise Interrupted
                if time.monotonic() > since + seconds:
                    raise self._overdue(seconds, f"no answer within {seconds:.0f} s")
            return receive(self._connection)
        except BlockingIOError:
            raise self._overdue(STALL_SECONDS, f"its answer stopped halfway for {STALL_SECONDS:.0f} s") from None
        except WireError as error:
            raise self.died(str(error)) from error
        except (EOFError, OSError):
            raise self.died(self._how_it_ended()) from None

    def _overdue(self, seconds: float, reason: str) -> WorkerTimeout:
        events.emit("child_overdue", level=events.WARNING, child=self.pid, deadline_seconds=seconds)
        return WorkerTimeout(reason)

    def died(self, reason: str) -> WorkerDied:
        """Return the error for a child that ended, or that cannot be used any more."""
        events.emit("child_died", level=events.WARNING, child=self.pid, reason=reason)
        return WorkerDied(reason)

    def _how_it_ended(self) -> str:
        try:
            code = self.process.wait(timeout=_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            return "the child process closed its connection and did not end"
        if code >= 0:
            return f"the child process ended with exit code {code}"
        with contextlib.suppress(ValueError):  # a signal without a name
            return f"the child process was killed by {signal.Signals(-code).name}"
        return f"the child process was killed by signal {-code}"

    def kill(self, device: str) -> None:
        """Kill the child and wait until the kernel has freed its memory and locks.

        Raise FoldAtlasError if it does not end: `device` hangs, and no batch could be computed there.
        """
        self._connection.close()
        self.process.kill()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            raise FoldAtlasError(
                f"the child process {self.pid} was killed and has not ended within {END_SECONDS:.0f} s: the driver of "
                f"{device} hangs; restart the machine, and run the same command again"
            ) from None
