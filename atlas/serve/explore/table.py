"""The explorer's table: one row per protein, in a DuckDB file of its own, made from an index once.

The view `proteins` joins two large tables, which takes seconds at 10 million rows; here a histogram is one scan of a
column of bytes. Columns: `key` (row of `records`), `score_row` (row of `scores`), numbers and flags as in the index,
`"NAME code"` (bin of a number, code of a choice, 0 or 1 of a flag, NONE), `"map x"` and `"map y"`, cells of
maps, and ranks of texts by which the table can be sorted.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import numpy.typing as npt

from foldatlas.atlas.index.views import protein_columns, proteins_query
from foldatlas.atlas.serve.current import Served
from foldatlas.atlas.serve.explore.bins import bin_sql, nice_edges
from foldatlas.atlas.serve.explore.columns import MAX_VALUES, NONE, OTHER, ExploredColumn
from foldatlas.atlas.serve.explore.conditions import PLDDT_LENGTH, PROJECTION
from foldatlas.atlas.serve.explore.regions import Grid, Polygon
from foldatlas.atlas.sql.text import literal, quoted

Counts = npt.NDArray[np.int64]

MAX_CLUSTERS: Final = 20  # the largest have a colour of their own
MEMORY_LIMIT: Final = "40%"
POINTS_AT_A_TIME: Final = 1_000_000  # that are compared with the edges of a polygon
# Columns of text by which the table can be sorted, beside `id`.
RANKED: Final = ("nearest_structure", "nearest_sequence")
_INDEX: Final = "source_index"


@dataclass(frozen=True)
class Described:
    """A column with what its values are: `edges` of the bins of a number, `values` of the codes of a choice or flag.

    `counts` are of all proteins, int64 [256]: by bin or code, and at OTHER and NONE.
    """

    column: ExploredColumn
    edges: tuple[float, ...] = ()
    values: tuple[str, ...] = ()
    least: float | int | None = None
    greatest: float | int | None = None
    counts: Counts = field(default_factory=lambda: np.zeros(256, np.int64))

    @property
    def num_codes(self) -> int:
        return len(self.edges) - 1 if self.edges else len(self.values)


@dataclass(frozen=True)
class MapRange:
    """A map: how many proteins have a position, and where."""

    name: str
    label: str
    x_label: str
    y_label: str
    proteins: int
    x: tuple[float, float]
    y: tuple[float, float]


class ExplorerTable:
    """The table of one index. Use it from any thread."""

    def __init__(self, served: Served, file: Path, connection: Any, columns: dict[str, Described],
                 maps: list[MapRange], grids: Mapping[str, Grid], num_proteins: int,
                 orders: Mapping[str, str]):  # fmt: skip
        self.number = served.number
        self.indexed = served.indexed
        self.columns = columns
        self.maps = {each.name: each for each in maps}
        self.grids = grids
        self.num_proteins = num_proteins
        self.orders = orders  # name of a column -> expression by which the table is sorted
        self._file = file
        self._connection = connection
        self._threads = threading.local()
        self._lock = threading.Lock()

    @property
    def values(self) -> dict[str, Sequence[str]]:
        """The values with codes, by column."""
        return {name: each.values for name, each in self.columns.items() if each.column.kind == "choice"}

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """Run a statement on this thread's connection, and return the latter."""
        return self._cursor().execute(sql, list(parameters))

    def _cursor(self) -> Any:
        if not hasattr(self._threads, "cursor"):
            with self._lock:
                self._threads.cursor = self._connection.cursor()
        return self._threads.cursor

    def count(self, names: Sequence[str], condition: str, parameters: Sequence[Any]) -> dict[str, Counts]:
        """Return the numbers of proteins that meet a condition, by bin or code of each column, in one scan."""
        if not names:
            return {}
        codes = ", ".join(f"{self.columns[name].column.code} AS c{number}" for number, name in enumerate(names))
        sets = ", ".join(f"(c{number})" for number in range(len(names)))
        listed = ", ".join(f"c{number}" for number in range(len(names)))
        rows = self.execute(
            f"SELECT {listed}, count(*) FROM (SELECT {codes} FROM proteins WHERE {condition}) "
            f"GROUP BY GROUPING SETS ({sets})",
            parameters,
        ).fetchall()
        found = {name: np.zeros(256, np.int64) for name in names}
        for row in rows:
            for name, code in zip(names, row, strict=False):
                if code is not None:
                    found[name][code] = row[-1]
        return found

    def near(self, polygon: Polygon, bits: int) -> bytes:
        """Return the keys of the points near the edges of a polygon that are inside, as a mask of so many bits."""
        found = np.zeros(bits, np.bool_)
        points = self._cursor().sql(
            f"SELECT {polygon.x}::DOUBLE AS x, {polygon.y}::DOUBLE AS y, key FROM proteins WHERE {polygon.near_sql}"
        )
        for batch in points.to_arrow_reader(POINTS_AT_A_TIME):
            x, y, key = (batch.column(name).to_numpy() for name in ("x", "y", "key"))
            found[key[polygon.contains(x, y)]] = True
        return np.packbits(found).tobytes()

    def close(self) -> None:
        """Close the table and delete its file. Statements that run end first."""
        self._connection.close()
        self._file.unlink(missing_ok=True)


