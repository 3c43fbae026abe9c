"""Results of searches in the index: the runs, their rows, and for each structure the row of the latest run.

    novelty_runs       one row per complete search run: reference, version, settings; whether it is the latest or the
                       previous one of its kind (structures or sequences)
    novelty            one row per run and structure, of searches of structures, without alignment and transform, which
                       are in the Parquet files
    sequence_novelty   the same, of searches of sequences
    targets            the best hits, without coordinates

The latest run of each kind fills columns of `scores`. A row that is inherited from a cluster's representative
has only the values that are valid for all members, and is used as long as the structure is in that cluster.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.ranges import IdRange
from foldatlas.atlas.novelty.search_run import TARGETS_TABLE, SearchRun, search_runs
from foldatlas.atlas.sql.text import escape_glob, literal, quoted
from foldatlas.atlas.stages.runs import Completed
from foldatlas.atlas.storage.scratch import LocalCopies
from foldatlas.schemas.novelty_tables import HITS, MEMBERS, NOT_SEARCHED, TARGETS

INDEX_TABLES: Final = {"structures": "novelty", "sequences": "sequence_novelty"}
NOT_INDEXED: Final = ("rotation", "translation", "alignment")
INHERITED: Final = ("state", "reason", "target", "tm_query", "tm_target", "identity_max")

# Columns of `scores` -> what fills them from the rows of the latest runs.
COLUMNS: Final = {
    "tm_query": "shown_structures.tm_query",
    "tm_target": "shown_structures.tm_target",
    "nearest_structure": "shown_structures.target",
    "novelty_source": f"CASE WHEN shown_structures.state <> '{NOT_SEARCHED}' THEN shown_structures.novelty_source END",
    "identity_max": "shown_sequences.identity_max",
    "nearest_sequence": "shown_sequences.target",
}
_NOVELTY_RUNS: Final = pa.schema(
    [
        *((name, pa.string()) for name in ("run", "search", "completed", "reference", "digest", "recipe", "base")),
        ("version", pa.int32()),
        ("entries", pa.int64()),
        ("demo", pa.bool_()),
        ("licences", pa.list_(pa.string())),
        ("versions", pa.list_(pa.int32())),
        ("is_latest", pa.bool_()),
        ("is_previous", pa.bool_()),
    ]
)


def join_shown(ids: IdRange) -> str:
    """Return the joins of `scores` with the rows that fill COLUMNS."""
    return " ".join(
        f"LEFT JOIN {ids.of(table)} ON {table}.structure_id = scores.structure_id"
        for table in ("shown_structures", "shown_sequences")
    )


def make_novelty(connection: Any, folder: AtlasFolder, copies: LocalCopies) -> None:
    """Make the tables, and the temporary `shown_structures` and `shown_sequences`: rows of the latest runs."""
    found = search_runs(folder)
    _make_runs(connection, found)
    for search, table in INDEX_TABLES.items():
        runs = [run for run, _ in found if run.settings.search == search]
        _make_rows(connection, copies, runs, search, table)
    show_latest(connection)
    _make_targets(connection, copies, found)


def _make_runs(connection: Any, found: list[tuple[SearchRun, Completed]]) -> None:
    """Make `novelty_runs`. The previous run of a kind is the one whose rows the latest took over, or that was completed
    before it."""
    latest: set[str] = set()
    previous: set[str] = set()
    for search in INDEX_TABLES:
        runs = [run.run for run, _ in found if run.settings.search == search]
        latest |= {run.name for run in runs[-1:]}
        names = [run.name for run in runs[:-1]]
        if runs:
            previous |= {runs[-1].document.base} if runs[-1].document.base in names else set(names[-1:])
    rows = [
        {
            "run": run.run.name,
            "search": run.settings.search,
            "completed": done.mark.completed,
            "reference": run.notes.reference,
            "digest": run.settings.digest,
            "recipe": msgspec.json.encode(run.settings.recipe, order="deterministic").decode(),
            "base": run.run.document.base or None,
            "version": run.settings.version,
            "entries": run.notes.entries,
            "demo": run.notes.demo,
            "licences": run.notes.licences,
            "versions": [one.version for one in run.notes.versions],
            "is_latest": run.run.name in latest,
            "is_previous": run.run.name in previous,
        }
        for run, done in found
    ]
    connection.register("given", pa.Table.from_pylist(rows, schema=_NOVELTY_RUNS))
    connection.execute(
        "CREATE TABLE novelty_runs AS SELECT * REPLACE "
        "(completed::TIMESTAMPTZ AT TIME ZONE 'UTC' AS completed) FROM given ORDER BY completed, run"
    )
    connection.unregister("given")


def _make_rows(connection: Any, copies: LocalCopies, runs: list[SearchRun], search: str, table: str) -> None:
    """Make `table`, sorted by structure_id. Where files of a run overlap, as in merged atlases, the first counts."""
    columns = [name for name in HITS[search].names if name not in NOT_INDEXED]
    hits = _reader(connection, copies, f"{search}_hits", [(run, run.hit_files()) for run in runs], HITS[search])
    members = _reader(connection, copies, f"{search}_members", [(run, run.member_files()) for run in runs], MEMBERS)
    connection.execute(
        f"CREATE TEMP TABLE own AS SELECT listed.run, {', '.join(f'hits.{quoted(name)}' for name in columns)} "
        f"FROM {hits} AS hits JOIN {search}_hits_listed AS listed ON listed.absolute = hits.filename "
        "QUALIFY row_number() OVER (PARTITION BY listed.run, hits.structure_id ORDER BY listed.number) = 1"
    )
    inherited = ", ".join(
        f"own.{quoted(name)}" if name in INHERITED else f"NULL AS {quoted(name)}" for name in columns[1:]
    )
    connection.execute(
        f"CREATE TABLE {table} AS SELECT *, structure_id AS novelty_source FROM own UNION ALL "
        f"SELECT listed.run, members.structure_id, {inherited}, members.novelty_source FROM {members} AS members "
        f"JOIN {search}_members_listed AS listed ON listed.absolute = members.filename "
        "JOIN own ON own.run = listed.run AND own.structure_id = members.novelty_source "
        "WHERE (listed.run, members.structure_id) NOT IN (SELECT run, structure_id FROM own) "
        "QUALIFY row_number() OVER (PARTITION BY listed.run, members.structure_id ORDER BY listed.number) = 1 "
        "ORDER BY structure_id, run"
    )
    connection.execute("DROP TABLE own")


def show_latest(connection: Any) -> None:
    """Make the temporary tables `shown_structures` and `shown_sequences`, the rows of the latest runs that are used: an
    inherited one as long as its structure is in that cluster."""
    for search, table in INDEX_TABLES.items():
        connection.execute(
            f"CREATE TEMP TABLE shown_{search} AS SELECT {table}.* FROM {table} JOIN novelty_runs USING (run) "
            "LEFT JOIN cluster_members USING (structure_id) WHERE novelty_runs.is_latest "
            "AND (novelty_source = structure_id OR novelty_source = cluster_members.cluster90)"
        )


def _reader(
    connection: Any, copies: LocalCopies, name: str, files: Sequence[tuple[SearchRun, list[str]]], schema: pa.Schema
) -> str:
    """Make the temporary table `<name>_listed` (run, absolute, number) and return SQL that reads the files once."""
    names = sorted({path for _, paths in files for path in paths})
    local = dict(zip(names, copies.have(names), strict=True))
    rows = [
        {"run": run.run.name, "absolute": str(local[path]), "number": number}
        for run, paths in files
        for number, path in enumerate(paths)
    ]
    kinds = pa.schema([("run", pa.string()), ("absolute", pa.string()), ("number", pa.int32())])
    connection.register("given", pa.Table.from_pylist(rows, schema=kinds))
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {name}_listed AS FROM given")
    connection.unregister("given")
    if not local:
        connection.register(f"no_{name}", schema.empty_table())
        return f"(SELECT *, '' AS filename FROM no_{name})"
    connection.execute(f"SET VARIABLE {name} = ?", [[escape_glob(path) for path in local.values()]])
    return f"read_parquet(getvariable({literal(name)}), filename = true)"


def _make_targets(connection: Any, copies: LocalCopies, found: list[tuple[SearchRun, Completed]]) -> None:
    files = [(run, [file.path for file in done.mark.files.get(TARGETS_TABLE, ())]) for run, done in found]
    targets = _reader(connection, copies, "all_targets", files, TARGETS)
    connection.execute(
        "CREATE TABLE targets AS SELECT DISTINCT ON (novelty_runs.search, novelty_runs.digest, targets.name) "
        "targets.name, targets.title, targets.length, targets.sequence, targets.licence, targets.version, "
        f"novelty_runs.search, novelty_runs.reference, novelty_runs.run FROM {targets} AS targets "
        "JOIN all_targets_listed AS listed ON listed.absolute = targets.filename "
        "JOIN novelty_runs USING (run) ORDER BY targets.name, novelty_runs.run"
    )
