"""The filter of a request, whole: what a person typed as SQL is evaluated in a confined process, and becomes a mask."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from fastapi import Request
from starlette.concurrency import run_in_threadpool

from foldatlas.atlas.serve.cage.frames import DATA
from foldatlas.atlas.serve.cage.processes import GRACE_SECONDS, CageError, SqlProcesses
from foldatlas.atlas.serve.cage.query import Condition, Relation, SqlRequest
from foldatlas.atlas.serve.current import Served
from foldatlas.atlas.serve.explore.conditions import (
    PLDDT_LENGTH,
    PROJECTION,
    choice_conditions,
    range_condition,
    region_condition,
)
from foldatlas.atlas.serve.explore.mask import (
    Mask,
    bits_of,
    columns_by_table,
    statement_of_proteins,
    statement_of_records,
    statement_of_scores,
)
from foldatlas.atlas.serve.explore.selected import Selected
from foldatlas.atlas.serve.explore.table import ExplorerTable
from foldatlas.atlas.serve.explore.tables import About
from foldatlas.atlas.serve.filters import Matching, ProteinFilter
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
    of_records: bool
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
    return Selected(query.wanted(), conditions, query.where, mask)


def wanted_of(state: State, served: Served, select: Select) -> ProteinFilter | Matching:
    """Return the filter of a request for rows of the index. Conditions of the explorer are answered by its table.

    Raise PreparingError, UsageError.
    """
    selected = select(served, None)
    if selected.is_plain:
        return selected.filter
    explorer = state.explorer
    table, about = explorer.table(served), explorer.about(served)
    with explorer.place():
        condition, parameters = about.condition(served, table, select(served, table))
        return about.matching(table, condition, parameters, selected.of_records)


async def _typed(request: Request, state: State, where: str) -> Mask:
    """Return the records that meet a condition that a person typed. Raise Problem, QueryError."""
    await require(request, SQL)
    processes = state.sql
    if processes is None or processes.problem is not None:
        raise Problem(503, "SQL is off: /healthz has the reason")
    with state.current.use() as served:
        about = await run_in_threadpool(state.explorer.about, served)
        about.check_size()
        for of_records in (False, True):
            if (bits := about.kept.find(("where", where, of_records))) is not None:
                return Mask(bits, of_records, served.indexed)
        statement = statement_of_proteins(served, about.sizes)
        found = await _evaluate(state, processes, statement, _by_table(served, about, where), served.file)
        try:
            bits = bits_of(found.bits, about.sizes.bits(of_records=found.of_records))
        except ValueError:
            raise _no_mask() from None
        if found.indexed == served.indexed:
            about.kept.keep(("where", where, found.of_records), bits)
    return Mask(bits, found.of_records, found.indexed)


def _by_table(served: Served, about: About, where: str) -> Condition:
    """Return a typed condition with statements that read one table, which is enough for its columns."""
    of_scores, of_records = columns_by_table(served)
    return Condition(
        where,
        [
            Relation([column.name for column in of_scores], statement_of_scores(served, about.sizes)),
            Relation([column.name for column in of_records], statement_of_records(served, about.sizes)),
        ],
    )


async def _evaluate(
    state: State, processes: SqlProcesses, statement: str, condition: Condition, index: Path
) -> _MaskRow:
    """Return the row of a statement that a confined process gives. What comes from there is not trusted."""
    wanted = SqlRequest(statement, None, "json", 1, processes.limits.seconds, condition)
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


def _no_mask() -> Problem:
    return Problem(503, "the process of the condition sent no mask", {"Retry-After": "5"})
