"""Streams of gzip, zstd, bzip2 and xz files that return all data before the point where a file is damaged.

The libraries' own file objects drop up to a block of valid data when a file ends early. Memory is bounded whatever a
file expands to: a read returns at most the bytes asked for, and windows are limited.
"""

import bz2
import lzma
import sys
import zlib
from typing import IO, Any, Final

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GZIP: Final = "gzip"
ZSTD: Final = "zstd"
BZIP2: Final = "bzip2"
XZ: Final = "xz"

_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
# RFC 8878, 3.1.2: skippable frames begin with 0x184D2A50 to 0x184D2A5F. Files of pzstd begin with one.
_ZSTD_SKIPPED: Final = tuple(bytes([0x50 + number]) + b"\x2a\x4d\x18" for number in range(16))
_BZIP2_MAGIC: Final = b"BZh"
_XZ_MAGIC: Final = b"\xfd7zXZ\0"
_XZ_MEMORY_BYTES: Final = 256 << 20  # `xz -9` needs 65 MiB; only `--lzma2=dict=` asks for more
_CHUNK: Final = 1 << 16  # compressed bytes


def compression_of(first: bytes) -> str:
    """Return GZIP, ZSTD, BZIP2, XZ or "", by the first six bytes of a file."""
    for compression, stream in _STREAMS.items():
        if first.startswith(stream.magic):
            return compression
    return ""


class CompressedStream:
    """Reads a compressed stream of one or more members (gzip), frames (zstd) or streams (bzip2, xz).

    `has_garbage` says whether other data follow the last member. They are ignored, as the program gzip does.
    """

    magic: tuple[bytes, ...]

    def __init__(self, stream: IO[bytes]):
        self._stream = stream
        self._inflate: Any = None  # the decompressor of the current member
        self._members = 0
        self._pending = b""
        self.has_garbage = False

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, b"" at the end.

        Raise EOFError for a truncated file, OSError for a damaged one, after all data before that point.
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
            except (zlib.error, zstd.ZstdError, lzma.LZMAError, OSError, RuntimeError) as error:  # the last two: bz2
                raise OSError(f"the compressed data are damaged: {error}") from error
            if data:
                return data

    def _begin_member(self) -> bool:
        """Start the next member. Return False if there is none. Zeros between and after members are padding, as in
        gzip."""
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
        """Return the data that the decompressor still holds at the end of the file."""
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
    """Reads gzip and bgzip files."""

    magic = (_GZIP_MAGIC,)

    def _new(self) -> Any:
        return zlib.decompressobj(wbits=31)

    def _needs_input(self) -> bool:
        return True  # input that is not consumed stays in unconsumed_tail

    def _decompress(self, size: int) -> bytes:
        data: bytes = self._inflate.decompress(self._pending, size)
        self._pending = self._inflate.unconsumed_tail
        return data

    def _flush(self) -> bytes:
        rest: bytes = self._inflate.flush()
        return rest


class _BufferingStream(CompressedStream):
    """For libraries whose decompressor keeps input that it has not consumed."""

    def _needs_input(self) -> bool:
        return bool(self._inflate.needs_input)

    def _decompress(self, size: int) -> bytes:
        data: bytes = self._inflate.decompress(self._pending, size)
        self._pending = b""
        return data

    def _flush(self) -> bytes:
        return b""


class ZstdStream(_BufferingStream):
    """Reads zstd and pzstd files. A frame may have a window of 128 MiB, the library's limit (`zstd --long=27`)."""

    magic = (_ZSTD_MAGIC, *_ZSTD_SKIPPED)

    def _new(self) -> Any:
        return zstd.ZstdDecompressor()


class Bzip2Stream(_BufferingStream):
    """Reads bzip2 and pbzip2 files."""

    magic = (_BZIP2_MAGIC,)

    def _new(self) -> Any:
        return bz2.BZ2Decompressor()


class XzStream(_BufferingStream):
    """Reads xz files. A dictionary may take 256 MiB."""

    magic = (_XZ_MAGIC,)

    def _new(self) -> Any:
        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)


_STREAMS: Final[dict[str, type[CompressedStream]]] = {
    GZIP: GzipStream,
    ZSTD: ZstdStream,
    BZIP2: Bzip2Stream,
    XZ: XzStream,
}


def decompressed(stream: IO[bytes], compression: str) -> IO[bytes]:
    """Return `stream` decompressed by `compression`, a result of `compression_of`."""
    return _STREAMS[compression](stream) if compression else stream  # type: ignore[return-value]