def make_table(
    served: Served,
    index: Path,
    columns: Mapping[str, ExploredColumn],
    file: Path,
    memory_limit: str | None,
    on_connection: Callable[[Any], None] = lambda connection: None,
) -> ExplorerTable:
    """Make the table of `served`, whose index is also at `index`, in a new `file`.

    `on_connection` receives the connection, to interrupt it.
    """
    connection = duckdb.connect(
        str(file),
        config={
            "memory_limit": memory_limit or MEMORY_LIMIT,
            "temp_directory": str(file.with_suffix(".spill")),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
        },
    )
    on_connection(connection)
    try:
        connection.execute(f"ATTACH {literal(str(index))} AS {_INDEX} (READ_ONLY)")
        described = _describe(connection, served, columns)
        grids = _grids(connection)
        orders = _make(connection, served, described, grids)
        connection.execute(f"DETACH {_INDEX}")
        described = _count(connection, described)
        maps = _maps(connection, served)
        [(number,)] = connection.execute("SELECT count(*) FROM proteins").fetchall()
        made = ExplorerTable(served, file, connection, described, maps, grids, int(number), orders)
        connection.execute("CHECKPOINT")
        counts = made.count(list(described), "true", [])
        for name, each in described.items():
            each.counts[:] = counts[name]
        return made
    except BaseException:
        connection.close()
        file.unlink(missing_ok=True)
        raise


def _describe(connection: Any, served: Served, columns: Mapping[str, ExploredColumn]) -> dict[str, Described]:
    """Return edges and values of the columns, from the tables of the index."""
    ranges = _ranges(connection, [column for column in columns.values() if column.kind == "number"])
    found = {}
    for name, column in columns.items():
        if column.kind == "flag":
            found[name] = Described(column, values=("false", "true"))
        elif column.kind == "choice":
            found[name] = Described(column, values=_values(served, column))
        else:
            low, high = column.span or ranges[name]
            is_fixed = column.span is not None
            found[name] = Described(
                column, edges=nice_edges(low, high, is_integer=column.is_integer, is_fixed=is_fixed)
            )
    return found


def _ranges(connection: Any, columns: Sequence[ExploredColumn]) -> dict[str, tuple[float, float]]:
    """Return the least and the greatest finite value of columns; 0 and 1 without any."""
    found = {}
    for column in columns:
        if column.span is not None:
            continue
        table = f"{_INDEX}.scores" if column.view is None else f"{_INDEX}.annotation.{quoted(column.view)}"
        value = quoted(column.given or column.name)
        finite = f"isfinite({value}::DOUBLE)"
        [(low, high)] = connection.execute(
            f"SELECT min({value})::DOUBLE, max({value})::DOUBLE FROM {table} WHERE {finite}"
        ).fetchall()
        found[column.name] = (0.0, 1.0) if low is None else (low, high)
    return found


