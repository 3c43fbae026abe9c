"""The folder of a training run: its settings, and checkpoints that a kill at any moment leaves whole.

    settings.json                       what decides the result; a run that goes on may not change it
    checkpoints/step-00001000/          tensors.safetensors, state.json, SHA256SUMS
    metrics.jsonl, tensorboard/         metrics.py
    lock                                held by the one process that writes

A checkpoint is built under a hidden name, flushed to the disk and renamed, so that a name without a dot is a whole
checkpoint. What a disk damages later is found by digest and passed over for the one before, aloud.
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

from foldatlas.folding.weights import whole_files
from foldatlas.schemas.errors import FoldAtlasError, ForeignFolderError, SettingsMismatchError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

Say = Callable[[str], None]
Settings = Mapping[str, Any]  # what JSON can hold, by name

SETTINGS: Final = "settings.json"
CHECKPOINTS: Final = "checkpoints"
TENSORS: Final = "tensors.safetensors"
STATE: Final = "state.json"
SUMS: Final = "SHA256SUMS"  # `sha256sum -c` reads it too
LOCK: Final = "lock"

_STEP: Final = re.compile(r"step-(\d{8,})")
_READ_BYTES: Final = 1 << 22


@dataclass(frozen=True)
class Saved:
    """A checkpoint: `step` updates were done; `tensors`, mapped from the file, and `state` are what was saved."""

    step: int
    tensors: "dict[str, Tensor]"
    state: dict[str, Any]


def say_on_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class RunFolder:
    """A run at `path`, new or to go on, for the one process that writes it.

    `settings` decide the result: those of a folder that exists must be equal. The newest `keep` checkpoints stay.
    `say` gets a line for whatever was passed over.

    Raises ForeignFolderError for a folder that holds something else, SettingsMismatchError that names the first
    setting that differs with both values, UsageError while another process trains there, and where nothing can be
    written.
    """

    def __init__(self, path: Path, settings: Settings, *, keep: int = 2, say: Say = say_on_stderr):
        if keep < 1:
            raise UsageError(f"keep={keep} checkpoints: keep 1 or more, or the run cannot go on")
        self.path = path
        self._keep = keep
        self._say = say
        self._checkpoints = path / CHECKPOINTS
        recorded = read_settings(path)
        if recorded is not None:
            check_settings(path, recorded, settings)
        try:
            self._checkpoints.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(path)
        except OSError as error:
            raise UsageError(f"{path} cannot be written ({error.strerror}): name another folder for the run") from error
        if recorded is None:
            written = whole_files.aside(path / SETTINGS)
            written.write_text(json.dumps(dict(settings), indent=1, sort_keys=True) + "\n", encoding="utf-8")
            whole_files.put(written, path / SETTINGS)
        for rest in self._checkpoints.glob(".*step-*"):  # of a process that was killed while it wrote
            shutil.rmtree(rest)

    def close(self) -> None:
        """Lets another process have the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def save(self, step: int, tensors: "Mapping[str, Tensor]", state: Mapping[str, Any]) -> Path:
        """Writes the checkpoint of `step`, then removes all but the newest ones. No two tensors may share memory."""
        from safetensors.torch import save_file

        name = f"step-{step:08d}"
        aside = self._checkpoints / f".{name}"
        aside.mkdir()
        on_host = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        save_file(on_host, aside / TENSORS)
        (aside / STATE).write_text(json.dumps({"step": step, **state}, indent=1) + "\n", encoding="utf-8")
        sums = "".join(f"{_digest(aside / file)}  {file}\n" for file in (TENSORS, STATE))
        (aside / SUMS).write_text(sums, encoding="ascii")
        for file in (TENSORS, STATE, SUMS):
            whole_files.flush(aside / file)
        whole_files.flush(aside)
        final = self._checkpoints / name
        if final.exists():  # a damaged one that was passed over, or the same again
            final.rename(self._checkpoints / f".old-{name}")
        aside.rename(final)
        whole_files.flush(self._checkpoints)
        shutil.rmtree(self._checkpoints / f".old-{name}", ignore_errors=True)
        for old in self.steps()[: -self._keep]:
            shutil.rmtree(self._checkpoints / f"step-{old:08d}")
        return final

    def steps(self) -> list[int]:
        """Steps of the checkpoints at hand, the oldest first."""
        return _steps(self._checkpoints)

    def latest(self) -> Saved | None:
        """The newest checkpoint that is whole; None where there is none."""
        return latest(self.path, self._say)


def latest(path: Path, say: Say = say_on_stderr) -> Saved | None:
    """The newest whole checkpoint of the run at `path`, read without taking the folder: for other processes."""
    for step in reversed(_steps(path / CHECKPOINTS)):
        folder = path / CHECKPOINTS / f"step-{step:08d}"
        try:
            return _read(folder, step)
        except _Damaged as fault:
            say(f"passed over the checkpoint {folder}: {fault}")
    return None


def read_settings(path: Path) -> dict[str, Any] | None:
    """Settings of the run at `path`; None where it is new. Raises ForeignFolderError if it holds something else."""
    try:
        text = (path / SETTINGS).read_text(encoding="utf-8")
    except NotADirectoryError:
        raise ForeignFolderError(f"{path} is a file: name a folder for the run") from None
    except FileNotFoundError:
        # The lock and an empty folder are what a process leaves that was killed before it wrote its settings.
        if path.exists() and {child.name for child in path.iterdir()} - {LOCK, CHECKPOINTS, f".{SETTINGS}"}:
            raise ForeignFolderError(
                f"{path} exists and is no training run (it has no {SETTINGS}): name a new or empty folder"
            ) from None
        return None
    try:
        settings = json.loads(text)
        if not isinstance(settings, dict):
            raise ValueError(f"{type(settings).__name__} in place of an object")
    except ValueError as error:
        raise ForeignFolderError(
            f"{path / SETTINGS} is not what a training run writes ({error}): name another folder"
        ) from error
    return settings


def check_settings(path: Path, recorded: Settings, wanted: Settings) -> None:
    """Raises SettingsMismatchError that names the first setting in which `wanted` differs from what `path` has; what
    kind of training it is comes first, as another kind differs in everything."""
    plain = json.loads(json.dumps(dict(wanted)))  # as it would read again: tuples become lists
    for name in sorted(recorded.keys() | plain.keys(), key=lambda name: (name != "kind", name)):
        before, now = (json.dumps(of[name], sort_keys=True) if name in of else "nothing" for of in (recorded, plain))
        if before != now:
            raise SettingsMismatchError(
                f"the run in {path} was begun with {name} = {before}, now it is {now}: repeat the command as it was, "
                "or name another folder"
            )


class _Damaged(Exception):
    """Why a checkpoint cannot be used."""


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
                raise _Damaged(f"{file} is not what was written")
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if state.pop("step") != step:
            raise _Damaged(f"{STATE} is of another step")
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
        raise UsageError(f"another process trains in {path}: wait for it to end, or name another folder") from None
    except OSError as error:
        os.close(descriptor)
        raise FoldAtlasError(f"{path} cannot be locked ({error.strerror}): use a folder on another disk") from error
    return descriptor
