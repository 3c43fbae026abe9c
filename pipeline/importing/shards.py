"""One shard of an import: rows of staged chunks -> structures, scores, provenance, PAE and a manifest entry."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from foldatlas.atlas.folder import AtlasFolder, now
from foldatlas.atlas.parquet.coordinates import structure_ids_of
from foldatlas.atlas.parquet.files import ParquetFile, open_parquet
from foldatlas.atlas.parquet.stored_pae import in_row_groups
from foldatlas.atlas.storage.commit import attempt_name
from foldatlas.atlas.storage.opening import open_storage
from foldatlas.pipeline import events, progress
from foldatlas.pipeline.interruption import raise_if_stopping
from foldatlas.pipeline.shard_work import shard_work
from foldatlas.schemas.formats import (
    IMPORTED,
    IMPORTED_FORMAT,
    IMPORTED_SETTINGS,
    PROVENANCE,
    needed_tables,
    table_schema,
)
from foldatlas.schemas.manifest import FileEntry, Run, Shard, ShardEntry, settings_digest
from foldatlas.schemas.tables import FORMAT_VERSION, STRUCTURES_PER_ROW_GROUP
from foldatlas.schemas.version import program_version

LOST: Final = "lost: its file was changed or removed, and the atlas does not have its structure"
STAGE: Final = "import"
_PLACE: Final = ("source", "staging", "files", "structures", "pae")
_Row = dict[str, Any]
_Part = tuple[pa.Table, list[_Row]]  # structures, and the rows of their files


@dataclass(frozen=True)
class ShardOptions:
    """What all shards of a run share: the atlas, the id of the run, its host, and where events go."""

    atlas: str
    run_id: str
    host: str
    log: events.Log | None = None


class ShardTask(NamedTuple):
    """One shard: its plan, the file of its sequences, and where its rows are (a table of STAGED_ROWS)."""

    options: ShardOptions
    plan: str
    sequences: str
    shard: Shard
    staging: str
    rows: str


def import_shard(task: ShardTask) -> None:
    """Write and commit a shard, unless that was done. Raise Interrupted when the run is to stop."""
    with shard_work(task.options.log, f"shard {task.shard.name}", shard=task.shard.name, plan=task.plan):
        _write_and_commit(task)


def _write_and_commit(task: ShardTask) -> None:
    raise_if_stopping()
    folder = AtlasFolder(task.options.atlas)
    digest = settings_digest(IMPORTED_SETTINGS)
    if folder.committed_entry(task.shard, digest) is not None:
        events.emit("shard_skipped", shard=task.shard.name, plan=task.plan)
        return
    started, clock = now(), time.monotonic()
    attempt = attempt_name()
    files, residues, failed = _write(folder, task, attempt, digest)
    entry = ShardEntry(
        format=FORMAT_VERSION,
        shard=task.shard.name,
        plan=task.plan,
        generation=0,
        attempt=attempt,
        settings_digest=digest,
        shard_digest=task.shard.digest,
        folded=task.shard.proteins - failed,
        failed=failed,
        residues=residues,
        cost=task.shard.cost,
        files=files,
        run=Run(
            run_id=task.options.run_id,
            host=task.options.host,
            device="cpu",
            version=program_version(),
            started=started,
            seconds=round(time.monotonic() - clock, 3),
        ),
    )
    if folder.commit_entry(entry):
        progress.report(progress.ShardDone(entry.folded, failed))
        progress.report(progress.BatchDone(task.shard.proteins, task.shard.proteins))
        events.emit(
            "shard_committed",
            shard=entry.shard,
            plan=entry.plan,
            generation=0,
            folded=entry.folded,
            failed=failed,
            residues=residues,
            seconds=entry.run.seconds,
            bytes=sum(file.bytes for file in files.values()),
        )
    else:
        folder.discard(files)
        events.emit("shard_lost", shard=task.shard.name, plan=task.plan, generation=0)


def _write(folder: AtlasFolder, task: ShardTask, attempt: str, digest: str) -> tuple[dict[str, FileEntry], int, int]:
    """Write the files of a shard. Return them, and the numbers of residues and of lost structures."""
    with open_parquet(open_storage(task.staging), task.rows) as file:
        places: list[_Row] = file.read().to_pylist()
    identities = structure_ids_of(folder.read_table(task.sequences, ["structure_id"], task.shard.row_group))
    lost = [identity for identity, place in zip(identities, places, strict=True) if place["row"] is None]
    metadata = {"model": IMPORTED, "settings_digest": digest, "shard": task.shard.name}
    writers = {
        table: ParquetFile(
            folder.storage,
            folder.shard_file(table, task.shard.name, attempt),
            table,
            metadata=metadata,
            format=IMPORTED_FORMAT,
        )
        for table in (*needed_tables(IMPORTED_FORMAT), "pae")
    }
    pae = writers.pop("pae")
    with_pae: list[_Row] = []
    residues = 0
    try:
        with contextlib.ExitStack() as stack:
            for writer in writers.values():
                stack.enter_context(writer)
            for structures, rows in _row_groups(_staged([place for place in places if place["row"] is not None])):
                raise_if_stopping()
                first = writers["structures"].rows
                writers["structures"].write(structures)
                writers["scores"].write(_scores(rows, first))
                writers[PROVENANCE].write(_selected(rows, PROVENANCE))
                residues += sum(row["length"] for row in rows)
                with_pae += [row for row in rows if row["pae_row"] is not None]
            writers["failures"].write(_failures(lost))
            if with_pae:  # otherwise the shard has no such file
                writers["pae"] = stack.enter_context(pae)
                for matrices in in_row_groups(_matrices(with_pae)):
                    pae.write(matrices)
    except BaseException:
        folder.discard({table: writer.entry for table, writer in writers.items() if writer.entry is not None})
        raise
    return {table: writer.entry for table, writer in writers.items() if writer.entry is not None}, residues, len(lost)


def _staged(places: list[_Row]) -> Iterator[_Part]:
    """Yield structures, with the rows of their files, in the order of `places`, each time from one row group."""
    for place, some in groupby(places, key=lambda one: [one[name] for name in _PLACE]):
        source, staging, files, structures, pae = place
        storage = open_storage(staging)
        with open_parquet(storage, files) as file:
            table = file.read().to_pylist()
        known = {"source": source, "staging": staging, "pae": pae}
        rows = {row["row"]: {**row, **known} for row in table if row["row"] is not None}
        with open_parquet(storage, structures) as file:
            numbers = [place["row"] for place in some]
            for group, members in groupby(numbers, key=lambda row: row // STRUCTURES_PER_ROW_GROUP):
                wanted = list(members)
                inside = pa.array(np.array(wanted) - group * STRUCTURES_PER_ROW_GROUP)
                yield file.read_row_group(group).take(inside), [rows[number] for number in wanted]


def _matrices(rows: list[_Row]) -> Iterator[pa.Table]:
    """Yield the PAE of each of `rows`."""
    for (staging, name), some in groupby(rows, key=lambda row: (row["staging"], row["pae"])):
        with open_parquet(open_storage(staging), name) as file:
            begins = np.cumsum([0, *(file.metadata.row_group(n).num_rows for n in range(file.num_row_groups))])
            read, group = -1, pa.table({})
            for row in some:
                number = int(np.searchsorted(begins, row["pae_row"], side="right")) - 1
                if number != read:
                    read, group = number, file.read_row_group(number)
                yield group.slice(row["pae_row"] - int(begins[number]), 1)


def _row_groups(parts: Iterator[_Part]) -> Iterator[_Part]:
    """Yield the same rows in row groups of STRUCTURES_PER_ROW_GROUP; the last may have fewer."""
    tables: list[pa.Table] = []
    rows: list[_Row] = []
    for table, some in parts:
        tables.append(table)
        rows += some
        while len(rows) >= STRUCTURES_PER_ROW_GROUP:
            whole = pa.concat_tables(tables)
            yield whole.slice(0, STRUCTURES_PER_ROW_GROUP), rows[:STRUCTURES_PER_ROW_GROUP]
            tables, rows = [whole.slice(STRUCTURES_PER_ROW_GROUP)], rows[STRUCTURES_PER_ROW_GROUP:]
    if rows:
        yield pa.concat_tables(tables), rows


def _scores(rows: list[_Row], first: int) -> pa.Table:
    numbered = [{**row, "structure_row": first + number} for number, row in enumerate(rows)]
    return _selected(numbered, "scores")


def _selected(rows: list[_Row], table: str) -> pa.Table:
    """Return the columns of a table, from rows of staged files."""
    schema = table_schema(table, IMPORTED_FORMAT)
    return pa.Table.from_pylist(
        [{name: _value(row[name]) for name in schema.names} for row in rows],
        schema=schema,
    )


def _value(value: Any) -> Any:
    return value.bytes if hasattr(value, "bytes") else value  # a UUID


def _failures(lost: list[bytes]) -> pa.Table:
    schema = table_schema("failures", IMPORTED_FORMAT)
    return pa.Table.from_pylist(
        [{"structure_id": one, "stage": STAGE, "error": LOST, "attempts": 1} for one in lost], schema=schema
    )
