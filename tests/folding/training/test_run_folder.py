"""The folder of a run: checkpoints survive what happens to them, settings do not change, the log has no step twice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from foldatlas.folding.training import metrics
from foldatlas.folding.training.run_folder import RunFolder, Saved, latest
from foldatlas.schemas.errors import ForeignFolderError, SettingsMismatchError, UsageError

SETTINGS = {"kind": "test", "betas": (0.9, 0.98), "seed": 1, "sizes": {"width": 2, "depth": 1}}


class Said(list[str]):
    def __call__(self, line: str) -> None:
        self.append(line)


def open_run(path: Path, say: Said | None = None, **settings: Any) -> RunFolder:
    return RunFolder(path, {**SETTINGS, **settings}, log=say if say is not None else Said())


def tensors_of(step: int) -> dict[str, torch.Tensor]:
    return {
        "a.weight": torch.full((3, 2), float(step)),
        "a.step": torch.tensor(float(step)),
        "low": torch.tensor([1.5], dtype=torch.bfloat16),
        "count": torch.tensor([step], dtype=torch.int64),
    }


def equal(saved: Saved | None, step: int) -> bool:
    assert saved is not None
    wanted = tensors_of(step)
    assert saved.tensors.keys() == wanted.keys()
    return saved.step == step and all(
        torch.equal(saved.tensors[name], tensor) and saved.tensors[name].dtype == tensor.dtype
        for name, tensor in wanted.items()
    )


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A run with checkpoints of steps 10 and 20."""
    run = open_run(tmp_path / "run")
    for step in (0, 10, 20):
        run.save(step, tensors_of(step), {"loss": step / 3})
    run.close()
    return tmp_path / "run"


def test_newest_checkpoint_is_restored_and_old_ones_deleted(filled: Path) -> None:
    run = open_run(filled)
    saved = run.latest()
    assert equal(saved, 20)
    assert saved is not None and saved.state == {"loss": 20 / 3}
    assert run.steps() == [10, 20]
    assert open_run(filled.parent / "new").latest() is None


@pytest.mark.parametrize("file", ["tensors.safetensors", "state.json", "SHA256SUMS"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_damaged_checkpoint_is_skipped_with_a_message(filled: Path, file: str, damage: str) -> None:
    path = filled / "checkpoints" / "step-00000020" / file
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-9] if damage == "cut" else content[:-2] + bytes([content[-2] ^ 4]) + content[-1:])
    said = Said()
    run = open_run(filled, said)
    assert equal(run.latest(), 10)
    assert len(said) == 1 and "step-00000020" in said[0]
    run.save(20, tensors_of(20), {})  # in its place
    assert equal(run.latest(), 20)


def test_leftovers_of_a_killed_process_are_removed(filled: Path) -> None:
    aside = filled / "checkpoints" / ".step-00000030"
    aside.mkdir()
    (aside / "tensors.safetensors").write_bytes(b"half")
    others = filled / "checkpoints" / ".nfs000001"  # what a network's disk keeps of a file that is open somewhere
    others.touch()
    run = open_run(filled)
    assert not aside.exists()
    assert others.exists()
    assert equal(run.latest(), 20)


def test_killed_while_saving_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    code = f"""
import torch
from pathlib import Path
from foldatlas.folding.training.run_folder import RunFolder
run = RunFolder(Path({str(tmp_path / "run")!r}), {SETTINGS!r})
step = 0
while True:
    step += 1
    run.save(step, {{"x": torch.full((200_000,), float(step))}}, {{}})
    print(step, flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for _ in range(7):
        done = int(child.stdout.readline())
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    saved = open_run(tmp_path / "run").latest()
    assert saved is not None and saved.step >= done
    assert (saved.tensors["x"] == saved.step).all()


def test_a_setting_that_changed_is_named_with_both_values(filled: Path) -> None:
    open_run(filled).close()
    with pytest.raises(SettingsMismatchError, match=r"seed = 1, now it is 2"):
        open_run(filled, seed=2)
    with pytest.raises(SettingsMismatchError, match=r"more = nothing, now it is true"):
        open_run(filled, more=True)
    with pytest.raises(SettingsMismatchError, match=r'kind = "test", now it is "other"'):
        open_run(filled, another=True, kind="other")


def test_other_folders_and_a_second_process_are_refused(filled: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("years of work")
    with pytest.raises(ForeignFolderError, match="not a training run"):
        open_run(tmp_path / "other")
    with pytest.raises(ForeignFolderError, match="is a file"):
        open_run(tmp_path / "other" / "thesis.tex")
    with pytest.raises(UsageError, match="/proc/run cannot be written"):
        open_run(Path("/proc/run"))
    (filled / "settings.json").write_text("[1]")
    with pytest.raises(ForeignFolderError, match="not written by a training run"):
        open_run(filled)
    run = open_run(tmp_path / "run2")
    with pytest.raises(UsageError, match="another process is training"):
        open_run(tmp_path / "run2")
    assert latest(tmp_path / "run2") is None
    run.close()
    open_run(tmp_path / "run2")


def test_the_log_has_each_step_once(tmp_path: Path) -> None:
    log = metrics.Metrics(tmp_path, 0, log=Said())
    for step in (1, 2, 3):
        log.log(step, loss=step * 0.5, norm=float("nan"))
    log.close()
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'\xff\x00\n{"step": 4, "lo')  # killed here
    log = metrics.Metrics(tmp_path, 2, log=Said())
    log.log(3, loss=9.0)
    log.close()
    assert [(line["step"], line["loss"]) for line in metrics.read(tmp_path)] == [(1, 0.5), (2, 1.0), (3, 9.0)]
    assert metrics.read(tmp_path)[0]["norm"] is None


def test_tensorboard_reads_what_is_logged(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for start, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        log = metrics.Metrics(tmp_path, start, log=Said())
        for step in steps:
            log.log(step, loss=float(step + start))
        log.close()
        time.sleep(1.1)  # its files are ordered by the second in which they began
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 1.0), (2, 2.0), (3, 5.0), (4, 6.0)]


def test_missing_tensorboard_is_reported_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    said = Said()
    metrics.Metrics(tmp_path, 0, log=said).log(1, loss=1.0)
    assert "foldatlas[train]" in said[0]
    assert metrics.read(tmp_path) == [{"step": 1, "loss": 1.0}]
