"""Build `atlas.duckdb` from the Parquet files that plans and manifest list.

Two tables are large, and each is sorted by its own key, so that a look-up reads few blocks: `records` by id, `scores`
(one row per structure, with the location of its coordinates) by structure_id. Smaller ones are `failures`, `titles`,
`runs`, `files`, `copies` and `settings`; `views.py` has the views. An unfinished atlas has an index too: records whose
shards are not committed are `pending`.

Plans may overlap. A record is identified by source, digest of the source and offset. If it has several rows, the index
takes one of a current version, else an accepted one, else that of the plan with the largest `max_length`.
`superseded` marks records of versions of sources that were superseded (lineage.py). If several shards have a structure,
the index takes that of the first plan (`folder.plan_order`); `copies` lists the rows of other files that are not used.
Only ids that occur in several plans are compared, so an atlas without overlap needs at most one pass over the sequence
ids.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import duckdb
import pyarrow as pa

from foldatlas.atlas.accounting import Accounting, State
from foldatlas.atlas.folder import AtlasFolder, now
from foldatlas.atlas.index import clusters, novelty
from foldatlas.atlas.index.contents import contents_of
from foldatlas.atlas.index.counts import count_records
from foldatlas.atlas.index.lineage import Lineage, lineage_of
from foldatlas.atlas.index.published import index_of
from foldatlas.atlas.index.runs import make_runs, retried_rows, run_of_files
from foldatlas.atlas.index.views import MERGED, create_views
from foldatlas.atlas.macros.install import create_structure_sql
from foldatlas.atlas.sql.interruptible import interruptible_call
from foldatlas.atlas.sql.records_by_name import TITLES
from foldatlas.atlas.sql.text import escape_glob, first_line, quoted
from foldatlas.atlas.storage.scratch import LocalCopies
from foldatlas.schemas.errors import DamagedAtlasError, FoldAtlasError
from foldatlas.schemas.manifest import Plan, ShardEntry
from foldatlas.schemas.tables import FAILURES, RECORDS, SCORES, TABLES
from foldatlas.schemas.version import program_version

MEMORY_LIMIT: Final = "50%"  # of this machine or container; beyond it, sorting uses temporary files
STORAGE_VERSION: Final = "v1.4.0"  # of the file; that of DuckDB 2.0 is read by no earlier program
_WORK: Final = ".index."  # prefix of the hidden folder in which an index is built

_SCORE_COLUMNS: Final = [name for name in SCORES.names if name != "structure_row"]


def build_index(folder: AtlasFolder) -> Accounting:
    """Build the index and replace the published one. Readers see either the old or the new index.

    Return the number of records by state. Raise NotAnAtlasError, and DamagedAtlasError for a listed file that is
    missing or unreadable.
    """
    # 1. Note what the index is built from, before reading it: any later commit makes the index stale.
    publication = index_of(folder).publication()
    contents = contents_of(folder)
    header, plans = folder.header(), folder.plans()
    names = {plan.name for plan in plans}
    histories = [history for history in folder.histories().values() if history[-1].plan in names]
    # 2. Build the database in a hidden folder of the atlas, or, for a store, in a temporary one.
    with folder.storage.work_folder(_WORK) as work:
        database = work / "atlas.duckdb"
        config: dict[str, Any] = {
            "memory_limit": MEMORY_LIMIT,
            "temp_directory": str(work / "spill"),
            "storage_compatibility_version": STORAGE_VERSION,
        }
        with duckdb.connect(str(database), config=config) as connection:
            try:
                copies = LocalCopies(folder.storage, work)
                interruptible_call(
                    connection, lambda: _make_tables(connection, folder, copies, plans, histories), copies.stop
                )
            except FileNotFoundError as error:
                raise DamagedAtlasError(
                    f"{error.filename} does not exist: `foldatlas verify {folder.uri}` lists what is missing"
                ) from error
            except duckdb.OutOfMemoryException as error:
                raise FoldAtlasError(f"the index of {folder.uri} needs more memory: {first_line(error)}") from error
            except duckdb.Error as error:
                raise DamagedAtlasError(
                    f"the index of {folder.uri} cannot be built: {first_line(error)}; "
                    f"`foldatlas verify {folder.uri}` lists what is missing or damaged"
                ) from error
            # 3. Add what comes from documents alone, and the views.
            with _writing(folder):
                make_runs(connection, histories, header.settings.model)
                connection.execute(
                    "CREATE TABLE settings AS SELECT $model AS model, $weights AS weights, $recycles AS recycles, "
                    "$precision AS precision, $format AS format, $version AS version, $created AS created, "
                    "$indexed AS indexed, $contents AS contents, $stages AS stages",
                    {
                        "model": header.settings.model,
                        "weights": header.settings.weights,
                        "recycles": header.settings.recycles,
                        "precision": header.settings.precision,
                        "format": header.format,
                        "version": program_version(),
                        "created": header.created,
                        "indexed": now(),
                        "contents": contents.digest,
                        "stages": contents.stages,
                    },
                )
                create_views(connection, header.settings.model)
                create_structure_sql(connection, work)
                accounting = count_records(connection)
                # Closing writes everything too, but on a full disk it leaves the rest in a log file and raises nothing.
                connection.execute("CHECKPOINT")
        # 4. Replace the published index.
        publication.publish(database, contents, accounting)
    folder.pack_manifest()
    return accounting


@contextmanager
def _writing(folder: AtlasFolder) -> Iterator[None]:
    """Raise FoldAtlasError where DuckDB cannot write, as on a full disk."""
    try:
        yield
    except duckdb.Error as error:
        raise FoldAtlasError(f"the index of {folder.uri} could not be written: {first_line(error)}") from error


def current_accounting(folder: AtlasFolder) -> Accounting | None:
    """Return the number of records by state from the index, or None if there is no index or it is stale."""
    return index_of(folder).accounting(contents_of(folder))


def _make_tables(
    connection: Any, folder: AtlasFolder, copies: LocalCopies, plans: list[Plan], histories: list[list[ShardEntry]]
) -> None:
    """Create the tables of the index, in the order of their dependencies."""
    # Files, the run that wrote each, and which sources are present.
    run_of = {path: run for history in histories for path, run in run_of_files(history).items()}
    list_files(connection, copies, plans, [history[-1] for history in histories], run_of)
    create_presence(connection, plans, lineage_of(plans))
    # Structures: those in several plans, those that a later run retried, and the row of each that the index takes.
    _find_shared(connection, copies)
    _list_retried(connection, retried_rows(histories))
    clusters.make_members(connection, folder, copies)
    novelty.make_novelty(connection, folder, copies)
    _make_scores(connection, copies)
    _make_copies(connection, copies)
    for table in ("sequences", "scores"):
        copies.drop(table)
    # Records: their state follows from scores and failures.
    _make_failures(connection, copies)
    _make_records(connection, copies)
    connection.execute(
        f'CREATE TABLE titles AS {TITLES.format(present="NOT superseded")} ORDER BY accession, source, "offset"'
    )
    _delete_superseded_failures(connection)
    clusters.make_clusters(connection)


def create_presence(connection: Any, plans: list[Plan], lineage: Lineage) -> None:
    """Add the column `is_present` to the temporary table `sources`: whether a plan read a current version of it."""
    present = lineage.present
    numbers = [
        {"plan_number": number, "source": source.uri}
        for number, plan in enumerate(plans)
        for source in plan.sources
        if (plan.name, source.uri) in present
    ]
    _create(connection, "present", numbers, {"plan_number": pa.int32(), "source": pa.string()})
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE sources AS SELECT sources.*, present.source IS NOT NULL AS is_present "
        "FROM sources LEFT JOIN present USING (plan_number, source)"
    )


def list_files(
    connection: Any, copies: LocalCopies, plans: list[Plan], entries: list[ShardEntry], run_of: Mapping[str, str]
) -> None:
    """Create the table `files`, and the temporary tables `listed` and `sources` of files and sources by plan.

    `run_of` is the run that wrote each file, by path.
    """
    number = {plan.name: order for order, plan in enumerate(plans)}
    rows: list[dict[str, Any]] = []

    def add(table: str, plan: str, shard: str | None, run: str | None, files: Iterable[Any]) -> None:
        rows.extend(
            {
                "table_name": table,
                "plan": plan,
                "shard": shard,
                "path": file.path,
                "num_rows": file.rows,
                "bytes": file.bytes,
                "sha256": file.sha256,
                "absolute": str(copies.path(file.path)),
                "plan_number": number[plan],
                "run_id": run,
            }
            for file in files
        )

    for plan in plans:
        add("records", plan.name, None, None, plan.records)
        add("sequences", plan.name, None, None, plan.sequences)
    for entry in entries:
        for table, file in entry.files.items():
            add(table, entry.plan, entry.shard, run_of.get(file.path), [file])
    texts = ("table_name", "plan", "shard", "path", "sha256", "absolute", "run_id")
    types = {
        **dict.fromkeys(texts, pa.string()),
        "num_rows": pa.int64(),
        "bytes": pa.int64(),
        "plan_number": pa.int32(),
    }
    _create(connection, "listed", rows, types)
    connection.execute("CREATE TABLE files AS SELECT * EXCLUDE (absolute, plan_number, run_id) FROM listed")
    sources = [
        {
            "plan_number": number[plan.name],
            "max_length": plan.max_length,
            "source": source.uri,
            "sha256": source.sha256,
        }
        for plan in plans
        for source in plan.sources
    ]
    types = {"plan_number": pa.int32(), "max_length": pa.int64(), "source": pa.string(), "sha256": pa.string()}
    _create(connection, "sources", sources, types)


def _create(connection: Any, name: str, rows: list[dict[str, Any]], types: dict[str, pa.DataType]) -> None:
    connection.register("given", pa.Table.from_pylist(rows, schema=pa.schema(list(types.items()))))
    connection.execute(f"CREATE TEMP TABLE {name} AS SELECT * FROM given")
    connection.unregister("given")


def parquet_reader(connection: Any, copies: LocalCopies, table: str) -> str:
    """Return SQL that reads all listed files of `table`, with the column `filename`; without files, an empty table."""
    names = connection.execute("SELECT path FROM listed WHERE table_name = ? ORDER BY ALL", [table]).fetchall()
    paths = copies.have(name for (name,) in names)
    if not paths:
        connection.register(f"no_{table}", TABLES[table].empty_table())
        return f"(SELECT *, '' AS filename FROM no_{table})"
    variable = f"{table}_files"
    connection.execute(f"SET VARIABLE {variable} = ?", [[escape_glob(path) for path in paths]])
    return f"read_parquet(getvariable('{variable}'), filename = true)"


def _find_shared(connection: Any, copies: LocalCopies) -> None:
    """Create the temporary table `shared`: structure ids that are in several plans."""
    connection.execute("CREATE TEMP TABLE shared (structure_id UUID)")
    if connection.execute("SELECT count(DISTINCT plan_number) FROM listed").fetchall()[0][0] > 1:
        connection.execute(
            f"INSERT INTO shared SELECT structure_id FROM {parquet_reader(connection, copies, 'sequences')} "
            "GROUP BY structure_id HAVING count(*) > 1"
        )


def _list_retried(connection: Any, rows: list[dict[str, Any]]) -> None:
    """Create the temporary table `retried`: rows of structures files that another run than the file's own folded."""
    types = {"shard": pa.string(), "first_row": pa.int32(), "end_row": pa.int32(), "run_id": pa.string()}
    _create(connection, "retried", rows, types)


