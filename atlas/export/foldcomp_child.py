"""The process that runs foldcomp, for foldcomp_files.py: `python -m foldatlas.atlas.export.foldcomp_child`.

Reads names and PDB texts from standard input and writes, for each, the Foldcomp file and the PDB text read back from
it, until its input ends. Every text is preceded by its size, 8 bytes, little-endian; an error of foldcomp's is an empty
file and the message. foldcomp aborts the process on some structures: that is why it has one of its own.
"""

import os
import struct
import sys
from typing import IO, Any, Final

SIZE: Final = struct.Struct("<Q")
READY: Final = b"ready"

_MAGIC: Final = b"FCMP"
# The header's struct is written whole, with its padding, which nobody has set: the same structure gave other bytes in
# each process. Offsets in the file, of foldcomp 1.0's CompressedFileHeader behind the magic.
_PADDING: Final = (14, 15, 22, 23)


def without_padding(compressed: bytes) -> bytes:
    """A Foldcomp file whose unset bytes are zero, so that a structure has one digest."""
    if not compressed.startswith(_MAGIC) or len(compressed) <= max(_PADDING):
        raise ValueError(f"this is no Foldcomp file: it begins with {compressed[:8]!r}")
    content = bytearray(compressed)
    for offset in _PADDING:
        content[offset] = 0
    return bytes(content)


def send(pipe: IO[bytes], *texts: bytes) -> None:
    for text in texts:
        pipe.write(SIZE.pack(len(text)))
        pipe.write(text)
    pipe.flush()


def receive(pipe: IO[bytes]) -> bytes:
    """The next text. Raises EOFError when the other side is gone."""
    head = pipe.read(SIZE.size)
    if len(head) == SIZE.size:
        (size,) = SIZE.unpack(head)
        text = pipe.read(size)
        if len(text) == size:
            return text
    raise EOFError


def serve(requests: IO[bytes], answers: IO[bytes], foldcomp: Any) -> None:
    """Answers until `requests` ends."""
    while True:
        try:
            name, text = receive(requests), receive(requests)
        except EOFError:
            return
        try:
            compressed = without_padding(foldcomp.compress(name.decode(), text.decode()))
            answer = compressed, foldcomp.decompress(compressed)[1].encode()
        except Exception as error:  # foldcomp raises whatever its C++ threw
            answer = b"", f"{type(error).__name__}: {error}".encode()
        send(answers, *answer)


if __name__ == "__main__":
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what foldcomp prints is no answer
    import foldcomp

    send(answers, READY)
    serve(sys.stdin.buffer, answers, foldcomp)
