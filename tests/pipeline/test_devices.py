"""What a device is said to be in the manifest: as nvidia-smi or the kernel says, and nothing if neither does."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from foldatlas.folding.planning import host_memory
from foldatlas.pipeline.engines.dask.local import worker_environments
from foldatlas.pipeline.engines.dispatch import device_name
from foldatlas.pipeline.engines.engine import EMBEDDED, Engine
from foldatlas.pipeline.workers import devices
from foldatlas.pipeline.workers.devices import Hardware, hardware_of


@pytest.fixture(autouse=True)
def ask_anew() -> Iterator[None]:
    """Here, and in the tests of this process that follow."""
    devices._hardware.cache_clear()
    yield
    devices._hardware.cache_clear()


def test_a_gpu_is_asked_for_its_make_and_memory_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program, log = tmp_path / "nvidia-smi", tmp_path / "log"
    program.write_text(
        f"""#!/bin/sh
echo "$*" >> {log}
case "$1 $3" in
  "--query-gpu=name --id=5") printf 'NVIDIA  H100\\033 80GB\\tHBM3\\n';;
  "--query-gpu=memory.total --id=5") echo 81559;;
  *) exit 6;;
esac
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    for _ in range(3):
        assert hardware_of("cuda:1") == Hardware("NVIDIA H100 80GB HBM3", 81559 << 20)
    assert len(log.read_text().splitlines()) == 2
    assert hardware_of("cuda:0") == hardware_of("cuda:7") == Hardware("", 0)  # it fails, or is not there


def test_a_cpu_is_named_with_the_cores_at_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\n\nmodel name\t: Some CPU @ 3 GHz\n")
    monkeypatch.setattr(devices, "CPUINFO", cpuinfo)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert hardware_of("cpu") == Hardware("Some CPU @ 3 GHz, 8 cores", host_memory.total_bytes())
    # a worker finds its share in its environment, and what predicts for it says the same
    two = Engine("DaskRunner", 2)
    expected = device_name(two, "cpu")
    monkeypatch.setenv("OMP_NUM_THREADS", worker_environments(2, "cpu")[0]["OMP_NUM_THREADS"])
    assert hardware_of("cpu").name == expected == "Some CPU @ 3 GHz, 4 cores"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert device_name(EMBEDDED, "cpu") == device_name(two, "cpu") == "Some CPU @ 3 GHz, 1 core"
    assert device_name(Engine("FlinkRunner", 0), "cpu") == ""  # its workers are elsewhere
    devices._hardware.cache_clear()
    monkeypatch.setattr(devices, "CPUINFO", tmp_path / "missing")
    assert hardware_of("cpu").name.endswith(", 1 core")