def _values(served: Served, column: ExploredColumn) -> tuple[str, ...]:
    """Return the values of a choice that have codes: those that occur most, in the order of texts."""
    if column.order:
        return column.order
    if column.is_cluster:
        level = {"cluster30": "identity30", "cluster_structure": "structure"}[column.name]
        rows = served.rows(
            "SELECT cluster::VARCHAR AS value FROM clusters WHERE level = ? "
            "ORDER BY num_proteins DESC, cluster LIMIT ?",
            [level, MAX_CLUSTERS],
        )
        return tuple(row["value"] for row in rows)  # the largest first
    if column.view is not None:
        table, value = f"annotation.{quoted(column.view)}", quoted(column.given or "")
    else:
        table = "records" if column.name == "source" else "scores"
        value = column.sql if column.name != "model" or _has_model(served) else ""
    if not value:
        return (served.atlas.header.settings.model,)
    present = " AND state = 'folded' AND NOT superseded" if table == "records" else ""
    rows = served.rows(
        f"SELECT {value} AS value FROM {table} WHERE {value} IS NOT NULL{present} GROUP BY 1 "
        f"ORDER BY count(*) DESC, 1 LIMIT {MAX_VALUES}"
    )
    return tuple(sorted(row["value"] for row in rows))


def _has_model(served: Served) -> bool:
    """Return whether structures have models of their own: imported ones have."""
    return bool(
        served.rows("SELECT 1 AS one FROM duckdb_columns() WHERE table_name = 'scores' AND column_name = 'model'")
    )


def _make(
    connection: Any, served: Served, described: Mapping[str, Described], grids: Mapping[str, Grid]
) -> dict[str, str]:
    """Make the table, and return the expressions by which it can be sorted."""
    header = served.atlas.header
    [settings] = served.rows("SELECT runs FROM settings")
    # The index is attached, so names of its tables are found in it.
    connection.execute(f"CREATE TABLE novelty_runs AS FROM {_INDEX}.novelty_runs")
    base = proteins_query(
        protein_columns(header.settings.model, header.format),
        "records.rowid AS record_row",
        "scores.rowid AS score_row",
        records=f"{_INDEX}.records AS records",
        scores=f"{_INDEX}.scores AS scores",
    )
    computed = [each.column for each in described.values() if each.column.is_computed]
    inner = f"SELECT *, {', '.join(f'{column.sql} AS {quoted(column.name)}' for column in computed)} FROM ({base})"
    selected = ["proteins.record_row::UINTEGER AS key", "proteins.score_row::UINTEGER AS score_row"]
    joins = []
    places = {name: f"proteins.{quoted(name)}" for name in described}
    for number, (view, names) in enumerate(_views(described).items()):
        values = ", ".join(f"min({quoted(given)}) AS {quoted(name)}" for name, given in names.items())
        places |= {name: f"a{number}.{quoted(name)}" for name in names}
        joins.append(
            f"LEFT JOIN (SELECT id, source, structure_id, {values} FROM {_INDEX}.{quoted(view)} GROUP BY ALL) AS "
            f"a{number} ON a{number}.id = proteins.id AND a{number}.source = proteins.source "
            f"AND a{number}.structure_id = proteins.structure_id"
        )
    for number, (name, each) in enumerate(described.items()):
        column, value = each.column, places[name]
        if column.kind == "choice":
            codes = ", ".join(f"({literal(text)}, {code})" for code, text in enumerate(each.values))
            text = f"{value}::VARCHAR" if column.is_cluster else value
            if codes:
                joins.append(f"LEFT JOIN (VALUES {codes}) AS v{number}(text, code) ON v{number}.text = {text}")
            code = f"coalesce(v{number}.code, {OTHER})" if codes else str(OTHER)
            selected.append(f"(CASE WHEN {value} IS NULL THEN {NONE} ELSE {code} END)::UTINYINT AS {column.code}")
        elif column.kind == "flag":
            selected += [
                f"{value} AS {column.selects}",
                f"coalesce({value}::UTINYINT, {NONE})::UTINYINT AS {column.code}",
            ]
        else:
            bins = bin_sql(value, each.edges, may_be_infinite=not column.is_integer)
            selected += [f"{value} AS {column.selects}", f"{bins} AS {column.code}"]
    orders = {each.column.name: each.column.code if each.column.kind == "choice" else each.column.selects
              for each in described.values()}  # fmt: skip
    orders["id"] = "key"
    if settings["runs"] != 1:  # rows of `records` are not in the order of ids
        connection.execute(
            "CREATE TEMP TABLE ids AS SELECT rowid AS record_row, row_number() OVER (ORDER BY id, rowid) AS rank "
            f"FROM {_INDEX}.records WHERE state = 'folded' AND NOT superseded"
        )
        joins.append("JOIN ids ON ids.record_row = proteins.record_row")
        selected.append('ids.rank::UINTEGER AS "id rank"')
        orders["id"] = '"id rank"'
    for name in RANKED:
        connection.execute(
            f"CREATE TEMP TABLE {name}_ranks AS SELECT {name}, row_number() OVER (ORDER BY {name}) AS rank "
            f"FROM (SELECT DISTINCT {name} FROM {_INDEX}.scores WHERE {name} IS NOT NULL)"
        )
        joins.append(f"LEFT JOIN {name}_ranks ON {name}_ranks.{name} = proteins.{name}")
        selected.append(f'{name}_ranks.rank::UINTEGER AS "{name} rank"')
        orders[name] = f'"{name} rank"'
    joins.append(f"LEFT JOIN {_INDEX}.projection AS projection ON projection.structure_id = proteins.structure_id")
    selected += ['projection.x AS "map x"', 'projection.y AS "map y"']
    positions = {PROJECTION: ("projection.x", "projection.y"), PLDDT_LENGTH: ("length", "mean_plddt")}
    selected += [f"{grid.cell_sql(*positions[name])} AS {grid.cell}" for name, grid in grids.items()]
    connection.execute(
        f"CREATE TABLE proteins AS SELECT {', '.join(selected)} FROM ({inner}) AS proteins {' '.join(joins)}"
    )
    for name in [f"{name}_ranks" for name in RANKED] + (["ids"] if settings["runs"] != 1 else []):
        connection.execute(f"DROP TABLE {name}")
    return orders


