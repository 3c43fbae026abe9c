"""All confinement of a process that runs SQL of strangers, and whether it holds.

Landlock for files, seccomp for system calls, no capabilities, and limits of memory, processor time, and the size of
files. It holds whatever DuckDB does: a process that is taken over can read the atlas and the limits of its control
group, fill its own temporary folder, and write to its own pipe.
"""

import ctypes
import os
import resource
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from foldatlas.atlas.serve.cage import landlock, seccomp

MIN_FILES: Final = 1_024  # that may be open; DuckDB opens those of all row groups that it reads
_MEMORY_OF_THE_PROGRAM: Final = 512 << 20  # beside DuckDB's limit: results on their way, stacks of threads
_CAPABILITY_VERSION: Final = 0x20080522

_libc: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Confinement:
    """Files, bytes of memory beside what the process has, processor seconds, bytes of a temporary file."""

    readable: tuple[Path, ...]
    temporary: Path
    memory_bytes: int
    processor_seconds: int
    temporary_bytes: int


def confine(confinement: Confinement) -> None:
    """Confine this process, which must have one thread. Raise OSError if any part is not possible."""
    if len(os.listdir("/proc/self/task")) != 1:
        raise OSError("the process has several threads, which would not be confined")
    data = next(
        int(line.split()[1]) << 10 for line in Path("/proc/self/status").read_text().splitlines() if "VmData" in line
    )
    _drop_capabilities()
    limits = {
        resource.RLIMIT_DATA: data + confinement.memory_bytes + _MEMORY_OF_THE_PROGRAM,
        resource.RLIMIT_CPU: confinement.processor_seconds,
        resource.RLIMIT_FSIZE: confinement.temporary_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))
    landlock.restrict(confinement.readable, [confinement.temporary])
    seccomp.restrict()


def _drop_capabilities() -> None:
    """Give up all capabilities, which only root has: without them hard limits stay."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if _libc.capset(ctypes.byref(header), ctypes.byref(nothing)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def escapes(atlas: Path, index: Path) -> list[str]:
    """Return what this process could do although it is confined: nothing, where the confinement holds."""
    tried: dict[str, Callable[[], object]] = {
        "read /etc/passwd": lambda: Path("/etc/passwd").read_bytes(),
        "read /proc/self/environ": lambda: Path("/proc/self/environ").read_bytes(),
        "list /": lambda: os.listdir("/"),
        "list the atlas": lambda: os.listdir(atlas),
        "write the index": lambda: open(index, "r+b").close(),
        "truncate the index": lambda: os.truncate(index, index.stat().st_size),
        "delete the index": lambda: os.rename(index, index),
        "change the mode of the index": lambda: os.chmod(index, index.stat().st_mode),
        "change the time of the index": lambda: os.utime(index),
        "write into the atlas": lambda: os.close(os.open(atlas / ".cage", os.O_CREAT | os.O_EXCL | os.O_WRONLY)),
        "make a folder in the atlas": lambda: os.mkdir(atlas / ".cage"),
        "write into /tmp": lambda: os.close(os.open("/tmp/.foldatlas-cage", os.O_CREAT | os.O_EXCL | os.O_WRONLY)),
        "open a socket": lambda: socket.socket().close(),
        "run a program": lambda: subprocess.run(["/bin/true"], check=True),
        "signal another process": lambda: os.kill(os.getppid(), 0),
        "raise a limit": lambda: resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY,) * 2),
    }
    possible = []
    for what, attempt in tried.items():
        try:
            attempt()
        except (OSError, ValueError, subprocess.SubprocessError):
            continue
        possible.append(what)
    return possible
