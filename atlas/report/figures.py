"""The figures of a report: one SQL statement each, and its rows. Counts and sums are computed by DuckDB.

A statement can be run as it is by `foldatlas query`. Its rows are few, whatever the size of the atlas.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from foldatlas.atlas.index.views import HIGH_CONFIDENCE, MAX_NOVEL_TM, MIN_CONFIDENT_PLDDT

NUM_LISTED: Final = 200  # proteins in a list
NUM_SOURCES: Final = 50
NUM_RUNS: Final = 20
NUM_LENGTH_BINS: Final = 30
MAP_CELLS: Final = 64  # cells of the map along each axis

_PROTEIN: Final = (
    "id, source, description, length, mean_plddt, ptm, tm_query, nearest_structure,\n"
    "  structure_id, structure_file, structure_row"
)
# Where there is no pTM, pLDDT / 100 takes its place.
_BEST_FIRST: Final = "coalesce(ptm, mean_plddt / 100) * mean_plddt DESC NULLS LAST, length DESC, id, source"

SQL: Final[dict[str, str]] = {
    "records": (
        "SELECT state, outcome, count(*) AS records\n"
        "FROM records WHERE NOT superseded GROUP BY ALL ORDER BY records DESC, state, outcome"
    ),
    "sources": (
        "SELECT source, count(*) AS records, count(*) FILTER (state = 'folded') AS folded,\n"
        "  count(*) FILTER (state = 'refused') AS refused, count(*) FILTER (state = 'failed') AS failed\n"
        f"FROM records WHERE NOT superseded GROUP BY source ORDER BY records DESC, source LIMIT {NUM_SOURCES}"
    ),
    "origins": (
        "SELECT origin, model, model_version, licence, plddt_source, count(*) AS proteins\n"
        "FROM proteins GROUP BY ALL\n"
        f"ORDER BY proteins DESC, origin, model, model_version, licence, plddt_source LIMIT {NUM_SOURCES}"
    ),
    "failures": (
        "SELECT stage, error, count(*) AS sequences\n"
        "FROM failures GROUP BY ALL ORDER BY sequences DESC, stage, error LIMIT 10"
    ),
    "summary": (
        "SELECT count(*) AS proteins, sum(length) AS residues,\n"
        "  min(length) AS shortest, median(length) AS median_length, max(length) AS longest,\n"
        "  count(mean_plddt) AS with_plddt, avg(mean_plddt) AS mean_plddt,\n"
        f"  count(*) FILTER (mean_plddt > {MIN_CONFIDENT_PLDDT}) AS confident,\n"
        "  count(ptm) AS with_ptm, avg(ptm) AS mean_ptm,\n"
        f"  count(*) FILTER ({HIGH_CONFIDENCE}) AS high_confidence,\n"
        "  count(tm_query) AS searched, count(identity_max) AS sequences_searched\nFROM proteins"
    ),
    "confidence": (
        "SELECT if(mean_plddt >= 100, 9, floor(mean_plddt / 10))::INTEGER * 10 AS plddt,\n"
        "  if(ptm >= 1, 9, floor(ptm * 10))::INTEGER / 10 AS ptm, count(*) AS proteins\n"
        "FROM proteins GROUP BY ALL ORDER BY ALL"
    ),
    "plddt": (
        "SELECT if(mean_plddt >= 100, 19, floor(mean_plddt / 5))::INTEGER * 5 AS plddt, count(*) AS proteins\n"
        "FROM proteins GROUP BY ALL ORDER BY ALL"
    ),
    "residues": (
        "SELECT sum(length * fraction_very_high) AS very_high,\n"
        "  sum(length * (fraction_confident - fraction_very_high)) AS confident,\n"
        "  sum(length * fraction_low) AS low, sum(length * fraction_very_low) AS very_low\n"
        "FROM proteins WHERE mean_plddt IS NOT NULL"
    ),
    "lengths": (
        "SELECT length // {width} * {width} AS residues, count(*) AS proteins\nFROM proteins GROUP BY ALL ORDER BY ALL"
    ),
    "searches": (
        "SELECT search, reference, version, entries, completed, demo, licences\n"
        "FROM novelty_runs WHERE is_latest ORDER BY search"
    ),
    "new": (
        "SELECT (SELECT count(*) FROM novel) AS novel,\n"
        "  (SELECT count(*) FROM dark_clusters) AS dark_clusters,\n"
        "  (SELECT count(*) FROM novel_sequences) AS novel_sequences,\n"
        f"  (SELECT count(*) FROM high_confidence WHERE tm_query >= {MAX_NOVEL_TM}) AS known"
    ),
    "not_searched": (
        "SELECT reason, count(*) AS structures\n"
        "FROM novelty JOIN novelty_runs USING (run)\n"
        "WHERE is_latest AND reason IS NOT NULL GROUP BY ALL ORDER BY ALL"
    ),
    "tm": (
        "SELECT if(tm_query >= 1, 19, floor(tm_query * 20))::INTEGER / 20 AS tm_query, count(*) AS proteins,\n"
        f"  count(*) FILTER ({HIGH_CONFIDENCE}) AS high_confidence\n"
        "FROM proteins WHERE tm_query IS NOT NULL GROUP BY 1 ORDER BY 1"
    ),
    "identity": (
        "SELECT if(identity_max >= 1, 19, floor(identity_max * 20))::INTEGER / 20 AS identity_max,\n"
        "  count(*) AS proteins\n"
        "FROM proteins WHERE identity_max IS NOT NULL GROUP BY 1 ORDER BY 1"
    ),
    "clusters": (
        "SELECT level, (2 ** floor(log2(num_structures)))::BIGINT AS least, count(*) AS clusters,\n"
        "  sum(num_structures)::BIGINT AS structures\nFROM clusters GROUP BY ALL ORDER BY ALL"
    ),
    "maps": ("SELECT method, features, structures, fitted, completed\nFROM projection_runs WHERE is_latest"),
    "map": (
        "WITH span AS (SELECT min(x) AS x0, min(y) AS y0, greatest(max(x) - min(x), max(y) - min(y), 1e-6) AS side\n"
        "  FROM projection)\n"
        f"SELECT least(floor((x - x0) / side * {MAP_CELLS}), {MAP_CELLS - 1})::INTEGER AS cell_x,\n"
        f"  least(floor((y - y0) / side * {MAP_CELLS}), {MAP_CELLS - 1})::INTEGER AS cell_y,\n"
        "  count(*) AS structures, avg(mean_plddt) AS mean_plddt\n"
        "FROM projection JOIN scores USING (structure_id), span GROUP BY 1, 2 ORDER BY 1, 2"
    ),
    "runs": (
        "SELECT started, coalesce(device_name, device) AS device, version, shards, folded, failed, residues,\n"
        "  seconds, residues_per_second\n"
        f"FROM runs ORDER BY started DESC, run_id LIMIT {NUM_RUNS}"
    ),
    "speed": (
        "SELECT count(*) AS runs, sum(shards) AS shards, sum(folded) AS folded, sum(residues) AS residues,\n"
        "  sum(seconds) AS device_seconds, sum(residues_per_second * seconds) / sum(seconds) AS residues_per_second,\n"
        "  min(started) AS first, max(started) AS last,\n"
        "  string_agg(DISTINCT coalesce(device_name, device), ', ') AS devices,\n"
        "  string_agg(DISTINCT version, ', ') AS versions\nFROM runs"
    ),
    "novel": f"SELECT {_PROTEIN}\nFROM novel ORDER BY {_BEST_FIRST} LIMIT {NUM_LISTED}",
    "best": f"SELECT {_PROTEIN}\nFROM proteins ORDER BY {_BEST_FIRST} LIMIT {NUM_LISTED}",
}


_HAS_MAP: Final = "FROM duckdb_tables() WHERE table_name = 'projection_runs'"  # not in earlier indexes


@dataclass(frozen=True)
class Figure:
    """The rows of one statement, read from the index."""

    sql: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __bool__(self) -> bool:
        return bool(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(zip(self.columns, row, strict=True)) for row in self.rows)

    @property
    def only(self) -> dict[str, Any]:
        """The one row of a figure of totals."""
        (row,) = self
        return row


EMPTY: Final = Figure("", (), ())


def read_figures(connection: Any, *, imported: bool = False) -> dict[str, Figure]:
    """Return the figures of the index `connection` by their name. What was not done has no rows.

    `imported`: the structures were imported, and have an origin each.
    """

    def read(sql: str) -> Figure:
        result = connection.execute(sql)
        return Figure(sql, tuple(column[0] for column in result.description), tuple(result.fetchall()))

    found = {name: read(SQL[name]) for name in ("summary", "records", "sources", "failures", "runs", "speed")}
    totals = found["summary"].only
    found |= {name: EMPTY for name in SQL if name not in found}
    found["searches"] = read(SQL["searches"])
    found["clusters"] = read(SQL["clusters"])
    if connection.execute(_HAS_MAP).fetchall():
        found["maps"] = read(SQL["maps"])
    if not totals["proteins"]:
        return found
    wanted = ["confidence", "plddt", "residues", "best", *(["origins"] if imported else [])]
    if totals["searched"] or found["searches"]:
        wanted += ["new", "not_searched", "tm"]
    if totals["sequences_searched"]:
        wanted.append("identity")
    if found["maps"]:
        wanted.append("map")
    found |= {name: read(SQL[name]) for name in wanted}
    found["lengths"] = read(SQL["lengths"].format(width=length_width(totals["longest"])))
    if found["new"] and found["new"].only["novel"]:
        found["novel"] = read(SQL["novel"])
    return found


def length_width(longest: int, bins: int = NUM_LENGTH_BINS) -> int:
    """Return the width of a bin of lengths, in residues: of 10, 20, 50, 100, ... the least that gives few `bins`."""
    width, factors = 10, (2.0, 2.5, 2.0)
    step = 0
    while longest // width >= bins:
        width = round(width * factors[step % 3])
        step += 1
    return width
