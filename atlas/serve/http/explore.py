"""Our own routes: what the explorer asks. They answer from a table that is made once per index, in the background."""

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from foldatlas.atlas.serve.current import Served
from foldatlas.atlas.serve.explore import maps, rows, summary
from foldatlas.atlas.serve.explore.conditions import MAX_NUMBER
from foldatlas.atlas.serve.explore.selected import Selected
from foldatlas.atlas.serve.explore.table import ExplorerTable
from foldatlas.atlas.serve.http import models
from foldatlas.atlas.serve.http.access import needs
from foldatlas.atlas.serve.http.models import JSON, FilterQuery
from foldatlas.atlas.serve.http.problems import documented
from foldatlas.atlas.serve.http.select import with_selection
from foldatlas.atlas.serve.http.state import read, state_of
from foldatlas.atlas.serve.settings import READ, SQL
from foldatlas.schemas.errors import UsageError

BINARY: Final = "application/octet-stream"
MAX_SIDE: Final = 4_096  # cells of a side of a density
MAX_ROWS: Final = 200  # of a page of the table

Position = Annotated[float | None, Field(gt=-MAX_NUMBER, lt=MAX_NUMBER, allow_inf_nan=False)]
Distance = Annotated[float | None, Field(gt=0, lt=MAX_NUMBER, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
ColumnName = Annotated[str | None, Field(max_length=200)]

router = APIRouter(prefix="/v1/explore", tags=["explorer"], dependencies=[Depends(needs(READ))])
_ERRORS: Final = documented(400, 401, 403, 421, 422, 429, 503)


class SummaryQuery(FilterQuery):
    """Histograms of the proteins that meet a filter."""

    columns: str | None = Field(
        None,
        max_length=4_000,
        description="names, separated by commas; `all`; empty: none; left out: those that are shown `first`",
        examples=["mean_plddt,ptm"],
    )


class MapQuery(FilterQuery):
    """A window of a map."""

    map: str = Field(max_length=100, description="a name of `maps`", examples=["plddt_length"])
    x0: Position = Field(None, description="least x; left out: of the whole map")
    x1: Position = None
    y0: Position = None
    y1: Position = None
    width: Side = Field(256, description="cells of a density")
    height: Side = 256
    color: ColumnName = Field(None, description="column of which the values are wanted", examples=["known"])
    points: int = Field(maps.MAX_POINTS, ge=0, le=maps.MAX_POINTS, description="with more proteins, a density")


class PointQuery(FilterQuery):
    """A point of a map: a key, or the protein nearest to a position."""

    key: int | None = Field(None, ge=0, lt=2**32, description="`key` of a point")
    map: str | None = Field(None, max_length=100, examples=["plddt_length"])
    x: Position = None
    y: Position = None
    dx: Distance = Field(None, description="greatest distance along x")
    dy: Distance = Field(None, description="greatest distance along y")


class RowsQuery(FilterQuery):
    """A page of the table."""

    sort: str = Field("id", max_length=200, description="one of `sorts`", examples=["mean_plddt"])
    order: Literal["asc", "desc"] = "asc"
    after: models.Cursor = None
    size: int = Field(50, ge=1, le=MAX_ROWS)


class Parameters(BaseModel):
    """Parameters of a filter for the least and the greatest value of a column; `range` works for each number."""

    min: str | None
    max: str | None


class ExploredColumn(BaseModel):
    """A column that can be filtered, drawn, and be the colour of a map."""

    name: str = Field(examples=["mean_plddt"])
    label: str = Field(examples=["Mean pLDDT"])
    type: Literal["number", "choice", "flag"]
    unit: str | None
    meaning: str | None
    sql: str | None = Field(description="its expression on `proteins`; null: of an annotation")
    annotation: str | None = Field(description="the annotation that it is of")
    first: bool = Field(description="whether its histogram is shown first")
    nulls: int = Field(description="proteins without a value")
    is_integer: bool
    min: float | None
    max: float | None
    edges: list[float] | None = Field(
        description="of the bins of a number; a bin has its lower edge, the last one both"
    )
    values: list[str] | None = Field(description="of a choice or flag; the place is the code")
    counts: list[int] = Field(description="proteins by bin or value")
    others: int = Field(description="proteins with values that are not listed (code 254)")
    parameters: Parameters


class ExploredMap(BaseModel):
    """A map."""

    name: str = Field(examples=["projection"])
    label: str = Field(examples=["t-SNE of embeddings"])
    x_label: str
    y_label: str
    proteins: int = Field(description="that have a position")
    x: tuple[float, float] = Field(description="least and greatest")
    y: tuple[float, float]


class Columns(BaseModel):
    """What can be filtered, drawn, coloured and sorted."""

    indexed: str
    proteins: int
    where: Literal["public", "token", "off"] = Field(description="who may filter with `where`")
    maps: list[ExploredMap]
    columns: list[ExploredColumn]
    sorts: list[str] = Field(description="columns that `sort` takes")


class Histogram(BaseModel):
    """Proteins that meet a filter, by bin or value of a column; bins and values are those of /v1/explore/columns."""

    matching: list[int]
    others: int
    nulls: int


class Summary(BaseModel):
    """Counts and histograms. All are exact."""

    proteins: int
    matching: int
    sql: str = Field(description="SELECT of the same proteins", examples=["SELECT * FROM proteins WHERE (ptm >= 0.7)"])
    columns: dict[str, Histogram]


class Row(models.Protein):
    """A protein, its key in this index, its classes, and its values in columns of annotations."""

    key: int
    known: str = Field(examples=["novel"])
    confidence: str | None = Field(description="pLDDT class", examples=["very high"])
    annotations: dict[str, str | float | bool | None]


class Rows(BaseModel):
    """A page of the table."""

    items: list[Row]
    next: str | None = Field(description="`after` of the next page; null after the last")


@router.get("/columns", response_model=Columns, responses=documented(401, 403, 421, 422, 429, 503))
def columns(request: Request) -> Response:
    """List columns and maps, with the counts of all proteins. 503 with Retry-After while a new index is read."""
    state = state_of(request)
    access = state.settings.access(SQL) if state.sql is not None and state.sql.problem is None else "off"
    return JSON(read(request, lambda served: summary.columns_of(state.explorer.table(served), access)))


@router.get("/summary", response_model=Summary, responses=_ERRORS)
async def summarize(request: Request, query: Annotated[SummaryQuery, Query()]) -> Response:
    """Count the proteins that meet a filter, and draw their histograms."""

    def names(table: ExplorerTable) -> list[str]:
        if query.columns is None:
            return [name for name, each in table.columns.items() if each.column.is_first]
        if query.columns == "all":
            return list(table.columns)
        return [name for name in query.columns.split(",") if name]

    def answer(served: Served, table: ExplorerTable, selected: Selected, sql: str, parameters: list[Any]) -> bytes:
        found = summary.summary_of(table, names(table), sql, parameters)
        return msgspec.json.encode({**found, "sql": selected.statement()})

    return Response(await _kept(request, query, answer), media_type="application/json")


@router.get(
    "/map",
    response_class=Response,
    responses={
        **_ERRORS,
        200: {
            "description": "points, or a density: docs/api.md has the format",
            "content": {BINARY: {"schema": {"type": "string", "format": "binary"}}},
        },
    },
)
async def draw(request: Request, query: Annotated[MapQuery, Query()]) -> Response:
    """Return the proteins in a window of a map that meet a filter: points, or if they are too many, their density."""

    def answer(served: Served, table: ExplorerTable, selected: Selected, sql: str, parameters: list[Any]) -> bytes:
        maps.place_of(table, query.map)  # raises
        spans = table.maps[query.map]
        x0, x1, y0, y1 = (
            float(given if given is not None else whole)
            for given, whole in zip((query.x0, query.x1, query.y0, query.y1), (*spans.x, *spans.y), strict=True)
        )
        window = maps.Window(x0, x1, y0, y1, query.width, query.height)
        return maps.map_of(table, query.map, window, query.color, sql, parameters, query.points)

    return Response(await _kept(request, query, answer), media_type=BINARY)


@router.get("/point", response_model=Row, responses={**_ERRORS, **documented(404)})
async def point(request: Request, query: Annotated[PointQuery, Query()]) -> Response:
    """Return the protein of a key, or the one nearest to a position of a map that meets a filter."""
    place = (query.map, query.x, query.y, query.dx, query.dy)
    if (query.key is None) == (None in place) or (query.key is not None and place != (None,) * 5):
        raise UsageError("give `key`, or `map`, `x`, `y`, `dx` and `dy`")

    def answer(served: Served, table: ExplorerTable, selected: Selected, sql: str, parameters: list[Any]) -> bytes:
        if query.key is not None:
            found = rows.protein_of(served, table, query.key)
        else:
            name, x, y, dx, dy = place
            assert name is not None and x is not None and y is not None and dx is not None and dy is not None
            found = rows.nearest_protein(served, table, name, (x, y), (dx, dy), sql, parameters)
        return msgspec.json.encode(found)

    return Response(await _kept(request, query, answer), media_type="application/json")


@router.get("/rows", response_model=Rows, responses=_ERRORS)
async def page(request: Request, query: Annotated[RowsQuery, Query()]) -> Response:
    """List the proteins that meet a filter in the order of any column. Proteins without a value are the last."""

    def answer(served: Served, table: ExplorerTable, selected: Selected, sql: str, parameters: list[Any]) -> bytes:
        found, following = rows.page_of(
            served, table, query.sort, query.order == "desc", query.after, query.size, sql, parameters
        )
        return msgspec.json.encode({"items": found, "next": following})

    return Response(await _kept(request, query, answer), media_type="application/json")


async def _kept(
    request: Request,
    query: FilterQuery,
    answer: Callable[[Served, ExplorerTable, Selected, str, list[Any]], bytes],
) -> bytes:
    """Return the answer to a request, which is kept for the next request of the same."""
    explorer = state_of(request).explorer
    key = request.scope["route"].path, query.model_dump_json()

    def made(served: Served, select: Callable[..., Selected]) -> bytes:
        table, about = explorer.table(served), explorer.about(served)
        selected = select(served, table)
        found = about.kept.find(key)
        if found is None:
            with explorer.place():
                sql, parameters = about.condition(served, table, selected)
                found = answer(served, table, selected, sql, parameters)
            about.kept.keep(key, found)
        return found

    return await with_selection(request, query, lambda select: read(request, lambda served: made(served, select)))
