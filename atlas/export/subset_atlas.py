"""A Parquet export is itself an atlas: the tables, the plan and the manifest of a subset.

    proteins-00000.parquet    the selected rows of `proteins` with sequences and coordinates, for other programs
    atlas.json, plans/, records/, sequences/, structures/, scores/, failures/, manifest/, atlas.duckdb    the atlas

Records keep their source and offset, structures the run that folded them. Each source is recorded as another version
of the file (`digest_of_subset`), so that folding the whole file into the subset reads it again and loses nothing.
Embeddings are not copied, nor aligned errors of folded structures; those of imported ones are.
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from foldatlas.atlas.export.journal import Chunk, SubsetAtlas, SubsetShard, WrittenFile
from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.parquet.coordinates import structure_ids_of
from foldatlas.atlas.parquet.files import ParquetFile
from foldatlas.atlas.parquet.stored_pae import PaeReader, in_row_groups
from foldatlas.atlas.storage.protocol import Storage
from foldatlas.schemas.formats import IMPORTED_FORMAT, PROVENANCE, table_schema
from foldatlas.schemas.manifest import (
    FileEntry,
    Plan,
    Run,
    Shard,
    ShardEntry,
    Source,
    plan_name,
    settings_digest,
    shard_digest,
    shard_name,
)
from foldatlas.schemas.records import Settings
from foldatlas.schemas.tables import (
    FAILURES,
    FORMAT_VERSION,
    RECORDS,
    SCORES,
    SEQUENCES,
    STRUCTURES,
    STRUCTURES_PER_ROW_GROUP,
)

# Columns of `located`, beside those of `proteins`: the record's own offset and length, and whether the atlas has it.
_OFFSET: Final = "record_offset"
_LENGTH: Final = "record_length"
_IN_ATLAS: Final = "in_atlas"
_PROVENANCE: Final = "structure_provenance"
_STORED: Final = [name for name in STRUCTURES.names if name != "structure_id"]


class Rates(msgspec.Struct, frozen=True):
    """Predicted cost (MFLOP) and seconds of folding per residue of a structures file, and the run by run_id.

    `format` is that of the atlas.
    """

    cost: dict[str, float]
    seconds: dict[str, float]
    runs: dict[str, Run]
    format: int = FORMAT_VERSION


def rates_of(folder: AtlasFolder) -> Rates:
    """Return what folding cost in each shard of an atlas, by its structures file."""
    rates = Rates({}, {}, {}, folder.header().format)
    for history in folder.histories().values():
        entry = history[-1]
        folded = max(1, sum(one.residues for one in history))
        path = entry.files["structures"].path
        rates.cost[path] = entry.cost / folded
        rates.seconds[path] = sum(one.run.seconds for one in history) / folded
        for one in history:
            rates.runs.setdefault(one.run.run_id, one.run)
    return rates


def located_sql(version: int) -> str:
    """Return SQL for the rows of `chosen`, of an atlas of format `version`, with the place of their record.

    In format 2 with the file of their record, and the provenance of their structure as a struct.

    Two current versions of a source may have different records at one offset; the atlas, where the subset of a source
    is one version, takes the one with the least structure_id.
    """
    of_file = "".join(f', arg_min({name}, "offset") AS {column}' for name, column in _file_columns(version).items())
    places = (
        f'SELECT source, id, structure_id, min("offset") AS {_OFFSET}, any_value(length) AS {_LENGTH}{of_file} '
        "FROM records "
        "WHERE state = 'folded' AND NOT superseded GROUP BY ALL"
    )
    first = f"row_number() OVER (PARTITION BY source, places.{_OFFSET} ORDER BY chosen.structure_id) = 1"
    columns = ["chosen.*", f"places.{_OFFSET}", f"places.{_LENGTH}", f"{first} AS {_IN_ATLAS}"]
    columns += [f"places.{name}" for name in _file_columns(version).values()]
    joined = f"chosen JOIN ({places}) AS places USING (source, id, structure_id)"
    if version >= IMPORTED_FORMAT:
        columns.append(f"provenance AS {_PROVENANCE}")
        joined += " JOIN provenance ON provenance.structure_id = chosen.structure_id"
    return f"SELECT {', '.join(columns)} FROM {joined}"


def _file_columns(version: int) -> dict[str, str]:
    """Return the columns of `records` about a record's file, with their names in `located`."""
    return {name: f"record_{name}" for name in table_schema("records", version).names if name not in RECORDS.names}


def not_in_atlas(cursor: Any) -> int:
    """Return the number of rows of `located` that are in proteins-*.parquet alone."""
    [(number,)] = cursor.execute(f"SELECT count(*) FROM located WHERE NOT {_IN_ATLAS}").fetchall()
    return int(number)


def wide_schema(
    columns: Iterable[tuple[str, Mapping[str, str]]], table: pa.Schema, version: int = FORMAT_VERSION
) -> pa.Schema:
    """Return the schema of proteins-*.parquet: `columns` with their metadata and types of `table`, then the stored."""
    fields = [table.field(name).with_metadata(dict(metadata)) for name, metadata in columns]
    metadata = {"foldatlas.table": "proteins", "foldatlas.format": str(version)}
    return pa.schema(fields + [STRUCTURES.field(name) for name in _STORED], metadata=metadata)


