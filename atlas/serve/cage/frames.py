"""Rows on their way from the process that runs a statement: frames of a kind, a length, and bytes."""

import struct
from collections.abc import Callable
from typing import Any, Final

from foldatlas.atlas.serve.pieces import PiecesFile

HEAD: Final = b"H"  # JSON: names and types of the columns
DATA: Final = b"D"  # a piece of the result
FAILED: Final = b"E"  # JSON: an error; nothing follows
END: Final = b"Z"  # the result is complete

_HEADER: Final = struct.Struct("<cI")
HEADER_BYTES: Final = _HEADER.size
MAX_FRAME: Final = 4 << 20  # bytes
PIECE: Final = 256 << 10  # bytes that are kept back, so that an error in them is the only answer


def packed(kind: bytes, data: bytes = b"") -> bytes:
    """Return a frame."""
    return _HEADER.pack(kind, len(data)) + data


def unpacked(header: bytes) -> tuple[bytes, int]:
    """Return the kind and the length of a frame. Raise ValueError for one that no process of ours writes."""
    kind, length = _HEADER.unpack(header)
    if kind not in (HEAD, DATA, FAILED, END) or length > MAX_FRAME:
        raise ValueError("not a frame")
    return kind, length


class FrameFile(PiecesFile):
    """A file that writes frames of data with `send(frame)`, after `head` was written as the first."""

    def __init__(self, send: Callable[[bytes], None], head: bytes):
        super().__init__()
        self._send = send
        self._head: bytes | None = head

    def write(self, data: Any) -> int:
        written = super().write(data)
        if self.size >= PIECE:
            self._send_pieces()
        return written

    def end(self) -> None:
        """Write what is kept back, and that the result is complete."""
        self._send_pieces()
        self._send(packed(END))

    def _send_pieces(self) -> None:
        if self._head is not None:
            self._send(packed(HEAD, self._head))
            self._head = None
        data = self.take()
        for begin in range(0, len(data), MAX_FRAME):
            self._send(packed(DATA, data[begin : begin + MAX_FRAME]))
