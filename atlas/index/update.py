"""Continue a published index: add what is new to a copy of it, instead of reading every file again.

New shards and plans. Their rows are appended to `records` and `scores`, sorted, as a further sorted run; a look-up
reads one more block per run, so after MAX_RUNS the index is built from nothing. Beyond copying the file, the cost is
that of the new rows, of one pass over the structure ids that the index has, and of the small tables, which are made
again.

New runs of clustering or searches. Their tables are read and `scores` is rewritten with their columns, because these
change for all structures; `records` stays, and no file of records, scores or structures is read.

An index cannot be continued if what it has may be wrong now: an indexed shard has a new generation (repaired, retried,
outputs added), a version of a source is superseded, a source was read by several plans, plans share sequences, or a
document is gone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from foldatlas.atlas.accounting import State
from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index import clusters, novelty
from foldatlas.atlas.index.contents import Contents
from foldatlas.atlas.index.files import create_presence, list_files, parquet_reader
from foldatlas.atlas.index.lineage import lineage_of
from foldatlas.atlas.index.low_confidence import count_low_residues
from foldatlas.atlas.index.records import add_folded_records, add_titles, make_records
from foldatlas.atlas.index.state import IndexedState
from foldatlas.atlas.index.structures import (
    PATH_TYPE,
    list_retried,
    list_shards,
    make_failures,
    make_scores,
    merge_again,
)
from foldatlas.atlas.sql.text import quoted
from foldatlas.atlas.storage.scratch import LocalCopies
from foldatlas.schemas.manifest import Plan, ShardEntry

MAX_RUNS: Final = 8

_STAGE_TABLES: Final = ("cluster_members", "novelty_runs", "novelty", "sequence_novelty", "targets")


class CannotContinue(Exception):
    """The index has to be built from nothing."""


@dataclass(frozen=True)
class Increment:
    """What is new since an index was built: names of plans and shards, and whether the runs of stages changed."""

    plans: frozenset[str]
    shards: frozenset[str]
    stages: bool


def increment_since(
    state: IndexedState | None, plans: Sequence[Plan], histories: Sequence[Sequence[ShardEntry]], contents: Contents
) -> Increment | None:
    """Return what is new since the index of `state`, or None if it cannot be continued or nothing is new."""
    names = frozenset(contents.names)
    if state is None or contents.matches(state.contents) or not state.documents <= names:
        return None
    new = names - state.documents
    new_plans = {plan.name for plan in plans if f"plans/{plan.name}.json" in new}
    new_shards = set()
    for history in histories:
        are_new = {f"manifest/{entry.shard}.{entry.generation}.json" in new for entry in history}
        if are_new == {True, False} or (are_new == {True} and len(history) > 1):
            return None
        if are_new == {True}:
            new_shards.add(history[-1].shard)
    if (new_plans or new_shards) and state.runs >= MAX_RUNS:
        return None
    order = [plan.name in new_plans for plan in plans]
    sources = [source.uri for plan in plans for source in plan.sources]
    if new_plans and (order != sorted(order) or len(set(sources)) < len(sources)):
        return None  # an older plan came later, as from another machine, or a source was read again
    if not lineage_of(plans).is_trivial:
        return None
    return Increment(frozenset(new_plans), frozenset(new_shards), contents.stages != state.contents.stages)


def update_tables(
    connection: Any,
    folder: AtlasFolder,
    copies: LocalCopies,
    plans: list[Plan],
    entries: list[ShardEntry],
    run_of: Mapping[str, str],
    increment: Increment,
    version: int,
) -> int:
    """Add what is new to the tables of a copy of the index of an atlas of format `version`.

    Return the number of sorted runs that were appended.

    Raise CannotContinue if the index has to be built from nothing; the copy is then of no use.
    """
    _drop_views(connection)
    if increment.stages:
        for table in (*_STAGE_TABLES, "clusters"):
            connection.execute(f"DROP TABLE {table}")
        clusters.make_members(connection, folder, copies)
        novelty.make_novelty(connection, folder, copies)
    else:
        novelty.show_latest(connection)
    runs = 0
    changes_clusters = increment.stages
    if increment.plans or increment.shards:
        runs = 1
        _list_new(connection, copies, plans, entries, run_of, increment)
        _check_new(connection, copies)
        _add_structures(connection, folder, copies, version)
        _add_records(connection, copies, version)
        changes_clusters = changes_clusters or _is_any(connection, _CLUSTERED)
    if increment.stages:
        merge_again(connection)
    if changes_clusters:
        connection.execute("DROP TABLE IF EXISTS clusters")
        clusters.make_clusters(connection)
    connection.execute("DROP TABLE runs")
    return runs


_CLUSTERED: Final = (
    "SELECT 1 FROM new_ids SEMI JOIN cluster_members USING (structure_id) UNION ALL "
    "SELECT 1 FROM records SEMI JOIN new_sources USING (source) SEMI JOIN cluster_members USING (structure_id)"
)


def _is_any(connection: Any, sql: str) -> bool:
    return bool(connection.execute(f"SELECT EXISTS ({sql})").fetchall()[0][0])


def _drop_views(connection: Any) -> None:
    """Drop all views and macros: they are made again, by this version of the program."""
    views = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal AND NOT temporary").fetchall()
    for (name,) in views:
        connection.execute(f"DROP VIEW IF EXISTS {quoted(name)}")
    macros = connection.execute(
        "SELECT DISTINCT function_name, function_type FROM duckdb_functions() "
        "WHERE NOT internal AND function_type IN ('macro', 'table_macro') AND database_name = current_database()"
    ).fetchall()
    for name, macro_type in macros:
        connection.execute(f"DROP {'MACRO TABLE' if macro_type == 'table_macro' else 'MACRO'} {quoted(name)}")


def _list_new(
    connection: Any,
    copies: LocalCopies,
    plans: list[Plan],
    entries: list[ShardEntry],
    run_of: Mapping[str, str],
    increment: Increment,
) -> None:
    """Make the table `files` again, with all files, and the tables of files to read, with the new ones."""
    connection.execute("DROP TABLE files")
    list_files(connection, copies, plans, entries, run_of)
    create_presence(connection, plans, lineage_of(plans))
    connection.execute(
        "DELETE FROM listed WHERE CASE WHEN shard IS NULL THEN NOT list_contains(?, plan) "
        "ELSE NOT list_contains(?, shard) END",
        [sorted(increment.plans), sorted(increment.shards)],
    )
    connection.execute(
        "CREATE TEMP TABLE new_sources AS SELECT DISTINCT source FROM sources "
        "WHERE plan_number IN (SELECT plan_number FROM listed WHERE table_name = 'records')"
    )


def _check_new(connection: Any, copies: LocalCopies) -> None:
    """Raise CannotContinue if a new structure or sequence is in another shard or plan too."""
    connection.execute(
        f"CREATE TEMP TABLE new_ids AS SELECT structure_id FROM {parquet_reader(connection, copies, 'scores')} "
        f"UNION ALL SELECT structure_id FROM {parquet_reader(connection, copies, 'failures')}"
    )
    sequences = parquet_reader(connection, copies, "sequences")
    repeated = (
        "SELECT 1 FROM new_ids GROUP BY structure_id HAVING count(*) > 1 UNION ALL "
        "SELECT 1 FROM scores SEMI JOIN new_ids USING (structure_id) UNION ALL "
        "SELECT 1 FROM failures SEMI JOIN new_ids USING (structure_id) UNION ALL "
        f"SELECT 1 FROM records SEMI JOIN {sequences} AS planned USING (structure_id) UNION ALL "
        f"SELECT 1 FROM {sequences} GROUP BY structure_id HAVING count(*) > 1"
    )
    if _is_any(connection, repeated):
        raise CannotContinue


def _add_structures(connection: Any, folder: AtlasFolder, copies: LocalCopies, version: int) -> None:
    """Append the structures and failures of new shards."""
    [(number,)] = connection.execute(
        "SELECT count(*) FROM duckdb_types() WHERE NOT internal AND logical_type = 'ENUM'"
    ).fetchall()
    path_type = f"{PATH_TYPE}_{number + 1}"
    list_shards(connection, path_type)
    connection.execute(
        f"ALTER TABLE scores ALTER structure_file TYPE {path_type} USING structure_file::VARCHAR::{path_type}"
    )
    connection.execute("CREATE TEMP TABLE winners (structure_id UUID, plan_number INTEGER)")
    list_retried(connection, [])
    count_low_residues(connection, folder)
    make_scores(connection, copies, version)
    make_failures(connection, copies, "INSERT INTO failures")


def _add_records(connection: Any, copies: LocalCopies, version: int) -> None:
    """Give earlier records the state of their new structures or failures, and append the records of new plans."""
    for table, state in (("scores", State.FOLDED), ("failures", State.FAILED)):
        connection.execute(
            f"UPDATE records SET state = '{state}' WHERE state = '{State.PENDING}' AND structure_id IN "
            f"(SELECT structure_id FROM {parquet_reader(connection, copies, table)})"
        )
    make_records(connection, copies, version, append=True)
    add_folded_records(connection)
    add_titles(connection)
