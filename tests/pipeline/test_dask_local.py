"""A Dask cluster of our own on this machine: what each worker gets, and whom it lets in."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from foldatlas.pipeline.engines.dask import local
from foldatlas.pipeline.workers import devices
from foldatlas.schemas.errors import FoldAtlasError, UsageError


def test_each_worker_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-7")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert devices.visible_gpus() == ["3", "GPU-7"]
    found = local.worker_environments(2, "cuda")
    assert found == [{"CUDA_VISIBLE_DEVICES": gpu, "OMP_NUM_THREADS": "5"} for gpu in ("3", "GPU-7")]
    with pytest.raises(UsageError, match="this machine has 2 GPUs"):
        local.worker_environments(3, "cuda")


def test_each_worker_locks_the_gpu_that_it_was_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Four GPUs that nvidia-smi lists, and four workers: each child locks another one, and a fifth has to wait."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        """#!/bin/sh
case "$*" in
  *--id=*) for last; do :; done; echo "${last#--id=}";;
  *) printf 'GPU-a\\nGPU-b\\nGPU-c\\nGPU-d\\n';;
esac
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "lock_path", lambda uuid: tmp_path / uuid)
    found = local.worker_environments(4, "cuda")
    assert [each["CUDA_VISIBLE_DEVICES"] for each in found] == ["GPU-a", "GPU-b", "GPU-c", "GPU-d"]
    held = []
    try:
        for environment in found:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", environment["CUDA_VISIBLE_DEVICES"])
            held.append(devices.hold_device("cuda", wait_seconds=0.0))
        assert None not in held
        with pytest.raises(FoldAtlasError, match="GPU-d is locked"):
            devices.hold_device("cuda", wait_seconds=0.0)
    finally:
        for descriptor in held:
            os.close(descriptor or 0)


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert local.worker_environments(3, "cpu") == [{"OMP_NUM_THREADS": "2"}] * 3
    assert local.worker_environments(20, "cpu") == [{"OMP_NUM_THREADS": "1"}] * 20
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert [each["OMP_NUM_THREADS"] for each in local.worker_environments(2, "cuda")] == ["4", "4"]


def test_local_cluster_is_private_and_leaves_nothing() -> None:
    """The cluster uses TLS on the loopback, passes on workers' environments, and its processes end with it."""
    dask, distributed = pytest.importorskip("dask"), pytest.importorskip("distributed")
    psutil = pytest.importorskip("psutil")
    cluster = local.start_cluster(2, "cpu")
    try:
        assert cluster.address.startswith("tls://127.0.0.1:")
        with dask.config.set(cluster.settings), distributed.Client(cluster.address, set_as_default=False) as client:
            assert set(client.run(os.getenv, "OMP_NUM_THREADS").values()) == {os.environ["OMP_NUM_THREADS"]}
            assert set(client.run(signal.getsignal, signal.SIGINT).values()) == {signal.SIG_IGN}
            assert set(client.nthreads().values()) == {1}
        knock = textwrap.dedent("""
            import sys, distributed
            for security in (None, distributed.Security.temporary()):  # without the certificate, and with another
                try:
                    distributed.Client(sys.argv[1], security=security, timeout=60)
                except Exception as refusal:
                    print(refusal)
        """)
        stranger = subprocess.run(
            [sys.executable, "-c", knock, cluster.address], capture_output=True, text=True, timeout=180
        )
        refusals = stranger.stdout.splitlines()
        assert len(refusals) == 2 and all("TLS" in refusal for refusal in refusals), stranger
        helper = psutil.Process(cluster._process.pid)
        processes = [helper, *helper.children(recursive=True)]
        assert len(processes) >= 3
        sockets = [socket for process in processes for socket in process.net_connections("tcp")]
        listening = {socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN}
        assert listening == {"127.0.0.1"}
    finally:
        cluster.close()
    _, alive = psutil.wait_procs(processes, timeout=120)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
