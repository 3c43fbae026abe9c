"""How much memory is free on a device, now: what foldatlas.folding.cost measures a batch against."""

from pathlib import Path
from typing import Final

import torch

# Part of what is free that a plan may use: an allocator rounds sizes up, and other programs want memory too.
USABLE: Final = 0.9
_MEMINFO: Final = Path("/proc/meminfo")
_CGROUP: Final = Path("/sys/fs/cgroup")  # version 2, as seen from within a container
_UNKNOWN: Final = 8 * 10**9  # where the system does not say


def free_bytes(device: torch.device) -> int:
    """Bytes that activations may take on `device`, weights already there."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch has taken from the driver and does not use is free too.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(USABLE * (free + kept))
    return int(USABLE * host_free_bytes(_MEMINFO, _CGROUP))


def host_free_bytes(meminfo: Path, cgroup: Path) -> int:
    """Free memory of the host, or what its container's limit leaves if that is less."""
    return min(_available(meminfo), _left_in_container(cgroup))


def _available(meminfo: Path) -> int:
    try:
        fields = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return _UNKNOWN


def _left_in_container(cgroup: Path) -> int:
    """Limit less use, without the page cache, which the kernel gives back. Unlimited outside a container."""
    try:
        limit = int((cgroup / "memory.max").read_text(encoding="ascii"))
        used = int((cgroup / "memory.current").read_text(encoding="ascii"))
        fields = dict(line.split() for line in (cgroup / "memory.stat").read_text(encoding="ascii").splitlines())
        return max(0, limit - used + int(fields["inactive_file"]))
    except (OSError, KeyError, ValueError):  # "max" is no number: no limit
        return 2**63 - 1
