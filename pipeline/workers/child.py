"""The process that owns the device: loads the model once, computes batch after batch, and ends with its parent.

Native code can crash, hang or be killed for its memory; this process isolates the failure. supervisor.py starts it as
`python -m foldatlas.pipeline.workers.child DESCRIPTOR PARENT MODEL RECYCLES TOLERANCE PRECISION DEVICE WEIGHTS`, to
fold (TOLERANCE is empty if recycling does not stop early, WEIGHTS if no folder was named); embedding_child.py is the
same for embeddings. It communicates only through the inherited descriptor, so that a library that prints does no harm.

Three threads work on up to three batches, so that the device always has the next one: one receives and prepares a
batch, the main thread computes the one before, and one collects, packs and sends the results of the one before that.
"""

import contextlib
import functools
import gc
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Final, NamedTuple

from foldatlas.folding.models import load
from foldatlas.pipeline.workers.devices import hold_device
from foldatlas.pipeline.workers.inherited import connect
from foldatlas.pipeline.workers.messages import (
    Answer,
    DoesNotFit,
    Done,
    NotFinite,
    NotReady,
    Ready,
    Request,
    Unexpected,
)
from foldatlas.pipeline.workers.results import Result, pack
from foldatlas.pipeline.workers.wire import Arrays, WireError, receive, send
from foldatlas.schemas.errors import FoldAtlasError, NonFiniteOutput, OutOfMemory
from foldatlas.schemas.records import Settings

IDLE_SECONDS: Final = 600.0  # then it exits and releases the device; the next batch starts a new child
_PROBE: Final = "MKTAYIAKQRQISFVK"


class Stages(NamedTuple):
    """What is done to a batch, each in a thread of its own: sequences and options to an input of the device, that to
    its output, and that to a result for each sequence.

    An error of a stage is the answer to the batch; the following stages are skipped.
    """

    prepare: Callable[..., Any]
    compute: Callable[[Any], Any]
    collect: Callable[[Any], Sequence[Result]]


def in_one_stage(compute: Callable[..., Sequence[Result]]) -> Stages:
    """Return the stages of a function of sequences and options."""
    return Stages(
        lambda sequences, **arguments: (sequences, arguments),
        lambda prepared: compute(prepared[0], **prepared[1]),
        lambda results: results,
    )


# The settings that decide a model's results, and how it computes them.
Loaded = tuple[Settings, Stages]


class _Batch(NamedTuple):
    """A batch between two stages: the value of the last one, or its error; and when the device began with it."""

    number: int
    value: Any
    error: Exception | None = None
    began: float = 0.0


_Batches = queue.Queue[_Batch | None]  # None: there are no more


def serve(connection: Connection, load_model: Callable[[], Loaded], idle_seconds: float = IDLE_SECONDS) -> None:
    """Load the model, then answer requests (messages.py) until the parent closes the connection or has sent nothing for
    `idle_seconds`.
    """
    gc.disable()  # of what is imported and loaded nothing is garbage, and looking for it takes a sixth of the time
    try:
        settings, stages = load_model()
    except Exception as error:
        reason = (
            _one_line(error) if isinstance(error, FoldAtlasError) else f"{type(error).__name__}: {_one_line(error)}"
        )
        send(connection, NotReady(reason))
        return
    gc.freeze()
    gc.enable()
    send(connection, Ready(settings))
    prepared: _Batches = queue.Queue(1)
    computed: _Batches = queue.Queue(1)
    # The receiver is a daemon, because it may wait for a message that does not come.
    threading.Thread(target=_receive, args=(connection, stages.prepare, prepared), daemon=True).start()
    sender = threading.Thread(target=_send, args=(connection, stages.collect, computed))
    sender.start()
    with contextlib.suppress(queue.Empty):
        while (batch := prepared.get(timeout=idle_seconds)) is not None:
            began = time.monotonic()
            computed.put(_after(batch, stages.compute)._replace(began=began))
    computed.put(None)
    sender.join()


def _receive(connection: Connection, prepare: Callable[..., Any], prepared: _Batches) -> None:
    """Prepare requests until the parent closes the connection."""
    try:
        with contextlib.suppress(EOFError, OSError, WireError):
            while True:
                request, _ = receive(connection)
                assert isinstance(request, Request)
                ask = functools.partial(prepare, **request.arguments)
                prepared.put(_after(_Batch(request.number, request.sequences), ask))
    finally:
        prepared.put(None)


def _send(connection: Connection, collect: Callable[[Any], Sequence[Result]], computed: _Batches) -> None:
    """Answer batches until there are no more. Without a parent, only take them."""
    ended = 0.0
    is_open = True
    while (batch := computed.get()) is not None:
        batch = _after(batch, collect)
        began, ended = max(ended, batch.began), time.monotonic()
        answer, arrays = _answer(_after(batch, pack), ended - began)
        del batch
        if is_open:
            try:
                send(connection, answer, arrays)
            except OSError:
                is_open = False
            except Exception:  # for example without memory: the parent sees it at once, and not by a deadline
                traceback.print_exc()
                os._exit(1)


def _after(batch: _Batch, stage: Callable[[Any], Any]) -> _Batch:
    """Return `batch` with the value of the next stage, or its error."""
    if batch.error is not None:
        return batch
    try:
        return batch._replace(value=stage(batch.value))
    except Exception as error:
        return batch._replace(value=None, error=error)


def _answer(batch: _Batch, seconds: float) -> tuple[Answer, Arrays]:
    match batch.error:
        case None:
            return Done(batch.number, seconds), batch.value
        case OutOfMemory() | MemoryError() as error:
            return DoesNotFit(batch.number, seconds, _one_line(error)), {}
        case NonFiniteOutput() as error:
            return NotFinite(batch.number, seconds, _one_line(error)), {}
        case error:
            return Unexpected(batch.number, seconds, f"{type(error).__name__}: {_one_line(error)}"), {}


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:500]


def refuse_unusable_gpu(device: str, compute: Callable[[list[str]], object]) -> None:
    """Raise what `compute` raises for a small protein, if `device` is a GPU and the error is not about that protein.

    A GPU that is faulty, or for which torch has no code, accepts the weights and then fails every batch: without this
    test every protein would fail, after three loads of the model each.
    """
    if device.startswith("cuda"):
        with contextlib.suppress(OutOfMemory, NonFiniteOutput):  # reported for each protein
            compute([_PROBE])


def main(arguments: Sequence[str]) -> None:
    connection, (model, recycles, tolerance, precision, device, weights_dir) = connect(arguments)

    def load_model() -> Loaded:
        # held until this process ends: the descriptor is never closed
        hold_device(device)
        predictor = load(
            model,
            recycles=int(recycles),
            recycle_tolerance=float(tolerance) if tolerance else None,
            precision=precision,
            device=device,
            weights_dir=weights_dir or None,
        )
        refuse_unusable_gpu(device, predictor.fold_batch)
        folding = predictor.stages
        return predictor.settings, Stages(folding.prepare, folding.compute, folding.collect)

    serve(connection, load_model)


if __name__ == "__main__":
    main(sys.argv[1:])
