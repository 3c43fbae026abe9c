"""Checks across all files: records against sequences, and the index against the Parquet files."""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import duckdb

from foldatlas.atlas.folder import INDEX, AtlasFolder
from foldatlas.atlas.index.contents import contents_of, indexed_contents
from foldatlas.atlas.index.files import (
    MEMORY_LIMIT,
    create_presence,
    list_files,
    parquet_reader,
)
from foldatlas.atlas.index.lineage import lineage_of
from foldatlas.atlas.index.published import index_of
from foldatlas.atlas.sql.interruptible import interruptible_call
from foldatlas.atlas.sql.records_by_name import has_superseded
from foldatlas.atlas.sql.text import first_line, literal, quoted
from foldatlas.atlas.storage.scratch import LocalCopies, work_folder
from foldatlas.atlas.verify.fault import RESTORE, Fault, FaultKind, Step, rebuild_index, restore_or_plan
from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.formats import IMPORTED_FORMAT, PROVENANCE, table_schema
from foldatlas.schemas.manifest import Plan, ShardEntry
from foldatlas.schemas.records import Outcome
from foldatlas.schemas.wording import counted


def check_tables(folder: AtlasFolder, plans: list[Plan], entries: list[ShardEntry], bad: set[str]) -> Iterator[Fault]:
    """Yield faults of records, sequences and the index. Checks that need a file in `bad` are left out."""
    with _connection(folder, plans, entries, bad) as (connection, copies):
        for check in (_check_sequences, _check_records):
            try:
                yield from interruptible_call(
                    connection, partial(list, check(connection, copies, plans, bad)), copies.stop
                )
            except duckdb.Error as error:
                yield Fault(
                    FaultKind.DAMAGED, "records", f"the files cannot be read together: {first_line(error)}", RESTORE
                )
        index = index_of(folder)
        if not index.exists():
            return
        rebuild = rebuild_index(folder.uri)
        try:
            connection.execute(f"ATTACH {literal(str(index.local_path()))} AS built (READ_ONLY)")
            if not indexed_contents(connection, "built").matches(contents_of(folder)):
                what = "the index was built before the newest plan, shard or complete run of a stage"
                yield Fault(FaultKind.STALE_INDEX, INDEX, what, rebuild)
            elif not bad:
                yield from interruptible_call(
                    connection,
                    partial(list, _check_index(connection, copies, rebuild, folder.header().format)),
                    copies.stop,
                )
        except DamagedAtlasError as error:
            yield Fault(FaultKind.INDEX, INDEX, str(error), rebuild)
        except duckdb.Error as error:
            yield Fault(FaultKind.INDEX, INDEX, f"it cannot be compared with the files: {first_line(error)}", rebuild)


@contextlib.contextmanager
def _connection(
    folder: AtlasFolder, plans: list[Plan], entries: list[ShardEntry], bad: set[str]
) -> Iterator[tuple[Any, LocalCopies]]:
    with (
        work_folder() as work,
        duckdb.connect(config={"temp_directory": str(work / "spill"), "memory_limit": MEMORY_LIMIT}) as connection,
    ):
        copies = LocalCopies(folder.storage, work)
        list_files(connection, copies, plans, entries, {})
        create_presence(connection, plans, lineage_of(plans))
        connection.execute("DELETE FROM listed WHERE list_contains(?, path)", [sorted(bad)])
        yield connection, copies


def _check_sequences(connection: Any, copies: LocalCopies, plans: list[Plan], bad: set[str]) -> Iterator[Fault]:
    steps = _steps(plans)
    sequences = parquet_reader(connection, copies, "sequences")
    rows = connection.execute(
        f"SELECT any_value(path), structure_id, count(*) FROM {sequences} AS sequences "
        "JOIN listed ON listed.absolute = filename GROUP BY plan, structure_id "
        "HAVING count(*) > 1 ORDER BY ALL LIMIT 10"
    ).fetchall()
    for path, identity, count in rows:
        yield Fault(FaultKind.ROWS, path, f"structure {identity} occurs {count} times in one plan", steps[path])


def _steps(plans: list[Plan]) -> dict[str, Step]:
    """Return the next step for faults of each file of records or sequences."""
    return {file.path: restore_or_plan(plan.name) for plan in plans for file in (*plan.records, *plan.sequences)}


