"""gzip and zstd undone as a stream: all that can be had before a break is given before the break is reported.

The libraries' own file objects drop up to a block of good data when a file ends early.
"""

import sys
import zlib
from typing import IO, Any, Final

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GZIP: Final = "gzip"
ZSTD: Final = "zstd"

_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
# RFC 8878, 3.1.2: frames to be skipped begin with 0x184D2A50 to 0x184D2A5F. pzstd begins its files with one.
_ZSTD_SKIPPED: Final = tuple(bytes([0x50 + number]) + b"\x2a\x4d\x18" for number in range(16))
_CHUNK: Final = 1 << 16  # compressed bytes


def compression_of(first: bytes) -> str:
    """GZIP, ZSTD or nothing, by the first four bytes of a file."""
    if first.startswith(_GZIP_MAGIC):
        return GZIP
    return ZSTD if first.startswith((_ZSTD_MAGIC, *_ZSTD_SKIPPED)) else ""


class CompressedStream:
    """Reads a compressed stream of one member (gzip) or frame (zstd) or many.

    `has_garbage`: something that is no such compression follows the last member; as gzip does, it is not read.
    """

    magic: tuple[bytes, ...]

    def __init__(self, stream: IO[bytes]):
        self._stream = stream
        self._inflate: Any = None  # of the member that is being read
        self._members = 0
        self._pending = b""
        self.has_garbage = False

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, nothing at the end.

        Raises EOFError for a file that is cut, OSError for one that is damaged, after what stands before the break.
        """
        while True:
            if self._inflate is not None and self._inflate.eof:
                self._pending, self._inflate = self._inflate.unused_data, None
            if self._inflate is None and not self._begin_member():
                return b""
            if not self._pending and self._needs_input():
                self._pending = self._stream.read(_CHUNK)
                if not self._pending:
                    return self._rest()
            try:
                data = self._decompress(size)
            except (zlib.error, zstd.ZstdError) as error:
                raise OSError(f"the compressed data are damaged: {error}") from error
            if data:
                return data

    def _begin_member(self) -> bool:
        """Whether another member follows. Zeros between and after members are padding, which gzip allows."""
        more = True
        while more and len(self._pending) < len(self.magic[0]):
            block = self._stream.read(_CHUNK)
            more = bool(block)
            self._pending = (self._pending + block).lstrip(b"\0")
        self._pending = self._pending.lstrip(b"\0")
        if not self._pending or (self._members and not self._pending.startswith(self.magic)):
            self.has_garbage = bool(self._pending)
            return False
        self._inflate = self._new()
        self._members += 1
        return True

    def _rest(self) -> bytes:
        """What the decompressor still holds when the file has ended."""
        rest = self._flush()
        if not rest and not self._inflate.eof:
            raise EOFError("the compressed file ends early")
        return rest

    def _new(self) -> Any:
        raise NotImplementedError

    def _needs_input(self) -> bool:
        raise NotImplementedError

    def _decompress(self, size: int) -> bytes:
        raise NotImplementedError

    def _flush(self) -> bytes:
        raise NotImplementedError

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> "CompressedStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class GzipStream(CompressedStream):
    """Of gzip and bgzip files."""

    magic = (_GZIP_MAGIC,)

    def _new(self) -> Any:
        return zlib.decompressobj(wbits=31)

    def _needs_input(self) -> bool:
        return True  # what does not fit into an answer stays outside

    def _decompress(self, size: int) -> bytes:
        data: bytes = self._inflate.decompress(self._pending, size)
        self._pending = self._inflate.unconsumed_tail
        return data

    def _flush(self) -> bytes:
        rest: bytes = self._inflate.flush()
        return rest


class ZstdStream(CompressedStream):
    """Of zstd and pzstd files. A frame may ask for a window of 128 MiB, the library's limit: `zstd --long=27`."""

    magic = (_ZSTD_MAGIC, *_ZSTD_SKIPPED)

    def _new(self) -> Any:
        return zstd.ZstdDecompressor()

    def _needs_input(self) -> bool:
        return bool(self._inflate.needs_input)

    def _decompress(self, size: int) -> bytes:
        data: bytes = self._inflate.decompress(self._pending, size)
        self._pending = b""  # the decompressor keeps what does not fit into an answer
        return data

    def _flush(self) -> bytes:
        return b""


def decompressed(stream: IO[bytes], compression: str) -> IO[bytes]:
    """`stream` as it was before it was compressed (GZIP, ZSTD or not at all)."""
    kinds = {GZIP: GzipStream, ZSTD: ZstdStream}
    return kinds[compression](stream) if compression else stream  # type: ignore[return-value]