def _grids(connection: Any) -> dict[str, Grid]:
    """Return the grids of maps, by name."""
    found = {}
    for name, x, y, table in (
        (PROJECTION, "x", "y", "projection"), (PLDDT_LENGTH, "length", "mean_plddt", "scores")
    ):  # fmt: skip
        [row] = connection.execute(f"SELECT min({x}), max({x}), min({y}), max({y}) FROM {_INDEX}.{table}").fetchall()
        if None not in row:
            found[name] = Grid(quoted(f"{name} cell"), *map(float, row))
    return found


def _views(described: Mapping[str, Described]) -> dict[str, dict[str, str]]:
    """Return the columns of each annotation: name here -> name in its view."""
    found: dict[str, dict[str, str]] = {}
    for name, each in described.items():
        if each.column.view is not None and each.column.given is not None:
            found.setdefault(each.column.view, {})[name] = each.column.given
    return found


def _count(connection: Any, described: Mapping[str, Described]) -> dict[str, Described]:
    """Return the columns with the least and the greatest value of numbers."""
    numbers = [each.column for each in described.values() if each.column.kind == "number"]
    values = ", ".join(f"min({column.selects}), max({column.selects})" for column in numbers)
    [row] = connection.execute(f"SELECT {values} FROM proteins").fetchall()
    spans = {column.name: row[2 * number : 2 * number + 2] for number, column in enumerate(numbers)}
    return {
        name: Described(each.column, each.edges, each.values, *spans.get(name, (None, None)))
        for name, each in described.items()
    }


def _maps(connection: Any, served: Served) -> list[MapRange]:
    found = []
    [row] = connection.execute(
        'SELECT count("map x"), min("map x"), max("map x"), min("map y"), max("map y"), count(mean_plddt), '
        "min(length) FILTER (WHERE mean_plddt IS NOT NULL), max(length) FILTER (WHERE mean_plddt IS NOT NULL), "
        "min(mean_plddt), max(mean_plddt) FROM proteins"
    ).fetchall()
    if row[0]:
        [run] = served.rows("SELECT method, features FROM projection_runs WHERE is_latest")
        method = {"tsne": "t-SNE", "pca": "principal components"}.get(run["method"], run["method"])
        label = f"{method} of {run['features']}"
        found.append(MapRange(PROJECTION, label, "x", "y", row[0], (row[1], row[2]), (row[3], row[4])))
    if row[5]:
        found.append(
            MapRange(
                PLDDT_LENGTH, "pLDDT and length", "length", "mean pLDDT", row[5], (row[6], row[7]), (row[8], row[9])
            )
        )
    return found
