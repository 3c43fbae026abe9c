"""The server's side of SQL: the template, a confined process per statement, and the frames that it writes."""

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.published import LocalIndex, index_of
from foldatlas.atlas.serve.cage.frames import DATA, END, FAILED, HEADER_BYTES, unpacked
from foldatlas.atlas.serve.cage.query import NAMED, SqlRequest
from foldatlas.schemas.errors import FoldAtlasError, QueryError

START_SECONDS: Final = 240.0  # for the template to import everything and compile TM-align, on a busy machine
GRACE_SECONDS: Final = 3.0  # after its time limit until a process is killed
KEPT_VARIABLES: Final = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "PYTHONPATH",
    "PYTHONUTF8",
    "LD_LIBRARY_PATH",
    "TZ",
    "NUMBA_CACHE_DIR",
)
# A process with one thread can be forked: no threads of numpy, nor of the allocator that pyarrow brings.
ONE_THREAD: Final = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}

_TEMPLATE: Final = "foldatlas.atlas.serve.cage.template"

_LOG: Final = logging.getLogger("foldatlas.serve")


@dataclass(frozen=True)
class SqlLimits:
    """Limits of one statement; `processes` run at a time, `waiting` wait."""

    memory_bytes: int = 1 << 30
    temporary_bytes: int = 4 << 30
    seconds: float = 30
    transfer_seconds: float = 600  # until the client has taken the result
    rows: int = 1_000_000
    threads: int = 1
    processes: int = 2
    waiting: int = 20


class CageError(FoldAtlasError):
    """The process of a statement could not be started, or ended before its result was complete."""


class Running:
    """The process of one statement."""

    def __init__(self, process: int, result: int, temporary: Path, seconds: float):
        self._process = process
        self._result = result
        self._temporary = temporary
        self._seconds = seconds
        self._reader: asyncio.StreamReader | None = None
        self._transport: asyncio.ReadTransport | None = None

    async def frames(self) -> AsyncIterator[tuple[bytes, bytes]]:
        """Yield the kind and the bytes of each frame, up to the last. Raise CageError, QueryError for an error in the
        statement."""
        reader = await self._open()
        async with asyncio.timeout(self._seconds):
            while True:
                try:
                    kind, length = unpacked(await reader.readexactly(HEADER_BYTES))
                    data = await reader.readexactly(length)
                except (asyncio.IncompleteReadError, ValueError) as error:
                    raise CageError(
                        "the process of the statement ended before its result: it needed too much memory or time"
                    ) from error
                if kind == FAILED:
                    raise QueryError(json.loads(data)["detail"])
                if kind == END:
                    return
                yield kind, data

    async def _open(self) -> asyncio.StreamReader:
        loop = asyncio.get_running_loop()
        self._reader = asyncio.StreamReader(limit=1 << 20)
        protocol = asyncio.StreamReaderProtocol(self._reader)
        file = os.fdopen(self._result, "rb", buffering=0)
        self._result = -1
        self._transport, _ = await loop.connect_read_pipe(lambda: protocol, file)
        return self._reader

    def close(self) -> None:
        """Kill the process if it still runs, and delete its temporary files."""
        if self._process >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)
            os.close(self._process)
            self._process = -1
        if self._transport is not None:
            self._transport.close()
        elif self._result >= 0:
            os.close(self._result)
            self._result = -1
        shutil.rmtree(self._temporary, ignore_errors=True)


