"""A file for programs that write, whose content is taken in pieces while it is written."""

import io
from typing import Any


class PiecesFile(io.RawIOBase):
    """A file that is only written. `size` is the number of bytes that were written and not yet taken."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._position = 0
        self.size = 0

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self.size += len(piece)
        self._position += len(piece)
        return len(piece)

    def take(self) -> bytes:
        """Return what was written since the last call."""
        data = b"".join(self._pieces)
        self._pieces, self.size = [], 0
        return data

    def tell(self) -> int:
        return self._position

    def writable(self) -> bool:
        return True
