"""For all tests, and the processes they start: one thread, and no spinning; and a store on the loopback.

Must be said before torch is loaded. The networks of tests are so small that a second thread costs more than it gives
(on two cores one test took 30 s in place of 9 s), and threads that spin for each other lose whole time slices on a busy
machine (pipeline/workers/supervisor.py). Some 200 processes are started: where Python is set to keep no compiled
modules, each would compile ours anew, for a quarter of a second.
"""

import gc
import math
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import s3_server
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).resolve().parent

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# The same examples each time, however long one takes: nothing passes or fails by luck, or because the machine is busy.
# `--hypothesis-profile=default` draws new ones.
settings.register_profile(
    "foldatlas", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
settings.load_profile("foldatlas")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage among modules that are imported: it takes a sixth of the time of collecting tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_configure(config: pytest.Config) -> None:
    """Let each of several processes begin to collect at another folder: one compiles what the others then find."""
    if hasattr(config, "workerinput") and [Path(argument).resolve() for argument in config.args] == [TESTS]:
        folders = sorted({str(TESTS / path.relative_to(TESTS).parts[0]) for path in TESTS.glob("*/**/test_*.py")})
        begin = int(config.workerinput["workerid"].removeprefix("gw")) % len(folders)
        config.args = folders[begin:] + folders[:begin]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files with slow tests go first where processes share the files: else one would be left alone with the last."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: (item.path not in slow, item.path))


def cpu_seconds() -> float:
    """The processor time, in seconds, of this process and of those it started that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


STARTED = pytest.StashKey[float]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    item.stash[STARTED] = cpu_seconds()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Give --junitxml the processor time of each test, its fixtures included."""
    done = yield
    item.user_properties.append(("cpu_seconds", f"{cpu_seconds() - item.stash[STARTED]:.1f}"))
    return done


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The address of a real S3 server (moto) on the loopback."""
    pytest.importorskip("boto3")
    pytest.importorskip("moto.server")
    with s3_server.served() as address:
        yield address


@pytest.fixture
def s3(s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of the server. This process and those it starts have its settings."""
    import boto3

    for name, value in s3_server.settings(s3_endpoint, tmp_path / "none").items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    return boto3.client("s3", region_name="us-east-1")


@pytest.fixture
def flaky(s3: Any, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[s3_server.FlakyStore]:
    """AWS_ENDPOINT_URL leads here. Waits are short, and nothing but waits uses up patience."""
    from foldatlas.atlas.storage import retries, s3_client

    with s3_server.on_the_way_to(s3_endpoint) as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.address)
        clock = s3_server.WaitingClock()
        for module in (s3_client, retries):
            monkeypatch.setattr(module, "time", clock)
        monkeypatch.setattr(s3_client, "FIRST_WAIT", 0.001)
        monkeypatch.setattr(s3_client, "_gave_up", -math.inf)
        yield store
