"""The index at size: building it, bringing it up to date, and asking it, beside SQLite and pyarrow.dataset.

python benchmarks/index.py --millions 1 --folder DIR
python benchmarks/index.py --millions 10 --folder DIR --note "machine shared with ..."

The atlas is made up, with the project's own writers: records with Prodigal's headers, of which one in ten has the
sequence of another; scores; a search of structures and one of sequences; clusters. Structures files have what an index
reads, pLDDT of real size (25,000 chains, 253 residues on average); all shards link one such file, and coordinates and
sequences are left empty, since no index reads them. One record in a hundred comes later, as a plan of its own with its
own shards.

Each step is a process of its own. Peak memory is the kernel's figure for the process (VmHWM), processor time that of
the process; "load" is the mean number of runnable processes of the machine when the step ended. SQLite gets the same
columns in two tables, with indexes on id and hash; pyarrow.dataset reads `proteins` as one Parquet file sorted by id.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from machine import hardware

RESULTS: Final = Path(__file__).with_name("results")
SEED: Final = 11
SHARD: Final = 25_000  # structures
NEW: Final = 0.01  # of the records, in a plan that comes later
COPIES: Final = 0.1  # records with the sequence of another
BLOCK: Final = 500_000  # records per file
KEYS: Final = 100
EXPORTED: Final = 100_000
MEMORY: Final = "3000MB"  # DuckDB's limit; the process may need more
WEIGHTS: Final = "ab" * 32


def uuids(values: np.ndarray) -> pa.Array:
    storage = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(values), [None, pa.py_buffer(values.tobytes())])
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)


def texts(prefix: str, numbers: np.ndarray) -> pa.Array:
    return pa.array(np.char.add(prefix, numbers.astype("U12")))


def template(folder: Path) -> tuple[Any, dict[str, np.ndarray]]:
    """Write the structures file that all shards share. Return its entry and the scores of its structures."""
    from foldatlas.atlas.parquet.files import ParquetFile
    from foldatlas.schemas.tables import STRUCTURES, STRUCTURES_PER_ROW_GROUP

    rng = np.random.default_rng(SEED)
    lengths = np.clip(rng.gamma(2.2, 115, SHARD).astype(np.int32), 30, 1280)
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    values = np.repeat(rng.normal(70, 15, SHARD), lengths) + rng.normal(0, 8, ends[-1])
    values = (np.clip(values, 0, 100) * 100).astype(np.uint16)
    empty = pa.ListArray.from_arrays(pa.array(np.zeros(SHARD + 1, np.int32)), pa.array([], pa.int32()))
    columns = [uuids(np.zeros((SHARD, 16), np.uint8)), pa.array([""] * SHARD), empty, empty, empty]
    columns.append(pa.ListArray.from_arrays(pa.array(ends), pa.array(values)))
    table = pa.Table.from_arrays(
        [column.cast(field.type) for column, field in zip(columns, STRUCTURES, strict=True)], schema=STRUCTURES
    )
    with ParquetFile(folder, "structures.parquet", "structures") as file:
        file.write(table, STRUCTURES_PER_ROW_GROUP)
    total = np.add.reduceat
    first = ends[:-1]
    mean = total(values, first, dtype=np.float64) / lengths / 100
    square = total(values.astype(np.float64) ** 2, first) / lengths / 10_000
    return file.entry, {
        "length": lengths,
        "mean_plddt": mean.astype(np.float32),
        "plddt_std": np.sqrt(np.maximum(square - mean**2, 0)).astype(np.float32),
        "num_confident": total(values > 7000, first, dtype=np.int32),
        "fraction_confident": (total(values > 7000, first, dtype=np.int32) / lengths).astype(np.float32),
        "fraction_very_high": (total(values > 9000, first, dtype=np.int32) / lengths).astype(np.float32),
    }


def write_plan(folder: Any, number: int, num_records: int, first: int) -> np.ndarray:
    """Add a plan of one source, all of it folded. Return the ids of its structures, uint8 [structures, 16]."""
    from foldatlas.atlas.folder import now
    from foldatlas.atlas.parquet.files import ParquetFile
    from foldatlas.schemas import manifest
    from foldatlas.schemas.records import Settings
    from foldatlas.schemas.tables import RECORDS, SEQUENCES

    rng = np.random.default_rng(SEED + 1 + number)
    num_structures = max(SHARD, round(num_records * (1 - COPIES)) // SHARD * SHARD)
    ids = rng.integers(0, 256, (num_structures, 16), dtype=np.uint8)
    shared, scores = template(folder.root.parent)
    uri = f"file:///benchmark/proteins{number}.fasta"
    source = manifest.Source(uri, 1, 1, f"{number:064x}", num_records)
    digests = [f"{number * 100_000 + n:064x}" for n in range(num_structures // SHARD)]

    def shards(plan: str) -> tuple[manifest.Shard, ...]:
        residues = int(scores["length"].sum())
        return tuple(
            manifest.Shard(f"{plan}-{n:05d}", 0, n, SHARD, residues, 30, 1280, residues, digest)
            for n, digest in enumerate(digests)
        )

    plan = manifest.plan_name([source], 1280, shards(""))
    with ParquetFile(folder.root, f"sequences/{plan}-0.parquet", "sequences") as sequences:
        for n in range(len(digests)):
            part = [uuids(ids[n * SHARD : (n + 1) * SHARD]), pa.array([""] * SHARD), pa.array(scores["length"])]
            sequences.write(pa.Table.from_arrays(part, schema=SEQUENCES))
    records = []
    for begin in range(0, num_records, BLOCK):
        count = min(BLOCK, num_records - begin)
        rows = np.arange(begin, begin + count)
        numbers = first + rows
        of = np.where(rows < num_structures, rows, rng.integers(0, num_structures, count))
        is_refused = rng.random(count) < 0.002
        mgyp = pa.array(numbers, mask=rng.random(count) < 0.5)
        crc = pa.array([f"{value:016X}" for value in rng.integers(0, 2**63, count).tolist()])
        known = pa.array(~is_refused)
        gene = np.char.add(np.char.add("ID=", (numbers // 900).astype("U10")), ";partial=00;start_type=ATG;gc_cont=0.4")
        identity = np.char.add(np.char.add("contig_", (numbers // 900).astype("U10")), "_")
        columns = {
            "source": pa.array([uri] * count),
            "offset": pa.array(numbers * 400),
            "id": pa.array(np.char.add(identity, (numbers % 900 + 1).astype("U10"))),
            "description": pa.array(
                np.char.add(np.char.add("# ", (numbers * 7).astype("U12")), np.char.add(" # ", gene))
            ),
            "length": pa.array(scores["length"][of % SHARD]),
            "structure_id": uuids(ids[of]),
            "sequence_crc64": crc,
            "mgyp": mgyp,
            "is_fragment": pa.array(rng.random(count) < 0.2),
            "outcome": pa.array(np.where(is_refused, "invalid_character", "accepted")),
        }
        for name in ("structure_id", "sequence_crc64"):
            storage = columns[name].storage if name == "structure_id" else columns[name]
            masked = pa.compute.if_else(known, storage, pa.scalar(None, storage.type))
            columns[name] = pa.ExtensionArray.from_storage(pa.uuid(), masked) if name == "structure_id" else masked
        with ParquetFile(folder.root, f"records/{plan}-{begin // BLOCK}.parquet", "records") as file:
            file.write(pa.Table.from_arrays([columns[name] for name in RECORDS.names], schema=RECORDS), 100_000)
        records.append(file.entry)
    folder.commit_plan(
        manifest.Plan(
            format=1, name=plan, created=now(), max_length=1280, sources=(source,),
            outcomes={"accepted": num_records}, proteins=num_structures, residues=num_structures, cost=num_structures,
            records=tuple(records), sequences=(sequences.entry,), shards=shards(plan),
        )
    )  # fmt: skip
    settings = manifest.settings_digest(Settings("nano", WEIGHTS, 0, "fp32"))
    for n, shard in enumerate(shards(plan)):
        write_shard(folder, plan, shard, ids[n * SHARD : (n + 1) * SHARD], shared, scores, settings)
    return ids


def write_shard(
    folder: Any, plan: str, shard: Any, ids: np.ndarray, shared: Any, scores: dict[str, np.ndarray], settings: str
) -> None:
    """Write scores, link structures, and commit the shard."""
    import msgspec

    from foldatlas.atlas.parquet.files import ParquetFile
    from foldatlas.schemas import manifest
    from foldatlas.schemas.tables import FAILURES, SCORES

    rng = np.random.default_rng(shard.row_group)
    helix = rng.random(SHARD, np.float32) * 0.6
    made = {
        **scores,
        "ptm": rng.random(SHARD, np.float32),
        "num_unknown": np.zeros(SHARD, np.int32),
        "radius_of_gyration": (2.2 * scores["length"] ** 0.38 + rng.random(SHARD)).astype(np.float32),
        "helix_fraction": helix,
        "strand_fraction": (1 - helix) * rng.random(SHARD, np.float32),
        "structure_row": np.arange(SHARD, dtype=np.int32),
    }
    tables = {
        "scores": pa.Table.from_arrays(
            [uuids(ids), *(pa.array(made[name]) for name in SCORES.names[1:])], schema=SCORES
        ),
        "failures": FAILURES.empty_table(),
    }
    files = {}
    for name, table in tables.items():
        with ParquetFile(folder.root, f"{name}/{shard.name}.a.parquet", name) as file:
            file.write(table)
        files[name] = file.entry
    path = f"structures/{shard.name}.a.parquet"
    (folder.root / "structures").mkdir(exist_ok=True)
    os.link(folder.root.parent / shared.path, folder.root / path)
    files["structures"] = msgspec.structs.replace(shared, path=path)
    run = manifest.Run(f"run-{shard.row_group % 7}", "host", "cuda", "0.1.0", "2026-11-01T10:00:00.000+00:00", 60.0)
    folder.commit_entry(
        manifest.ShardEntry(
            format=1, shard=shard.name, plan=plan, generation=0, attempt="a", settings_digest=settings,
            shard_digest=shard.digest, folded=SHARD, failed=0, residues=shard.residues, cost=shard.cost,
            files=files, run=run,
        )
    )  # fmt: skip


def write_stages(folder: Any, ids: np.ndarray) -> None:
    """Add a search of structures, one of sequences, and clusters of all structures."""
    from foldatlas.atlas.parquet.files import ParquetFile
    from foldatlas.atlas.stages.run import StageRun
    from foldatlas.schemas.cluster_tables import MEMBERS
    from foldatlas.schemas.manifest import Run
    from foldatlas.schemas.novelty_tables import HITS, TARGETS
    from foldatlas.schemas.stages import STAGE_FORMAT, StageEntry, StageShard

    rng = np.random.default_rng(SEED)
    number = len(ids)
    notes = {"reference": "pdb", "place": "/pdb", "entries": 200_000, "demo": False, "licences": ["CC0-1.0"],
             "versions": [{"version": 1, "digest": "d"}]}  # fmt: skip
    for search, schema in HITS.items():
        settings = {"search": search, "digest": "d", "version": 1, "recipe": {}, "structures": "s"}
        shard = StageShard("00000", number, number, f"{1:064x}")
        run = StageRun.begin(folder, "novelty", settings=settings, shards=[shard], notes=notes)
        value = rng.random(number, np.float32)
        filled: dict[str, Any] = {
            "structure_id": uuids(ids),
            "state": pa.array(["hit"] * number),
            "target": texts("target_", rng.integers(0, 200_000, number)),
            **dict.fromkeys(("tm_query", "tm_target", "identity_max", "identity"), pa.array(value)),
        }
        arrays = [filled[f.name] if f.name in filled else pa.nulls(number, f.type) for f in schema]
        path = run.data_path("hits", "00000", "a")
        with ParquetFile(folder.root, path, "hits", schema=schema) as file:
            file.write(pa.Table.from_arrays(arrays, schema=schema), 100_000)
        with ParquetFile(folder.root, run.data_path("targets", "run", "a"), "targets", schema=TARGETS) as targets:
            targets.write(TARGETS.empty_table())
        run.commit_entry(
            StageEntry(
                STAGE_FORMAT, "novelty", run.name, "00000", f"{1:064x}", "a", {"hits": file.entry}, {},
                Run("r", "h", "cpu", "0", "2026-11-01T10:00:00.000+00:00", 1.0),
            )
        )  # fmt: skip
        run.complete({"targets": [targets.entry]}, {})
    run = StageRun.begin(folder, "clusters", settings={"recipe": 1}, shards=[])
    columns: dict[str, Any] = {"structure_id": uuids(ids)}
    for suffix, size in (("90", 2), ("30", 8), ("_structure", 20)):
        centre = ids[(rng.integers(0, number, number) // size) * size]
        columns |= {f"cluster{suffix}": uuids(centre), f"centre{suffix}": uuids(centre)}
    value = pa.array(rng.random(number, np.float32))
    columns |= dict.fromkeys(("identity90", "coverage90", "identity30", "coverage30", "tm_structure"), value)
    with ParquetFile(folder.root, run.data_path("members", "run", "a"), "members", schema=MEMBERS) as file:
        file.write(pa.Table.from_arrays([columns[name] for name in MEMBERS.names], schema=MEMBERS), 100_000)
    run.complete({"members": [file.entry]}, {})


def make(work: Path, millions: float) -> dict[str, Any]:
    """Make the atlas, and the plan that comes later beside it."""
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.schemas.records import Settings

    total = round(millions * 1e6)
    new = max(SHARD, round(total * NEW))
    folder = AtlasFolder(work / "atlas")
    folder.create(Settings("nano", WEIGHTS, 0, "fp32"))
    ids = write_plan(folder, 0, total - new, 0)
    write_stages(folder, ids)
    later = AtlasFolder(work / "later")
    later.create(Settings("nano", WEIGHTS, 0, "fp32"))
    write_plan(later, 1, new, total - new)
    return {"records": total, "new_records": new, "structures": len(ids)}


def build(work: Path) -> dict[str, Any]:
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.index.build import build_index

    folder = AtlasFolder(work / "atlas")
    accounting = build_index(folder, memory_limit=MEMORY)
    return {"bytes": folder.index_path.stat().st_size, "folded": accounting.folded}


def update(work: Path) -> dict[str, Any]:
    from foldatlas.atlas.reader import Atlas

    for table in ("records", "sequences", "scores", "failures", "structures", "plans", "manifest"):
        for path in (work / "later" / table).iterdir():
            target = work / "atlas" / table / path.name
            if not target.exists():
                os.link(path, target)
    begun = time.perf_counter()
    result = build(work)
    result["seconds"] = time.perf_counter() - begun
    with Atlas.open(work / "atlas") as atlas:
        result["sorted_runs"] = atlas.query("SELECT runs FROM settings").rows()[0][0]
    return result


_COLUMNS: Final = (
    "id, source, length, structure_id, mean_plddt, ptm, fraction_confident, fraction_low, tm_query, cluster30, "
    "structure_file, structure_row"
)
_FILTER: Final = "mean_plddt > 70 AND ptm > 0.7"
_QUERIES: Final = {
    "filter-count": f"SELECT count(*) FROM proteins WHERE {_FILTER}",
    "best-per-cluster": (
        "SELECT count(*), sum(best) FROM "
        "(SELECT cluster30, max(ptm * mean_plddt) AS best FROM proteins GROUP BY cluster30)"
    ),
}
_EXPORT: Final = f"SELECT {_COLUMNS} FROM proteins WHERE {_FILTER} LIMIT {EXPORTED}"


def median(call: Callable[[Any], Any], keys: list[Any]) -> float:
    """Median milliseconds of `call` over `keys`, after a call of each."""
    for key in keys:
        assert call(key)
    return milliseconds(statistics.median(timed(partial(call, key)) for key in keys))


def rows_of(connection: Any, sql: str) -> list[Any]:
    return list(connection.execute(sql).fetchall())


def milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 2)


def timed(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def keys_of(work: Path) -> dict[str, list[Any]]:
    """Random ids and hashes, from all of the records; the same for all programs."""
    from foldatlas.atlas.reader import Atlas

    with Atlas.open(work / "atlas") as atlas:
        sql = (
            f"SELECT id, structure_id FROM (SELECT * FROM proteins USING SAMPLE reservoir({KEYS} ROWS) REPEATABLE (7))"
        )
        rows = atlas.query(sql).rows()
    return {"id": [row[0] for row in rows], "structure_id": [row[1] for row in rows]}


def ask_ours(work: Path) -> dict[str, Any]:
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.index.published import index_of

    keys = keys_of(work)
    connection = index_of(AtlasFolder(work / "atlas")).open({})

    def look_up(table: str, key: str) -> Callable[[Any], Any]:
        sql = f"SELECT * FROM {table} WHERE {key} = ?"
        return lambda value: connection.execute(sql, [value]).fetchall()

    found = {
        f"{key} in {table}, ms": median(look_up(table, key), keys[key])
        for table, key in (
            ("records", "id"), ("scores", "structure_id"), ("proteins", "id"), ("proteins", "structure_id")
        )
    }  # fmt: skip
    for name, sql in _QUERIES.items():
        found[f"{name}, ms"] = milliseconds(min(timed(partial(rows_of, connection, sql)) for _ in range(3)))
    path = work / "ours.parquet"
    found["export of 100,000, ms"] = milliseconds(
        timed(lambda: pq.write_table(connection.sql(_EXPORT).to_arrow_table(), path))
    )
    return found | {"answers": [connection.execute(sql).fetchall() for sql in _QUERIES.values()]}


def batches(work: Path, sql: str) -> Iterator[pa.RecordBatch]:
    from foldatlas.atlas.reader import Atlas

    with Atlas.open(work / "atlas") as atlas:
        yield from atlas.query(sql).batches(as_text=True)


def build_sqlite(work: Path) -> dict[str, Any]:
    connection = sqlite3.connect(work / "sqlite.db")
    connection.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-1000000;")
    for table, order in (("records", "id"), ("scores", "structure_id")):
        columns: list[str] = []
        for batch in batches(work, f"SELECT * FROM {table} ORDER BY {order}"):
            if not columns:
                columns = [f'"{name}"' for name in batch.schema.names]
                connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
            rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", rows)
    for table, column in (("records", "id"), ("records", "structure_id"), ("scores", "structure_id")):
        connection.execute(f"CREATE INDEX {table}_{column} ON {table} ({column})")
    connection.execute(
        "CREATE VIEW proteins AS SELECT records.*, scores.* FROM records JOIN scores USING (structure_id) "
        "WHERE state = 'folded' AND NOT superseded"
    )
    connection.commit()
    connection.close()
    return {"bytes": (work / "sqlite.db").stat().st_size}


def ask_sqlite(work: Path) -> dict[str, Any]:
    keys = keys_of(work)
    connection = sqlite3.connect(f"file:{work / 'sqlite.db'}?mode=ro", uri=True)

    def look_up(table: str, key: str) -> Callable[[Any], Any]:
        sql = f"SELECT * FROM {table} WHERE {key} = ?"
        return lambda value: connection.execute(sql, [str(value)]).fetchall()

    found = {
        f"{key} in {table}, ms": median(look_up(table, key), keys[key])
        for table, key in (
            ("records", "id"), ("scores", "structure_id"), ("proteins", "id"), ("proteins", "structure_id")
        )
    }  # fmt: skip
    sql_of = {name: sql.replace("FROM proteins", _SQLITE_PROTEINS) for name, sql in _QUERIES.items()}
    for name, sql in sql_of.items():
        found[f"{name}, ms"] = milliseconds(timed(partial(rows_of, connection, sql)))

    def export() -> None:
        rows = connection.execute(
            _EXPORT.replace("structure_id,", "records.structure_id,")
            .replace("length,", "records.length,")
            .replace("FROM proteins", _SQLITE_PROTEINS)
        ).fetchall()
        columns = list(zip(*rows, strict=True))
        pq.write_table(
            pa.table({f"c{n}": pa.array(column) for n, column in enumerate(columns)}), work / "sqlite.parquet"
        )

    found["export of 100,000, ms"] = milliseconds(timed(export))
    return found | {"answers": [connection.execute(sql).fetchall() for sql in sql_of.values()]}


_SQLITE_PROTEINS: Final = "FROM records JOIN scores ON scores.structure_id = records.structure_id"


def build_dataset(work: Path) -> dict[str, Any]:
    writer = None
    for batch in batches(work, "SELECT * FROM proteins ORDER BY id"):
        writer = writer or pq.ParquetWriter(work / "proteins.parquet", batch.schema, compression="zstd")
        writer.write_table(pa.Table.from_batches([batch]), row_group_size=100_000)
    assert writer is not None
    writer.close()
    return {"bytes": (work / "proteins.parquet").stat().st_size}


def ask_dataset(work: Path) -> dict[str, Any]:
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    keys = keys_of(work)
    data = ds.dataset(work / "proteins.parquet")
    found = {
        f"{key} in proteins, ms": median(
            lambda value, key=key: data.to_table(filter=ds.field(key) == str(value)).num_rows, keys[key][:10]
        )
        for key in ("id", "structure_id")
    }
    is_good = (ds.field("mean_plddt") > 70) & (ds.field("ptm") > 0.7)
    found["filter-count, ms"] = milliseconds(timed(lambda: data.count_rows(filter=is_good)))

    wanted = {"cluster30": ds.field("cluster30"), "best": pc.multiply(ds.field("ptm"), ds.field("mean_plddt"))}

    def best() -> list[Any]:
        table = data.to_table(columns=wanted)
        grouped = table.group_by("cluster30").aggregate([("best", "max")])
        return [(grouped.num_rows, pc.sum(grouped["best_max"]).as_py())]

    found["best-per-cluster, ms"] = milliseconds(timed(best))
    columns = _COLUMNS.split(", ")
    found["export of 100,000, ms"] = milliseconds(
        timed(lambda: pq.write_table(data.scanner(columns=columns, filter=is_good).head(EXPORTED), work / "ds.parquet"))
    )
    return found | {"answers": [[(data.count_rows(filter=is_good),)], best()]}


STEPS: Final[dict[str, Callable[[Path], dict[str, Any]]]] = {
    "build": build,
    "update": update,
    "ask ours": ask_ours,
    "build sqlite": build_sqlite,
    "ask sqlite": ask_sqlite,
    "build dataset": build_dataset,
    "ask dataset": ask_dataset,
}


def peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def run_step(name: str, work: Path) -> None:
    """Run one step in this process and print what it took, as JSON."""
    begun = time.perf_counter()
    result = STEPS[name](work)
    seconds = time.perf_counter() - begun
    used = resource.getrusage(resource.RUSAGE_SELF)
    measured = {"seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime, "peak_bytes": peak_bytes()}
    print(json.dumps({**measured, **result, "load": os.getloadavg()[0]}, default=str))


def table_of(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = ["| step | seconds | processor seconds | peak memory, MB | file, MB | load |", "|---|---|---|---|---|---|"]
    for name, found in results.items():
        if name.startswith("ask"):
            continue
        size = f"{found['bytes'] / 1e6:,.0f}"
        lines.append(
            f"| {name} | {found['seconds']:.1f} | {found['cpu_seconds']:.1f} | {found['peak_bytes'] / 1e6:,.0f} | "
            f"{size} | {found['load']:.1f} |"
        )
    asked = {name.removeprefix("ask "): found for name, found in results.items() if name.startswith("ask")}
    questions = [question for question in next(iter(asked.values())) if question.endswith(", ms")]
    lines += ["", f"| milliseconds | {' | '.join(asked)} |", f"|---|{'---|' * len(asked)}"]
    for question in questions:
        cells = [f"{found[question]:,.1f}" if question in found else "" for found in asked.values()]
        lines.append(f"| {question.removesuffix(', ms')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=float, default=1.0, help="records")
    parser.add_argument("--folder", type=Path, required=True, help="a folder for the atlas and the databases")
    parser.add_argument("--only", nargs="*", help="steps to run (the others are left out)")
    parser.add_argument("--keep", action="store_true", help="keep the folder, for the steps that are left")
    parser.add_argument("--note", default="", help="what else the machine did, for the results")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/index.md and index.json")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        return run_step(arguments.step, arguments.folder)
    work = arguments.folder
    noted = work / "measured.json"
    if noted.exists():
        measured = json.loads(noted.read_text())
    else:
        work.mkdir(parents=True)
        measured = {"made": make(work, arguments.millions), "results": {}}
    made, results = measured["made"], measured["results"]
    try:
        for name in STEPS:
            if name in results or (arguments.only and name not in arguments.only):
                continue
            command = [sys.executable, __file__, "--step", name, "--folder", str(work)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            results[name] = json.loads(done.stdout)
            noted.write_text(json.dumps(measured))
            print(name, results[name], flush=True)
    finally:
        if not arguments.keep:
            shutil.rmtree(work)
    if results.keys() == STEPS.keys():
        print(table_of(results))
    if arguments.save and results.keys() == STEPS.keys():
        import duckdb

        date = datetime.datetime.now(datetime.UTC).date().isoformat()
        about = {
            "date": date,
            "hardware": hardware(),
            "python": platform.python_version(),
            "duckdb": duckdb.__version__,
            "pyarrow": pa.__version__,
            "sqlite": sqlite3.sqlite_version,
            "memory_limit": MEMORY,
            "note": arguments.note,
            **made,
        }
        (RESULTS / "index.json").write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n")
        text = "\n".join(f"- {key}: {value}" for key, value in about.items() if value != "")
        (RESULTS / "index.md").write_text(f"# The index at size\n\n{text}\n\n{table_of(results)}\n")


if __name__ == "__main__":
    main()
