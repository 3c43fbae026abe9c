"""Compare two atlases: records by id, structures by structure_id. Only present records count.

Both are read through their indexes and, for coordinates, their structures files, in Arrow batches into a temporary
database, so that either may be on a store and memory is bounded. Stored coordinates are compared by a hash first; only
structures whose hash differs are decoded and superposed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import duckdb

from foldatlas.atlas.diff.coordinates import compare_coordinates
from foldatlas.atlas.diff.differences import SCHEMA, Change, Differences
from foldatlas.atlas.diff.tolerances import Tolerances
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.sql.interruptible import interruptible_call
from foldatlas.atlas.sql.text import literal, quoted
from foldatlas.atlas.storage.scratch import work_folder
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.formats import PROVENANCE
from foldatlas.schemas.tables import PAE_SCALE

MEMORY_LIMIT: Final = "50%"

_SIDES: Final = ("first", "second")
_ORIGIN: Final = ("model", "model_version", "licence", "origin", "chain", "plddt_source")
_LEVELS: Final = ("cluster90", "cluster30", "cluster_structure")
_RECORDS: Final = (
    "SELECT coalesce(id, '') AS id, structure_id, state || ' (' || outcome || ')' AS outcome, count(*) AS number "
    "FROM records WHERE NOT superseded GROUP BY ALL"
)
_STRUCTURES: Final = (
    "SELECT min(id) AS id, structure_id, any_value(structure_file)::VARCHAR AS file, any_value(structure_row) AS row, "
    + ", ".join(
        f"any_value({column}) AS {column}"
        for column in ("mean_plddt", "ptm", "tm_query", "nearest_structure", "identity_max", "nearest_sequence")
    )
    + "".join(f", any_value({column}) AS {column}" for column in _LEVELS)
    + " FROM proteins GROUP BY structure_id"
)


@contextmanager
def diff_atlases(
    first: Atlas,
    second: Atlas,
    tolerances: Tolerances | None = None,
    *,
    coordinates: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Differences]:
    """Yield the differences of `second` from `first`, valid inside the `with` block.

    Without `coordinates`, structures files are not read. `progress` is called with the number of structures that were
    superposed, and of those that are to be. Raise UsageError if both are the same atlas.
    """
    if first.folder.uri == second.folder.uri:
        raise UsageError(f"both atlases are {first.folder.uri}: give two")
    limits = tolerances or Tolerances()
    with work_folder() as work, duckdb.connect(str(work / "diff.duckdb"), config=_config(work)) as connection:

        def compare() -> None:
            for side, atlas in zip(_SIDES, (first, second), strict=True):
                _load(connection, f"{side}_records", atlas, _RECORDS)
                _load(connection, f"{side}_structures", atlas, _STRUCTURES)
            connection.register("no_differences", SCHEMA.empty_table())
            connection.execute("CREATE TABLE differences AS FROM no_differences")
            _compare_settings(connection, first, second)
            _compare_records(connection)
            connection.execute("CREATE VIEW pairs AS FROM first_structures AS a JOIN second_structures AS b "
                               "USING (structure_id) SELECT structure_id, b.id AS id, a, b")  # fmt: skip
            _compare_numbers(connection, Change.SCORE, {"mean_plddt": limits.plddt, "ptm": limits.ptm})
            _compare_provenance(connection, first, second)
            _compare_novelty(connection, limits.similarity)
            for level in _LEVELS:
                _compare_clusters(connection, level)
            if coordinates:
                _compare_pae(connection, first, second, limits.pae)
                for side, atlas in zip(_SIDES, (first, second), strict=True):
                    hashes = "SELECT structure_id, hash(x, y, z, plddt) AS content FROM structures"
                    _load(connection, f"{side}_hashes", atlas, hashes)
                compare_coordinates(connection, (first, second), limits, progress)

        interruptible_call(connection, compare)
        yield Differences(connection)


def _config(work: Path) -> dict[str, Any]:
    return {
        "memory_limit": MEMORY_LIMIT,
        "temp_directory": str(work / "spill"),
        "arrow_lossless_conversion": True,  # UUIDs stay UUIDs
    }


def _load(connection: Any, table: str, atlas: Atlas, sql: str) -> None:
    reader = atlas.query(sql).batches()
    connection.register("given", reader)
    connection.execute(f"CREATE TABLE {table} AS FROM given")
    connection.unregister("given")


def _insert(
    connection: Any, change: Change, body: str, column: str, before: str, after: str, amount: str = "NULL"
) -> None:
    """Add the rows of `body` (SQL from FROM on, with id and structure_id) to the differences. The rest is SQL too."""
    connection.execute(
        f"INSERT INTO differences SELECT {literal(change)}, id, structure_id, {column}, ({before})::VARCHAR, "
        f"({after})::VARCHAR, ({amount})::DOUBLE {body}"
    )


def _compare_settings(connection: Any, first: Atlas, second: Atlas) -> None:
    settings = [_settings(atlas) for atlas in (first, second)]
    rows = [
        (name, settings[0].get(name), settings[1].get(name))
        for name in sorted(settings[0].keys() | settings[1].keys())
        if settings[0].get(name) != settings[1].get(name)
    ]
    for row in rows:
        connection.execute("INSERT INTO differences VALUES ('settings', NULL, NULL, ?, ?, ?, NULL)", row)


def _settings(atlas: Atlas) -> dict[str, str]:
    """Return what holds for a whole atlas: model and settings, references of the latest searches, clusters, PAE."""
    columns = ("model", "weights", "recycles", "precision")
    [values] = atlas.query(f"SELECT {', '.join(columns)} FROM settings").rows()
    found = {name: str(value) for name, value in zip(columns, values, strict=True)}
    if (tolerance := atlas.header.settings.recycle_tolerance) is not None:
        found["recycle_tolerance"] = str(tolerance)
    searches = atlas.query("SELECT search, reference, version, digest FROM novelty_runs WHERE is_latest").rows()
    for search, reference, version, digest in searches:
        found[f"reference of {search}"] = f"{reference} version {version} ({digest})"
    if atlas.query("SELECT count(*) FROM cluster_members").rows()[0][0]:
        found["clusters"] = "clustered"
    if atlas.query("SELECT count(*) FROM files WHERE table_name = 'pae'").rows()[0][0]:
        found["pae"] = "stored"
    return found


def _compare_records(connection: Any) -> None:
    """Compare ids. Of ids whose records are the same in both, nothing further is read."""
    connection.execute(
        "CREATE TABLE changed_ids AS SELECT DISTINCT id FROM ((FROM first_records EXCEPT FROM second_records) "
        "UNION ALL (FROM second_records EXCEPT FROM first_records))"
    )
    for side in _SIDES:
        connection.execute(
            f"CREATE TABLE {side}_ids AS SELECT id, min(structure_id) AS structure_id, "
            "string_agg(DISTINCT structure_id::VARCHAR, ', ' ORDER BY structure_id::VARCHAR) AS structures, "
            "string_agg(CASE WHEN number > 1 THEN number || ' ' ELSE '' END || outcome, ', ' ORDER BY outcome, number) "
            f"AS outcomes FROM {side}_records WHERE id IN (FROM changed_ids) GROUP BY id"
        )
    for change, here, there in ((Change.NEW, "second_ids", "first_ids"), (Change.LOST, "first_ids", "second_ids")):
        before, after = ("NULL", "outcomes") if change is Change.NEW else ("outcomes", "NULL")
        _insert(connection, change, f"FROM {here} ANTI JOIN {there} USING (id)", "'outcome'", before, after)
    both = (
        "FROM (SELECT id, coalesce(b.structure_id, a.structure_id) AS structure_id, a.structures AS old, "
        "b.structures AS new, a.outcomes AS old_outcomes, b.outcomes AS new_outcomes, "
        "coalesce(old <> new, false) AS is_other FROM first_ids AS a JOIN second_ids AS b USING (id)) "
    )
    _insert(connection, Change.SEQUENCE, f"{both} WHERE is_other", "'structure_id'", "old", "new")
    _insert(connection, Change.OUTCOME, f"{both} WHERE NOT is_other", "'outcome'", "old_outcomes", "new_outcomes")


def _compare_numbers(connection: Any, change: Change, tolerances: dict[str, float]) -> None:
    for column, tolerance in tolerances.items():
        before, after = f"a.{column}", f"b.{column}"
        amount = f"{after}::DOUBLE - {before}::DOUBLE"
        _insert(
            connection,
            change,
            f"FROM pairs WHERE ({before} IS NULL) <> ({after} IS NULL) OR abs({amount}) > {tolerance}",
            literal(column),
            before,
            after,
            amount,
        )


def _compare_pae(connection: Any, first: Atlas, second: Atlas, tolerance: float) -> None:
    """Compare mean predicted aligned errors where both atlases have any. Of imported structures some may have none."""
    atlases = (first, second)
    if not all("pae" in _settings(atlas) for atlas in atlases):
        return
    mean = f"SELECT structure_id, list_avg(pae) / {PAE_SCALE} AS mean FROM pae"
    for side, atlas in zip(_SIDES, atlases, strict=True):
        _load(connection, f"{side}_pae", atlas, mean)
    _insert(
        connection,
        Change.SCORE,
        "FROM (SELECT structure_id, id, old.mean AS old, new.mean AS new FROM pairs "
        "LEFT JOIN first_pae AS old USING (structure_id) LEFT JOIN second_pae AS new USING (structure_id)) "
        f"WHERE (old IS NULL) <> (new IS NULL) OR abs(new - old) > {tolerance}",
        "'mean_pae'",
        "round(old, 2)",
        "round(new, 2)",
        "new - old",
    )


def _compare_provenance(connection: Any, first: Atlas, second: Atlas) -> None:
    """Compare what the files of imported structures state about themselves; folded atlases have no such table."""
    atlases = (first, second)
    if not all(
        atlas.query(f"SELECT count(*) FROM duckdb_tables() WHERE table_name = {literal(PROVENANCE)}").rows()[0][0]
        for atlas in atlases
    ):
        return
    for side, atlas in zip(_SIDES, atlases, strict=True):
        _load(connection, f"{side}_provenance", atlas, f"SELECT structure_id, {', '.join(_ORIGIN)} FROM {PROVENANCE}")
    for column in _ORIGIN:
        _insert(
            connection,
            Change.PROVENANCE,
            f"FROM (SELECT structure_id, pairs.id AS id, a.{column} AS old, b.{column} AS new FROM pairs "
            "JOIN first_provenance AS a USING (structure_id) JOIN second_provenance AS b USING (structure_id)) "
            "AS compared WHERE old IS DISTINCT FROM new",
            literal(column),
            "old",
            "new",
        )


def _compare_novelty(connection: Any, tolerance: float) -> None:
    """Compare the best hits. A search that only one atlas has is a difference of settings, not of each structure."""
    for score, target in (("tm_query", "nearest_structure"), ("identity_max", "nearest_sequence")):
        if _both_have(connection, score):
            _compare_numbers(connection, Change.NOVELTY, {score: tolerance})
            _insert(
                connection,
                Change.NOVELTY,
                f"FROM pairs WHERE a.{target} IS DISTINCT FROM b.{target}",
                literal(target),
                f"a.{target}",
                f"b.{target}",
            )


def _compare_clusters(connection: Any, level: str) -> None:
    """Compare one level of clusters over the structures that both atlases have.

    A cluster of the first atlas and one of the second are matched if each has more members in the other than in any
    further cluster; their members that are in both are no difference. A new member or representative alone is no
    difference of the others. Clusters that only one atlas has are a difference of settings.
    """
    if not _both_have(connection, level):
        return
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE common AS SELECT a.{level} AS old, b.{level} AS new, count(*) AS number, "
        f"min(id) AS id FROM pairs WHERE a.{level} IS NOT NULL AND b.{level} IS NOT NULL GROUP BY ALL"
    )
    best = "SELECT old, new FROM common QUALIFY row_number() OVER (PARTITION BY {} ORDER BY number DESC, {}) = 1"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE matched AS ({best.format('old', 'new')}) INTERSECT ({best.format('new', 'old')})"
    )
    _insert(
        connection,
        Change.CLUSTER,
        f"FROM (SELECT id, structure_id, a.{level} AS old, b.{level} AS new FROM pairs) AS compared "
        "ANTI JOIN matched USING (old, new) WHERE old IS NOT NULL OR new IS NOT NULL",
        literal(level),
        "old",
        "new",
    )
    _insert(
        connection,
        Change.REPRESENTATIVE,
        "FROM (SELECT id, new AS structure_id, old, new FROM common SEMI JOIN matched USING (old, new)) "
        "WHERE old <> new",
        literal(level),
        "old",
        "new",
    )


def _both_have(connection: Any, column: str) -> bool:
    """Return whether both atlases have a value of `column` for any structure."""
    counts = [f"(SELECT count({quoted(column)}) FROM {side}_structures)" for side in _SIDES]
    return all(connection.execute(f"SELECT {', '.join(counts)}").fetchall()[0])
