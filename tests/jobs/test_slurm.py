"""jobs/deploy/slurm on a real Slurm of one node, disturbed as clusters disturb; each run must end in the clean atlas.

The process that folds is the fake child (tests/faults/driver.py). A run that is disturbed pauses before its second
commit, however busy the machine is.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import slurm_cluster
from paused import pausing_environment
from slurm_cluster import Slurm, until

TESTS = Path(__file__).parents[1]
DEPLOY = TESTS.parent / "jobs" / "deploy" / "slurm"
DRIVER = TESTS / "faults" / "driver.py"

pytestmark = pytest.mark.skipif(bool(slurm_cluster.lacking()), reason=slurm_cluster.lacking() or "installed")


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with slurm_cluster.running() as made:
        yield made


class Site:
    """A folder with a FASTA, a `foldatlas` on PATH that logs GPUs and process ids, and the clean atlas."""

    def __init__(self, folder: Path, slurm: Slurm):
        self.folder, self.slurm, self.atlas = folder, slurm, folder / "atlas"
        sys.path.append(str(TESTS / "faults"))
        try:
            import judge
            import proteins
        finally:
            sys.path.remove(str(TESTS / "faults"))
        self._judge = judge
        self.expected = proteins.proteins(30, poison=False)
        self.fasta = proteins.write(folder / "in.fasta", self.expected)
        (folder / "bin").mkdir()
        program = folder / "bin" / "foldatlas"
        program.write_text(
            f"#!/bin/sh\nFAKE_CHILD_SECONDS=$(cat {folder}/seconds); export FAKE_CHILD_SECONDS FAULTS_DEADLINE=600\n"
            f'echo "$$ ${{SLURM_ARRAY_TASK_ID:-none}} ${{CUDA_VISIBLE_DEVICES:-none}} $1" >>{folder}/log\n'
            f'exec {sys.executable} -P {DRIVER} "$@"\n'
        )
        program.chmod(0o755)
        self.environment = {
            **slurm.environment,
            "PATH": f"{folder / 'bin'}{os.pathsep}{slurm.environment['PATH']}",
            "TMPDIR": str(folder),
        }
        self.batches_take(0.02)
        clean = folder / "clean"
        command = [str(program), "fold", str(self.fasta), str(clean), "--model", "nano"]
        subprocess.run(command, env=self.environment, check=True, capture_output=True, timeout=300)
        self.clean = judge.read(clean)
        (folder / "log").unlink()

    def batches_take(self, seconds: float) -> None:
        (self.folder / "seconds").write_text(str(seconds))

    def pause(self, word: str) -> Path:
        """From now on a process with `word` in its command line pauses before its second commit. Return the folder of
        its mark, which is to be removed before other runs."""
        pauses = self.folder / "pauses"
        self.environment |= pausing_environment(pauses, word)
        return pauses

    def submit(self, tasks: str, *words: str, **environment: str) -> tuple[str, str]:
        """Run array.sh; return the numbers of the array and of the index job."""
        command = ["bash", str(DEPLOY / "array.sh"), tasks, str(self.fasta), str(self.atlas), "--model", "nano", *words]
        done = subprocess.run(
            command, cwd=self.folder, env={**self.environment, **environment}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        said = done.stdout.splitlines()[-1].split()
        return said[3], said[said.index("index") + 2].rstrip(";")

    def log(self) -> list[list[str]]:
        """Process id, task, GPUs and command of each start of foldatlas in a job."""
        path = self.folder / "log"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def committed(self) -> int:
        return len(list((self.atlas / "manifest").glob("[!.]*.json")))

    def check(self) -> None:
        verdict = self._judge.judge(self.atlas, self.clean, self.expected)
        assert not verdict, verdict
        assert not list(self.folder.glob("beam-pipeline-temp*"))


@pytest.fixture
def site(tmp_path: Path, slurm: Slurm) -> Site:
    return Site(tmp_path, slurm)


def states(jobs: dict[str, dict[str, Any]]) -> set[str]:
    return {fields["JobState"] for fields in jobs.values()}


@pytest.mark.long
def test_array_and_index_make_the_clean_atlas(site: Site, slurm: Slurm) -> None:
    """Two tasks at once, a GPU each, as SBATCH_GRES asks; the index has none."""
    site.batches_take(0.5)  # long enough that the tasks overlap
    array, index = site.submit("2", SBATCH_GRES="gpu:1")
    assert states(slurm.wait(array, index)) == {"COMPLETED"}, site.log()
    gpus = {task: gpu for _, task, gpu, command in site.log() if command == "fold"}
    assert gpus.keys() == {"0", "1"} and set(gpus.values()) == {"0", "1"}
    assert [gpu for _, _, gpu, command in site.log() if command == "index"] == ["none"]
    site.check()


@pytest.mark.long
def test_array_task_at_its_time_limit_keeps_its_shards(site: Site, slurm: Slurm) -> None:
    """The limit is set when a shard is committed. Slurm counts it in minutes and may signal a minute early."""
    pauses = site.pause("driver.py")
    array, index = site.submit("1", "--sbatch-time=60", "--sbatch-signal=B:TERM@20")
    until(lambda: any(pauses.iterdir()), "a first shard", slurm.logs)
    hours, minutes, _ = slurm.jobs()[f"{array}_0"]["RunTime"].split(":")
    slurm.command("scontrol", "update", f"JobId={array}_0", f"TimeLimit={60 * int(hours) + int(minutes) + 2}")
    (ended,) = slurm.wait(array).values()
    assert ended["JobState"] == "FAILED" and ended["ExitCode"] == "143:0", ended  # by itself, before the limit
    kept = site.committed()
    assert kept > 0
    shutil.rmtree(pauses)
    slurm.wait(index)
    assert states(slurm.wait(*site.submit("1"))) == {"COMPLETED"}
    assert site.committed() > kept
    site.check()


def cancel(site: Site, slurm: Slurm, array: str) -> None:
    slurm.command("scancel", f"{array}_0")


def requeue(site: Site, slurm: Slurm, array: str) -> None:
    slurm.command("scontrol", "requeue", f"{array}_0")


def kill(site: Site, slurm: Slurm, array: str) -> None:
    os.kill(int(site.log()[-1][0]), signal.SIGKILL)


@pytest.mark.long
@pytest.mark.parametrize(
    ("disturb", "becomes"), [(cancel, "CANCELLED"), (requeue, "COMPLETED"), (kill, "FAILED")],
    ids=["cancelled", "requeued", "killed"],
)  # fmt: skip
def test_disturbed_array_is_completed_by_the_same_command(
    site: Site, slurm: Slurm, disturb: Callable[[Site, Slurm, str], None], becomes: str
) -> None:
    pauses = site.pause("driver.py")
    array, index = site.submit("1")
    until(lambda: any(pauses.iterdir()), "a first shard", slurm.logs)
    disturb(site, slurm, array)
    if becomes == "COMPLETED":
        until(lambda: len([line for line in site.log() if line[3] == "fold"]) == 2, "its second start", slurm.logs)
    shutil.rmtree(pauses)
    (ended,) = slurm.wait(array).values()
    assert ended["JobState"] == becomes, ended
    slurm.wait(index)
    if becomes == "COMPLETED":
        assert ended["Restarts"] == "1"
    else:
        assert states(slurm.wait(*site.submit("1"))) == {"COMPLETED"}
    site.check()


@pytest.mark.long
def test_dask_on_slurm_replaces_a_lost_worker(site: Site, slurm: Slurm) -> None:
    """Each worker pauses before its second commit until a third has been submitted."""
    pytest.importorskip("dask_jobqueue")
    pytest.importorskip("distributed")
    pauses = site.pause("spawn_main")
    command = [
        sys.executable, str(DEPLOY / "dask_cluster.py"), "--gpus", "2", "--cores", "1", "--memory", "4GB",
        "--time", "00:30:00", "--interface", "lo", "--shared", str(site.folder),
        "--", str(site.fasta), str(site.atlas), "--model", "nano", "--device", "cpu",
    ]  # fmt: skip
    with (site.folder / "driver.out").open("wb") as out:
        driver = subprocess.Popen(
            command, cwd=site.folder, stdout=out, stderr=out,
            env={**site.environment, "FAKE_CHILD_SECONDS": "0.5", "FAULTS_DEADLINE": "600"},
        )  # fmt: skip

    def said() -> str:
        return (site.folder / "driver.out").read_text() + slurm.logs()

    before = set(slurm.jobs())
    try:
        until(lambda: any(pauses.iterdir()) or driver.poll() is not None, "a first shard", said)
        assert driver.poll() is None, said()
        lost = next(
            job for job, fields in slurm.jobs().items() if job not in before and fields["JobState"] == "RUNNING"
        )
        slurm.command("scancel", "--signal=KILL", "--full", lost)
        until(lambda: len(set(slurm.jobs()) - before) >= 3, "a job in place of the lost one", said)
        shutil.rmtree(pauses)
        assert driver.wait(slurm_cluster.PATIENCE) == 0, said()
    finally:
        driver.kill()
        driver.wait()
    site.check()
