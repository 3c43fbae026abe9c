"""The S3 client, and the retry policy of its requests (retries.py): which failures are temporary, and for how long."""

import math
import os
import random
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeVar

from foldatlas.atlas.storage.protocol import never
from foldatlas.atlas.storage.retries import with_retries
from foldatlas.schemas.errors import StoreError

PATIENCE_SECONDS: float = 240.0  # for retries after the first failure of a request; then the run stops
FIRST_WAIT: float = 0.5  # seconds; doubled after each try
LONGEST_WAIT: Final = 30.0
TIMEOUT: Final = 60.0  # seconds without a byte
CONNECTIONS: Final = 32

_RETRIED_STATUSES: Final = (408, 409, 425, 429)  # 409: another write of the same name is in progress
# Statuses that a caller may expect, and handles itself.
_ANSWERS: Final = (404, 412, 416)
_TEMPORARY: Final = frozenset(
    # names of exceptions of botocore and urllib3, which need not be installed
    "HTTPClientError ConnectionError EndpointConnectionError ReadTimeoutError ConnectTimeoutError IncompleteReadError "
    "ResponseStreamingError ProtocolError".split()
)

Value = TypeVar("Value")


class Answered(Exception):
    """The store answered with a status that the caller handles: 404, 412 or 416."""

    def __init__(self, status: int):
        super().__init__(str(status))
        self.status = status


def new_client(**settings: Any) -> Any:
    """Return a client with this machine's settings (AWS_ENDPOINT_URL, profile), or, without credentials, an anonymous
    one for public buckets.

    Raise ImportError without boto3.
    """
    import boto3
    import botocore
    from botocore.config import Config

    session = boto3.Session()
    unsigned = {} if session.get_credentials() else {"signature_version": botocore.UNSIGNED}
    config = Config(
        retries={"total_max_attempts": 1}, connect_timeout=TIMEOUT, read_timeout=TIMEOUT, **unsigned, **settings
    )
    region = session.region_name or "us-east-1"  # S3's own default
    return session.client("s3", config=config, region_name=region)


def client() -> Any:
    """Return the client of this process, created at the first call. Raise StoreError if it cannot be created."""
    environment = tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))
    return _client(os.getpid(), environment)


@lru_cache(maxsize=4)
def _client(_process: int, _environment: tuple[tuple[str, str], ...]) -> Any:
    try:
        return new_client(max_pool_connections=CONNECTIONS)
    except ImportError as error:
        raise StoreError("s3:// needs boto3: pip install 'foldatlas[s3]'") from error
    except Exception as error:  # such as a profile that does not exist, or a malformed endpoint
        raise StoreError(
            f"S3 is not set up on this machine ({type(error).__name__}): check AWS_PROFILE, AWS_ENDPOINT_URL and ~/.aws"
        ) from error


# When the last request was given up, if none has been answered since: the next ones, of cleaning up, are not retried.
_gave_up: float = -math.inf
AWAY_SECONDS: Final = 60.0


def with_s3_retries(work: Callable[[], Value], address: str, stop: Callable[[], bool] = never) -> Value:
    """Return `work()`, a request on `address`, retried for PATIENCE_SECONDS after failures that may be temporary.

    Raise Answered for a status that the caller handles, StoreError for another failure, and Interrupted when `stop()`
    is true or the run is to stop.
    """
    global _gave_up
    value = with_retries(work, address, _Policy(address), stop, __name__)
    _gave_up = -math.inf
    return value


class _Policy(NamedTuple):
    """The RetryPolicy of requests on `address`."""

    address: str

    def reason_to_retry(self, error: Exception) -> str:
        global _gave_up
        status, code = _status(error)
        if status in _ANSWERS and code != "NoSuchBucket":
            _gave_up = -math.inf
            raise Answered(status) from error
        reason = f"HTTP {status} {code}".rstrip() if status else type(error).__name__
        if not _is_temporary(error, status):
            raise _refusal(error, self.address, status, code, reason) from error
        return reason

    def pauses(self) -> Iterator[float]:
        end, wait = time.monotonic() + PATIENCE_SECONDS, FIRST_WAIT
        while (now := time.monotonic()) + wait <= end and now - _gave_up >= AWAY_SECONDS:
            yield wait * random.uniform(0.5, 1.0)  # random, so that workers do not retry at the same time
            wait = min(2 * wait, LONGEST_WAIT)

    def exhausted(self, reason: str) -> Exception:
        global _gave_up
        _gave_up = time.monotonic()
        return StoreError(
            f"{self.address} cannot be reached ({reason}) for {PATIENCE_SECONDS:.0f} s: run the same command again "
            "when the store answers"
        )


def _status(error: BaseException) -> tuple[int, str]:
    """Return the HTTP status and the error code of an exception of botocore, 0 and "" if it has none."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return 0, ""
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = str(response.get("Error", {}).get("Code", ""))
    return int(status), code if code.isalpha() else ""


def _is_temporary(error: BaseException, status: int) -> bool:
    if status:
        return status in _RETRIED_STATUSES or status >= 500
    names = {kind.__name__ for kind in type(error).__mro__}
    if "SSLError" in names or "NameResolutionError" in repr(getattr(error, "kwargs", error)):
        return False  # a bad certificate stays bad, and an unknown host is a wrong name
    return bool(names & _TEMPORARY) or isinstance(error, ConnectionError | TimeoutError)


def _refusal(error: Exception, address: str, status: int, code: str, reason: str) -> Exception:
    if code == "NoSuchBucket":
        return StoreError(f"{address}: there is no such bucket ({reason}): create it first, or check the name")
    if status in (401, 403):
        return StoreError(
            f"{address}: access denied ({reason}): check the credentials (AWS_PROFILE, AWS_ACCESS_KEY_ID) and that "
            "they permit listing, reading, writing and deleting"
        )
    if not status and not type(error).__module__.startswith(("botocore", "boto3", "urllib3", "s3transfer")):
        return error  # a bug, or a failure of the local disk
    return StoreError(f"{address} cannot be used ({reason}): check the address and AWS_ENDPOINT_URL")
