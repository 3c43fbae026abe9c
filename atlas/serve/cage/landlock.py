"""Landlock: the calling thread, and what it starts, can open no files but those that are named here.

https://docs.kernel.org/userspace-api/landlock.html; numbers are those of linux/landlock.h. A process needs no privilege
for it and cannot undo it. Version 3 (Linux 6.2) is required: before, files could be truncated.
"""

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

MIN_VERSION: Final = 3

_CREATE, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # system calls, the same on every architecture
_VERSION_FLAG: Final = 1
_PATH_BENEATH: Final = 1
_NO_NEW_PRIVILEGES: Final = 38  # prctl

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << bit for bit in range(6))
_MAKE_DIR, _MAKE_REGULAR, _TRUNCATE = 1 << 7, 1 << 8, 1 << 14
_FILES: Final = (1 << 15) - 1  # every right of version 3
_DEVICES: Final = 1 << 15  # from version 5: ioctl
_NETWORK: Final = 0b11  # from version 4: bind and connect of TCP
_SCOPES: Final = 0b11  # from version 6: abstract sockets and signals
_READ: Final = _READ_FILE
_WRITE: Final = (
    _READ_FILE | _WRITE_FILE | _READ_DIR | _REMOVE_FILE | _REMOVE_DIR | _MAKE_DIR | _MAKE_REGULAR | _TRUNCATE
)
_OF_FILES: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE

_libc: Final = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def version() -> int:
    """Return the version of Landlock of this kernel, 0 if it has none."""
    return max(0, int(_libc.syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG))))


def restrict(readable: Iterable[Path], writable: Iterable[Path]) -> None:
    """Let this thread and its descendants read files in or at `readable`, and read and write in `writable`.

    Folders in `readable` cannot be listed. Threads that run already are not restricted. Raise OSError.
    """
    found = version()
    if found < MIN_VERSION:
        raise OSError(f"Landlock {found or 'is off'}: version {MIN_VERSION} is needed, Linux 6.2 or later")
    handled = _Ruleset(
        _FILES | (_DEVICES if found >= 5 else 0), _NETWORK if found >= 4 else 0, _SCOPES if found >= 6 else 0
    )
    size = 24 if found >= 6 else 16 if found >= 4 else 8
    ruleset = _checked(_libc.syscall(_CREATE, ctypes.byref(handled), ctypes.c_size_t(size), ctypes.c_uint32(0)))
    try:
        for paths, rights in ((readable, _READ), (writable, _WRITE)):
            for path in paths:
                _allow(ruleset, path, rights)
        _checked(_libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
        _checked(_libc.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = _Beneath(rights if path.is_dir() else rights & _OF_FILES, parent)
        _checked(
            _libc.syscall(
                _ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), ctypes.byref(rule), ctypes.c_uint32(0)
            )
        )
    finally:
        os.close(parent)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
