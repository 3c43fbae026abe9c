"""The process that owns the device: loads the model once, computes batch after batch, and ends with its parent.

Native code can crash, hang or be killed for its memory; this process isolates the failure. supervisor.py starts it as
`python -m foldatlas.pipeline.workers.child DESCRIPTOR PARENT MODEL RECYCLES PRECISION DEVICE WEIGHTS` (the last empty
where no folder was named), to fold; embedding_child.py is the same for embeddings. It communicates only through the
inherited descriptor, so that a library that prints does no harm.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, Final

from foldatlas.folding.models import load
from foldatlas.pipeline.workers.devices import hold_device
from foldatlas.pipeline.workers.inherited import connect
from foldatlas.pipeline.workers.messages import DoesNotFit, Done, NotFinite, NotReady, Ready, Request, Unexpected
from foldatlas.schemas.errors import FoldAtlasError, NonFiniteOutput, OutOfMemory
from foldatlas.schemas.records import Settings

IDLE_SECONDS: Final = 600.0  # then it exits and releases the device; the next batch starts a new child
_PROBE: Final = "MKTAYIAKQRQISFVK"


# The settings that decide a model's results, and the function to call: sequences and options -> a result for each.
Loaded = tuple[Settings, Callable[..., list[Any]]]


def serve(connection: Connection, load_model: Callable[[], Loaded], idle_seconds: float = IDLE_SECONDS) -> None:
    """Load the model, then answer requests (messages.py) until the parent closes the connection or has sent nothing for
    `idle_seconds`.
    """
    try:
        settings, compute = load_model()
    except Exception as error:
        reason = (
            _one_line(error) if isinstance(error, FoldAtlasError) else f"{type(error).__name__}: {_one_line(error)}"
        )
        connection.send(NotReady(reason))
        return
    connection.send(Ready(settings))
    for request in _requests(connection, idle_seconds):
        try:
            connection.send(Done(compute(request.sequences, **request.arguments)))
        except OutOfMemory as error:
            connection.send(DoesNotFit(_one_line(error)))
        except NonFiniteOutput as error:
            connection.send(NotFinite(_one_line(error)))
        except (BrokenPipeError, ConnectionError):
            return
        except Exception as error:
            connection.send(Unexpected(f"{type(error).__name__}: {_one_line(error)}"))


def _requests(connection: Connection, idle_seconds: float) -> Iterator[Request]:
    with contextlib.suppress(EOFError, ConnectionError):
        while connection.poll(idle_seconds):
            yield connection.recv()


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
    connection, (model, recycles, precision, device, weights_dir) = connect(arguments)

    def load_model() -> Loaded:
        # held until this process ends: the descriptor is never closed
        hold_device(device)
        where = weights_dir or None
        predictor = load(model, recycles=int(recycles), precision=precision, device=device, weights_dir=where)
        refuse_unusable_gpu(device, predictor.fold_batch)
        return predictor.settings, predictor.fold_batch

    serve(connection, load_model)


if __name__ == "__main__":
    main(sys.argv[1:])
