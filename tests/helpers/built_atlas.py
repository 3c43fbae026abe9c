"""Synthetic atlases made with the project's own writers: records, plans and shards of proteins that were never folded.

`build` makes one with everything that can happen to a record:

plan 1  a.fasta, max-length 90   committed: three shards; one protein failed
plan 2  a.fasta, max-length 120, and b.fasta   two of three shards committed; overlaps plan 1
"""

import dataclasses
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from manifest_entries import entry_of, made_run

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.parquet.coordinates import encode_structures
from foldatlas.atlas.parquet.files import ParquetFile
from foldatlas.schemas import manifest, records, tables
from foldatlas.schemas.manifest import FileEntry, Plan, Shard, ShardEntry, Source
from foldatlas.schemas.records import Settings, num_atoms, structure_id

SETTINGS = Settings(model="nano-untrained", weights="ab" * 32, recycles=0, precision="fp32")
URI_A = "file:///data/a.fasta"
URI_B = "file:///data/b.fasta"


@dataclass
class Record:
    """One FASTA record as planning sees it."""

    id: str
    sequence: str
    outcome: str = "accepted"
    description: str = ""
    offset: int = 0


@dataclass
class Built:
    """An atlas and what was put into it."""

    folder: AtlasFolder
    positions: dict[bytes, np.ndarray] = field(default_factory=dict)
    plddt: dict[bytes, np.ndarray] = field(default_factory=dict)
    sequences: dict[bytes, str] = field(default_factory=dict)
    failed: set[bytes] = field(default_factory=set)
    plans: list[Plan] = field(default_factory=list)
    given: list[dict[str, list[Record]]] = field(default_factory=list)  # by plan: the records of each source

    @property
    def root(self) -> Path:
        return self.folder.root


def draw(generator: np.random.Generator, length: int, letters: str = records.STANDARD_RESIDUES) -> str:
    return "".join(generator.choice(list(letters), length))


def uuids(identities: list[bytes | None]) -> pa.Array:
    return pa.ExtensionArray.from_storage(pa.uuid(), pa.array(identities, pa.binary(16)))


def fold(generator: np.random.Generator, sequence: str) -> tuple[np.ndarray, np.ndarray]:
    """A random walk of residues 3.8 A apart with side chains about it: plausible numbers, no protein."""
    steps = generator.normal(size=(len(sequence), 3))
    walk = np.cumsum(3.8 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0)
    counts = [num_atoms(residue) for residue in sequence]
    positions = np.repeat(walk, counts, axis=0) + generator.normal(0, 1, (sum(counts), 3))
    plddt = np.clip(generator.normal(generator.uniform(40, 95), 12, len(sequence)), 0, 100)
    return positions.astype(np.float32), plddt.astype(np.float32)


def score(sequence: str, positions: np.ndarray, plddt: np.ndarray, row: int, generator: np.random.Generator) -> dict:
    positions, plddt = (np.rint(values.astype(np.float64) * 100) / 100 for values in (positions, plddt))  # as stored
    starts = np.cumsum([0, *(num_atoms(residue) for residue in sequence)])[:-1]
    alphas = positions[starts + 1].astype(np.float64)
    helix = generator.uniform(0, 0.6)
    return {
        "length": len(sequence),
        "mean_plddt": float(plddt.mean()),
        "plddt_std": float(plddt.std()),
        "num_confident": int((plddt > 70).sum()),
        "fraction_confident": float((plddt > 70).mean()),
        "fraction_very_high": float((plddt > 90).mean()),
        "ptm": generator.uniform(0.1, 0.95),
        "num_unknown": sum(residue in records.UNKNOWN_RESIDUES for residue in sequence),
        "radius_of_gyration": float(np.sqrt(((alphas - alphas.mean(0)) ** 2).sum(1).mean())),
        "helix_fraction": helix,
        "strand_fraction": generator.uniform(0, 1 - helix),
        "structure_row": row,
    }


