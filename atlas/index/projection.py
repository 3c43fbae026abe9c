"""The latest map in the index.

    projection_runs    one row per complete run of `foldatlas project`: method, features, settings
    projection         one row per structure of the latest run: its position, sorted by structure_id

A table of its own: a new map does not change the columns of `scores`. The table that an index to be continued has is
kept if the latest run is the same.
"""

from typing import Any, Final

import msgspec
import pyarrow as pa

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.sql.text import escape_glob, literal
from foldatlas.atlas.stages.runs import completed_runs
from foldatlas.atlas.storage.scratch import LocalCopies
from foldatlas.schemas.projection_tables import PROJECTION

KIND: Final = "projections"
MAP: Final = "map"  # the table of a run

_RUNS: Final = pa.schema(
    [
        *((name, pa.string()) for name in ("run", "completed", "method", "features")),
        *((name, pa.int64()) for name in ("seed", "structures", "fitted")),
        ("settings", pa.string()),
        ("used", pa.list_(pa.string())),
        ("dropped", pa.list_(pa.string())),
        ("imputed", pa.int64()),
        ("explained", pa.float32()),
        ("is_latest", pa.bool_()),
    ]
)


def make_projection(connection: Any, folder: AtlasFolder, copies: LocalCopies) -> None:
    """Make the tables `projection_runs` and `projection`."""
    found = completed_runs(folder, KIND)
    latest = found[-1] if found else None
    shown = latest.run.name if latest is not None else None
    if _shown(connection) != [(shown,)]:
        if latest is None:
            connection.register("no_map", PROJECTION.empty_table())
            connection.execute("CREATE OR REPLACE TABLE projection AS FROM no_map")
            connection.unregister("no_map")
        else:
            paths = copies.have(file.path for file in latest.mark.files[MAP])
            files = ", ".join(literal(escape_glob(str(path))) for path in paths)
            connection.execute(
                f"CREATE OR REPLACE TABLE projection AS FROM read_parquet([{files}]) ORDER BY structure_id"
            )
    rows = [
        {
            "run": run.name,
            "completed": mark.completed,
            **{name: run.document.settings.get(name) for name in ("method", "features", "seed")},
            **{name: mark.counts.get(name) for name in ("structures", "fitted")},
            "settings": msgspec.json.encode(run.document.settings, order="deterministic").decode(),
            **{name: run.document.notes.get(name) for name in ("used", "dropped", "imputed", "explained")},
            "is_latest": run.name == shown,
        }
        for run, mark in found
    ]
    connection.register("given", pa.Table.from_pylist(rows, schema=_RUNS))
    connection.execute(
        "CREATE OR REPLACE TABLE projection_runs AS SELECT * REPLACE "
        "(completed::TIMESTAMPTZ AT TIME ZONE 'UTC' AS completed) FROM given ORDER BY completed, run"
    )
    connection.unregister("given")


def _shown(connection: Any) -> list[tuple[str | None]]:
    """Return the run that the table `projection` has, in a list that is empty without such a table."""
    names = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE table_name IN ('projection', 'projection_runs')"
    ).fetchall()
    if len(names) < 2:
        return []
    rows: list[tuple[str | None]] = connection.execute("SELECT run FROM projection_runs WHERE is_latest").fetchall()
    return rows or [(None,)]