def _check_records(connection: Any, copies: LocalCopies, plans: list[Plan], bad: set[str]) -> Iterator[Fault]:
    steps = _steps(plans)
    records = parquet_reader(connection, copies, "records")
    known = ", ".join(literal(outcome) for outcome in Outcome)
    checks = {
        f"outcome NOT IN ({known})": "an unknown outcome",
        "(outcome IN ('accepted', 'repeated')) <> (structure_id IS NOT NULL)": (
            "an outcome that contradicts its structure_id"
        ),
        "(records.plan_number, source) NOT IN (SELECT plan_number, source FROM sources)": "no source of the plan",
    }
    if not any(file.path in bad for plan in plans for file in plan.sequences):
        sequences = parquet_reader(connection, copies, "sequences")
        checks[f"outcome = 'accepted' AND structure_id NOT IN (SELECT structure_id FROM {sequences})"] = (
            "an accepted sequence that no plan has"
        )
    joined = f"(SELECT * FROM {records} AS records JOIN listed ON listed.absolute = filename) AS records"
    for condition, what in checks.items():
        rows = connection.execute(
            f'SELECT path, count(*), min_by(id, "offset") FROM {joined} WHERE {condition} GROUP BY path ORDER BY path'
        ).fetchall()
        for path, count, first in rows:
            yield Fault(FaultKind.RECORDS, path, f"{what}: {counted(count, 'record')}, first {first!r}", steps[path])
    rows = connection.execute(
        f'SELECT any_value(path), source, "offset", count(*) FROM {joined} GROUP BY plan, source, "offset" '
        "HAVING count(*) > 1 ORDER BY ALL LIMIT 10"
    ).fetchall()
    for path, source, offset, count in rows:
        yield Fault(
            FaultKind.RECORDS, path, f"offset {offset} of {source} occurs {count} times in one plan", steps[path]
        )
    outcomes: dict[str, dict[str, int]] = {plan.name: {} for plan in plans}
    rows = connection.execute(f"SELECT plan, outcome, count(*) FROM {joined} GROUP BY ALL").fetchall()
    for plan_name, outcome, count in rows:
        outcomes[plan_name][outcome] = count
    for plan in plans:
        stated = {outcome: count for outcome, count in plan.outcomes.items() if count}
        if outcomes[plan.name] != stated and not any(file.path in bad for file in plan.records):
            what = f"its records have the outcomes {outcomes[plan.name]}, the plan states {stated}"
            yield Fault(FaultKind.RECORDS, f"plans/{plan.name}.json", what, RESTORE)


def _check_index(connection: Any, copies: LocalCopies, rebuild: Step, version: int) -> Iterator[Fault]:
    """Compare the index, attached as `built`, with the files in both directions.

    Rows that are in several files may come from any of them.
    """
    records, scores, failures = (
        parquet_reader(connection, copies, table, version) for table in ("records", "scores", "failures")
    )
    record_columns, score_columns = (
        ", ".join(map(quoted, table_schema(table, version).names)) for table in ("records", "scores")
    )
    differences = {
        "files that plans and manifest do not list": (
            "SELECT table_name, path, num_rows, bytes, sha256 FROM built.files EXCEPT "
            "SELECT table_name, path, num_rows, bytes, sha256 FROM files"
        ),
        "no row for listed files": "SELECT path, sha256 FROM files EXCEPT SELECT path, sha256 FROM built.files",
        "scores that no file has": (
            f"SELECT {score_columns} FROM built.scores EXCEPT SELECT {score_columns} FROM {scores}"
        ),
        "no row for structures": f"SELECT structure_id FROM {scores} EXCEPT SELECT structure_id FROM built.scores",
        "structures more than once": "SELECT structure_id FROM built.scores GROUP BY ALL HAVING count(*) > 1",
        "records that no file has": (
            f"SELECT {record_columns} FROM built.records EXCEPT SELECT {record_columns} FROM {records}"
        ),
        "no row for records": (
            f'SELECT source, "offset", id FROM {records} EXCEPT SELECT source, "offset", id FROM built.records'
        ),
        "records with a wrong state": (
            "SELECT id FROM built.records WHERE state <> CASE WHEN outcome = 'repeated' THEN 'repeated' "
            "WHEN outcome <> 'accepted' THEN 'refused' "
            f"WHEN structure_id IN (SELECT structure_id FROM {scores}) THEN 'folded' "
            f"WHEN structure_id IN (SELECT structure_id FROM {failures}) THEN 'failed' ELSE 'pending' END"
        ),
    }
    if version >= IMPORTED_FORMAT:
        provenance = parquet_reader(connection, copies, PROVENANCE, version)
        differences |= {
            "provenance that no file has": (
                f"FROM built.provenance EXCEPT SELECT * EXCLUDE (filename) FROM {provenance}"
            ),
            "no provenance for structures": "SELECT structure_id FROM built.scores EXCEPT SELECT structure_id "
            "FROM built.provenance",
        }
    keyed = 'records.source, records."offset", records.id, records.length'
    if has_superseded(connection, "built"):
        present = (
            f"SELECT DISTINCT {keyed} FROM {records} AS records JOIN listed ON listed.absolute = filename JOIN sources "
            "ON sources.plan_number = listed.plan_number AND sources.source = records.source WHERE sources.is_present"
        )
        differences["superseded records that are present"] = (
            f"({present}) EXCEPT SELECT {keyed} FROM built.records AS records WHERE NOT superseded"
        )
        differences["present records that are superseded"] = (
            f"SELECT {keyed} FROM built.records AS records WHERE NOT superseded EXCEPT ({present})"
        )
    for what, sql in differences.items():
        [(count,)] = connection.execute(f"SELECT count(*) FROM ({sql})").fetchall()
        if count:
            yield Fault(FaultKind.INDEX, INDEX, f"the index has {what}: {count:,}", rebuild)
    distinct_records = (
        f'SELECT DISTINCT records.source, sources.sha256, "offset" FROM {records} AS records '
        "JOIN listed ON listed.absolute = filename "
        "JOIN sources ON sources.plan_number = listed.plan_number AND sources.source = records.source"
    )
    [(held, distinct)] = connection.execute(
        f"SELECT (SELECT count(*) FROM built.records), (SELECT count(*) FROM ({distinct_records}))"
    ).fetchall()
    if held != distinct:
        what = f"the index has {counted(held, 'record')}, the sources {distinct:,}"
        yield Fault(FaultKind.INDEX, INDEX, what, rebuild)
