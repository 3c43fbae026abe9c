"""Compilation of the numeric kernels by numba, and the cache of compiled code. Imports numba.

By default numba caches machine code beside the source, which fails if the package is installed read-only, and it does
not detect changes in functions that a cached function calls. Here the cache is a separate folder, named after the
digest of all kernel sources, numba's version and the processor, under the first usable one of these:

    $NUMBA_CACHE_DIR        for workers that share a disk, or have no writable home folder
    $XDG_CACHE_HOME/foldatlas, ~/.cache/foldatlas
    <temporary folder>/foldatlas-numba-<user>

numba unpickles the files in its cache, so a folder that belongs to another user, or that others can write to, is never
used, and a link in the temporary folder is not followed. Without a usable folder every process compiles the kernels
(docs/decisions/0028-tm-align.md gives the times).
"""

import functools
import hashlib
import os
import platform
import stat
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import numba

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_PRIVATE: Final = 0o700
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
# Sums may be reordered, so that they can be vectorised; NaN and infinity keep their meaning.
_FAST_MATH: Final = {"reassoc", "contract", "nsz", "arcp"}


def kernel(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Return `function` compiled at its first call, without the interpreter lock, and cached (`cache_folder`).

    Division by zero gives infinity or NaN, as in numpy.
    """
    folder = cache_folder()
    config: Any = numba.config  # its settings are made when it is imported
    previous, config.CACHE_DIR = config.CACHE_DIR, str(folder or "")
    try:
        compiled: Callable[Parameters, Result] = numba.njit(
            nogil=True, error_model="numpy", fastmath=_FAST_MATH, cache=folder is not None
        )(function)
        return compiled
    finally:
        config.CACHE_DIR = previous  # other users of numba in this process keep their own


def inner(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Return `function` compiled as a part of the kernels that call it; it cannot be called from Python.

    Without the wrapper for Python, and cached as a part of its callers, it takes less time to compile.
    """
    return _part(function, _FAST_MATH)


def exact(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """As `inner`, with the operations as they are written: for float64 arithmetic that is not vectorised.

    The compiler makes a copy of a function for each kernel that calls it, and a process uses the copy that it loaded
    first. Copies of an `inner` function may differ in rounding, since each is optimized with its kernel.
    """
    return _part(function, False)


def _part(function: Callable[Parameters, Result], fast_math: set[str] | bool) -> Callable[Parameters, Result]:
    njit: Any = numba.njit  # typed without the last two options
    compiled: Callable[Parameters, Result] = njit(
        nogil=True, error_model="numpy", fastmath=fast_math, no_cpython_wrapper=True, no_cfunc_wrapper=True
    )(function)
    return compiled


@functools.cache
def cache_folder() -> Path | None:
    """Return the folder of compiled code, created if necessary, or None, with a warning, if there is no usable one."""
    name = f"numba-{_digest()}"
    for base in _bases():
        folder = base / name
        if _usable(base) and _usable(folder):
            return folder
    warnings.warn(
        "no private writable folder for compiled code: every process compiles the kernels again; set NUMBA_CACHE_DIR",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


def _bases() -> list[Path]:
    bases = []
    if os.environ.get("NUMBA_CACHE_DIR"):
        bases.append(Path(os.environ["NUMBA_CACHE_DIR"]))
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if os.path.isabs(home):
        bases.append(Path(home, "foldatlas"))
    return [*bases, Path(tempfile.gettempdir(), f"foldatlas-numba-{_user()}")]


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _digest() -> str:
    """Return the digest of kernel sources, versions and processor, as 16 hexadecimal digits."""
    import llvmlite.binding

    digest = hashlib.sha256()
    for part in (numba.__version__, platform.python_version(), llvmlite.binding.get_host_cpu_name()):
        digest.update(part.encode() + b"\0")
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _usable(folder: Path) -> bool:
    """Make `folder` if it is missing; return whether it is this user's own, private for writing, and writable."""
    try:
        folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    if not stat.S_ISDIR(found.st_mode):
        # A link is followed only if the user gave its path; in a shared temporary folder anyone could create one.
        if not folder.is_dir() or folder.parent == Path(tempfile.gettempdir()):
            return False
        found = folder.stat()
    owned = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    return owned and not found.st_mode & _OTHERS_WRITE and os.access(folder, os.W_OK)
