"""The process that reads structure files: `python -m foldatlas.pipeline.importing.child DESCRIPTOR PARENT`.

gemmi is native code, and files may be damaged on purpose: a crash or a hang ends this process alone. It names each file
before it reads it, so that its parent (reader.py) knows which was at fault.
"""

import contextlib
import sys
from collections.abc import Sequence

from foldatlas.pipeline.importing.messages import Begun, Finished, ReadRequest, Skipping
from foldatlas.pipeline.importing.reading import read_task
from foldatlas.pipeline.workers.inherited import connect


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
