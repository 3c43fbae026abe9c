"""The uvicorn server, with a limit of the time that a client may take to send the headers of a request."""

import asyncio
import gc
import socket
from collections.abc import Callable
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from foldatlas.atlas.serve.settings import Limits, ServerSettings
from foldatlas.schemas.errors import UsageError

KEEP_ALIVE_SECONDS: Final = 20
SHUTDOWN_SECONDS: Final = 20  # for running requests to end


def protocol_of(limits: Limits) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol with a deadline for headers, from the connection or the first byte of a request."""

    class Protocol(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._begin()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            cycle: Any = self.cycle  # None before the first request
            if cycle is None or cycle.response_complete:
                self._begin()
            else:
                self._end()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            cycle: Any = self.cycle
            if cycle.response_complete and self.conn.trailing_data[0]:
                self._begin()  # the beginning of another request came with the one that was answered

        def connection_lost(self, exc: Exception | None) -> None:
            self._end()
            super().connection_lost(exc)

        def _begin(self) -> None:
            if self._deadline is None:
                self._deadline = self.loop.call_later(limits.header_seconds, self._too_slow)

        def _end(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _too_slow(self) -> None:
            self._deadline = None
            if not self.transport.is_closing():
                self.transport.abort()

    return Protocol


def run(app: FastAPI, settings: ServerSettings, listener: socket.socket, on_ready: Callable[[str], None]) -> None:
    """Serve on `listener` until SIGINT or SIGTERM. `on_ready` is called with the URL when requests are accepted."""
    port = listener.getsockname()[1]
    name = f"[{settings.host}]" if ":" in settings.host else settings.host

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_ready(f"http://{name}:{port}{settings.prefix}")

    gc.freeze()  # what was imported stays: a collection that traverses it takes 0.1 s
    try:
        Server(config_of(app, settings)).run(sockets=[listener])
    finally:
        gc.unfreeze()  # otherwise DuckDB's binding (nanobind) lists its objects as leaked when Python ends


def listen(settings: ServerSettings) -> socket.socket:
    """Return the listening socket. Raise UsageError if the address cannot be used: uvicorn would end the process.

    Its protocol is stated, because asyncio sets TCP_NODELAY only then: without it a body waits 40 ms after its headers.
    """
    try:
        [(family, kind, protocol, _, address), *_] = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _cannot_listen(settings, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(512)
    except OSError as error:
        listener.close()
        raise _cannot_listen(settings, error) from error
    return listener


def _cannot_listen(settings: ServerSettings, error: OSError) -> UsageError:
    return UsageError(
        f"cannot listen on {settings.host} port {settings.port} ({error.strerror}): give another --port (0: any free "
        "one) or --host"
    )


def config_of(app: FastAPI, settings: ServerSettings) -> uvicorn.Config:
    """Return uvicorn's configuration, with our limits."""
    return uvicorn.Config(
        app,
        http=protocol_of(settings.limits),
        ws="none",
        loop="asyncio",
        lifespan="off",
        access_log=False,  # it has paths and queries
        log_level="warning",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        limit_concurrency=settings.limits.connections,
        h11_max_incomplete_event_size=settings.limits.header_bytes,
        proxy_headers=True,
        forwarded_allow_ips="127.0.0.1,::1",  # a proxy on this machine
    )
