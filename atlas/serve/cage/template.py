"""The program that forks a confined process for each statement: `python -m foldatlas.atlas.serve.cage.template`.

It imports everything once, and runs no thread, so that a fork takes milliseconds and is whole. It sees no statement:
the server gives it one end of two pipes for each process, and it returns a descriptor of the process, by which the
server can stop it. It ends with the server, when its socket is closed, and its processes with it.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec
import numpy as np

from foldatlas.atlas.macros.parquet_views import PARQUET_VIEWS
from foldatlas.atlas.serve.cage import query
from foldatlas.atlas.serve.cage.confine import Confinement, confine, escapes
from foldatlas.atlas.serve.cage.frames import DATA, END, FAILED, packed
from foldatlas.atlas.sql.query import read_only

MAX_MESSAGE: Final = 16 << 10
# DuckDB reads the limits of its control group when it starts; it ends with an abort if it may not.
CONTROL_GROUPS: Final = tuple(path for path in (Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")) if path.exists())
_DEATH_SIGNAL: Final = 1  # prctl
_CHILDREN: Final[set[int]] = set()


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    settings = json.loads(sys.argv[2])
    os.chdir(settings["root"])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _load()
    control.send(b"ready")
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, MAX_MESSAGE, 2)
        _reap()
        if not message:
            break
        _serve(control, settings, json.loads(message), descriptors)
    for child in _CHILDREN:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def _load() -> None:
    """Import what a statement needs, because confined processes can read no module.

    DuckDB ends its threads when it is closed.
    """

    connection = duckdb.connect(config={"threads": 1, "arrow_lossless_conversion": True})
    sql = "SELECT 1::UTINYINT AS a, uuid() AS b, [1.5] AS c, now() AS d, 1.5::DECIMAL(9, 2) AS e, {'x': 1} AS f"
    with open(os.devnull, "wb") as nothing:
        for format in query._WRITERS:
            query._WRITERS[format](read_only(connection.cursor(), sql), nothing)
    connection.close()


def _warm() -> None:
    """Compile TM-align before the fork."""
    from foldatlas.atlas.macros import functions

    helix = np.array([[2.3 * np.cos(1.75 * i), 2.3 * np.sin(1.75 * i), 1.5 * i] for i in range(20)], np.float32)
    row = "A" * 20, *(np.repeat(helix[:, axis] * 100, 5).astype(int).tolist() for axis in range(3))
    functions._tm_align(*row, *row)


def _serve(control: socket.socket, settings: dict[str, Any], message: dict[str, Any], descriptors: list[int]) -> None:
    """Fork one process, and send a descriptor of it."""
    request, result = descriptors
    try:
        if message["functions"]:
            _warm()
        if len(os.listdir("/proc/self/task")) != 1:
            raise OSError("the template has several threads")
        child = os.fork()
        if child == 0:
            control.close()
            _confined(settings, message, request, result)  # does not return
        _CHILDREN.add(child)
        process = os.pidfd_open(child)
    except Exception as error:
        control.send(json.dumps({"error": str(error)}).encode())
        return
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    socket.send_fds(control, [b"{}"], [process])
    os.close(process)


def _confined(settings: dict[str, Any], message: dict[str, Any], request: int, result: int) -> None:
    """Be the process of one statement: confine it, run it, end."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        place = query.Place(
            index=Path(message["index"]),
            is_local=settings["is_local"],
            model=settings["model"],
            temporary=Path(message["temporary"]),
            memory_bytes=settings["memory_bytes"],
            temporary_bytes=settings["temporary_bytes"],
            threads=settings["threads"],
        )
        confine(
            Confinement(
                readable=(*CONTROL_GROUPS, place.index, *(_folders() if place.is_local else ())),
                temporary=place.temporary,
                memory_bytes=place.memory_bytes,
                processor_seconds=settings["processor_seconds"],
                temporary_bytes=place.temporary_bytes,
            )
        )
        with open(request, "rb") as file:
            given = file.read()

        def write(frame: bytes) -> None:
            view = memoryview(frame)
            while view:
                view = view[os.write(result, view) :]

        if message["probe"]:
            query.connect(place).execute("SELECT count(*) FROM scores").fetchall()
            write(packed(DATA, msgspec.json.encode(escapes(Path.cwd(), place.index))) + packed(END))
        else:
            query.answer(msgspec.json.decode(given, type=query.SqlRequest), place, write, checked=settings["checked"])
        code = 0
    except BrokenPipeError:
        code = 0  # the server does not want the rest
    except BaseException as error:
        detail = str(error) if message["probe"] else "the statement failed unexpectedly"
        with contextlib.suppress(OSError):
            os.write(result, packed(FAILED, msgspec.json.encode({"detail": detail})))
    finally:
        os._exit(code)


def _folders() -> list[Path]:
    """Return the folders of Parquet files that SQL reads, of the atlas that is the working folder."""
    return [folder for name in PARQUET_VIEWS if (folder := Path.cwd() / name).is_dir()]


def _reap() -> None:
    for child in list(_CHILDREN):
        if os.waitpid(child, os.WNOHANG)[0]:
            _CHILDREN.discard(child)


if __name__ == "__main__":
    main()
