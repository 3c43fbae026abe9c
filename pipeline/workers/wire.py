"""Messages between a child and its parent as bytes: a header in MessagePack, and arrays behind it.

    4 bytes     length of the header, little-endian
    header      the message, and dtype and shape of each array
    arrays      their bytes in row-major order, each at a multiple of 8 bytes

Nothing is pickled. Received arrays are views of the received bytes and cannot be written to.
"""

import math
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from foldatlas.pipeline.workers.messages import Message
from foldatlas.schemas.errors import FoldAtlasError

Arrays = dict[str, npt.NDArray[Any]]

_DTYPES: Final = ("<i2", "<i4", "<u2", "|u1", "<f2", "<f4", "<f8")
_LENGTH_BYTES: Final = 4
_ALIGNMENT: Final = 8


class WireError(FoldAtlasError):
    """Bytes that are no message."""


class _ArrayHeader(msgspec.Struct, array_like=True):
    name: str
    dtype: str
    shape: tuple[int, ...]


class _Header(msgspec.Struct, array_like=True):
    message: Message
    arrays: list[_ArrayHeader]


_DECODER: Final = msgspec.msgpack.Decoder(_Header)


def send(connection: Connection, message: Message, arrays: Mapping[str, npt.NDArray[Any]] | None = None) -> None:
    """Send `message` and the named `arrays`. Raise OSError if the other end is closed."""
    whole = {name: np.ascontiguousarray(values) for name, values in (arrays or {}).items()}
    described = [_ArrayHeader(name, values.dtype.str, values.shape) for name, values in whole.items()]
    header = msgspec.msgpack.encode(_Header(message, described))
    parts: list[bytes | memoryview] = [len(header).to_bytes(_LENGTH_BYTES, "little"), header]
    sent = _LENGTH_BYTES + len(header)
    for values in whole.values():
        parts += [bytes(-sent % _ALIGNMENT), values.reshape(-1).view(np.uint8).data]
        sent += -sent % _ALIGNMENT + values.nbytes
    connection.send_bytes(b"".join(parts))


def receive(connection: Connection) -> tuple[Message, Arrays]:
    """Return the next message and its arrays.

    Raise EOFError if the other end is closed, OSError if the connection breaks, WireError for bytes that are no
    message.
    """
    data = connection.recv_bytes()
    start = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    try:
        header = _DECODER.decode(memoryview(data)[_LENGTH_BYTES:start])
    except msgspec.MsgspecError as error:
        raise WireError(f"a message cannot be read: {error}") from error
    arrays: Arrays = {}
    for described in header.arrays:
        start += -start % _ALIGNMENT
        if described.dtype not in _DTYPES or min(described.shape, default=0) < 0:
            raise WireError(f"a message has an array of {described.dtype}, {described.shape}")
        dtype, count = np.dtype(described.dtype), math.prod(described.shape)
        if start + count * dtype.itemsize > len(data):
            raise WireError(f"a message of {len(data)} bytes is shorter than its arrays")
        arrays[described.name] = np.frombuffer(data, dtype, count, start).reshape(described.shape)
        start += count * dtype.itemsize
    return header.message, arrays
