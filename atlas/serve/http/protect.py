"""Limits around all routes, as ASGI middleware: names of hosts, size and time of bodies, slow readers, headers.

Host is held against a list, because a page of another site can let its own name resolve to this address and then read
what only this machine should (DNS rebinding).
"""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foldatlas.atlas.serve.http.problems import Problem
from foldatlas.atlas.serve.settings import Limits

_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


class HostList:
    """Refuses requests whose header Host is not on a list (421), repeated or missing (400)."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str]):
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(given) != 1:
            return await Problem(400, "a request has one header Host").send(scope, receive, send)
        if _without_port(given[0]) not in self._hosts:
            refusal = "the header Host is not a name of this server: the operator adds names with --host-name"
            return await Problem(421, refusal).send(scope, receive, send)
        await self._app(scope, receive, send)


class Bodies:
    """Refuses bodies that are too large (413) or too slow (408), and drops clients that do not read their response."""

    def __init__(self, app: ASGIApp, limits: Limits, larger: Mapping[str, int] = MappingProxyType({})):
        """`larger` has the limit of paths, without a prefix, whose bodies may be larger than others."""
        self._app = app
        self._limits = limits
        self._larger = larger
        self._large = asyncio.Semaphore(limits.large_bodies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        size = len(scope["path"]) + len(scope["query_string"]) + sum(len(n) + len(v) for n, v in scope["headers"])
        if size > self._limits.header_bytes:
            too_long = Problem(431, f"the target and the headers have at most {self._limits.header_bytes:,} bytes")
            return await too_long.send(scope, receive, send)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        body = _Body(self._limits, self._larger.get(path, self._limits.body_bytes), self._large)
        try:
            # The body is read before the route runs, so that a slow one does not keep a thread.
            refusal = await body.read(scope, receive)
            if refusal is not None:
                return await refusal.send(scope, receive, send)
            if body.content is not None:  # None: the client has left
                await self._answer(body.content, scope, receive, send)
        finally:
            body.close()

    async def _answer(self, content: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        pending = True

        async def receive_body() -> Message:
            nonlocal pending
            if pending:
                pending = False
                return {"type": "http.request", "body": content, "more_body": False}
            return await receive()

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._limits.send_seconds):
                await send(message)

        await self._app(scope, receive_body, send_in_time)


class _Body:
    """The body of a request, of at most `limit` bytes. `large` are places for those of more than `body_bytes`."""

    def __init__(self, limits: Limits, limit: int, large: asyncio.Semaphore):
        self._limits = limits
        self._limit = limit
        self._large = large
        self._is_large = False
        self.content: bytes | None = None

    async def read(self, scope: Scope, receive: Receive) -> Problem | None:
        """Read the body, or return why it is refused."""
        too_large = Problem(413, f"a body has at most {self._limit:,} bytes", {"Connection": "close"})
        for name, value in scope["headers"]:
            if name == b"content-length" and (not value.isdigit() or int(value[:20]) > self._limit):
                return too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > self._limit:
                        return too_large
                    if len(body) > self._limits.body_bytes and not self._is_large:
                        if self._large.locked():
                            return Problem(503, "too many large bodies", {"Retry-After": "5", "Connection": "close"})
                        await self._large.acquire()
                        self._is_large = True
        except TimeoutError:
            return Problem(408, f"the body took longer than {self._limits.body_seconds:g} s", {"Connection": "close"})
        self.content = bytes(body)
        return None

    def close(self) -> None:
        """Give the place of a large body back."""
        if self._is_large:
            self._large.release()


class Headers:
    """Adds headers to every response that keep browsers from guessing types and from running what they receive."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(each for each in _HEADERS if each[0] not in present)]
            await send(message)

        await self._app(scope, receive, send_with_headers)


class Prefix:
    """Lets routes be found with and without the prefix of a proxy, which may remove it or not."""

    def __init__(self, app: ASGIApp, prefix: str):
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._prefix and scope["type"] == "http":
            path = scope["path"]
            if path == self._prefix:
                path = f"{path}/"
            inside = path if path.startswith(f"{self._prefix}/") else self._prefix + path
            scope = {**scope, "root_path": self._prefix, "path": inside}
        await self._app(scope, receive, send)


def _without_port(host: str) -> str:
    """Return the name in a header Host, in lower case; an IPv6 address keeps its brackets."""
    host = host.strip().lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]" if "]" in host else ""
    name, _, port = host.partition(":")
    return name.removesuffix(".") if port == "" or port.isdigit() else ""
