"""What a Dask worker does with a task, and what it sends to its driver. Dask is not needed."""

import threading
import time
from typing import Any

import msgspec
import pytest

from foldatlas.pipeline import interruption
from foldatlas.pipeline.engines.dask import messages, worker
from foldatlas.schemas.errors import FoldAtlasError, Interrupted, ModelError
from foldatlas.schemas.version import program_version


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, messages.Message]]:
    """The messages that a worker sends, with the session of each, where no driver is."""
    found: list[tuple[str, messages.Message]] = []
    monkeypatch.setattr(worker, "send", lambda session, message: found.append((session, message)))
    monkeypatch.setattr(worker, "UNFIT_SECONDS", 0.1)
    return found


def dask_task(work: Any, session: str, version: str = program_version()) -> worker.DaskTask:
    return worker.DaskTask(session, "fold", work, version)


def test_unfit_worker_reports_once_and_holds_its_tasks(sent: list[tuple[str, messages.Message]]) -> None:
    def give_up(_: int) -> None:
        error = ModelError("no weights here")
        interruption.give_up(error)
        raise error

    done: list[int] = []
    with pytest.raises(ModelError):
        dask_task(give_up, "one")(1)
    assert sent == [("one", messages.WorkerUnfit("no weights here"))]
    for number in (2, 3):
        started = time.monotonic()
        with pytest.raises(Interrupted):
            dask_task(done.append, "one")(number)
        assert time.monotonic() - started > 0.1  # or it would take all tasks of the run at once
    dask_task(done.append, "two")(4)  # another run begins afresh
    assert done == [4]


def test_a_full_disk_ends_the_run_everywhere(sent: list[tuple[str, messages.Message]]) -> None:
    def full(_: int) -> None:
        with interruption.giving_up_if_unwritable("shard x"):
            raise OSError(28, "No space left on device", "/atlas")

    with pytest.raises(FoldAtlasError):
        dask_task(full, "full")(1)
    ((_, message),) = sent
    assert isinstance(message, messages.RunFailed) and message.reason.startswith("shard x could not be written: N")
    dask_task(lambda _: None, "after")(1)


def test_a_worker_of_another_version_does_nothing(sent: list[tuple[str, messages.Message]]) -> None:
    done: list[int] = []
    with pytest.raises(Interrupted):
        dask_task(done.append, "versions", "0.0.1")(1)
    assert done == []
    ((_, message),) = sent
    assert isinstance(message, messages.WorkerUnfit)
    assert f"it has FoldAtlas {program_version()}, the driver has 0.0.1" in message.reason


def test_a_stop_reaches_its_own_run_alone(sent: list[tuple[str, messages.Message]]) -> None:
    seen: list[bool] = []
    dask_task(lambda _: seen.append(interruption.stopping()), "mine")(1)
    worker.stop("another")
    dask_task(lambda _: seen.append(interruption.stopping()), "mine")(2)
    worker.stop("mine")
    dask_task(lambda _: seen.append(interruption.stopping()), "mine")(3)
    dask_task(lambda _: seen.append(interruption.stopping()), "next")(4)
    assert seen == [False, False, True, False]


def test_threads_of_one_worker_take_turns(sent: list[tuple[str, messages.Message]]) -> None:
    inside, most = [0], [0]

    def work(_: int) -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.02)
        inside[0] -= 1

    threads = [threading.Thread(target=dask_task(work, "turns"), args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


@pytest.mark.parametrize(
    "message",
    [
        messages.BatchesFolded(191, 40_000),
        messages.ShardCommitted(59, 1),
        messages.TaskFailed("no such file"),
        messages.RunFailed("the disk is full"),
        messages.WorkerUnfit("no weights"),
    ],
)
def test_a_message_survives_dasks_serialization(message: messages.Message) -> None:
    """Dask's events carry what msgpack has, and turn tuples into lists."""
    report = messages.Report("tls://127.0.0.1:4", "node7 (4711)", message)
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(messages.encode(report)))
    assert messages.decode(sent) == report
    with pytest.raises(msgspec.ValidationError):
        messages.decode({**sent, "message": {"type": "Surprise"}})
