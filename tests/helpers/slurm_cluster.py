"""A Slurm of one node on the loopback: munged, slurmctld and slurmd, with ports and folders of their own.

Needs root and Debian's packages slurm-wlm and munge. Nothing of an installed Slurm's configuration is read or changed.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "squeue")
PATIENCE = 900.0  # seconds; the longest wait is for a limit of two minutes
_SBIN = "/usr/sbin"  # not on everyone's PATH


def lacking() -> str:
    """Why no Slurm can be started here; "" if one can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a Slurm of our own needs Linux and root"
    path = f"{os.environ['PATH']}{os.pathsep}{_SBIN}"
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    return f"{', '.join(missing)} not installed (Debian: slurm-wlm, munge)" if missing else ""


CONFIGURATION = """\
ClusterName=foldatlas
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={socket},cred_expire=5
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SchedulerParameters=sched_interval=1,bf_interval=1
KillWait=10
OverTimeLimit=0
MinJobAge=3600
JobRequeue=1
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """A running Slurm. `environment` is what its commands and those who call them need."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SBATCH_", "SLURM_"))},
            "PATH": f"{os.environ['PATH']}{os.pathsep}{_SBIN}",
            "SLURM_CONF": str(folder / "slurm.conf"),
        }
        host = socket.gethostname().partition(".")[0]
        for name in ("state", "spool", "munge"):
            (folder / name).mkdir(mode=0o755)
        key = folder / "munge" / "key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        controller, daemon = _free_ports(2)
        # Twice the cores of the machine, at least four: tests are of scheduling, not of speed.
        text = CONFIGURATION.format(
            host=host, controller=controller, daemon=daemon, folder=folder, socket=folder / "munge" / "socket",
            cpus=max(4, os.cpu_count() or 1), memory=32000,
        )  # fmt: skip
        (folder / "slurm.conf").write_text(text)
        devices = [folder / f"gpu{number}" for number in range(2)]  # Slurm wants device files, not that they are used
        for device in devices:
            os.mknod(device, 0o600 | 0o020000, os.makedev(1, 3))  # the null device
        (folder / "gres.conf").write_text("".join(f"Name=gpu File={device}\n" for device in devices))

    def start(self) -> None:
        munge = self.folder / "munge"
        self._start(
            "munged", "--foreground", "--force", f"--key-file={munge / 'key'}", f"--socket={munge / 'socket'}",
            f"--pid-file={munge / 'pid'}", f"--log-file={munge / 'log'}", f"--seed-file={munge / 'seed'}",
            "--num-threads=2",
        )  # fmt: skip
        until((munge / "socket").exists, "munged's socket", self.logs)
        self._start("slurmctld", "-D", "-i")
        self._start("slurmd", "-D")
        until(lambda: "idle" in self.command("sinfo", "-h", "-o", "%T", check=False), "an idle node", self.logs)

    def _start(self, *command: str) -> None:
        with (self.folder / f"{command[0]}.out").open("wb") as out:
            program = shutil.which(command[0], path=self.environment["PATH"])
            assert program is not None
            process = subprocess.Popen(
                [program, *command[1:]], env=self.environment, stdout=out, stderr=out, start_new_session=True
            )
        self.processes.append(process)

    def command(self, *words: str, check: bool = True) -> str:
        """What a command of Slurm's prints."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0 or not check, done.stderr + self.logs()
        return done.stdout

    def jobs(self, job: str = "") -> dict[str, dict[str, Any]]:
        """Jobs by "array_task" or number, ended ones too, as scontrol describes them."""
        text = self.command("scontrol", "--oneliner", "show", "job", *([job] if job else []), check=False)
        found = {}
        for line in text.splitlines():
            fields = dict(word.partition("=")[::2] for word in line.split() if "=" in word)
            if "JobId" in fields:
                array = fields.get("ArrayJobId")
                found[f"{array}_{fields['ArrayTaskId']}" if array else fields["JobId"]] = fields
        return found

    def state(self, job: str) -> str:
        return str(self.jobs(job).get(job, {}).get("JobState", ""))

    def wait(self, *jobs: str) -> dict[str, dict[str, Any]]:
        """Wait until nothing of `jobs` is pending or runs; return what they became."""

        def ended() -> dict[str, dict[str, Any]]:
            found = {name: fields for job in jobs for name, fields in self.jobs(job).items()}
            busy = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED", "SUSPENDED")
            return {} if any(fields["JobState"] in busy for fields in found.values()) else found

        return until(ended, f"the end of {' '.join(jobs)}", self.logs)  # type: ignore[no-any-return]

    def logs(self) -> str:
        """The ends of the daemons' logs."""
        return "".join(f"\n== {path.name}\n{path.read_text()[-2000:]}" for path in sorted(self.folder.glob("*.log")))

    def end(self) -> None:
        """Cancel what is left and end the daemons."""
        with contextlib.suppress(Exception):
            self.command("scancel", "--signal=KILL", "--full", "--user=root", check=False)
            self.command("scancel", "--user=root", check=False)
            until(lambda: not self.command("squeue", "-h", check=False).strip(), "no jobs")
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self.processes):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def until(condition: Callable[[], Any], what: str, more: Callable[[], str] = str) -> Any:
    """Return what `condition` gives as soon as it is true. Raise AssertionError after PATIENCE seconds."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {PATIENCE:.0f} s: {what}{more()}")


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def running() -> Iterator[Slurm]:
    """A Slurm until the block ends. Its folder has a short name: paths of sockets are limited to 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        Path(folder).chmod(0o755)
        slurm = Slurm(Path(folder))
        try:
            slurm.start()
            yield slurm
        finally:
            slurm.end()


if __name__ == "__main__":  # by hand: prints the environment and stays until standard input ends
    with running() as cluster:
        print(json.dumps({"SLURM_CONF": cluster.environment["SLURM_CONF"]}), flush=True)
        sys.stdin.read()
