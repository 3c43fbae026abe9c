"""What a Dask worker does with a task, and what it tells its driver where it cannot. No Dask is needed."""

import threading
import time
from typing import Any

import pytest

from foldatlas.pipeline import interruption
from foldatlas.pipeline.engines.dask import worker
from foldatlas.schemas.errors import FoldAtlasError, Interrupted, ModelError
from foldatlas.schemas.version import program_version


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What a worker tells its driver, in place of a driver."""
    messages: list[tuple[Any, ...]] = []
    monkeypatch.setattr(worker, "tell", lambda session, kind, *what: messages.append((session, kind, *what)))
    monkeypatch.setattr(worker, "UNFIT_SECONDS", 0.1)
    return messages


def on_worker(work: Any, session: str, version: str = program_version()) -> worker.OnWorker:
    return worker.OnWorker(session, "fold", work, version)


def test_unfit_worker_reports_once_and_holds_its_tasks(told: list[tuple[Any, ...]]) -> None:
    def give_up(_: int) -> None:
        error = ModelError("no weights here")
        interruption.give_up(error)
        raise error

    done: list[int] = []
    with pytest.raises(ModelError):
        on_worker(give_up, "one")(1)
    assert told == [("one", "unfit", "no weights here")]
    for number in (2, 3):
        started = time.monotonic()
        with pytest.raises(Interrupted):
            on_worker(done.append, "one")(number)
        assert time.monotonic() - started > 0.1  # else it would be through with the whole run at once
    on_worker(done.append, "two")(4)  # another run begins afresh
    assert done == [4]


def test_a_full_disk_ends_the_run_everywhere(told: list[tuple[Any, ...]]) -> None:
    def full(_: int) -> None:
        with interruption.giving_up_if_unwritable("shard x"):
            raise OSError(28, "No space left on device", "/atlas")

    with pytest.raises(FoldAtlasError):
        on_worker(full, "full")(1)
    assert [(kind, text[:31]) for _, kind, text in told] == [("fatal", "shard x could not be written: N")]
    on_worker(lambda _: None, "after")(1)


def test_a_worker_of_another_version_does_nothing(told: list[tuple[Any, ...]]) -> None:
    done: list[int] = []
    with pytest.raises(Interrupted):
        on_worker(done.append, "versions", "0.0.1")(1)
    assert done == []
    ((_, kind, text),) = told
    assert kind == "unfit" and f"it has FoldAtlas {program_version()}, the driver 0.0.1" in text


def test_a_stop_reaches_its_own_run_alone(told: list[tuple[Any, ...]]) -> None:
    seen: list[bool] = []
    on_worker(lambda _: seen.append(interruption.stopping()), "mine")(1)
    worker.stop("of somebody else")
    on_worker(lambda _: seen.append(interruption.stopping()), "mine")(2)
    worker.stop("mine")
    on_worker(lambda _: seen.append(interruption.stopping()), "mine")(3)
    on_worker(lambda _: seen.append(interruption.stopping()), "next")(4)
    assert seen == [False, False, True, False]


def test_threads_of_one_worker_take_turns(told: list[tuple[Any, ...]]) -> None:
    inside, most = [0], [0]

    def work(_: int) -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.02)
        inside[0] -= 1

    threads = [threading.Thread(target=on_worker(work, "turns"), args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
