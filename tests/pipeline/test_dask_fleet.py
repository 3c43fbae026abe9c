"""Which Dask workers can be used together, and what is said of those that cannot. No Dask is needed."""

import warnings
from typing import Any

import pytest

from foldatlas.pipeline.engines.dask import pool, worker
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.version import program_version


def machine(**changes: Any) -> worker.Machine:
    mine = worker.inspect("cpu")
    return worker.Machine(**{**{name: getattr(mine, name) for name in mine.__dataclass_fields__}, **changes})


def test_the_least_memory_counts_and_neighbours_share_it() -> None:
    machines = [machine(host="a", memory=100), machine(host="a", memory=100), machine(host="b", memory=70)]
    assert pool.judge(machines) == pool.Fleet(3, "cpu", 35, machines[0].name)
    gpus = [machine(device="cuda", memory=memory, name="H100") for memory in (80, 40)]
    assert pool.judge(gpus) == pool.Fleet(2, "cuda", 40, "H100")
    assert pool.judge([*gpus, machine(device="cuda", memory=40, name="T4")]).name == ""
    assert pool.judge([*gpus, machine(device="cuda", memory=None)]).memory is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": "9.9"}, f"worker on b has FoldAtlas 9.9, this is {program_version()}"),
        ({"error": "device cuda: nvidia-smi does not answer"}, "worker on b: device cuda"),
        ({"device": "cuda"}, "cpu on a, cuda on b"),
    ],
)
def test_workers_that_cannot_be_used_are_refused_with_their_host(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        pool.judge([machine(host="a"), machine(host="b", **changes)])


@pytest.mark.parametrize(
    ("changes", "reason"), [({"torch": "1.0"}, "on b has PyTorch 1.0"), ({"threads": 4}, "on b has 4 threads")]
)
def test_workers_that_deserve_a_look_are_warned_of(changes: dict[str, Any], reason: str) -> None:
    with pytest.warns(pool.EngineWarning, match=reason):
        assert pool.judge([machine(host="b", **changes)]).workers == 1


def test_an_open_scheduler_is_warned_of() -> None:
    with pytest.warns(pool.EngineWarning, match="can run programs as you"):
        pool.warn_if_open("tcp://192.0.2.7:8786")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for address in ("tls://192.0.2.7:8786", "tcp://127.0.0.1:8786", "tcp://[::1]:8786", "tcp://localhost:1", None):
            pool.warn_if_open(address)