def _make_scores(connection: Any, copies: LocalCopies) -> None:
    """Create the table `scores`, sorted by structure_id."""
    scores = parquet_reader(connection, copies, "scores")
    connection.execute(
        "CREATE TYPE structure_path AS ENUM (SELECT path FROM listed WHERE table_name = 'structures' ORDER BY path)"
    )
    connection.execute(
        "CREATE TEMP TABLE shard_files AS SELECT scores.absolute, scores.shard, scores.plan_number, scores.run_id, "
        "structures.path::structure_path AS structure_file FROM listed AS scores "
        "JOIN listed AS structures USING (shard) "
        "WHERE scores.table_name = 'scores' AND structures.table_name = 'structures'"
    )
    connection.execute(
        f"CREATE TEMP TABLE winners AS SELECT structure_id, min(plan_number) AS plan_number FROM {scores} AS scores "
        "JOIN shard_files ON shard_files.absolute = scores.filename "
        "WHERE structure_id IN (FROM shared) GROUP BY structure_id"
        if connection.execute("SELECT count(*) FROM shared").fetchall()[0][0]
        else "CREATE TEMP TABLE winners (structure_id UUID, plan_number INTEGER)"
    )
    columns = ", ".join(f"scores.{quoted(name)}" for name in _SCORE_COLUMNS)
    filled = {**clusters.COLUMNS, **novelty.COLUMNS}
    merged = ", ".join(f"({filled.get(name, 'NULL')})::{sql_type} AS {name}" for name, sql_type in MERGED.items())
    connection.execute(
        f"CREATE TABLE scores AS SELECT {columns}, {merged}, coalesce(retried.run_id, shard_files.run_id) AS run_id, "
        f"shard_files.structure_file, scores.structure_row "
        f"FROM {scores} AS scores JOIN shard_files ON shard_files.absolute = scores.filename "
        "LEFT JOIN retried ON retried.shard = shard_files.shard "
        "AND scores.structure_row >= retried.first_row AND scores.structure_row < retried.end_row "
        f"LEFT JOIN winners ON winners.structure_id = scores.structure_id {clusters.JOINS} {novelty.JOINS} "
        "WHERE coalesce(winners.plan_number = shard_files.plan_number, true) ORDER BY scores.structure_id"
    )


