"""Files at http(s)://, s3:// and gs://: found, and read once from start to end, in one version.

smart-open opens them. After a passing failure (a busy server, a dropped connection) reading continues at the byte that
was reached; other failures are a SourceError. A server must report a file's length or mark its end, so that half a file
is never taken for a complete one.
"""

import contextlib
import hashlib
import io
import re
from collections.abc import Callable, Iterator
from typing import IO, Final, NamedTuple, TypeVar

from foldatlas.atlas.storage.retries import with_retries
from foldatlas.pipeline.interruption import stopping
from foldatlas.pipeline.sources.stores import OPENERS, Version, keys_under, normalised, scheme_of
from foldatlas.schemas.errors import SourceError

WAITS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # seconds before each further try; together a minute
_STATUS_TO_TRY_AGAIN: Final = (408, 425, 429)
# Names of exceptions of failed or broken connections, in requests, urllib3, botocore and google. The last two need not
# be installed.
_CONNECTION_ERRORS: Final = frozenset(
    "ConnectionError Timeout TimeoutError HTTPError HTTPClientError ChunkedEncodingError IncompleteReadError "
    "TransportError".split()
)

Found = TypeVar("Found")


class UnreachableError(SourceError):
    """A server did not answer in the time for retries."""


class RemoteStream(io.RawIOBase):
    """The bytes of a remote file, from its start to its end. `version` is the version that is read.

    Raises SourceError, when constructed and when read, if the file cannot be read or is not the `expected` version.
    """

    def __init__(self, address: str, expected: Version | None = None):
        self.address = address
        self._digest = hashlib.sha256()
        self._position = 0
        self._stream: IO[bytes] | None = None
        self.version = expected if expected is not None else Version(-1, 0, "")
        self._is_expected = expected is not None
        self._with_retries(self._open)

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes (a negative size: a block), b"" at the end."""
        block = self._with_retries(lambda: self._read(size if size > 0 else 1 << 16))
        self._digest.update(block)
        self._position += len(block)
        return block

    def sha256(self) -> str:
        """Return the digest of the whole file, after reading the rest of it."""
        while self.read(1 << 20):
            pass
        return self._digest.hexdigest()

    @property
    def num_bytes(self) -> int:
        """Bytes read so far."""
        return self._position

    def close(self) -> None:
        self._drop()
        super().close()

    def _read(self, size: int) -> bytes:
        if self._stream is None:
            self._open()
        assert self._stream is not None
        block = self._stream.read(size)
        if not block and self._position < self.version.size:
            raise ConnectionError(f"{self._position:,} of {self.version.size:,} bytes were received")
        if 0 <= self.version.size < self._position + len(block):
            raise _changed(self.address)
        return block

    def _open(self) -> None:
        """Open the file at the position that was reached. Raise SourceError if it has another version now."""
        self._open_start()
        assert self._stream is not None
        if self._position and not (self.version.is_named and _seek(self._stream, self._position)):
            self._drop()  # the stream cannot seek
            self._open_start()
            self._skip(self._stream)

    def _open_start(self) -> None:
        self._stream, version = OPENERS[scheme_of(self.address)](self.address)
        if not self._is_expected:
            self.version, self._is_expected = version, True
        elif version != self.version:
            self._drop()
            raise _changed(self.address)

    def _skip(self, stream: IO[bytes]) -> None:
        """Read again what was read before. Raise SourceError if it differs."""
        digest, left = hashlib.sha256(), self._position
        while left:
            block = stream.read(min(left, 1 << 20))
            if not block:
                raise ConnectionError(f"{self._position - left:,} of {self._position:,} bytes were received again")
            digest.update(block)
            left -= len(block)
        if digest.digest() != self._digest.digest():
            raise _changed(self.address)

    def _drop(self) -> None:
        if self._stream is not None:
            with contextlib.suppress(Exception):
                self._stream.close()
            self._stream = None

    def _with_retries(self, work: Callable[[], Found]) -> Found:
        """Return `work()`, which reopens the file where it broke off after a failure that may pass."""

        def attempt() -> Found:
            try:
                return work()
            except BaseException:
                self._drop()
                raise

        return _with_retries(attempt, self.address, is_first=not self._position)


def list_files(address: str) -> list[str]:
    """Return the addresses of all files of a bucket that begin with `address` (s3 or gs)."""
    return _with_retries(lambda: keys_under(address), address, is_first=True)


def _with_retries(work: Callable[[], Found], address: str, *, is_first: bool) -> Found:
    return with_retries(work, normalised(address), _Policy(normalised(address), is_first), stopping, __name__)


class _Policy(NamedTuple):
    """The RetryPolicy of reading the file at `name`. `is_first`: nothing was read from it yet."""

    name: str
    is_first: bool

    def reason_to_retry(self, error: Exception) -> str:
        status = _status(error)
        reason = f"HTTP {status}" if status else _one_line(error)
        if not _may_pass(error, status, self.is_first):
            raise SourceError(_refusal(self.name, status, reason)) from error
        return reason

    def pauses(self) -> Iterator[float]:
        return iter(WAITS)

    def exhausted(self, reason: str) -> Exception:
        return UnreachableError(
            f"{self.name} cannot be read ({reason}), after {len(WAITS) + 1} tries in {sum(WAITS):.0f} s: "
            "run the same command again later"
        )


def _status(error: BaseException) -> int | None:
    """Return the HTTP status that an exception of requests, botocore (in smart-open's OSError too) or google
    carries."""
    error = getattr(error, "backend_error", error)
    if isinstance(error, FileNotFoundError):
        return 404
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(response, "status_code", None) or getattr(error, "code", None)
    return int(status) if isinstance(status, int) else None


def _may_pass(error: BaseException, status: int | None, is_first: bool) -> bool:
    if status is not None:
        return status in _STATUS_TO_TRY_AGAIN or status >= 500
    names = {each.__name__ for each in type(error).__mro__}
    if "SSLError" in names or (is_first and "NameResolutionError" in repr(error)):
        return False  # a certificate stays invalid, and an unknown host is a wrong name
    return type(error) is OSError or bool(names & _CONNECTION_ERRORS)


def _refusal(name: str, status: int | None, reason: str) -> str:
    if status in (404, 410):
        return f"{name} does not exist ({reason}): check the address"
    if status in (401, 403):
        return f"{name} access denied ({reason}): check the address, and the credentials for it"
    if status == 412:
        return str(_changed(name))
    return f"{name} cannot be read ({reason}): check the address"


def _changed(address: str) -> SourceError:
    return SourceError(f"{normalised(address)} changed while it was read: run again when it is complete")


def _one_line(error: BaseException) -> str:
    """Return an exception's text in one line, without the query of an address, which may hold a signature."""
    text = re.sub(r"\?\S*", "", " ".join(str(error).split()))
    if "Caused by" in text:  # requests puts the innermost cause last
        text = text.rpartition(": ")[2].rstrip("\"')")
    return f"{type(error).__name__}: {text[:200]}"


def _seek(stream: IO[bytes], position: int) -> bool:
    """Move the stream to `position`. Return whether it could."""
    try:
        return stream.seek(position) == position
    except io.UnsupportedOperation:
        return False
