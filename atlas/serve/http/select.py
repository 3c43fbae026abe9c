"""The filter of a request, whole: what a person typed as SQL is evaluated in a confined process, and becomes a mask."""

import asyncio
import base64
import binascii
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from fastapi import Request
from starlette.concurrency import run_in_threadpool

from foldatlas.atlas.serve.cage.frames import DATA
from foldatlas.atlas.serve.cage.processes import GRACE_SECONDS, CageError, SqlProcesses
from foldatlas.atlas.serve.cage.query import SqlRequest
from foldatlas.atlas.serve.current import Served
from foldatlas.atlas.serve.explore.conditions import (
    PLDDT_LENGTH,
    PROJECTION,
    choice_conditions,
    range_condition,
    region_condition,
)
from foldatlas.atlas.serve.explore.mask import MAX_RECORDS, Mask, mask_statement, rows_relation
from foldatlas.atlas.serve.explore.selected import Selected
from foldatlas.atlas.serve.explore.table import ExplorerTable
from foldatlas.atlas.serve.explore.tables import About
from foldatlas.atlas.serve.http.access import require
from foldatlas.atlas.serve.http.models import FilterQuery
from foldatlas.atlas.serve.http.problems import Problem
from foldatlas.atlas.serve.http.state import State, state_of
from foldatlas.atlas.serve.settings import SQL
from foldatlas.schemas.errors import FoldAtlasError

Value = TypeVar("Value")
Select = Callable[[Served, ExplorerTable | None], Selected]

_TRIES: Final = 2


class _MaskRow(msgspec.Struct):
    bits: str | None
    indexed: str


class OtherIndexError(FoldAtlasError):
    """A mask is of another index than the one that is asked."""


async def with_selection(request: Request, query: FilterQuery, work: Callable[[Select], Value]) -> Value:
    """Return `work(select)`, run in another thread, where `select(served, table)` is the filter of a request.

    If the index is replaced after what a person typed was evaluated, do it again. Raise Problem, UsageError.
    """
    state = state_of(request)
    for _ in range(_TRIES):
        mask = await _typed(request, state, query.where) if query.where is not None else None

        def select(served: Served, table: ExplorerTable | None = None, mask: Mask | None = mask) -> Selected:
            return _selected(state, query, served, table, mask)

        with contextlib.suppress(OtherIndexError):
            return await run_in_threadpool(work, select)
        state.current.look()
    raise Problem(503, "the index is being replaced: try again", {"Retry-After": "1"})


def _selected(
    state: State, query: FilterQuery, served: Served, table: ExplorerTable | None, mask: Mask | None
) -> Selected:
    """Return the filter of a request. With `table`, its conditions are as fast as that allows."""
    if mask is not None and mask.indexed != served.indexed:
        raise OtherIndexError
    conditions = []
    if query.range or query.choice or query.region:
        about = state.explorer.about(served)
        maps = [PLDDT_LENGTH, *([PROJECTION] if about.has_projection else [])]
        conditions = [
            *(range_condition(about.columns, text) for text in query.range),
            *choice_conditions(about.columns, table.values if table is not None else None, query.choice),
            *(region_condition(text, maps, table.grids if table is not None else None) for text in query.region),
        ]
    rows = rows_relation(served) if mask is not None else ""
    return Selected(query.wanted(), conditions, query.where, mask.bits if mask is not None else None, rows)


async def _typed(request: Request, state: State, where: str) -> Mask:
    """Return the records that meet a condition that a person typed. Raise Problem, QueryError."""
    await require(request, SQL)
    processes = state.sql
    if processes is None or processes.problem is not None:
        raise Problem(503, "SQL is off: /healthz has the reason")
    with state.current.use() as served:
        about = await run_in_threadpool(state.explorer.about, served)
        if about.num_bits > MAX_RECORDS:
            raise Problem(400, f"`where` works up to {MAX_RECORDS:,} records: use POST /v1/sql")
        indexed = served.indexed
        bits = about.kept.find(("where", where))
        if bits is None:
            statement = mask_statement(served, about.num_bits)
            found = await _evaluate(state, processes, statement, where, served.file)
            bits, indexed = _bits(found, about), found.indexed
            if indexed == served.indexed:
                about.kept.keep(("where", where), bits)
    return Mask(bits, indexed)


async def _evaluate(state: State, processes: SqlProcesses, statement: str, where: str, index: Path) -> _MaskRow:
    """Return the row of a statement that a confined process gives. What comes from there is not trusted."""
    wanted = SqlRequest(statement, None, "json", 1, processes.limits.seconds, where)
    await state.sql_places.take()
    try:
        running = await processes.run(wanted, index)
        try:
            async with asyncio.timeout(wanted.seconds + GRACE_SECONDS):
                body = b"".join([data async for kind, data in running.frames() if kind == DATA])
        finally:
            running.close()
        return msgspec.json.decode(body, type=tuple[_MaskRow])[0]
    except TimeoutError:
        raise Problem(400, f"the condition was stopped after {wanted.seconds:g} s") from None
    except CageError as error:
        raise Problem(503, str(error), {"Retry-After": "5"}) from None
    except msgspec.DecodeError:
        raise _no_mask() from None
    finally:
        state.sql_places.give_back()


def _bits(row: _MaskRow, about: About) -> bytes:
    size = about.num_bits // 8
    try:
        bits = base64.b64decode(row.bits, validate=True) if row.bits is not None else bytes(size)
    except binascii.Error:
        bits = b""
    if len(bits) != size:
        raise _no_mask()
    return bits


def _no_mask() -> Problem:
    return Problem(503, "the process of the condition sent no mask", {"Retry-After": "5"})