def _make_copies(connection: Any, copies: LocalCopies) -> None:
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


def _make_failures(connection: Any, copies: LocalCopies) -> None:
    """Create the table `failures`: one row per sequence that could not be folded in any plan."""
    columns = ", ".join(f"failures.{name}" for name in FAILURES.names)
    failures = parquet_reader(connection, copies, "failures")
    connection.execute(
        f"CREATE TABLE failures AS SELECT {columns}, listed.run_id "
        f"FROM {failures} AS failures JOIN listed ON listed.absolute = failures.filename "
        "WHERE failures.structure_id NOT IN (SELECT structure_id FROM scores) "
        "QUALIFY row_number() OVER (PARTITION BY failures.structure_id ORDER BY listed.plan_number) = 1 "
        "ORDER BY failures.structure_id"
    )


def _delete_superseded_failures(connection: Any) -> None:
    """Delete failures of sequences that no present record has. Scores stay, because their structures are stored."""
    if connection.execute("SELECT count(*) FROM records WHERE superseded").fetchall()[0][0]:
        connection.execute(
            "DELETE FROM failures WHERE structure_id NOT IN "
            "(SELECT structure_id FROM records WHERE NOT superseded AND structure_id IS NOT NULL)"
        )


def _make_records(connection: Any, copies: LocalCopies) -> None:
    """Create the table `records`, sorted by id, with each record of the sources once."""
    columns = ", ".join(f"records.{quoted(name)}" for name in RECORDS.names)
    with_plan = (
        f"SELECT {columns}, NOT sources.is_present AS superseded "
        f"FROM {parquet_reader(connection, copies, 'records')} AS records "
        "JOIN listed ON listed.absolute = records.filename "
        "JOIN sources ON sources.plan_number = listed.plan_number AND sources.source = records.source"
    )
    deduplicated = with_plan
    several = "SELECT source, sha256 FROM sources GROUP BY ALL HAVING count(*) > 1"
    if connection.execute(f"SELECT count(*) FROM ({several})").fetchall()[0][0]:
        deduplicated = (
            f"{with_plan} WHERE (sources.source, sources.sha256) NOT IN ({several}) UNION ALL "
            f"{with_plan} WHERE (sources.source, sources.sha256) IN ({several}) "
            'QUALIFY row_number() OVER (PARTITION BY records.source, sources.sha256, records."offset" '
            "ORDER BY NOT sources.is_present, records.outcome <> 'accepted', sources.max_length DESC, "
            "listed.plan_number) = 1"
        )
    connection.execute(
        f"CREATE TABLE records AS SELECT {columns}, CASE "
        f"WHEN outcome = 'repeated' THEN '{State.REPEATED}' WHEN outcome <> 'accepted' THEN '{State.REFUSED}' "
        f"WHEN scores.structure_id IS NOT NULL THEN '{State.FOLDED}' "
        f"WHEN failures.structure_id IS NOT NULL THEN '{State.FAILED}' ELSE '{State.PENDING}' END AS state, superseded "
        f"FROM ({deduplicated}) AS records LEFT JOIN (SELECT structure_id FROM scores) AS scores USING (structure_id) "
        "LEFT JOIN (SELECT structure_id FROM failures) AS failures ON failures.structure_id = records.structure_id "
        'ORDER BY records.id, records.source, records."offset"'
    )
