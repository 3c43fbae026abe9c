"""Limits around all routes, as ASGI middleware: names of hosts, size and time of bodies, slow readers, headers.

Host is held against a list, because a page of another site can let its own name resolve to this address and then read
what only this machine should (DNS rebinding).
"""

import asyncio
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

    def __init__(self, app: ASGIApp, limits: Limits):
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        size = len(scope["path"]) + len(scope["query_string"]) + sum(len(n) + len(v) for n, v in scope["headers"])
        if size > self._limits.header_bytes:
            too_long = Problem(431, f"the target and the headers have at most {self._limits.header_bytes:,} bytes")
            return await too_long.send(scope, receive, send)
        limit = self._limits.body_bytes
        too_large = Problem(413, f"a body has at most {limit:,} bytes", {"Connection": "close"})
        for name, value in scope["headers"]:
            if name == b"content-length" and (not value.isdigit() or int(value[:20]) > limit):
                return await too_large.send(scope, receive, send)
        # The body is read before the route runs, so that a slow one does not keep a thread.
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
                    if len(body) > limit:
                        return await too_large.send(scope, receive, send)
        except TimeoutError:
            slow = Problem(408, f"the body took longer than {self._limits.body_seconds:g} s", {"Connection": "close"})
            return await slow.send(scope, receive, send)
        pending = True

        async def receive_body() -> Message:
            nonlocal pending
            if pending:
                pending = False
                return {"type": "http.request", "body": bytes(body), "more_body": False}
            return await receive()

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._limits.send_seconds):
                await send(message)

        await self._app(scope, receive_body, send_in_time)


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
