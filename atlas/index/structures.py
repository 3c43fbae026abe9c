"""The tables of structures in the index: `scores`, `copies` and `failures`.

`scores` has one row per structure, sorted by structure_id: the columns of its scores file, those that are computed or
joined when indexing, and its location. An update appends a further sorted run of rows (update.py).
"""

from typing import Any, Final

import pyarrow as pa

from foldatlas.atlas.index import clusters, novelty, provenance
from foldatlas.atlas.index.files import create_temporary, parquet_reader
from foldatlas.atlas.index.low_confidence import COLUMNS as LOW_CONFIDENCE
from foldatlas.atlas.index.low_confidence import JOIN as JOIN_LOW_CONFIDENCE
from foldatlas.atlas.index.ranges import id_ranges
from foldatlas.atlas.index.views import MERGED
from foldatlas.atlas.sql.text import quoted
from foldatlas.atlas.storage.scratch import LocalCopies
from foldatlas.schemas.formats import IMPORTED_FORMAT
from foldatlas.schemas.tables import FAILURES, SCORES

PATH_TYPE: Final = "structure_path"  # the enumeration of structures files; an update makes a new one

_SCORE_COLUMNS: Final = [name for name in SCORES.names if name != "structure_row"]


def find_shared(connection: Any, copies: LocalCopies) -> None:
    """Create the temporary table `shared`: structure ids that are in several plans."""
    connection.execute("CREATE TEMP TABLE shared (structure_id UUID)")
    if connection.execute("SELECT count(DISTINCT plan_number) FROM listed").fetchall()[0][0] > 1:
        connection.execute(
            f"INSERT INTO shared SELECT structure_id FROM {parquet_reader(connection, copies, 'sequences')} "
            "GROUP BY structure_id HAVING count(*) > 1"
        )


def list_retried(connection: Any, rows: list[dict[str, Any]]) -> None:
    """Create the temporary table `retried`: rows of structures files that another run than the file's own folded."""
    types = {"shard": pa.string(), "first_row": pa.int32(), "end_row": pa.int32(), "run_id": pa.string()}
    create_temporary(connection, "retried", rows, types)


def list_shards(connection: Any, path_type: str = PATH_TYPE) -> None:
    """Create the enumeration `path_type` of all structures files, and the temporary table `shard_files`: the scores
    files of `listed`, each with the number and path of the shard's structures file."""
    connection.execute(
        f"CREATE TYPE {path_type} AS ENUM (SELECT path FROM files WHERE table_name = 'structures' ORDER BY path)"
    )
    connection.execute(
        "CREATE TEMP TABLE shard_files AS SELECT scores.absolute, scores.shard, scores.plan_number, scores.run_id, "
        f"structures.path::{path_type} AS structure_file, structures.absolute AS structures, "
        "row_number() OVER (ORDER BY structures.path) AS number "
        "FROM listed AS scores JOIN listed AS structures USING (shard) "
        "WHERE scores.table_name = 'scores' AND structures.table_name = 'structures'"
    )


def find_winners(connection: Any, copies: LocalCopies) -> None:
    """Create the temporary table `winners`: the plan that each structure of `shared` is taken from."""
    connection.execute("CREATE TEMP TABLE winners (structure_id UUID, plan_number INTEGER)")
    if connection.execute("SELECT count(*) FROM shared").fetchall()[0][0]:
        scores = parquet_reader(connection, copies, "scores")
        connection.execute(
            f"INSERT INTO winners SELECT structure_id, min(plan_number) FROM {scores} AS scores "
            "JOIN shard_files ON shard_files.absolute = scores.filename "
            "WHERE structure_id IN (FROM shared) GROUP BY structure_id"
        )


def make_scores(connection: Any, copies: LocalCopies, version: int) -> None:
    """Create the table `scores` of an atlas of format `version`, or append rows to it, sorted by structure_id."""
    scores = parquet_reader(connection, copies, "scores")
    columns = ", ".join(f"scores.{quoted(name)}" for name in _SCORE_COLUMNS)
    low = ", ".join(f"({sql})::FLOAT AS {name}" for name, sql in LOW_CONFIDENCE.items())
    origin, join_origins = "", ""
    if version >= IMPORTED_FORMAT:
        provenance.list_origins(connection, copies)
        origin = "".join(f", origins.{name}" for name in provenance.COLUMNS)
        join_origins = provenance.JOIN
    # 1. What comes from files.
    connection.execute(
        f"CREATE TEMP TABLE stored AS SELECT {columns}, {low}, {_EMPTY}, coalesce(retried.run_id, shard_files.run_id) "
        f"AS run_id, shard_files.structure_file, scores.structure_row{origin} FROM {scores} AS scores "
        f"JOIN shard_files ON shard_files.absolute = scores.filename {JOIN_LOW_CONFIDENCE} {join_origins} "
        "LEFT JOIN retried ON retried.shard = shard_files.shard "
        "AND scores.structure_row >= retried.first_row AND scores.structure_row < retried.end_row "
        "LEFT JOIN winners ON winners.structure_id = scores.structure_id "
        "WHERE coalesce(winners.plan_number = shard_files.plan_number, true)"
    )
    connection.execute("DROP TABLE low_residues")
    # 2. What comes from derived stages, and the order.
    connection.execute("CREATE TABLE IF NOT EXISTS scores AS FROM stored LIMIT 0")
    _merge(connection, "stored", "scores")
    connection.execute("DROP TABLE stored")
    if version >= IMPORTED_FORMAT:
        provenance.make_provenance(connection)


