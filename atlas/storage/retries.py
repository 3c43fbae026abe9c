"""Retry requests that fail for a passing reason: one loop, and a policy for each kind of server.

A request is retried here and nowhere else (HTTP clients are made without retries of their own), so that one policy
says how long a server may be unavailable.
"""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol, TypeVar

from foldatlas.atlas.storage.protocol import never
from foldatlas.schemas.errors import FoldAtlasError, Interrupted

POLL_SECONDS: Final = 0.2  # between two looks at the stop condition during a pause

Value = TypeVar("Value")
_stop_condition: Callable[[], bool] = never


class RetryPolicy(Protocol):
    """What to do about the failed requests of one call."""

    def reason_to_retry(self, error: Exception) -> str:
        """Return the reason of a failure that may pass, for the log. Raise what the caller should get for any other."""

    def pauses(self) -> Iterator[float]:
        """Yield the seconds to wait before each further try. Started at the first failure, given up after the last."""

    def exhausted(self, reason: str) -> Exception:
        """Return the error to raise after the last try failed for `reason`."""


def stop_waiting_when(condition: Callable[[], bool]) -> None:
    """End every pause of this process with Interrupted while `condition()` is true."""
    global _stop_condition
    _stop_condition = condition


def with_retries(
    work: Callable[[], Value], name: str, policy: RetryPolicy, stop: Callable[[], bool] = never, logger: str = __name__
) -> Value:
    """Return `work()`, called again after each failure that `policy` lets pass.

    Each retry is a warning of `logger` that begins with `name`, the address of the request. Raises what the policy
    raises for the other failures and at the end of its pauses; a FoldAtlasError of `work` at once; Interrupted when
    `stop()` or the process's stop condition is true during a pause.
    """
    pauses = policy.pauses()
    while True:
        try:
            return work()
        except FoldAtlasError:
            raise
        except Exception as error:
            reason = policy.reason_to_retry(error)
            pause = next(pauses, None)
            if pause is None:
                raise policy.exhausted(reason) from error
            logging.getLogger(logger).warning("%s: %s: trying again in %.1f s", name, reason, pause)
        _wait(pause, stop)


def _wait(seconds: float, stop: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if _stop_condition() or stop():
            raise Interrupted
        time.sleep(min(left, POLL_SECONDS))
