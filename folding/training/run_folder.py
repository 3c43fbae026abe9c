"""The folder of a training run: its settings, and checkpoints that a kill at any moment leaves intact.

    settings.json                       everything that determines the result; a resumed run must have the same
    checkpoints/step-00001000/          tensors.safetensors, state.json, SHA256SUMS
    metrics.jsonl, tensorboard/         metrics.py
    lock                                locked by the one process that writes

A checkpoint is written under a hidden name, flushed to disk and renamed, so a name without a dot is a complete
checkpoint. One that the disk damaged later fails its checksum; it is skipped with a log line, and the one before is
used.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from foldatlas.folding.weights import atomic_files
from foldatlas.schemas.errors import FoldAtlasError, ForeignFolderError, SettingsMismatchError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

Log = Callable[[str], None]
Settings = Mapping[str, Any]  # JSON values by name

SETTINGS: Final = "settings.json"
CHECKPOINTS: Final = "checkpoints"
TENSORS: Final = "tensors.safetensors"
STATE: Final = "state.json"
SUMS: Final = "SHA256SUMS"  # in the format of `sha256sum -c`
LOCK: Final = "lock"

_STEP: Final = re.compile(r"step-(\d{8,})")
_READ_BYTES: Final = 1 << 22


@dataclass(frozen=True)
class Saved:
    """A checkpoint after `step` updates: its `tensors`, mapped from the file, and its `state`."""

    step: int
    tensors: "dict[str, Tensor]"
    state: dict[str, Any]


def log_to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class RunFolder:
    """The folder of a new or resumed run at `path`, for the one process that writes to it.

    `settings` determine the result; those recorded in an existing folder must be equal. The newest `keep` checkpoints
    are kept. `log` receives a line for each damaged checkpoint that is skipped.

    Raise ForeignFolderError for a folder with other content, SettingsMismatchError, with the first setting that
    differs and both values, for other settings, and UsageError if another process trains there or the folder is not
    writable.
    """

    def __init__(self, path: Path, settings: Settings, *, keep: int = 2, log: Log = log_to_stderr):
        if keep < 1:
            raise UsageError(f"keep={keep} checkpoints: keep 1 or more, or the run cannot be resumed")
        self.path = path
        self._keep = keep
        self._log = log
        self._checkpoints = path / CHECKPOINTS
        recorded = read_settings(path)
        if recorded is not None:
            check_settings(path, recorded, settings)
        try:
            self._checkpoints.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(path)
        except OSError as error:
            raise UsageError(f"{path} cannot be written ({error.strerror}): give another folder for the run") from error
        if recorded is None:
            temporary = atomic_files.temporary_path(path / SETTINGS)
            temporary.write_text(json.dumps(dict(settings), indent=1, sort_keys=True) + "\n", encoding="utf-8")
            atomic_files.rename_into_place(temporary, path / SETTINGS)
        for incomplete in self._checkpoints.glob(".*step-*"):  # left by a process that was killed while writing
            shutil.rmtree(incomplete)

    def close(self) -> None:
        """Release the lock, so that another process can use the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def save(self, step: int, tensors: "Mapping[str, Tensor]", state: Mapping[str, Any]) -> Path:
        """Write the checkpoint of `step`, then remove all but the newest. No two tensors may share memory."""
        from safetensors.torch import save_file

        name = f"step-{step:08d}"
        temporary = self._checkpoints / f".{name}"
        temporary.mkdir()
        on_host = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        save_file(on_host, temporary / TENSORS)
        (temporary / STATE).write_text(json.dumps({"step": step, **state}, indent=1) + "\n", encoding="utf-8")
        sums = "".join(f"{_digest(temporary / file)}  {file}\n" for file in (TENSORS, STATE))
        (temporary / SUMS).write_text(sums, encoding="ascii")
        for file in (TENSORS, STATE, SUMS):
            atomic_files.sync(temporary / file)
        atomic_files.sync(temporary)
        final = self._checkpoints / name
        if final.exists():  # a damaged checkpoint that was skipped, or the same step again
            final.rename(self._checkpoints / f".old-{name}")
        temporary.rename(final)
        atomic_files.sync(self._checkpoints)
        shutil.rmtree(self._checkpoints / f".old-{name}", ignore_errors=True)
        for old in self.steps()[: -self._keep]:
            shutil.rmtree(self._checkpoints / f"step-{old:08d}")
        return final

    def steps(self) -> list[int]:
        """Return the steps of the existing checkpoints, oldest first."""
        return _steps(self._checkpoints)

    def latest(self) -> Saved | None:
        """Return the newest intact checkpoint; None if there is none."""
        return latest(self.path, self._log)


