"""Total and free memory of this machine, or of its container or batch job if that has less. Does not import torch.

Limits are those of Linux control groups, version 2 or 1, of the process's own group and of all groups above it: in a
container its group is the root, under a batch system (Slurm) it is deep in the tree.
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
_UNKNOWN: Final = 8 * 10**9  # assumed if /proc/meminfo cannot be read
_UNLIMITED: Final = 2**63 - 1


class _Version(NamedTuple):
    """Names in a version of control groups: the controller, in /proc/self/cgroup and as a folder below the mount; the
    files with a group's limit and use; and the field of memory.stat with the page cache that the kernel can reclaim."""

    controller: str
    limit: str
    used: str
    inactive_file: str


_VERSIONS: Final = (
    _Version("", "memory.max", "memory.current", "inactive_file"),
    _Version("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def free_bytes(meminfo: Path = _MEMINFO, cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Return the bytes that can be allocated now. The arguments are Linux's paths; tests give others."""
    return min(_field(meminfo, "MemAvailable"), *(left for _, left in _groups(cgroups, membership)), _UNLIMITED)


def trim() -> None:
    """Return memory that malloc keeps for reuse to the system, if the C library can (malloc_trim of glibc)."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # not glibc; TypeError on Windows
        ctypes.CDLL(None).malloc_trim(0)


def total_bytes(meminfo: Path = _MEMINFO, cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Return the bytes of memory, used or not. The value does not change while the process runs."""
    return min(_field(meminfo, "MemTotal"), *(limit for limit, _ in _groups(cgroups, membership)), _UNLIMITED)


def _field(meminfo: Path, name: str) -> int:
    try:
        fields = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines())
        return int(fields[name].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return _UNKNOWN


def _groups(cgroups: Path, membership: Path) -> Iterator[tuple[int, int]]:
    """Yield limit and free bytes of each group with a limit that contains this process."""
    for version in _VERSIONS:
        root = cgroups / version.controller
        own = _own_group(membership, version.controller)
        for group in (own, *own.parents):
            try:
                limit = int((root / group / version.limit).read_text(encoding="ascii"))
                used = int((root / group / version.used).read_text(encoding="ascii"))
                text = (root / group / "memory.stat").read_text(encoding="ascii")
                inactive = int(dict(line.split() for line in text.splitlines())[version.inactive_file])
            except (OSError, KeyError, ValueError):  # ValueError: "max", no limit
                continue
            yield limit, max(0, limit - used + inactive)


def _own_group(membership: Path, controller: str) -> Path:
    """Return the process's group, relative to the controller's root; the root if it is unknown."""
    try:
        lines = [line.split(":", 2) for line in membership.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return Path()
    for _, controllers, path in lines:
        if controller in controllers.split(",") and ".." not in path.split("/"):
            return Path(os.path.relpath(path, "/"))
    return Path()