def write_records(
    root: Path, plan: str, sources: dict[str, list[Record]], model: str = SETTINGS.model
) -> tuple[FileEntry, ...]:
    entries = []
    for number, (uri, given) in enumerate(sources.items()):
        known = [r.outcome in ("accepted", "repeated") for r in given]
        table = pa.Table.from_arrays(
            [
                pa.array([uri] * len(given), pa.string()),
                pa.array([r.offset for r in given], pa.int64()),
                pa.array([r.id for r in given], pa.string()),
                pa.array([r.description for r in given], pa.string()),
                pa.array([len(r.sequence) for r in given], pa.int32()),
                uuids([structure_id(r.sequence) if k else None for r, k in zip(given, known, strict=True)]),
                pa.array([f"{len(r.sequence):016X}" if k else None for r, k in zip(given, known, strict=True)]),
                pa.array([None] * len(given), pa.int64()),
                pa.array([None] * len(given), pa.bool_()),
                pa.array([r.outcome for r in given], pa.string()),
            ],
            schema=tables.RECORDS,
        )
        with ParquetFile(root, f"records/{plan}-{number}.parquet", "records", metadata={"model": model}) as file:
            file.write(table)
        assert file.entry
        entries.append(file.entry)
    return tuple(entries)


def write_plan(
    folder: AtlasFolder, sources: dict[str, list[Record]], max_length: int, shard_size: int, created: str
) -> Plan:
    distinct = {
        structure_id(r.sequence): r.sequence for given in sources.values() for r in given if r.outcome == "accepted"
    }
    ordered = sorted(distinct.items(), key=lambda item: (len(item[1]), item[0]))
    chunks = [ordered[i : i + shard_size] for i in range(0, len(ordered), shard_size)]
    described = tuple(
        Source(uri, 1000, 1, hashlib.sha256(uri.encode()).hexdigest(), len(given)) for uri, given in sources.items()
    )

    def shards(plan: str) -> tuple[Shard, ...]:
        return tuple(
            Shard(
                name=manifest.shard_name(plan, number),
                file=0,
                row_group=number,
                proteins=len(chunk),
                residues=sum(len(s) for _, s in chunk),
                min_length=len(chunk[0][1]),
                max_length=len(chunk[-1][1]),
                cost=sum(len(s) ** 2 for _, s in chunk),
                digest=manifest.shard_digest(i for i, _ in chunk),
            )
            for number, chunk in enumerate(chunks)
        )

    name = manifest.plan_name(described, max_length, shards(""))
    with ParquetFile(folder.root, f"sequences/{name}-0.parquet", "sequences") as file:
        for chunk in chunks:
            file.write(
                pa.Table.from_arrays(
                    [uuids([i for i, _ in chunk]), pa.array([s for _, s in chunk]),
                     pa.array([len(s) for _, s in chunk], pa.int32())],
                    schema=tables.SEQUENCES,
                )
            )  # fmt: skip
    assert file.entry
    outcomes: dict[str, int] = {}
    for given in sources.values():
        for record in given:
            outcomes[record.outcome] = outcomes.get(record.outcome, 0) + 1
    plan = Plan(
        format=1,
        name=name,
        created=created,
        max_length=max_length,
        sources=described,
        outcomes=outcomes,
        proteins=len(ordered),
        residues=sum(len(s) for _, s in ordered),
        cost=sum(shard.cost for shard in shards(name)),
        records=write_records(folder.root, name, sources),
        sequences=(file.entry,),
        shards=shards(name),
    )
    assert folder.commit_plan(plan)
    return plan


