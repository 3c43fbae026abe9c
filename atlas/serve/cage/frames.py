"""Rows on their way from the process that runs a statement: frames of a kind, a length, and bytes."""

import struct
from collections.abc import Callable
from typing import Final

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


class FrameFile:
    """A file that writes frames of data with `write(frame)`, after `head` was written as the first."""

    def __init__(self, write: Callable[[bytes], None], head: bytes):
        self._write = write
        self._head: bytes | None = head
        self._pieces: list[bytes] = []
        self._size = 0
        self._position = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        self._size += len(data)
        self._position += len(data)
        if self._size >= PIECE:
            self._send()
        return len(data)

    def end(self) -> None:
        """Write what is kept back, and that the result is complete."""
        self._send()
        self._write(packed(END))

    def _send(self) -> None:
        if self._head is not None:
            self._write(packed(HEAD, self._head))
            self._head = None
        data = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        for begin in range(0, len(data), MAX_FRAME):
            self._write(packed(DATA, data[begin : begin + MAX_FRAME]))

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False