def write_atlas_chunk(
    target: Storage,
    number: int,
    table: pa.Table,
    stored: Iterator[tuple[pa.Table, pa.Table, pa.Array]],
    *,
    pae: PaeReader,
    columns: Mapping[str, Mapping[str, str]],
    model: str,
    prefix: str,
    rates: Rates,
    rows_per_group: int,
) -> Chunk:
    """Write a chunk's proteins-*.parquet and the files of its shards.

    `table` are rows of `located`, `stored` its parts with their structures, `pae` the aligned errors that are copied,
    `columns` the metadata of the columns of `proteins`. `prefix` begins the names of files in tables, so that files of
    two exports can be merged.
    """
    version = rates.format
    schema = wide_schema(columns.items(), table.schema, version)
    structures: list[pa.Table] = []
    waiting: list[pa.Table] = []
    with ParquetFile(
        target, f"proteins-{number:05d}.parquet", "structures", metadata={"model": model}, schema=schema
    ) as file:
        for rows, group, which in stored:
            wide = rows.select(list(columns))
            repeated = group.take(which)
            for name in _STORED:
                wide = wide.append_column(name, repeated.column(name))
            waiting.append(wide)
            if sum(part.num_rows for part in waiting) >= rows_per_group:
                file.write(pa.concat_tables(waiting).combine_chunks())
                waiting.clear()
            is_kept = pc.is_in(group.column("structure_id").cast(pa.binary(16)), _kept_ids(rows))
            structures.append(group.filter(is_kept))
        if waiting:
            file.write(pa.concat_tables(waiting).combine_chunks())
    assert file.entry is not None
    wide_file = WrittenFile(file.entry.path, file.entry.bytes, file.entry.sha256)
    atlas = _write_tables(
        target, f"{prefix}-{number:05d}", table.filter(table.column(_IN_ATLAS)), pa.concat_tables(structures),
        model=model, rates=rates, pae=pae,
    )  # fmt: skip
    return Chunk(table.num_rows, files=[wide_file], atlas=atlas)


def _kept_ids(rows: pa.Table) -> pa.Array:
    kept: Any = rows.filter(rows.column(_IN_ATLAS)).column("structure_id").combine_chunks()
    return kept.storage


def _write_tables(
    target: Storage, name: str, records: pa.Table, structures: pa.Table, *, model: str, rates: Rates, pae: PaeReader
) -> SubsetAtlas | None:
    """Write the records, and the structures in a shard for each run. `structures` are distinct."""
    if not records.num_rows:
        return None
    version = rates.format
    with ParquetFile(
        target, f"records/{name}.parquet", "records", metadata={"model": model}, format=version
    ) as record_file:
        record_file.write(_records(records, version))
    identities = structure_ids_of(structures)
    first_row: dict[bytes, int] = {}
    for row, identity in enumerate(structure_ids_of(records)):
        first_row.setdefault(identity, row)
    scores = records.take(pa.array([first_row[identity] for identity in identities], pa.int64()))
    runs = scores.column("run_id").to_pylist()
    shards: list[SubsetShard] = []
    with ParquetFile(target, f"sequences/{name}.parquet", "sequences", format=version) as sequence_file:
        for number, run in enumerate(dict.fromkeys(runs)):
            rows = pa.array([row for row, own in enumerate(runs) if own == run], pa.int64())
            shard_scores, shard_structures = scores.take(rows), structures.take(rows)
            lengths = shard_scores.column("length").to_numpy()
            sequence_file.write(
                pa.table(
                    [shard_structures.column("structure_id"), shard_structures.column("sequence"),
                     pa.array(lengths, pa.int32())], schema=SEQUENCES,
                )
            )  # fmt: skip
            origin = shard_scores.column("structure_file").to_pylist()
            files = _write_shard(target, f"{name}-{number}", shard_scores, shard_structures, model, version)
            places = zip(origin, structure_ids_of(shard_structures), strict=True)
            files |= _write_pae(target, f"{name}-{number}", places, pae, model, version)
            shards.append(
                SubsetShard(
                    run_id=run,
                    proteins=len(lengths),
                    residues=int(lengths.sum()),
                    min_length=int(lengths.min()),
                    max_length=int(lengths.max()),
                    cost=round(float(np.dot(lengths, [rates.cost[path] for path in origin]))),
                    seconds=float(np.dot(lengths, [rates.seconds[path] for path in origin])),
                    digest=shard_digest(structure_ids_of(shard_structures)),
                    row_group=number,
                    files=files,
                )
            )
    sources = dict(
        zip(*(column.to_pylist() for column in pc.value_counts(records.column("source")).flatten()), strict=True)
    )
    assert record_file.entry is not None and sequence_file.entry is not None
    return SubsetAtlas(record_file.entry, sequence_file.entry, shards, sources)


