"""The main job on Prism, Beam's own portable runner: job service, Fn API, and workers in other processes.

The program is named by FOLDATLAS_PRISM, or lies packed in ../shared/prism beside the checkout; else these tests skip.
"""

import contextlib
import hashlib
import lzma
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paused import pausing_environment

from foldatlas.atlas.folder import AtlasFolder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc; prism is Linux's")

PACKED = Path(__file__).parents[3] / "shared" / "prism" / "prism.xz"
SHA256 = "ab5c0d10150f2f6633b6bbe5a762052dde1461f4f080d7f97fa6d49b5af9eff9"


@pytest.fixture(scope="session")
def prism(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of the program."""
    named = os.environ.get("FOLDATLAS_PRISM")
    if named:
        return named
    if not PACKED.exists():
        pytest.skip("no prism: give the program by FOLDATLAS_PRISM, or put it into ../shared/prism")
    content = lzma.decompress(PACKED.read_bytes())
    assert hashlib.sha256(content).hexdigest() == SHA256, "this is not the prism of Beam 2.77.0"
    program = tmp_path_factory.mktemp("prism") / "prism"
    program.write_bytes(content)
    program.chmod(0o755)
    return str(program)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory, module_fasta: str) -> Path:
    """The atlas that the embedded engine makes."""
    atlas = tmp_path_factory.mktemp("clean") / "atlas"
    command = [sys.executable, "-m", "foldatlas.jobs.cli", "fold", module_fasta, str(atlas), "--model", "nano"]
    subprocess.run(command, check=True, capture_output=True)
    return atlas


@pytest.fixture(scope="module")
def module_fasta(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Starts of real proteins, and records of every other outcome: repeated, and refused."""
    proteins = (Path(__file__).parents[2] / "examples" / "familiar.fasta").read_text().split(">")[1:]
    text = "".join(f">{header}\n{sequence[:40]}\n" for header, _, sequence in (one.partition("\n") for one in proteins))
    first = ">" + text.split(">")[1]
    path = tmp_path_factory.mktemp("fasta") / "in.fasta"
    path.write_text(text + first + ">empty\n>wrong\nMK1L\n")
    return str(path)


def process_is_up(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def descendants(process: int) -> dict[int, str]:
    """Every process below one, with its command line."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found: dict[int, str] = {}
    waiting = [process]
    while waiting:
        parent = waiting.pop()
        for child in [child for child, its_parent in parents.items() if its_parent == parent]:
            try:
                found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            waiting.append(child)
    return found


def wait_until(condition: Callable[[], object], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


class Pool:
    """A pool of Beam's workers, as a person or a container starts it."""

    def __init__(self, log: Path, environment: dict[str, str]):
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            self.port = probe.getsockname()[1]
        # the pool starts its workers by the `python` of PATH
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        command = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={self.port}"]
        self.log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                command, stdout=file, stderr=file, env={**os.environ, **environment, "PATH": path}
            )
        wait_until(self._answers)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("localhost", self.port)) == 0

    @property
    def options(self) -> list[str]:
        return ["--environment_type=EXTERNAL", f"--environment_config=localhost:{self.port}"]

    def workers(self) -> list[int]:
        return [process for process, command in descendants(self.process.pid).items() if "SdkHarness" in command]

    def end(self) -> None:
        for process in [*descendants(self.process.pid), self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def pauses(tmp_path: Path) -> Path:
    """Where a worker of the pool leaves its mark when it pauses before its second commit."""
    return tmp_path / "pauses"


@pytest.fixture
def pool(tmp_path: Path, pauses: Path) -> Iterator[Pool]:
    started = Pool(tmp_path / "pool.log", pausing_environment(pauses, "SdkHarness"))
    yield started
    started.end()


def command(fasta: str, atlas: Path, *beam: str, runner: str = "PrismRunner") -> list[str]:
    start = [sys.executable, "-m", "foldatlas.jobs.cli", "fold", fasta, str(atlas), "--model", "nano"]
    return [*start, "--runner", runner, "--", *beam]


def committed(atlas: Path) -> int:
    return len(list((atlas / "manifest").glob("[!.]*.json")))


LINE = "23 records: 20 folded, 1 repeated, 2 refused (1 digit, 1 empty_sequence), 0 failed\n"


@pytest.mark.slow
def test_in_the_drivers_process_it_is_equal_to_the_embedded_run(
    prism: str, module_fasta: str, clean: Path, tmp_path: Path, tables: Callable[[Path], object]
) -> None:
    atlas = tmp_path / "atlas"
    done = subprocess.run(
        command(module_fasta, atlas, f"--prism_location={prism}"), capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout) == (0, LINE), done.stderr
    lines = [
        line for line in done.stderr.splitlines() if not line.startswith("folding: ")
    ]  # progress of a slow machine
    assert len(lines) == 6, (
        done.stderr
    )  # the plan, what was folded, how to list refused records, the report: nothing of Beam's
    assert tables(atlas) == tables(clean)


@pytest.mark.long
def test_killed_worker_of_a_pool_is_an_error_and_resumes(
    prism: str,
    module_fasta: str,
    clean: Path,
    tmp_path: Path,
    pool: Pool,
    pauses: Path,
    tables: Callable[[Path], object],
) -> None:
    """The run ends with an error; the same command completes the atlas."""
    atlas = tmp_path / "atlas"
    words = command(module_fasta, atlas, f"--prism_location={prism}", *pool.options)
    driver = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: any(pauses.iterdir()) or driver.poll() is not None)
    (worker,) = pool.workers()
    children = list(descendants(worker))
    os.kill(worker, signal.SIGKILL)
    shutil.rmtree(pauses)
    output, messages = driver.communicate(timeout=300)
    assert driver.returncode == 1
    assert output == ""
    last = messages.splitlines()[-1]
    assert last.startswith("foldatlas fold: PrismRunner failed (") and "run the same command again" in last
    assert "Traceback" not in messages and len(messages.splitlines()) == 4, messages
    wait_until(lambda: not any(process_is_up(child) for child in children))
    done_before = committed(atlas)
    shards = len(AtlasFolder(atlas).plans()[0].shards)
    assert done_before == 1 < shards

    again = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert (again.returncode, again.stdout) == (0, LINE), again.stderr
    assert tables(atlas) == tables(clean)
    runs: dict[str, int] = {}
    for entry in AtlasFolder(atlas).entries().values():
        runs[entry.run.run_id] = runs.get(entry.run.run_id, 0) + 1
    assert sorted(runs.values()) == sorted([done_before, shards - done_before])
    wait_until(lambda: not pool.workers())
    assert "Traceback" not in pool.log.read_text()