def write_shard(
    built: Built,
    plan: Plan,
    number: int,
    generator: np.random.Generator,
    *,
    failed: tuple[bytes, ...] = (),
    embeddings: bool = False,
    run_id: str = "run-1",
    generation: int = 0,
) -> ShardEntry:
    folder, shard = built.folder, plan.shards[number]
    rows = pq.ParquetFile(folder.root / plan.sequences[0].path).read_row_group(shard.row_group)
    identities = rows["structure_id"].combine_chunks().storage.to_pylist()
    sequences = dict(zip(identities, rows["sequence"].to_pylist(), strict=True))
    good = [i for i in identities if i not in failed]
    predicted = {i: fold(generator, sequences[i]) for i in good}
    scores = [score(sequences[i], *predicted[i], row, generator) for row, i in enumerate(good)]
    for i in good:
        built.sequences.setdefault(i, sequences[i])
        built.positions.setdefault(i, predicted[i][0])
        built.plddt.setdefault(i, predicted[i][1])
    built.failed |= set(failed)
    contents = {
        "structures": encode_structures(
            good, [sequences[i] for i in good], [predicted[i][0] for i in good], [predicted[i][1] for i in good]
        ),
        "scores": pa.Table.from_arrays(
            [uuids(good), *(pa.array([s[f.name] for s in scores], f.type) for f in list(tables.SCORES)[1:])],
            schema=tables.SCORES,
        ),
        "failures": pa.Table.from_arrays(
            [uuids(list(failed)), pa.array(["fold"] * len(failed)), pa.array(["out of memory"] * len(failed)),
             pa.array([3] * len(failed), pa.int32())],
            schema=tables.FAILURES,
        ),
    }  # fmt: skip
    if embeddings:
        means = [generator.normal(size=8).astype(np.float32).tolist() for _ in good]
        contents["embeddings"] = pa.Table.from_arrays(
            [uuids(good), pa.array(means, tables.EMBEDDINGS.field("mean").type)], schema=tables.EMBEDDINGS
        )
    files = {}
    attempt = f"host_{number}_{generation}{run_id[-1]}"
    for table, content in contents.items():
        path = folder.shard_file(table, shard.name, attempt)
        with ParquetFile(folder.root, path, table, metadata={"model": SETTINGS.model}) as file:
            file.write(content, tables.STRUCTURES_PER_ROW_GROUP if table == "structures" else None)
        assert file.entry
        files[table] = file.entry
    entry = entry_of(
        shard,
        plan=plan.name,
        generation=generation,
        attempt=attempt,
        settings_digest=manifest.settings_digest(SETTINGS),
        folded=len(good),
        failed=len(failed),
        residues=sum(len(sequences[i]) for i in good),
        files=files,
        run=made_run(run_id=run_id),
    )
    assert folder.commit_entry(entry)
    return entry


def build(root: Path) -> Built:
    generator = np.random.default_rng(7)
    folder = AtlasFolder(root)
    folder.create(SETTINGS)
    built = Built(folder)

    a = [Record(f"a{i}", draw(generator, int(generator.integers(5, 90)))) for i in range(160)]
    a[3].sequence = "M"
    a[4].sequence = draw(generator, 40, "ACDXBZUOJ")
    a[5].sequence = "X"
    a[6].id, a[6].description = "sp|P12345|odd/../name", "a description, \"quoted\"\x1b[31m red"  # fmt: skip
    a[7].id = "CON"
    a[8].id, a[9].id = "Case", "case"
    a[11].sequence = a[10].sequence  # two records, one structure
    a[12] = dataclasses.replace(a[13], outcome="repeated")
    a[14] = Record("digits", "MK1", "digit")
    a[15] = Record("long", draw(generator, 110), "too_long")
    a[16] = Record("a17", draw(generator, 30), "duplicate_id")
    a[18].id = "x" * 300
    for number, record in enumerate(a):
        record.offset = 200 * number
    later = [dataclasses.replace(r, outcome="accepted") if r.outcome == "too_long" else r for r in a]
    b = [Record(f"b{i}", draw(generator, int(generator.integers(5, 120))), offset=300 * i) for i in range(60)]
    b[0].id = "a0"  # the same id in another source
    b[1].sequence = a[20].sequence
    b[2] = Record("", "MKV", "missing_id", offset=600)

    first = write_plan(folder, {URI_A: a}, 90, 60, "2026-11-01T09:00:00.000+00:00")
    second = write_plan(folder, {URI_A: later, URI_B: b}, 120, 90, "2026-11-02T09:00:00.000+00:00")
    built.plans = [first, second]
    built.given = [{URI_A: a}, {URI_A: later, URI_B: b}]
    guilty = structure_id(a[30].sequence)
    for number in range(len(first.shards)):
        inside = _ids(folder, first, number)
        write_shard(
            built, first, number, generator, failed=(guilty,) if guilty in inside else (), embeddings=number < 1
        )
    doomed = structure_id(b[40].sequence)  # fails in the only plan that has it
    for number in (1, 2):
        inside = _ids(folder, second, number)
        failed = tuple(i for i in (guilty, doomed) if i in inside)
        write_shard(built, second, number, generator, failed=failed, embeddings=True, run_id="run-2")
    return built


def _ids(folder: AtlasFolder, plan: Plan, number: int) -> list[bytes]:
    file = pq.ParquetFile(folder.root / plan.sequences[0].path)
    return file.read_row_group(number, columns=["structure_id"])["structure_id"].combine_chunks().storage.to_pylist()
