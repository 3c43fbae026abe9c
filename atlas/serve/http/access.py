"""Who may use what: bearer tokens, and a limit of wrong ones."""

import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from foldatlas.atlas.serve.http.problems import Problem
from foldatlas.atlas.serve.http.state import state_of

SECONDS: Final = 60.0  # in which wrong tokens are counted
MAX_ADDRESSES: Final = 10_000  # of which wrong tokens are counted

_BEARER: Final = HTTPBearer(auto_error=False, description="a token of the server's --token-file")
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="foldatlas"'}


class Failures:
    """Wrong tokens of the last minute by address."""

    def __init__(self, limit: int):
        self._limit = limit
        self._times: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def wait(self, address: str) -> float:
        """Return the seconds until an address may try again, 0 if it may now."""
        with self._lock:
            times = self._times.get(address)
            if times is None:
                return 0.0
            while times and times[0] < time.monotonic() - SECONDS:
                times.popleft()
            if not times:
                del self._times[address]
            return max(0.0, times[0] + SECONDS - time.monotonic()) if len(times) >= self._limit else 0.0

    def add(self, address: str) -> None:
        """Count a wrong token."""
        with self._lock:
            if address not in self._times and len(self._times) >= MAX_ADDRESSES:
                self._times.pop(next(iter(self._times)))
            self._times.setdefault(address, deque(maxlen=self._limit)).append(time.monotonic())


def needs(feature: str) -> Callable[..., Awaitable[None]]:
    """Return a dependency of FastAPI that refuses requests that may not use `feature`."""

    async def check(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)] = None
    ) -> None:
        settings = state_of(request).settings
        access = settings.access(feature)
        if access == "public":
            return
        if access == "off":
            raise Problem(
                403, f"{feature} is off: the operator can allow it with --token-file, or with --public {feature}"
            )
        failures: Failures = request.app.state.failures
        address = request.client.host if request.client is not None else ""
        if wait := failures.wait(address):
            raise Problem(429, "too many wrong tokens from this address", {"Retry-After": str(int(wait) + 1)})
        if credentials is None:
            raise Problem(401, "this needs a token in the header Authorization: Bearer TOKEN", _CHALLENGE)
        if not settings.accepts_token(credentials.credentials):
            failures.add(address)
            raise Problem(401, "the token is not one of this server", _CHALLENGE)

    return check


async def require(request: Request, feature: str) -> None:
    """Raise Problem unless a request may use `feature`: for a part of a route that not all requests use."""
    await needs(feature)(request, await _BEARER(request))