def _records(rows: pa.Table, version: int) -> pa.Table:
    """Return rows of the table `records` of format `version`, each record once."""
    named = {"offset": _OFFSET, "length": _LENGTH, **_file_columns(version)}
    schema = table_schema("records", version)
    columns = [
        pa.array(["accepted"] * rows.num_rows) if name == "outcome" else rows.column(named.get(name, name))
        for name in schema.names
    ]
    return pa.table(columns, names=schema.names).cast(schema)


def _write_shard(
    target: Storage, name: str, scores: pa.Table, structures: pa.Table, model: str, version: int
) -> dict[str, FileEntry]:
    row = pa.array(range(scores.num_rows), pa.int32())
    columns = [row if column == "structure_row" else scores.column(column) for column in SCORES.names]
    contents = {
        "structures": structures,
        "scores": pa.table(columns, names=SCORES.names).cast(table_schema("scores", version)),
        "failures": FAILURES.empty_table(),
    }
    if version >= IMPORTED_FORMAT:
        contents[PROVENANCE] = _provenance(scores.column(_PROVENANCE), table_schema(PROVENANCE, version))
    files = {}
    for table in contents:
        path = f"{table}/{name}.parquet"
        with ParquetFile(target, path, table, metadata={"model": model}, format=version) as file:
            file.write(contents[table], STRUCTURES_PER_ROW_GROUP if table == "structures" else None)
        assert file.entry is not None
        files[table] = file.entry
    return files


def _write_pae(
    target: Storage, name: str, places: Iterable[tuple[str, bytes]], pae: PaeReader, model: str, version: int
) -> dict[str, FileEntry]:
    """Write the aligned errors of structures, by structures file and id. Return no file if none has them."""
    rows = (row for row in itertools.starmap(pae.row, places) if row is not None)
    groups = in_row_groups(rows)
    first = next(groups, None)
    if first is None:
        return {}
    with ParquetFile(target, f"pae/{name}.parquet", "pae", metadata={"model": model}, format=version) as file:
        for group in itertools.chain([first], groups):
            file.write(group)
    assert file.entry is not None
    return {"pae": file.entry}


def _provenance(column: "pa.ChunkedArray[Any]", schema: pa.Schema) -> pa.Table:
    """Return the rows of a column of structs as a table."""
    structs: Any = column.combine_chunks()
    return pa.Table.from_arrays([structs.field(name) for name in schema.names], names=schema.names).cast(schema)


def digest_of_subset(digest: str, uri: str) -> str:
    """Return the sha256 under which a subset of a source is recorded: no file has it."""
    return hashlib.sha256(f"subset {digest} of {uri}".encode()).hexdigest()


def commit_atlas(
    target: Storage,
    chunks: Iterable[SubsetAtlas],
    *,
    settings: Settings,
    created: str,
    digest: str,
    max_length: int,
    runs: Mapping[str, Run],
) -> AtlasFolder:
    """Write header, plan and manifest of the exported atlas and return it; its index is to be built."""
    folder = AtlasFolder(target)
    folder.create(settings)
    parts = list(chunks)
    counts: dict[str, int] = {}
    for part in parts:
        for uri, number in part.sources.items():
            counts[uri] = counts.get(uri, 0) + number
    sources = tuple(
        Source(uri, 0, 0, digest_of_subset(digest, uri), number, supersedes=())
        for uri, number in sorted(counts.items())
    )
    written = [(file, shard) for file, part in enumerate(parts) for shard in part.shards]

    def shards(plan: str) -> tuple[Shard, ...]:
        return tuple(
            Shard(
                name=shard_name(plan, number) if plan else "",
                file=file,
                row_group=one.row_group,
                proteins=one.proteins,
                residues=one.residues,
                min_length=one.min_length,
                max_length=one.max_length,
                cost=one.cost,
                digest=one.digest,
            )
            for number, (file, one) in enumerate(written)
        )

    name = plan_name(sources, max_length, shards(""))
    plan = Plan(
        format=FORMAT_VERSION,
        name=name,
        created=created,
        max_length=max_length,
        sources=sources,
        outcomes={"accepted": sum(counts.values())} if counts else {},
        proteins=sum(one.proteins for _, one in written),
        residues=sum(one.residues for _, one in written),
        cost=sum(one.cost for _, one in written),
        records=tuple(part.records for part in parts),
        sequences=tuple(part.sequences for part in parts),
        shards=shards(name),
    )
    folder.commit_plan(plan)
    for shard, (_, one) in zip(plan.shards, written, strict=True):
        run = runs[one.run_id]
        busy = one.seconds * run.busy_seconds / run.seconds if run.seconds else 0.0
        folder.commit_entry(
            ShardEntry(
                format=FORMAT_VERSION,
                shard=shard.name,
                plan=name,
                generation=0,
                attempt=f"export-{digest}",
                settings_digest=settings_digest(settings),
                shard_digest=one.digest,
                folded=one.proteins,
                failed=0,
                residues=one.residues,
                cost=one.cost,
                files=one.files,
                run=msgspec.structs.replace(run, seconds=one.seconds, busy_seconds=busy),
            )
        )
    return folder
