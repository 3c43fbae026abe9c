"""Counters of requests for Prometheus, and one line of log per request.

Both name the route, not the path: paths and queries may hold sequences and ids. Neither has headers or bodies.
"""

import logging
import time
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECONDS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 60)
_LOG: Final = logging.getLogger("foldatlas.serve.requests")


class Metrics:
    """The counters of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "foldatlas_requests", "requests by route and status", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "foldatlas_request_seconds", "time to the end of the response", ["route"], buckets=_SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self.sent = Counter("foldatlas_sent_bytes", "bytes of bodies of responses", registry=self.registry)
        self.structures = Gauge(
            "foldatlas_structures", "structures of the index that is served", registry=self.registry
        )
        self.searches = Histogram(
            "foldatlas_search_seconds", "time of searches by kind and how they ended", ["kind", "state"],
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.searches_now = Gauge(
            "foldatlas_searches", "searches that wait and that run", ["state"], registry=self.registry
        )
        self.indexes = Gauge("foldatlas_indexes_opened", "indexes opened since the start", registry=self.registry)

    def search_ended(self, kind: str, state: str, seconds: float) -> None:
        """Count a search that ended."""
        self.searches.labels(kind, state).observe(seconds)


class Counted:
    """ASGI middleware that counts requests and writes the log."""

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        begin = time.monotonic()
        status, sent = 0, 0

        async def counting(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, counting)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            took = time.monotonic() - begin
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(took)
            self._metrics.sent.inc(sent)
            method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "OPTIONS") else "OTHER"
            _LOG.info("%s %s %d %d bytes %.1f ms", method, route, status, sent, took * 1e3)