class SqlProcesses:
    """Confined processes for statements on one atlas. Use it as a context manager.

    `problem` says why SQL is off: without a confinement that holds there is none.
    """

    def __init__(self, folder: AtlasFolder, limits: SqlLimits | None = None, *, checked: bool = True):
        self.limits = limits if limits is not None else SqlLimits()
        self.problem: str | None = None
        self._folder = folder
        self._index = index_of(folder)
        self._checked = checked
        self._lock = threading.Lock()
        self._template: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def __enter__(self) -> Self:
        try:
            possible = asyncio.run(self._probe())
            if possible:
                self.problem = f"the confinement does not hold: a process could {', '.join(possible)}"
        except (FoldAtlasError, OSError, TimeoutError) as error:
            self.problem = f"processes cannot be confined: {error}"
        if self.problem is not None:
            _LOG.warning("SQL is off: %s", self.problem)
            self.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the template and all processes of statements."""
        with self._lock:
            self._stop()

    async def run(self, request: SqlRequest, index: Path | None = None) -> Running:
        """Start the process of a statement on the index in a file, which stays until it ended. Raise CageError.

        Without `index` it is the published one. If that is replaced after the process was allowed to read the file of
        this name and before it opens it, the statement fails.
        """
        if self.problem is not None:
            raise CageError(self.problem)
        return await asyncio.to_thread(self._start, request, False, index)

    async def _probe(self) -> list[str]:
        running = await asyncio.to_thread(self._start, SqlRequest("", None, "json", 0, 1), True)
        try:
            [possible] = [
                msgspec.json.decode(data, type=list[str]) async for kind, data in running.frames() if kind == DATA
            ]
            return possible
        finally:
            running.close()

    def _start(self, request: SqlRequest, probe: bool, index: Path | None = None) -> Running:
        temporary = Path(tempfile.mkdtemp(prefix="foldatlas-sql-"))
        request_read, request_write = os.pipe()
        result_read, result_write = os.pipe()
        index = index if index is not None else self._index.local_path()
        message = {
            "index": str(index.resolve()),
            "temporary": str(temporary.resolve()),
            "functions": NAMED.search(f"{request.sql} {request.condition or ''}") is not None,
            "probe": probe,
        }
        try:
            process = self._fork(json.dumps(message).encode(), [request_read, result_write])
        except BaseException:
            os.close(result_read)
            os.close(request_write)
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        finally:
            os.close(request_read)
            os.close(result_write)
        running = Running(process, result_read, temporary, request.seconds + self.limits.transfer_seconds)
        try:
            with open(request_write, "wb") as file:
                file.write(msgspec.json.encode(request))
        except BrokenPipeError:
            pass  # it died: its frames end early, which `frames` raises
        return running

    def _fork(self, message: bytes, descriptors: list[int]) -> int:
        """Return a descriptor of a new process. A template that died is started again, once."""
        with self._lock:
            for last_try in (False, True):
                try:
                    control = self._ready()
                    socket.send_fds(control, [message], descriptors)
                    text, received, _, _ = socket.recv_fds(control, 4_096, 1)
                    if not text:
                        raise ConnectionError("the template ended")
                    if not received:
                        raise CageError(str(json.loads(text).get("error")))
                    return received[0]
                except (OSError, ConnectionError) as error:
                    self._stop()
                    if last_try:
                        raise CageError(f"the process of a statement cannot be started: {error}") from error
        raise AssertionError("the last try returns or raises")

    def _ready(self) -> socket.socket:
        if self._control is not None:
            return self._control
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        settings: dict[str, Any] = {
            "root": str(self._folder.root) if self._folder.is_local else tempfile.gettempdir(),
            "is_local": isinstance(self._index, LocalIndex),
            "model": self._folder.header().settings.model,
            "memory_bytes": self.limits.memory_bytes,
            "temporary_bytes": self.limits.temporary_bytes,
            "processor_seconds": int(self.limits.seconds * (self.limits.threads + 1)) + 5,
            "threads": self.limits.threads,
            "checked": self._checked,
        }
        with theirs:
            self._template = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    _TEMPLATE,
                    str(theirs.fileno()),
                    json.dumps(settings),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ} | ONE_THREAD,
                start_new_session=True,  # Ctrl-C is for the server
            )
        ours.settimeout(START_SECONDS)
        self._control = ours
        if ours.recv(16) != b"ready":
            raise ConnectionError("the template cannot be started")
        return ours

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._template is not None:
            try:
                self._template.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                self._template.kill()
                self._template.wait()
            self._template = None
