"""Asked to stop: once politely, twice in earnest, and by a system that will not wait."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.pipeline.interruption import interruptible, stopping
from foldatlas.pipeline.planning.costs import CostModel
from foldatlas.pipeline.planning.planner import make_plan
from foldatlas.pipeline.workers.supervisor import WorkerSpec
from foldatlas.schemas.errors import Interrupted


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_signal_asks_and_the_exit_code_says_which(number: int, code: int) -> None:
    with pytest.raises(Interrupted, match="run the same command again") as stop, interruptible():
        signal.raise_signal(number)
        assert stopping()
    assert stop.value.exit_code == code
    assert not stopping()


def test_no_thread_is_left_after_the_block() -> None:
    """One that the end of the interpreter meets makes DuckDB complain, below the one line that says what was wrong."""
    for _ in range(100):
        with interruptible():
            pass
        assert not [thread for thread in threading.enumerate() if thread.name == "foldatlas-grace"]


def test_second_ctrl_c_ends_the_block_and_other_threads() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
    try:
        with pytest.raises(KeyboardInterrupt), interruptible():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert stopping()  # the process waits for threads that have not looked yet
    with interruptible():
        assert not stopping()


def run_until(line: str, program: str, *arguments: str) -> subprocess.Popen[str]:
    """Starts `program` and returns it when it has said `line`."""
    command = [sys.executable, "-c", textwrap.dedent(program), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == f"{line}\n"
    return process


def test_a_second_sigterm_ends_the_process_at_once() -> None:
    program = """
        import time
        from foldatlas.pipeline import interruption
        interruption.GRACE_SECONDS = 600  # however busy the machine is, the second one comes before
        with interruption.interruptible():
            print("within", flush=True)
            time.sleep(3600)
    """
    process = run_until("within", program)
    for _ in range(1000):  # the second one, once the first was taken
        process.terminate()
        if process.poll() is not None:
            break
        time.sleep(0.05)
    assert process.wait(120) == -signal.SIGTERM
    process.communicate()


def test_hanging_work_ends_after_the_grace_period() -> None:
    program = """
        import time
        from foldatlas.pipeline import interruption
        interruption.GRACE_SECONDS = 0.5
        with interruption.interruptible():
            print("within", flush=True)
            time.sleep(3600)
    """
    process = run_until("within", program)
    process.terminate()
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 143
    assert "run the same command again" in errors and "Traceback" not in errors


def test_a_run_whose_worker_is_stopped_ends_by_itself(
    tmp_path: Path, worker: WorkerSpec, costs: CostModel, write_fasta: Callable[..., str], proteins: list[str]
) -> None:
    """SIGTERM while the model's process is stopped and answers nothing."""
    folder = AtlasFolder(tmp_path / "atlas")
    fasta = write_fasta([*proteins, "M" + "G" * 200 + "FREEZE"])  # the longest, so in the first shard
    make_plan([fasta], folder, worker.settings, costs, max_length=1280)
    program = """
        import sys
        from pathlib import Path
        from foldatlas.atlas.folder import AtlasFolder
        from foldatlas.pipeline import interruption
        from foldatlas.pipeline.shards.run import fold_atlas
        from foldatlas.pipeline.workers.supervisor import Child, WorkerSpec
        from foldatlas.schemas.errors import Interrupted

        interruption.GRACE_SECONDS = 600  # however busy the machine is, it ends before
        real = Child._receive
        def receive(self, seconds, since):
            if self._mflop_per_second and not printed:
                printed.append(print("folding", flush=True))
            return real(self, seconds, since)
        printed = []
        Child._receive = receive
        folder = AtlasFolder(Path(sys.argv[1]))
        command = (sys.executable, "-P", sys.argv[2])
        spec = WorkerSpec("nano", folder.header().settings, "cpu", command=command, min_deadline_seconds=600)
        try:
            fold_atlas(folder, spec, show_progress=False)
        except Interrupted as stop:
            print(stop, file=sys.stderr)
            sys.exit(stop.exit_code)
    """
    process = run_until("folding", program, str(folder.root), worker.command[-1])
    stopped = False
    end = time.monotonic() + 300
    while not stopped and time.monotonic() < end:
        stopped = any(state == "T" for state in states_of_children(process.pid))
        time.sleep(0.05)
    assert stopped
    process.terminate()
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 143, errors
    assert "run the same command again" in errors and "Traceback" not in errors
    assert "without waiting" not in errors


def states_of_children(parent: int) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, owner = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(owner) == parent and int(path.parent.name) != os.getpid():
            found.append(state)
    return found
