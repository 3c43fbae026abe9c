"""What the model's process does before it says that it is ready, and the order of its stages."""

import socket
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from simulated_device import made_up

from foldatlas.folding.models import settings_of
from foldatlas.folding.prediction import QuantisedPrediction
from foldatlas.pipeline.workers import child, embedding_child
from foldatlas.pipeline.workers.child import Stages, in_one_stage, serve
from foldatlas.pipeline.workers.messages import Done, NotFinite, Ready, Request
from foldatlas.pipeline.workers.wire import receive, send
from foldatlas.schemas.errors import NonFiniteOutput, OutOfMemory


def test_gpu_that_cannot_compute_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the weights and refuses what follows, so loading must fail: that blames no protein."""
    asked: list[list[str]] = []
    kinds: list[type[Exception]] = []

    def refuse(sequences: list[str], **_: Any) -> list[Any]:
        asked.append(sequences)
        raise kinds[-1]("CUDA error: no kernel image is available for execution on the device")

    loaded = SimpleNamespace(settings=None, name="", weights="", network=None, fold_batch=refuse, embed=refuse)
    loaded.stages = SimpleNamespace(prepare=refuse, compute=refuse, collect=refuse)
    monkeypatch.setattr(child, "load", lambda *_, **__: loaded)
    monkeypatch.setattr(embedding_child, "load_language_model", lambda *_, **__: loaded)
    monkeypatch.setattr(embedding_child, "LanguagePredictor", lambda _: loaded)
    modules: list[ModuleType] = [child, embedding_child]
    for module in modules:
        monkeypatch.setattr(module, "connect", lambda words: (None, words))
        monkeypatch.setattr(module, "hold_device", lambda _: None)
        monkeypatch.setattr(module, "serve", lambda _, load_model: load_model())
        kinds.append(RuntimeError)
        with pytest.raises(RuntimeError, match="no kernel image"):
            module.main(["nano", "0", "", "fp32", "cuda:1", ""])
        assert len(asked.pop()) == 1
        module.main(["nano", "0", "", "fp32", "cpu", ""])  # what is sound is not asked twice
        assert asked == []
        for kind in (OutOfMemory, NonFiniteOutput):  # of a real protein that is a row with the reason
            kinds.append(kind)
            module.main(["nano", "0", "", "fp32", "cuda", ""])
            assert len(asked.pop()) == 1


def served(stages: Stages) -> tuple[Connection, threading.Thread]:
    """Return the parent's connection to a child in a thread, which is ready, and the thread."""
    ours, theirs = (Connection(end.detach()) for end in socket.socketpair())
    settings = settings_of("nano")
    thread = threading.Thread(target=serve, args=(theirs, lambda: (settings, stages)))
    thread.start()
    assert receive(ours) == (Ready(settings), {})
    return ours, thread


def test_results_that_cannot_be_sent_end_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent would otherwise wait for them until their deadline."""
    ended = threading.Event()
    ours, thread = served(in_one_stage(lambda sequences: [made_up(sequence) for sequence in sequences]))

    def without_memory(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(child, "send", without_memory)
    monkeypatch.setattr("os._exit", lambda code: ended.set())
    send(ours, Request(1, ["MK"], {}))
    assert ended.wait(60)
    ours.close()
    thread.join(60)
    assert not thread.is_alive()


def test_stages_of_three_batches_overlap() -> None:
    """While the first batch is collected the second is computed and the third prepared; answers keep the order, and an
    error of a stage answers its own batch alone."""
    entered = {stage: threading.Event() for stage in ("collect 1", "compute 2", "prepare 3")}

    def meet(stage: str, sequences: Sequence[str]) -> None:
        event = entered.get(f"{stage} {len(sequences)}")
        if event is not None:
            event.set()
            assert all(other.wait(60) for other in entered.values())  # each stage ends when all three have begun

    def prepare(sequences: list[str], *, pae: bool) -> list[str]:
        assert pae
        meet("prepare", sequences)
        return sequences

    def compute(sequences: list[str]) -> list[str]:
        meet("compute", sequences)
        if len(sequences) == 2:
            raise NonFiniteOutput("NaN")
        return sequences

    def collect(sequences: list[str]) -> list[QuantisedPrediction]:
        meet("collect", sequences)
        return [made_up(sequence) for sequence in sequences]

    ours, thread = served(Stages(prepare, compute, collect))
    for number in (1, 2, 3):
        send(ours, Request(number, ["MK"] * number, {"pae": True}))
    answers = [receive(ours)[0] for _ in range(3)]
    assert [(type(answer), getattr(answer, "number", 0)) for answer in answers] == [
        (Done, 1),
        (NotFinite, 2),
        (Done, 3),
    ]
    ours.close()
    thread.join(60)
    assert not thread.is_alive()
