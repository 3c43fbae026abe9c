"""The parent's side of the process that reads files: starts it, gives it tasks, and replaces it after a crash."""

import os
import socket
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import Final

from foldatlas.pipeline import events, progress
from foldatlas.pipeline.importing.messages import Begun, Finished, ReadRequest, Skipping
from foldatlas.pipeline.importing.reading import ReadTask
from foldatlas.pipeline.interruption import give_up, giving_up_if_unwritable, raise_if_stopping, stopping
from foldatlas.pipeline.workers.process import start_child
from foldatlas.schemas.errors import Interrupted, SourceError, WorkerDied

CHILD: Final = ("-P", "-m", "foldatlas.pipeline.importing.child")
FILE_SECONDS: Final = 600.0  # for one file; opening an archive on a slow network counts as a part of its first one
MAX_CRASHES: Final = 100  # of one task; more are a fault of the installation, not of files
_POLL_SECONDS: Final = 0.2


def read_files(task: ReadTask) -> None:
    """Stage the files of a task. An engine may run this any number of times. Raise Interrupted when the run is to
    stop; a source that cannot be reached, or a full disk, ends the run."""
    events.begin(task.log)
    raise_if_stopping()
    with giving_up_if_unwritable("files of an import"):
        try:
            _reader.read(task)
        except SourceError as error:
            give_up(error)
            raise


class Reader:
    """The child process of this process, started when first needed and again after it ended."""

    def __init__(self, command: tuple[str, ...] = (sys.executable, *CHILD)) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._turn = threading.Lock()

    def read(self, task: ReadTask) -> None:
        """Have the child stage a task. A file that ends the child, or takes FILE_SECONDS, is recorded as crashed."""
        crashed: set[int] = set()
        with self._turn:
            while True:
                last = self._try(ReadRequest(task, frozenset(crashed)))
                if last is None:
                    return
                if last in crashed or len(crashed) >= MAX_CRASHES:
                    raise WorkerDied(
                        f"the process that reads files ended {len(crashed) + 1} times with {task.source.name}: see "
                        "the messages above"
                    )
                events.emit("file_crashed", level=events.WARNING, source=task.source.uri, number=last)
                crashed.add(last)

    def _try(self, request: ReadRequest) -> int | None:
        """Return None when the task is done, or the number of the file that ended the child (-1: none was begun)."""
        connection = self._ensure_started()
        last = -1
        try:
            connection.send(request)
            deadline = time.monotonic() + FILE_SECONDS
            while True:
                while not connection.poll(_POLL_SECONDS):
                    if stopping():
                        self.end()
                        raise Interrupted
                    if time.monotonic() > deadline:
                        self.end()
                        return last
                match connection.recv():
                    case Begun(number):
                        last, deadline = number, time.monotonic() + FILE_SECONDS
                        progress.report(progress.BatchDone(1, 1))
                    case Skipping():
                        deadline = time.monotonic() + FILE_SECONDS
                    case Finished(None):
                        return None
                    case Finished(error) if error is not None:
                        raise error
        except (EOFError, BrokenPipeError, ConnectionError):
            self.end()
            return last

    def _ensure_started(self) -> Connection:
        if self._connection is not None and self._process is not None and self._process.poll() is None:
            return self._connection
        self.end()
        ours, theirs = socket.socketpair()
        with theirs:
            command = [*self._command, str(theirs.fileno()), str(os.getpid())]
            self._process = start_child(command, theirs.fileno())
        self._connection = Connection(ours.detach())
        return self._connection

    def end(self) -> None:
        """Kill the child."""
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if connection is not None:
            connection.close()
        if process is not None:
            process.kill()
            process.wait()


_reader: Final = Reader()


def end_reader() -> None:
    """End the child of this process, at the end of a run."""
    _reader.end()
