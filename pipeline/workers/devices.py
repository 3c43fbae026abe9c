"""The device that folds, and a lock so that one process uses a GPU. The kernel releases it however its holder ends."""

import fcntl
import functools
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

from foldatlas.folding.planning import host_memory
from foldatlas.schemas.errors import FoldAtlasError, UsageError
from foldatlas.schemas.wording import counted

WAIT_SECONDS: Final = 120.0  # a process that was just killed needs a moment to release the GPU
CPUINFO: Final = Path("/proc/cpuinfo")
_LONGEST_NAME: Final = 100  # characters


class Hardware(NamedTuple):
    """A device's model (with the number of cores in use if it is a CPU) and its memory in bytes; "" and 0 if
    unknown."""

    name: str
    bytes: int


def choose_device(name: str) -> str:
    """Return `name`, or for "auto" the GPU if this machine has one, else the CPU.

    Raise UsageError for a GPU that is not there.
    """
    if name != "auto":
        device_uuid(name)
        return name
    try:
        shown = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return "cpu"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return "cuda" if shown.returncode == 0 and shown.stdout.strip() and not hidden else "cpu"


def device_uuid(device: str) -> str | None:
    """Return the UUID of the GPU that `device` ("cuda", "cuda:1") means here; None for a CPU, which many may share.

    CUDA_VISIBLE_DEVICES renumbers GPUs, so numbers of different processes cannot be compared; UUIDs can.
    """
    if not device.startswith("cuda"):
        return None
    chosen = _chosen(device)
    if not chosen.isdigit():
        return chosen
    try:
        return _ask("uuid", chosen)
    except FileNotFoundError as error:
        raise UsageError(
            f"device {device}: no NVIDIA driver was found (nvidia-smi is missing): use --device cpu"
        ) from error
    except (OSError, subprocess.SubprocessError) as error:
        raise UsageError(f"device {device}: nvidia-smi failed ({error}): use --device cpu") from error


def visible_gpus() -> list[str]:
    """Return the GPUs that processes here may use, each as a value for CUDA_VISIBLE_DEVICES: from that variable, else
    by UUID, since CUDA and nvidia-smi may number GPUs differently."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [part.strip() for part in visible.split(",") if part.strip() not in ("", "-1")]
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in shown.splitlines() if line.strip()]


def device_bytes(device: str) -> int | None:
    """Return the total memory of the GPU that `device` means, in bytes; None if unknown (a GPU that shares the
    host's)."""
    try:
        return int(_ask("memory.total", _chosen(device), "nounits")) << 20  # nvidia-smi reports MiB
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def hardware_of(device: str, cores: int | None = None) -> Hardware:
    """Return what `device` ("cpu", "cuda", "cuda:1") is on this machine. `cores` of a CPU are those that fold (None:
    those that this process may use). Cached."""
    return _hardware(device, cores or usable_cores(), os.environ.get("CUDA_VISIBLE_DEVICES"))


@functools.cache
def _hardware(device: str, cores: int, _: str | None) -> Hardware:
    if not device.startswith("cuda"):
        model = _cpu_model() or platform.processor() or platform.machine() or "CPU"
        return Hardware(f"{_printable(model)}, {counted(cores, 'core')}", host_memory.total_bytes())
    try:
        name = _printable(_ask("name", _chosen(device)))
    except (OSError, subprocess.SubprocessError, UsageError):
        return Hardware("", 0)
    return Hardware(name, device_bytes(device) or 0)


def usable_cores() -> int:
    """Return how many cores computations here may use: OMP_NUM_THREADS, or else those of this process."""
    threads = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(threads) if threads.isdigit() and int(threads) else own_cores()


def own_cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_model() -> str:
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2] for line in lines if line.startswith("model name")), "")


def _printable(name: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())[:_LONGEST_NAME]


def _ask(field: str, gpu: str, *how: str) -> str:
    """Return a field of nvidia-smi for one GPU, given by number or UUID."""
    command = ["nvidia-smi", f"--query-gpu={field}", f"--format={','.join(('csv', 'noheader', *how))}", f"--id={gpu}"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def _chosen(device: str) -> str:
    """Return the number (as nvidia-smi counts) or UUID of the GPU that `device` ("cuda", "cuda:1") means."""
    number = int(device.partition(":")[2] or 0)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        chosen = [part.strip() for part in visible.split(",") if part.strip()]
        if number >= len(chosen):
            raise UsageError(f"device {device} is not among CUDA_VISIBLE_DEVICES={visible}: choose another")
        return chosen[number]
    return str(number)


def lock_path(uuid: str) -> Path:
    name = "".join(character if character.isalnum() else "-" for character in uuid)
    return Path(tempfile.gettempdir()) / f"foldatlas-{name}.lock"


def lock(path: Path, wait_seconds: float) -> int:
    """Take the lock at `path` and return its descriptor, which holds the lock while it is open.

    Raise FoldAtlasError if another process has held it for `wait_seconds`.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError:  # made by another user; reading is enough for a lock
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    end = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= end:
                os.close(descriptor)
                raise FoldAtlasError(
                    f"the GPU is in use by another FoldAtlas process ({path} is locked): wait for it to end, or "
                    "choose another GPU with CUDA_VISIBLE_DEVICES"
                ) from None
            time.sleep(min(0.2, wait_seconds))


def hold_device(device: str, wait_seconds: float = WAIT_SECONDS) -> int | None:
    """Lock the GPU of `device` for as long as the returned descriptor is open; None for a CPU."""
    uuid = device_uuid(device)
    return None if uuid is None else lock(lock_path(uuid), wait_seconds)
