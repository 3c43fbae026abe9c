"""A child on a virtual clock: it answers each batch after the predicted time, with made-up results, or fails as asked.

The supervisor's own code runs, with this in place of a process and its socket, so that no test depends on time.
"""

import subprocess
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import pytest

from foldatlas.folding.models import settings_of
from foldatlas.folding.prediction import QuantisedPrediction
from foldatlas.pipeline.workers import link, supervisor
from foldatlas.pipeline.workers.messages import DoesNotFit, Done, Message, NotFinite, Ready, Request, Unexpected
from foldatlas.pipeline.workers.results import pack
from foldatlas.pipeline.workers.supervisor import Child, WorkerSpec
from foldatlas.pipeline.workers.wire import receive, send
from foldatlas.schemas.records import num_atoms

Fault = Literal["dies", "hangs", "does not fit", "not finite", "unexpected"]
KILL_SECONDS = 0.1  # from the beginning of a batch to the crash


class Sink:
    """The end of a connection to which one message is sent, as bytes."""

    data = b""

    def send_bytes(self, data: bytes) -> None:
        self.data = data

    def recv_bytes(self) -> bytes:
        return self.data


def made_up(sequence: str) -> QuantisedPrediction:
    """A prediction with a pTM that tells sequences apart."""
    return QuantisedPrediction(
        sequence,
        np.zeros((num_atoms(sequence), 3), np.int16),
        np.zeros(len(sequence), np.uint16),
        zlib.crc32(sequence.encode()) / 2**32,
    )


class SimulatedDevice:
    """Computes the batches of its process one after another.

    seconds: how long a batch takes.
    fault: what happens to a batch, from its sequences and whether the process has computed nothing yet.
    send_seconds: from the parent's decision to send a batch to its arrival.
    collect_seconds: from the end of a batch to its answer; the next batch is computed meanwhile.
    `now` is the parent's clock; `busy_seconds` counts computing; `computed` lists the batches of all processes.
    """

    def __init__(
        self,
        seconds: Callable[[Sequence[str]], float] = lambda batch: 1.0,
        fault: Callable[[Sequence[str], bool], Fault | None] = lambda batch, is_fresh: None,
        collect_seconds: float = 0.0,
        send_seconds: float = 0.0,
    ) -> None:
        self.seconds, self.fault, self.collect_seconds = seconds, fault, collect_seconds
        self.send_seconds = send_seconds
        self.now = self.busy_seconds = 0.0
        self.computed: list[list[str]] = []
        self.processes = 0
        self.most_in_flight = 0

    def monotonic(self) -> float:
        return self.now

    def child(self, monkeypatch: pytest.MonkeyPatch, device: str = "cpu", **options: Any) -> Child:
        """Return a Child whose processes are on this device."""
        monkeypatch.setattr(supervisor, "time", self)
        monkeypatch.setattr(link, "time", self)

        def start(child: Child) -> tuple[Any, Ready]:
            child.kill()
            self.processes += 1
            process: Any = SimulatedProcess(self)
            child._link = link.Link(process, process)
            return child._link, Ready(child._spec.settings)

        monkeypatch.setattr(Child, "_start", start)
        return Child(WorkerSpec("nano", settings_of("nano"), device, **options))


class SimulatedProcess:
    """The process and the parent's connection to it."""

    def __init__(self, device: SimulatedDevice) -> None:
        self._device = device
        self._free = device.now  # when the device has computed all that was sent
        self._ended: float | None = None
        self._hangs = False
        self._is_fresh = True
        self._answers: deque[tuple[float, bytes | None]] = deque()  # None: it ended
        self.pid = device.processes

    # of subprocess.Popen

    def poll(self, seconds: float | None = None) -> Any:
        """Without an argument, as Popen: the exit code, or None; otherwise as Connection: whether there is data."""
        if seconds is None:
            return 3 if self._ended is not None and self._device.now >= self._ended else None
        if self._answers and self._answers[0][0] <= self._device.now + seconds:
            self._device.now = max(self._device.now, self._answers[0][0])
            return True
        self._device.now += seconds
        return False

    def kill(self) -> None:
        self._ended = self._device.now

    def wait(self, timeout: float | None = None) -> int:
        if self._ended is None:
            raise subprocess.TimeoutExpired("child", timeout or 0.0)
        return 3

    # of multiprocessing.connection.Connection

    def close(self) -> None:
        self._answers.clear()

    def recv_bytes(self) -> bytes:
        data = self._answers.popleft()[1]
        if data is None:
            raise EOFError
        return data

    def send_bytes(self, data: bytes) -> None:
        self._device.now += self._device.send_seconds
        sink: Any = Sink()
        sink.data = data
        request, _ = receive(sink)
        assert isinstance(request, Request)
        if self._ended is None and not self._hangs:
            self._compute(request)
        self._device.most_in_flight = max(self._device.most_in_flight, len(self._answers))

    def _compute(self, request: Request) -> None:
        device = self._device
        device.computed.append(request.sequences)
        begin = max(device.now, self._free)
        fault = device.fault(request.sequences, self._is_fresh)
        if fault == "dies":
            self._ended = begin + KILL_SECONDS
            while self._answers and self._answers[-1][0] > self._ended:  # computed, and not sent yet
                self._answers.pop()
            self._answers.append((self._ended, None))
            return
        if fault == "hangs":
            self._hangs = True
            return
        seconds = device.seconds(request.sequences)
        self._free = begin + seconds
        device.busy_seconds += seconds
        sink: Any = Sink()
        answer: Message = {
            "does not fit": DoesNotFit(request.number, seconds, "it does not fit"),
            "not finite": NotFinite(request.number, seconds, "NaN"),
            "unexpected": Unexpected(request.number, seconds, "CUDA error"),
        }.get(fault or "", Done(request.number, seconds))
        if fault is None:
            self._is_fresh = False
            send(sink, answer, pack([made_up(sequence) for sequence in request.sequences]))
        else:
            send(sink, answer)
        self._answers.append((self._free + device.collect_seconds, sink.data))
