"""The child process that runs foldcomp, for foldcomp_files.py: `python -m foldatlas.atlas.writers.foldcomp_child`.

foldcomp aborts its process on some structures, so it runs in a separate one. The child reads pairs of name and PDB text
from standard input until it ends, and writes for each pair the Foldcomp file and the PDB text decoded from it, or, if
foldcomp raises an error, an empty file and the message. Each text is preceded by its size, 8 bytes, little-endian.
"""

import os
import struct
import sys
from typing import IO, Any, Final

SIZE: Final = struct.Struct("<Q")
READY: Final = b"ready"

_MAGIC: Final = b"FCMP"
# foldcomp writes its header struct with uninitialised padding, so the same structure gives different bytes in each
# process. Offsets in the file, of foldcomp 1.0's CompressedFileHeader after the magic.
_PADDING: Final = (14, 15, 22, 23)


def without_padding(compressed: bytes) -> bytes:
    """Return a Foldcomp file with zeros in its padding, so that equal structures have equal digests."""
    if not compressed.startswith(_MAGIC) or len(compressed) <= max(_PADDING):
        raise ValueError(f"not a Foldcomp file: it begins with {compressed[:8]!r}")
    content = bytearray(compressed)
    for offset in _PADDING:
        content[offset] = 0
    return bytes(content)


def send(pipe: IO[bytes], *texts: bytes) -> None:
    """Write each text with its size, and flush the pipe."""
    for text in texts:
        pipe.write(SIZE.pack(len(text)))
        pipe.write(text)
    pipe.flush()


def receive(pipe: IO[bytes]) -> bytes:
    """Return the next text. Raise EOFError if the other process has ended."""
    head = pipe.read(SIZE.size)
    if len(head) == SIZE.size:
        (size,) = SIZE.unpack(head)
        text = pipe.read(size)
        if len(text) == size:
            return text
    raise EOFError


def serve(requests: IO[bytes], answers: IO[bytes], foldcomp: Any) -> None:
    """Answer requests until the pipe `requests` is closed."""
    while True:
        try:
            name, text = receive(requests), receive(requests)
        except EOFError:
            return
        try:
            compressed = without_padding(foldcomp.compress(name.decode(), text.decode()))
            answer = compressed, foldcomp.decompress(compressed)[1].encode()
        except Exception as error:  # foldcomp raises exceptions of any type
            answer = b"", f"{type(error).__name__}: {error}".encode()
        send(answers, *answer)


if __name__ == "__main__":
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # foldcomp prints to stdout, which is for answers
    import foldcomp

    send(answers, READY)
    serve(sys.stdin.buffer, answers, foldcomp)
