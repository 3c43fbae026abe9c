"""Memory of this machine, under the limits of containers and batch jobs, in both versions of control groups."""

from pathlib import Path

import pytest
import torch

from foldatlas.folding.planning import host_memory, memory
from foldatlas.folding.planning.host_memory import free_bytes, total_bytes

KB = 1024
FREE, TOTAL = 16_000_000 * KB, 32_000_000 * KB


@pytest.fixture
def system(tmp_path):
    """Paths of a machine without limits: meminfo, control groups, membership."""
    meminfo, cgroups, membership = tmp_path / "meminfo", tmp_path / "cgroup", tmp_path / "self"
    meminfo.write_text("MemTotal:  32000000 kB\nMemAvailable:  16000000 kB\nHugePages_Total: 0\n", encoding="ascii")
    cgroups.mkdir()
    return meminfo, cgroups, membership


def group_v2(folder: Path, limit: str, used: int = 3 * 10**9) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n", encoding="ascii")
    (folder / "memory.current").write_text(f"{used}\n", encoding="ascii")
    (folder / "memory.stat").write_text("anon 1\ninactive_file 1000000000\n", encoding="ascii")


def group_v1(folder: Path, limit: int, used: int = 3 * 10**9) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.limit_in_bytes").write_text(f"{limit}\n", encoding="ascii")
    (folder / "memory.usage_in_bytes").write_text(f"{used}\n", encoding="ascii")
    # inactive_file is the group's own, total_inactive_file has that of the groups below it as well
    (folder / "memory.stat").write_text("inactive_file 5\ntotal_inactive_file 1000000000\n", encoding="ascii")


def test_a_machine_without_limits(system):
    assert (free_bytes(*system), total_bytes(*system)) == (FREE, TOTAL)
    group_v2(system[1], "max")
    group_v1(system[1] / "memory", 9223372036854771712)  # what version 1 writes for none
    assert (free_bytes(*system), total_bytes(*system)) == (FREE, TOTAL)


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_shows_its_limit_at_the_root(system, version):
    if version == 1:
        group_v1(system[1] / "memory", 4 * 10**9)
        system[2].write_text("9:memory:/docker/0a1b\n4:cpu,cpuacct:/docker/0a1b\n", encoding="ascii")
    else:
        group_v2(system[1], "4000000000")
        system[2].write_text("0::/\n", encoding="ascii")
    assert (free_bytes(*system), total_bytes(*system)) == (2 * 10**9, 4 * 10**9)


@pytest.mark.parametrize("version", [1, 2])
def test_a_batch_job_is_limited_anywhere_above_its_process(system, version):
    _, cgroups, membership = system
    if version == 1:
        job = cgroups / "memory" / "slurm" / "job_7"
        group_v1(job / "step_0", 9223372036854771712)
        group_v1(job, 6 * 10**9)
        membership.write_text("7:cpu,memory:/slurm/job_7/step_0\n0::/other\n", encoding="ascii")
    else:
        job = cgroups / "system.slice" / "job_7"
        group_v2(job / "step_0", "max")
        group_v2(job, "6000000000")
        membership.write_text("0::/system.slice/job_7/step_0\n", encoding="ascii")
    group_v2(cgroups / "elsewhere", "1")
    assert (free_bytes(*system), total_bytes(*system)) == (4 * 10**9, 6 * 10**9)


def test_unreadable_limit_does_not_limit(system):
    meminfo, cgroups, membership = system
    group_v2(cgroups, "4000000000")
    (cgroups / "memory.stat").write_text("nonsense", encoding="ascii")
    membership.write_text("0::/../../etc\n", encoding="ascii")
    assert free_bytes(*system) == FREE
    meminfo.unlink()
    assert free_bytes(*system) == total_bytes(*system) == 8 * 10**9


def test_a_group_that_uses_more_than_its_limit_leaves_nothing(system):
    group_v2(system[1], "1000000000", used=3 * 10**9)
    assert free_bytes(*system) == 0


def test_this_machine():
    assert 10**8 < memory.free_bytes(torch.device("cpu")) < free_bytes() * 1.1
    assert free_bytes() <= total_bytes()


def test_memory_held_for_reuse_is_returned_when_free_is_short(monkeypatch):
    """A fake of malloc: 5 GB are held for reuse until they are returned."""
    free, trims = [10**9], []
    monkeypatch.setattr(host_memory, "free_bytes", lambda: free[0])
    monkeypatch.setattr(host_memory, "trim", lambda: (trims.append(1), free.__setitem__(0, 6 * 10**9)))
    cpu = torch.device("cpu")
    assert memory.free_bytes(cpu, enough=5 * 10**8) == int(0.9 * 10**9) and not trims
    assert memory.free_bytes(cpu, enough=10**9) == int(0.9 * 6 * 10**9) and len(trims) == 1


def test_memory_cached_by_cudas_allocator_counts_as_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * 10**9, 80 * 10**9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 70 * 10**9)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 20 * 10**9)
    assert memory.free_bytes(torch.device("cuda")) == int(0.9 * 52 * 10**9)
