"""How much memory this machine has and how much of it is free, or what the container or batch job leaves of it if that
is less. No torch, so that planning stays light.

A limit is one of Linux's control groups, of version 2 or 1, on the process's own group or on any that holds it: a
container shows its own group as the root, a batch system (Slurm) leaves it deep in the tree.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

_MEMINFO: Final = Path("/proc/meminfo")
_CGROUPS: Final = Path("/sys/fs/cgroup")
_MEMBERSHIP: Final = Path("/proc/self/cgroup")
_UNKNOWN: Final = 8 * 10**9  # where the system does not say
_UNLIMITED: Final = 2**63 - 1


class _Version(NamedTuple):
    """A version of control groups: the controller's name in /proc/self/cgroup and its folder below the mount, the
    files of a group's limit and use, and the word in memory.stat for the page cache that the kernel gives back."""

    controller: str
    limit: str
    used: str
    inactive_file: str


_VERSIONS: Final = (
    _Version("", "memory.max", "memory.current", "inactive_file"),
    _Version("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def free_bytes(meminfo: Path = _MEMINFO, cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Bytes that can be taken now. The paths are those of Linux, where it says so."""
    return min(_field(meminfo, "MemAvailable"), *(left for _, left in _groups(cgroups, membership)), _UNLIMITED)


def trim() -> None:
    """Return memory that malloc holds for reuse to the system, where the C library can (glibc's malloc_trim)."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # not glibc; TypeError on Windows
        ctypes.CDLL(None).malloc_trim(0)


def total_bytes(meminfo: Path = _MEMINFO, cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Bytes that there are, used or not: the same whenever it is asked."""
    return min(_field(meminfo, "MemTotal"), *(limit for limit, _ in _groups(cgroups, membership)), _UNLIMITED)


def _field(meminfo: Path, name: str) -> int:
    try:
        fields = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines())
        return int(fields[name].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return _UNKNOWN


def _groups(cgroups: Path, membership: Path) -> Iterator[tuple[int, int]]:
    """Limit and what is left of it, of every group with a limit that holds this process."""
    for version in _VERSIONS:
        root = cgroups / version.controller
        own = _own_group(membership, version.controller)
        for group in (own, *own.parents):
            try:
                limit = int((root / group / version.limit).read_text(encoding="ascii"))
                used = int((root / group / version.used).read_text(encoding="ascii"))
                text = (root / group / "memory.stat").read_text(encoding="ascii")
                inactive = int(dict(line.split() for line in text.splitlines())[version.inactive_file])
            except (OSError, KeyError, ValueError):  # "max" is no number: no limit
                continue
            yield limit, max(0, limit - used + inactive)


def _own_group(membership: Path, controller: str) -> Path:
    """The process's group, relative to the controller's root; the root itself where that is not known."""
    try:
        lines = [line.split(":", 2) for line in membership.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return Path()
    for _, controllers, path in lines:
        if controller in controllers.split(",") and ".." not in path.split("/"):
            return Path(os.path.relpath(path, "/"))
    return Path()
