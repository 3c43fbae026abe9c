"""What the routes of an application share."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from fastapi import Request
from starlette.concurrency import iterate_in_threadpool

from foldatlas.atlas.serve.cage.processes import SqlLimits, SqlProcesses
from foldatlas.atlas.serve.contents import Contents
from foldatlas.atlas.serve.current import CurrentAtlas, Served
from foldatlas.atlas.serve.explore.tables import Explorer
from foldatlas.atlas.serve.folds import Folds
from foldatlas.atlas.serve.http.problems import Problem
from foldatlas.atlas.serve.nearest_known import NearestKnown
from foldatlas.atlas.serve.search.jobs import Searches
from foldatlas.atlas.serve.settings import ServerSettings
from foldatlas.schemas.errors import DamagedAtlasError

Value = TypeVar("Value")


class Places:
    """Places for statements that run at a time, and a limit of those that wait for one."""

    def __init__(self, places: int, waiting: int):
        self._free = asyncio.Semaphore(places)
        self._may_wait = waiting
        self._waiting = 0

    async def take(self) -> None:
        """Wait for a place. Raise Problem if too many wait."""
        if self._free.locked() and self._waiting >= self._may_wait:
            raise Problem(503, "too many statements are waiting", {"Retry-After": "5"})
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1

    def give_back(self) -> None:
        """Give a place back."""
        self._free.release()


@dataclass
class State:
    """The atlas, the settings, and what is counted. One for each application."""

    current: CurrentAtlas
    settings: ServerSettings
    sql: SqlProcesses | None = None
    searches: Searches | None = None
    folds: Folds | None = None
    contents: Contents = field(default_factory=Contents)
    explorer: Explorer = field(init=False)
    nearest_known: NearestKnown = field(default_factory=NearestKnown)
    downloads: threading.Semaphore = field(init=False)
    sql_places: Places = field(init=False)

    def __post_init__(self) -> None:
        self.explorer = Explorer(self.current.memory_limit)
        self.downloads = threading.Semaphore(self.settings.limits.downloads)
        limits = self.sql.limits if self.sql is not None else SqlLimits()
        self.sql_places = Places(limits.processes, limits.waiting)


def state_of(request: Request) -> State:
    """Return the state of the application that a request came to."""
    state: State = request.app.state.shared
    return state


def read(request: Request, work: Callable[[Served], Value]) -> Value:
    """Return `work(served)`. If a file is missing that a newer index no longer lists, do it again with that index."""
    current = state_of(request).current
    with current.use() as served:
        try:
            return work(served)
        except DamagedAtlasError:
            current.look()
            with current.use() as newer:
                if newer is served:
                    raise
                return work(newer)


class Download:
    """A stream that counts as a download, and holds the atlas until its end or until the client leaves."""

    def __init__(self, state: State):
        if not state.downloads.acquire(blocking=False):
            raise Problem(
                503, f"{state.settings.limits.downloads} downloads are running: try again", {"Retry-After": "10"}
            )
        self._state = state
        self.served = state.current.acquire()
        self._closed = False

    def close(self) -> None:
        """End the download. Does nothing the second time."""
        if not self._closed:
            self._closed = True
            self._state.current.release(self.served)
            self._state.downloads.release()

    async def stream(self, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        """Yield `pieces`, which are made in other threads, and end the download."""
        try:
            async for piece in iterate_in_threadpool(pieces):
                yield piece
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                self.close()


def public_url(request: Request, path: str) -> str:
    """Return the absolute URL of a path of this server, as the client reaches it: with a proxy's prefix."""
    return f"{request.url.scheme}://{request.url.netloc}{state_of(request).settings.prefix}{path}"