def merge_again(connection: Any) -> None:
    """Rewrite the table `scores` with the columns that derived stages fill, from their tables as they are now."""
    connection.execute("CREATE TABLE merged AS FROM scores LIMIT 0")
    _merge(connection, "scores", "merged")
    connection.execute("DROP TABLE scores")
    connection.execute("ALTER TABLE merged RENAME TO scores")


_EMPTY: Final = ", ".join(f"NULL::{sql_type} AS {name}" for name, sql_type in MERGED.items())


def _merge(connection: Any, source: str, target: str) -> None:
    """Append the rows of `source` to `target`, sorted by structure_id, with the columns that derived stages fill."""
    filled = {**clusters.COLUMNS, **novelty.COLUMNS}
    merged = ", ".join(f"({filled.get(name, 'NULL')})::{sql_type} AS {name}" for name, sql_type in MERGED.items())
    [(rows,)] = connection.execute(f"SELECT count(*) FROM {source}").fetchall()
    for ids in id_ranges(rows):
        connection.execute(
            f"INSERT INTO {target} SELECT scores.* REPLACE ({merged}) FROM (FROM {ids.of(source)}) AS scores "
            f"{clusters.join_members(ids)} {novelty.join_shown(ids)} ORDER BY scores.structure_id"
        )


def make_copies(connection: Any, copies: LocalCopies) -> None:
    """Create the table `copies`: rows of structures that the index takes from another file."""
    connection.execute("CREATE TABLE copies (structure_id UUID, path VARCHAR)")
    if not connection.execute("SELECT count(*) FROM shared").fetchall()[0][0]:
        return
    scores, sequences = parquet_reader(connection, copies, "scores"), parquet_reader(connection, copies, "sequences")
    connection.execute(
        f"INSERT INTO copies SELECT scores.structure_id, others.path FROM {scores} AS scores "
        "JOIN shard_files ON shard_files.absolute = scores.filename JOIN winners USING (structure_id) "
        "JOIN listed AS others ON others.shard = shard_files.shard "
        "WHERE winners.plan_number <> shard_files.plan_number AND others.table_name NOT IN ('scores', 'failures') "
        f"UNION ALL SELECT sequences.structure_id, listed.path FROM {sequences} AS sequences "
        "JOIN listed ON listed.absolute = sequences.filename WHERE sequences.structure_id IN (FROM shared) "
        "QUALIFY row_number() OVER (PARTITION BY sequences.structure_id ORDER BY listed.plan_number) > 1 ORDER BY ALL"
    )


def make_failures(connection: Any, copies: LocalCopies, insert: str = "CREATE TABLE failures AS") -> None:
    """Create the table `failures`, or `insert` into it: one row per sequence that could not be folded in any plan."""
    columns = ", ".join(f"failures.{name}" for name in FAILURES.names)
    failures = parquet_reader(connection, copies, "failures")
    connection.execute(
        f"{insert} SELECT {columns}, listed.run_id "
        f"FROM {failures} AS failures JOIN listed ON listed.absolute = failures.filename "
        "WHERE failures.structure_id NOT IN (SELECT structure_id FROM scores) "
        "QUALIFY row_number() OVER (PARTITION BY failures.structure_id ORDER BY listed.plan_number) = 1 "
        "ORDER BY failures.structure_id"
    )


def delete_superseded_failures(connection: Any) -> None:
    """Delete failures of sequences that no present record has. Scores stay, because their structures are stored."""
    if connection.execute("SELECT count(*) FROM records WHERE superseded").fetchall()[0][0]:
        connection.execute(
            "DELETE FROM failures WHERE structure_id NOT IN "
            "(SELECT structure_id FROM records WHERE NOT superseded AND structure_id IS NOT NULL)"
        )
