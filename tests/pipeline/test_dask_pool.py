"""Which Dask workers can be used together, and the errors and warnings about others. Dask is not needed."""

import warnings
from typing import Any

import pytest

from foldatlas.pipeline.engines.dask import pool, worker
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.version import program_version


def info(**changes: Any) -> worker.WorkerInfo:
    mine = worker.inspect("cpu")
    return worker.WorkerInfo(**{**{name: getattr(mine, name) for name in mine.__dataclass_fields__}, **changes})


def test_pool_memory_is_the_least_and_shared_on_one_host() -> None:
    workers = [info(host="a", memory=100), info(host="a", memory=100), info(host="b", memory=70)]
    assert pool.check_workers(workers) == pool.WorkerPool(3, "cpu", 35, workers[0].name)
    gpus = [info(device="cuda", memory=memory, name="H100") for memory in (80, 40)]
    assert pool.check_workers(gpus) == pool.WorkerPool(2, "cuda", 40, "H100")
    assert pool.check_workers([*gpus, info(device="cuda", memory=40, name="T4")]).name == ""
    assert pool.check_workers([*gpus, info(device="cuda", memory=None)]).memory is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": "9.9"}, f"worker on b has FoldAtlas 9.9, this is {program_version()}"),
        ({"error": "device cuda: nvidia-smi does not answer"}, "worker on b: device cuda"),
        ({"device": "cuda"}, "cpu on a, cuda on b"),
    ],
)
def test_unusable_worker_is_refused_with_its_host(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        pool.check_workers([info(host="a"), info(host="b", **changes)])


@pytest.mark.parametrize(
    ("changes", "reason"), [({"torch": "1.0"}, "on b has PyTorch 1.0"), ({"threads": 4}, "on b has 4 threads")]
)
def test_doubtful_worker_is_a_warning(changes: dict[str, Any], reason: str) -> None:
    with pytest.warns(pool.EngineWarning, match=reason):
        assert pool.check_workers([info(host="b", **changes)]).workers == 1


def test_open_scheduler_is_a_warning() -> None:
    with pytest.warns(pool.EngineWarning, match="can run programs as you"):
        pool.warn_if_open("tcp://192.0.2.7:8786")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for address in ("tls://192.0.2.7:8786", "tcp://127.0.0.1:8786", "tcp://[::1]:8786", "tcp://localhost:1", None):
            pool.warn_if_open(address)
