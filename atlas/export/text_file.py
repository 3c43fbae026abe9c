"""A list of an export, written line by line."""

import contextlib
from typing import IO

from foldatlas.atlas.storage.protocol import Storage


class TextFile:
    """A file written line by line, which appears when `stack` is closed without an error."""

    def __init__(self, storage: Storage, name: str, stack: contextlib.ExitStack):
        path = stack.enter_context(storage.building(name))
        self._file: IO[bytes] = stack.enter_context(path.open("wb"))

    def write(self, line: bytes) -> None:
        self._file.write(line)