def latest(path: Path, log: Log = log_to_stderr) -> Saved | None:
    """Return the newest intact checkpoint of the run at `path`, without locking the folder; None if there is none."""
    for step in reversed(_steps(path / CHECKPOINTS)):
        folder = path / CHECKPOINTS / f"step-{step:08d}"
        try:
            return _read(folder, step)
        except _Damaged as damage:
            log(f"skipped the damaged checkpoint {folder}: {damage}")
    return None


def read_settings(path: Path) -> dict[str, Any] | None:
    """Return the settings of the run at `path`; None if it is new. Raise ForeignFolderError for other content."""
    try:
        text = (path / SETTINGS).read_text(encoding="utf-8")
    except NotADirectoryError:
        raise ForeignFolderError(f"{path} is a file: give a folder for the run") from None
    except FileNotFoundError:
        # A process that was killed before it wrote the settings leaves the lock and an empty folder of checkpoints.
        if path.exists() and {child.name for child in path.iterdir()} - {LOCK, CHECKPOINTS, f".{SETTINGS}"}:
            raise ForeignFolderError(
                f"{path} exists and is not a training run (it has no {SETTINGS}): give a new or empty folder"
            ) from None
        return None
    try:
        settings = json.loads(text)
        if not isinstance(settings, dict):
            raise ValueError(f"expected a JSON object, not {type(settings).__name__}")
    except ValueError as error:
        raise ForeignFolderError(
            f"{path / SETTINGS} was not written by a training run ({error}): give another folder"
        ) from error
    return settings


def check_settings(path: Path, recorded: Settings, current: Settings) -> None:
    """Raise SettingsMismatchError, with the first difference, if `current` settings are not those `recorded` in `path`.

    The kind of training is compared first: two kinds differ in every setting.
    """
    plain = json.loads(json.dumps(dict(current)))  # as read back from JSON: tuples become lists
    for name in sorted(recorded.keys() | plain.keys(), key=lambda name: (name != "kind", name)):
        before, now = (json.dumps(of[name], sort_keys=True) if name in of else "nothing" for of in (recorded, plain))
        if before != now:
            raise SettingsMismatchError(
                f"the run in {path} was started with {name} = {before}, now it is {now}: repeat the original command, "
                "or give another folder"
            )


class _Damaged(Exception):
    """A checkpoint is damaged; the message says how."""


def _steps(checkpoints: Path) -> list[int]:
    if not checkpoints.is_dir():
        return []
    return sorted(int(match[1]) for child in checkpoints.iterdir() if (match := _STEP.fullmatch(child.name)))


def _read(folder: Path, step: int) -> Saved:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        sums = (folder / SUMS).read_text(encoding="ascii").splitlines()
        for file in (TENSORS, STATE):
            if f"{_digest(folder / file)}  {file}" not in sums:
                raise _Damaged(f"the checksum of {file} does not match")
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if state.pop("step") != step:
            raise _Damaged(f"{STATE} belongs to another step")
        return Saved(step, load_file(folder / TENSORS), state)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise _Damaged(str(error) or repr(error)) from error


def _digest(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            total.update(block)
    return total.hexdigest()


def _lock(path: Path) -> int | None:
    descriptor: int = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UsageError(f"another process is training in {path}: wait for it to end, or give another folder") from None
    except OSError as error:
        os.close(descriptor)
        raise FoldAtlasError(f"{path} cannot be locked ({error.strerror}): use a folder on another disk") from error
    return descriptor