@pytest.mark.parametrize("external", [False, pytest.param(True, marks=pytest.mark.long)], ids=["loopback", "pool"])
def test_ctrl_c_leaves_no_process(
    prism: str, module_fasta: str, tmp_path: Path, request: pytest.FixtureRequest, pauses: Path, external: bool
) -> None:
    """The run stops before its second commit, with a worker in the driver's process or in a pool."""
    pool: Pool | None = request.getfixturevalue("pool") if external else None
    pausing = {} if pool else pausing_environment(pauses, "foldatlas.jobs.cli")
    words = command(module_fasta, tmp_path / "atlas", f"--prism_location={prism}", *(pool.options if pool else []))
    driver = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, **pausing},
        # a shell's background job ignores SIGINT, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )  # fmt: skip
    wait_until(lambda: any(pauses.iterdir()) or driver.poll() is not None)
    assert driver.poll() is None
    below = descendants(driver.pid)
    assert any(prism in text for text in below.values())
    workers = pool.workers() if pool else []
    others = {child for worker in workers for child in descendants(worker)}
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does
    output, messages = driver.communicate(timeout=300)
    assert driver.returncode == 130
    assert output == ""
    assert messages.splitlines()[-1] == "foldatlas fold: stopped on request: run the same command again to resume"
    assert len(messages.splitlines()) == 4, messages
    wait_until(lambda: not any(process_is_up(process) for process in [*below, *workers, *others]))


def test_prism_ends_with_a_killed_driver(prism: str, module_fasta: str, tmp_path: Path) -> None:
    words = command(module_fasta, tmp_path / "atlas", f"--prism_location={prism}")
    driver = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: any("--job_port" in text for text in descendants(driver.pid).values()))
    below = list(descendants(driver.pid))
    driver.kill()
    driver.wait()
    wait_until(lambda: not any(process_is_up(process) for process in below))


@pytest.mark.long
def test_flinks_way_of_submitting_reaches_a_real_job_service(
    prism: str,
    module_fasta: str,
    clean: Path,
    tmp_path: Path,
    pool: Pool,
    pauses: Path,
    tables: Callable[[Path], object],
) -> None:
    """FlinkRunner's own submission, to Prism's job service: an engine that must show first what it can."""
    from foldatlas.pipeline.engines.portable.prism_server import prism as serving

    atlas = tmp_path / "atlas"
    shutil.rmtree(pauses)
    with serving(prism) as address:
        words = command(module_fasta, atlas, f"--job_endpoint={address}", *pool.options, runner="FlinkRunner")
        done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, LINE), done.stderr
    assert tables(atlas) == tables(clean)
