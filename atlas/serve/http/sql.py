"""Our own routes: SQL in confined processes, and the tables that it sees."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from foldatlas.atlas.serve.cage.frames import DATA, HEAD
from foldatlas.atlas.serve.cage.processes import GRACE_SECONDS, CageError
from foldatlas.atlas.serve.cage.query import SqlRequest
from foldatlas.atlas.serve.cage.statement import MAX_LENGTH
from foldatlas.atlas.serve.current import Served
from foldatlas.atlas.serve.http.access import needs
from foldatlas.atlas.serve.http.models import JSON
from foldatlas.atlas.serve.http.problems import Problem, documented
from foldatlas.atlas.serve.http.state import read, state_of
from foldatlas.atlas.serve.settings import READ, SQL

MEDIA_TYPES: Final = {
    "json": "application/json",
    "jsonl": "application/jsonl",
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
}

MAX_ROWS: Final = 1_000_000

router = APIRouter(prefix="/v1", tags=["SQL"])


class SqlQuery(BaseModel):
    """A statement: one SELECT."""

    model_config = ConfigDict(extra="forbid")

    sql: str = Field(
        min_length=1,
        max_length=MAX_LENGTH,
        examples=["SELECT id, ptm FROM proteins WHERE ptm > $least LIMIT 10"],
    )
    params: dict[str, str | int | float | bool | None] | None = Field(None, examples=[{"least": 0.7}])
    format: Literal["json", "jsonl", "csv", "arrow"] = "json"
    rows: int = Field(10_000, ge=1, le=MAX_ROWS, description="a result of more rows is an error")
    seconds: float = Field(
        30, gt=0, allow_inf_nan=False, description="time that the statement may run, at most the server's limit"
    )


class Schema(BaseModel):
    """What SQL sees."""

    items: list[dict[str, Any]]


@router.get("/schema", response_model=Schema, dependencies=[Depends(needs(READ))],
            responses=documented(401, 403, 421, 429, 503))  # fmt: skip
def schema(request: Request) -> Response:
    """List tables, views, columns, macros and functions with type, unit, range and meaning."""

    return JSON({"items": read(request, Served.schema)})


@router.post(
    "/sql",
    response_class=Response,
    dependencies=[Depends(needs(SQL))],
    responses={
        **documented(400, 401, 403, 408, 413, 421, 422, 429, 503),
        200: {
            "description": "the rows: a JSON array or lines of objects, CSV, or an Arrow stream",
            "content": {
                "application/json": {"schema": {"type": "array", "items": {"type": "object"}}},
                "application/jsonl": {"schema": {"type": "string"}},
                "text/csv": {"schema": {"type": "string"}},
                "application/vnd.apache.arrow.stream": {"schema": {"type": "string", "format": "binary"}},
            },
        },
    },
)
async def sql(request: Request, query: SqlQuery) -> Response:
    """Run one SELECT and return its rows. It ends when the client leaves. An answer that breaks off is incomplete."""
    state = state_of(request)
    processes = state.sql
    if processes is None or processes.problem is not None:
        raise Problem(503, "SQL is off: /healthz has the reason")
    limits = processes.limits
    if query.rows > limits.rows:
        raise Problem(400, f"`rows` is at most {limits.rows:,}: ask for fewer, or in parts")
    wanted = SqlRequest(query.sql, query.params, query.format, query.rows, min(query.seconds, limits.seconds))
    stack = contextlib.AsyncExitStack()
    try:
        await state.sql_places.take()
        stack.callback(state.sql_places.give_back)
        served = await run_in_threadpool(state.current.acquire)
        stack.callback(state.current.release, served)
        running = await processes.run(wanted, served.file)
        stack.callback(running.close)
        gone = asyncio.ensure_future(_gone(request))
        stack.callback(gone.cancel)
        frames = running.frames()
        head = await _until(gone, asyncio.wait_for(anext(frames), wanted.seconds + GRACE_SECONDS))
        if head is None:
            await stack.aclose()
            return Response(status_code=204)  # to a client that has left
        assert head[0] == HEAD
        return StreamingResponse(
            _rows(frames, gone, stack), 200, {"X-Row-Limit": str(query.rows)}, MEDIA_TYPES[query.format]
        )
    except TimeoutError:
        await stack.aclose()
        raise Problem(400, f"the statement was stopped after {wanted.seconds:g} s") from None
    except CageError as error:
        await stack.aclose()
        raise Problem(503, str(error), {"Retry-After": "5"}) from None
    except BaseException:
        await stack.aclose()
        raise


async def _gone(request: Request) -> None:
    """Return when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _until(gone: "asyncio.Future[None]", awaited: Any) -> Any:
    """Return the result of `awaited`, or None if the client leaves first."""
    task = asyncio.ensure_future(awaited)
    await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return None
    return task.result()


async def _rows(
    frames: AsyncIterator[tuple[bytes, bytes]], gone: "asyncio.Future[None]", stack: contextlib.AsyncExitStack
) -> AsyncIterator[bytes]:
    async with stack:
        while (frame := await _until(gone, _next(frames))) is not None and frame[0] == DATA:
            yield frame[1]


async def _next(frames: AsyncIterator[tuple[bytes, bytes]]) -> tuple[bytes, bytes] | None:
    async for frame in frames:
        return frame
    return None
