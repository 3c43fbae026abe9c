"""The process that reads structure files: `python -m foldatlas.pipeline.importing.child DESCRIPTOR PARENT`.

gemmi is native code, and files may be damaged on purpose: a crash or a hang ends this process alone. It names each file
before it reads it, so that its parent (reader.py) knows which was at fault.
"""

import contextlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from foldatlas.pipeline.importing.reading import ReadTask, read_task
from foldatlas.pipeline.workers.inherited import connect


class ReadRequest(NamedTuple):
    """Read the files of a task, but for those that crashed this process before, by number."""

    task: ReadTask
    crashed: frozenset[int]


class Begun(NamedTuple):
    """A file is to be read now."""

    number: int


class Skipping(NamedTuple):
    """Files that others read are skipped."""


class Finished(NamedTuple):
    """The task is done, or ended with `error`."""

    error: Exception | None


def main(arguments: Sequence[str]) -> None:
    connection, _ = connect(arguments)
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            request: ReadRequest = connection.recv()

            def begin(number: int, crashed: frozenset[int] = request.crashed) -> bool:
                connection.send(Begun(number))
                return number not in crashed

            try:
                read_task(request.task, begin, lambda: connection.send(Skipping()))
            except (BrokenPipeError, ConnectionError):
                return
            except Exception as error:
                connection.send(Finished(error))
            else:
                connection.send(Finished(None))


if __name__ == "__main__":
    main(sys.argv[1:])
