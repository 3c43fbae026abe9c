"""Which device folds, and one process a GPU: a lock that the kernel takes back however its holder dies."""

import fcntl
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

from foldatlas.schemas.errors import FoldAtlasError, UsageError

WAIT_SECONDS: Final = 120.0  # a predecessor that was just killed needs a moment to let go


def choose_device(name: str) -> str:
    """`name` itself, or for "auto" the GPU if this machine shows one, else the CPU.

    Raises UsageError for a GPU that is not there.
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
    """The identity of the GPU that `device` ("cuda", "cuda:1") means here; None for a CPU, which many may share.

    CUDA_VISIBLE_DEVICES renumbers GPUs, so numbers from different processes do not compare; identities do.
    """
    if not device.startswith("cuda"):
        return None
    chosen = _chosen(device)
    if not chosen.isdigit():
        return chosen
    try:
        return _ask("uuid", chosen)
    except (OSError, subprocess.SubprocessError) as error:
        raise UsageError(f"device {device}: nvidia-smi does not answer ({error}): use --device cpu") from error


def visible_gpus() -> list[str]:
    """The GPUs that processes here may use, each a value for CUDA_VISIBLE_DEVICES: as that says, else by identity,
    which CUDA and nvidia-smi number alike."""
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
    """All memory of the GPU that `device` means, or None where that cannot be known (a GPU that shares the host's)."""
    try:
        return int(_ask("memory.total", _chosen(device), "nounits")) << 20  # it counts in MiB
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _ask(field: str, gpu: str, *how: str) -> str:
    """What nvidia-smi says of one GPU, by number or identity."""
    command = ["nvidia-smi", f"--query-gpu={field}", f"--format={','.join(('csv', 'noheader', *how))}", f"--id={gpu}"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def _chosen(device: str) -> str:
    """Number or identity of the GPU that `device` ("cuda", "cuda:1") means, as nvidia-smi counts them."""
    number = int(device.partition(":")[2] or 0)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        chosen = [part.strip() for part in visible.split(",") if part.strip()]
        if number >= len(chosen):
            raise UsageError(f"device {device} is not among CUDA_VISIBLE_DEVICES={visible}: name another")
        return chosen[number]
    return str(number)


def lock_path(uuid: str) -> Path:
    name = "".join(character if character.isalnum() else "-" for character in uuid)
    return Path(tempfile.gettempdir()) / f"foldatlas-{name}.lock"


def lock(path: Path, wait_seconds: float) -> int:
    """Takes the lock at `path` and gives its descriptor, to be held open. Raises FoldAtlasError if another has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
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
    """Locks the GPU of `device` for as long as the returned descriptor is open; None for a CPU."""
    uuid = device_uuid(device)
    return None if uuid is None else lock(lock_path(uuid), wait_seconds)
