"""The process that owns the device: what it survives, and what does not survive it."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foldatlas.pipeline.shards.bisection import Failed, fold_with_bisection
from foldatlas.pipeline.shards.in_flight import Work, compute_in_order
from foldatlas.pipeline.workers import link, supervisor
from foldatlas.pipeline.workers.devices import choose_device, device_bytes, device_uuid, lock, lock_path
from foldatlas.pipeline.workers.supervisor import BatchError, Child, WorkerSpec, child_of_this_process, end_children
from foldatlas.schemas.errors import FoldAtlasError, ModelError, OutOfMemory, UsageError, WorkerDied, WorkerTimeout


def fold(child: Child, *sequences: str) -> list[str]:
    return [prediction.sequence for prediction in child.compute(list(sequences), 1, mean_embedding=False)]


def test_predictions_come_back_whole(worker: WorkerSpec) -> None:
    child = child_of_this_process(worker)
    (first,) = child.compute(["MKVL"], 1, mean_embedding=True)
    (again,) = child.compute(["MKVL"], 1, mean_embedding=True)
    assert first.coordinates.shape == (8 + 9 + 7 + 8, 3)
    assert np.array_equal(first.coordinates, again.coordinates)
    assert first.mean_embedding is not None


def test_one_child_serves_a_process(worker: WorkerSpec) -> None:
    assert child_of_this_process(worker) is child_of_this_process(worker)


def test_a_child_of_another_spec_gives_the_device_back(worker: WorkerSpec) -> None:
    """That of an earlier run in the same process, but not within a session."""
    child, other = child_of_this_process(worker), replace(worker, mflop_per_second=1.0)
    fold(child, "MKVL")
    assert child._link is not None
    process = child._link.process
    with child.session():
        child_of_this_process(other)
        assert process.poll() is None
    assert child_of_this_process(worker) is child and process.poll() is None
    child_of_this_process(other)
    assert process.poll() is not None and child.pid is None


@pytest.mark.parametrize(
    ("poison", "error", "reason"),
    [
        ("DEAD", WorkerDied, "exit code 3"),
        ("SEGV", WorkerDied, "SIGSEGV"),
        ("KILLED", WorkerDied, "SIGKILL"),
        ("NAN", BatchError, "not finite"),
        ("FAIL", BatchError, "ValueError: a fault of two lines"),
    ],
)
def test_fault_is_reported_and_the_next_batch_folds(
    worker: WorkerSpec, poison: str, error: type[Exception], reason: str
) -> None:
    child = child_of_this_process(worker)
    with pytest.raises(error, match=reason):
        fold(child, "MKVL", poison)
    assert fold(child, "MKVL") == ["MKVL"]


def test_gpu_fault_costs_no_other_protein(worker: WorkerSpec) -> None:
    """After an illegal address CUDA refuses all work until the process ends: the child is replaced."""
    child = child_of_this_process(replace(worker, device="cuda"))
    results = fold_with_bisection(lambda batch: child.compute(batch, 1), ["MKVL", "SPLINTER", "MKLL"])
    assert [isinstance(result, Failed) for result in results] == [False, True, False]
    assert "illegal memory access" in str(results[1])


def test_death_with_a_batch_waiting_costs_neither(
    worker: WorkerSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child dies while it computes one batch, when the next was received and waits: the first is tried again,
    alone, and then the other as for the first time."""
    monkeypatch.setenv("FAKE_CHILD_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("FAKE_CHILD_ONCE", str(tmp_path / "once"))
    batches = [["MWAITED", "MK"], ["MKVL"], ["MA"]]
    with child_of_this_process(worker).session() as session:
        found = list(compute_in_order(session, batches, Work(lambda _: 1, lambda _: 1, {})))
    assert [batch for batch, _ in found] == batches
    for batch, results in found:
        assert [result.sequence for result in results] == batch
        assert not any(isinstance(result, Failed) for result in results)
    assert (tmp_path / "log").read_text().splitlines() == ["MWAITED MK", "MWAITED MK", "MKVL", "MA"]


def test_out_of_memory_leaves_the_child_alive(worker: WorkerSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CHILD_MEMORY", "10")
    child = child_of_this_process(worker)
    with pytest.raises(OutOfMemory, match="do not fit"):
        fold(child, "MKVLMK", "MKVLMK")
    assert fold(child, "MKVLMK") == ["MKVLMK"]


def test_a_process_is_renewed_only_after_it_computed(worker: WorkerSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proteins that fit into no process would otherwise cost a load of the model each."""
    monkeypatch.setenv("FAKE_CHILD_MEMORY", "10")
    child = child_of_this_process(worker)
    assert not child.renew()
    assert fold(child, "MKVL") == ["MKVL"]
    first = child.pid
    assert [
        type(result)
        for result in fold_with_bisection(lambda batch: child.compute(batch, 1), ["M" * 11], renew=child.renew)
    ] == [Failed]
    second = child.pid
    assert first != second is not None
    assert isinstance(
        fold_with_bisection(lambda batch: child.compute(batch, 1), ["M" * 12], renew=child.renew)[0], Failed
    )
    assert child.pid == second


@pytest.mark.parametrize("hang", ["HANG", "VISE", "FREEZE"])
def test_a_hang_ends_at_its_deadline(worker: WorkerSpec, hang: str) -> None:
    """Asleep, with the interpreter's lock held, and stopped: nothing but SIGKILL would wake the last two."""
    child = child_of_this_process(replace(worker, min_deadline_seconds=4.0))
    assert fold(child, "MKVL") == ["MKVL"]
    busy = child.busy_seconds
    started = time.monotonic()
    with pytest.raises(WorkerTimeout, match=r"no answer within \d+ s"):
        fold(child, hang)
    assert time.monotonic() - started < 300  # a busy machine folds the first protein slowly, which extends the deadline
    assert child.busy_seconds == busy > 0  # a hang is no work
    assert fold(child, "MKVL") == ["MKVL"]


def test_deadline_does_not_include_loading(worker: WorkerSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hangs, each followed by a load that takes longer than the deadline: one protein is guilty, the other not."""
    monkeypatch.setenv("FAKE_CHILD_LOADS", "3.2")
    child = child_of_this_process(replace(worker, min_deadline_seconds=3.0))
    results = fold_with_bisection(lambda batch: child.compute(batch, 1), ["HANG", "MKVL"], attempts=1)
    assert results[0] == Failed("HANG", "no answer within 3 s", 3)
    assert not isinstance(results[1], Failed) and results[1].sequence == "MKVL"


def child_that_hangs(worker: WorkerSpec, folder: Path, then: str = "") -> supervisor.Child:
    """A child whose program says that it is ready, does what `then` says, and sleeps."""
    ready = """
        import os, sys, time
        from foldatlas.folding.models import settings_of
        from foldatlas.pipeline.workers.inherited import connect
        from foldatlas.pipeline.workers.messages import Ready
        from foldatlas.pipeline.workers.wire import send
        connection, rest = connect(sys.argv[1:])
        send(connection, Ready(settings_of("nano")))
    """
    program = folder / "child.py"
    program.write_text("\n".join(map(textwrap.dedent, (ready, then, "time.sleep(3600)"))))
    return child_of_this_process(replace(worker, command=(sys.executable, "-P", str(program))))


def test_a_child_that_stops_in_the_middle_of_a_message_is_ended(
    worker: WorkerSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Half an answer looks like an answer to who waits for one: reading the rest must have an end as well."""
    then = """
        connection.recv_bytes()
        os.write(connection.fileno(), (1000).to_bytes(4, "big") + b"half")
    """
    monkeypatch.setattr(link, "STALL_SECONDS", 0.5)
    child = child_that_hangs(worker, tmp_path, then)
    with pytest.raises(WorkerTimeout, match="stopped halfway"):
        fold(child, "MKVL")
    assert child.pid is None


def test_a_child_that_takes_no_work_is_ended(
    worker: WorkerSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A batch larger than the socket's buffer, and a child that does not read it."""
    monkeypatch.setattr(link, "STALL_SECONDS", 0.5)
    child = child_that_hangs(worker, tmp_path)
    with pytest.raises(WorkerTimeout, match="accepted no work"):
        fold(child, *("M" * number for number in range(1, 3000)))  # 4.5 MB
    assert child.pid is None


def test_a_process_that_cannot_be_ended_ends_the_run(worker: WorkerSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while a driver holds it in the kernel: the parent must not wait for ever."""
    child = child_of_this_process(worker)
    fold(child, "MKVL")
    assert child._link is not None
    process = child._link.process

    def never(timeout: float | None = None) -> int:
        raise subprocess.TimeoutExpired("child", timeout or 0)

    monkeypatch.setattr(process, "wait", never)
    with pytest.raises(FoldAtlasError, match=r"driver of cpu hangs.*run the same command again"):
        child.kill()
    monkeypatch.undo()
    process.wait(120)


def test_first_batch_has_a_deadline_from_other_devices(worker: WorkerSpec) -> None:
    """10 MFLOP, ten times over, at 100 a second: one second above the least, where nothing known would give 0.2."""
    child = child_of_this_process(replace(worker, min_deadline_seconds=2.0, mflop_per_second=100.0))
    with pytest.raises(WorkerTimeout, match="within 3 s"):
        child.compute(["HANG"], 10)


def test_a_child_that_was_killed_is_started_again(worker: WorkerSpec) -> None:
    child = child_of_this_process(worker)
    fold(child, "MKVL")
    assert child._link is not None
    child._link.process.kill()
    child._link.process.wait()
    assert fold(child, "MKVL") == ["MKVL"]


def test_an_idle_child_gives_the_device_back(worker: WorkerSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CHILD_IDLE", "3")
    child = child_of_this_process(worker)
    fold(child, "MKVL")
    assert child._link is not None
    assert child._link.process.wait(timeout=120) == 0
    assert fold(child, "MKVL") == ["MKVL"]


def test_a_model_that_cannot_be_loaded_is_a_clear_error(worker: WorkerSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CHILD_REFUSES", "no such weights")
    with pytest.raises(ModelError, match="no such weights"):
        fold(child_of_this_process(worker), "MKVL")


def test_a_child_with_other_weights_is_refused(worker: WorkerSpec) -> None:
    other = replace(worker, settings=replace(worker.settings, weights="0" * 64))
    with pytest.raises(ModelError, match="install the same version"):
        fold(child_of_this_process(other), "MKVL")
    end_children()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a child with its parent")
@pytest.mark.parametrize("work", ["MKVL", "HANG"])
def test_a_killed_driver_leaves_no_child(worker: WorkerSpec, tmp_path: Path, work: str) -> None:
    """Started from a thread that ends, as Beam's do; killed while the child is idle, and while it hangs."""
    program = textwrap.dedent(f"""
        import threading
        from foldatlas.folding.models import settings_of
        from foldatlas.pipeline.workers.supervisor import WorkerSpec, child_of_this_process
        child = child_of_this_process(WorkerSpec("nano", settings_of("nano"), "cpu", command={worker.command!r}))
        def begin():
            child.compute(["MKVL"], 1, mean_embedding=False)
        thread = threading.Thread(target=begin); thread.start(); thread.join()
        print(child.pid, flush=True)
        child.compute([{work!r}], 1, mean_embedding=False)
        import time; time.sleep(3600)
    """)
    driver = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    with driver.stdout as output:
        child = int(output.readline())
    time.sleep(0.5)
    os.kill(child, 0)  # it outlived the thread that asked for it
    driver.kill()
    driver.wait()
    for _ in range(1200):
        if not _is_running(child):
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the child outlived its driver by two minutes")


def _is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # killed, its exit code not collected yet


def test_child_without_a_parent_ends_at_once() -> None:
    command = [sys.executable, "-m", "foldatlas.pipeline.workers.child", "0", "4194304", "nano", "3", "fp32", "cpu"]
    assert subprocess.run(command, stdin=subprocess.DEVNULL, timeout=300).returncode == 1


def test_device_has_one_holder_and_is_freed_when_it_dies(tmp_path: Path) -> None:
    path = tmp_path / "gpu.lock"
    program = (
        "import sys, time; from pathlib import Path; from foldatlas.pipeline.workers.devices import lock; "
        "lock(Path(sys.argv[1]), 0); print('held', flush=True); time.sleep(3600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    with holder.stdout as output:
        assert output.readline() == "held\n"
    with pytest.raises(FoldAtlasError, match="in use by another"):
        lock(path, 0.1)
    holder.kill()
    holder.wait()
    os.close(lock(path, 120))


def test_lock_of_another_user_is_taken_by_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In /tmp Linux refuses to open another user's file for writing, or with O_CREAT."""
    path, opened = tmp_path / "gpu.lock", os.open
    path.touch()

    def refused(path: Path, flags: int, *mode: int) -> int:
        if flags & (os.O_CREAT | os.O_RDWR):
            raise PermissionError(path)
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", refused)
    held = lock(path, 0)
    with pytest.raises(FoldAtlasError, match="in use by another"):
        lock(path, 0)
    os.close(held)
    os.close(lock(path, 0))


def test_a_gpu_is_known_by_its_identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-aaaa,GPU-bbbb")
    assert device_uuid("cuda:1") == "GPU-bbbb"
    assert device_uuid("cuda") == "GPU-aaaa"
    assert device_uuid("cpu") is None
    with pytest.raises(FoldAtlasError, match="CUDA_VISIBLE_DEVICES"):
        device_uuid("cuda:2")
    assert lock_path("../../etc/x").parent == lock_path("GPU-aaaa").parent

    asked = tmp_path / "nvidia-smi"
    asked.write_text('#!/bin/sh\necho "GPU for $*"\n')
    asked.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert str(device_uuid("cuda:1")).endswith("--id=5")
    assert choose_device("auto") == "cuda"
    assert device_bytes("cuda:1") is None  # no number
    asked.write_text('#!/bin/sh\necho 81559; test "$1 $3" = "--query-gpu=memory.total --id=5"\n')
    assert device_bytes("cuda:1") == 81559 << 20
    assert device_bytes("cuda:0") is None  # the wrong one: it fails
    asked.write_text('#!/bin/sh\necho "GPU for $*"\n')
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert choose_device("auto") == "cpu"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert choose_device("cuda") == "cuda"
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FoldAtlasError, match=r"no NVIDIA driver was found .*--device cpu"):
        device_uuid("cuda")
    with pytest.raises(UsageError, match="use --device cpu"):
        choose_device("cuda")
    assert choose_device("auto") == "cpu"
