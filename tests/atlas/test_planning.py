"""Planning's tables against a plain reading of the rules, record by record.

Several limits of memory, batches and bands are tried.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldatlas.atlas.parquet.files import ParquetFile
from foldatlas.atlas.planning import planned_tables
from foldatlas.atlas.planning.length_bands import KnownSequences, LengthBands, ids_of
from foldatlas.atlas.planning.planned_tables import PlannedTables, plan_tables
from foldatlas.schemas.errors import FoldAtlasError
from foldatlas.schemas.manifest import shard_digest
from foldatlas.schemas.tables import RECORDS, SEQUENCES, STAGING

Row = dict[str, Any]


def digest(sequence: str) -> bytes:
    return hashlib.md5(sequence.encode()).digest()


def staged_row(source: str, offset: int, id_: str, sequence: str | None) -> Row:
    return {
        "source": source,
        "offset": offset,
        "id": id_,
        "description": f"at {offset}",
        "length": len(sequence or "xx"),
        "structure_id": digest(sequence) if sequence else None,
        "sequence_crc64": sequence and f"{len(sequence):016X}",
        "mgyp": None,
        "is_fragment": None,
        "outcome": "accepted" if sequence else "gap",
        "sequence": sequence,
    }


def stage(folder: Path, files: Sequence[Sequence[Row]], rows_a_group: int = 20_000) -> list[Path]:
    paths = []
    for number, rows in enumerate(files):
        arrays = [pa.array([row[field.name] for row in rows], field.type) for field in STAGING]
        with ParquetFile(folder, f"{number:06d}.parquet", "staging", schema=STAGING) as file:
            file.write(pa.Table.from_arrays(arrays, schema=STAGING), rows_a_group)
        paths.append(folder / f"{number:06d}.parquet")
    return paths


def write_known(folder: Path, sequences: Sequence[str], rows_a_group: int = 2) -> Path:
    """A sequences file as an earlier plan left it: longest first, a row group a shard."""
    ordered = sorted(sequences, key=lambda text: (-len(text), digest(text)))
    columns = [[digest(text) for text in ordered], ordered, [len(text) for text in ordered]]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, SEQUENCES, strict=True)]
    with ParquetFile(folder, "known.parquet", "sequences") as file:
        file.write(pa.Table.from_arrays(arrays, schema=SEQUENCES), rows_a_group)
    return folder / "known.parquet"


def judged_plainly(rows: Sequence[Row]) -> list[Row]:
    """What becomes of every record, by going through them once in the order of their offsets."""
    owner: dict[tuple[str, str], bytes] = {}
    judged = {}
    for row in sorted(rows, key=lambda row: (row["source"], row["offset"])):
        row = dict(row)
        if row["outcome"] == "accepted":
            first = owner.setdefault((row["source"], row["id"]), row["structure_id"])
            seen_before = (row["source"], row["id"], True) in judged
            judged[row["source"], row["id"], True] = row
            if seen_before and first == row["structure_id"]:
                row["outcome"] = "repeated"
            elif first != row["structure_id"]:
                row.update(outcome="duplicate_id", structure_id=None, sequence_crc64=None)
        judged[row["source"], row["offset"], False] = row
    return [judged[row["source"], row["offset"], False] for row in rows]


def sequences_plainly(judged: Sequence[Row], known: Sequence[str]) -> list[str]:
    new = {row["sequence"] for row in judged if row["outcome"] == "accepted"} - set(known)
    return sorted(new, key=lambda text: (-len(text), digest(text)))


def cut_in_threes(histogram: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    assert histogram == sorted(histogram, reverse=True)
    count = sum(number for _, number in histogram)
    return [(start, min(start + 3, count), start + 7) for start in range(0, count, 3)]


def rows_of(folder: Path, tables: PlannedTables, kind: str) -> list[Row]:
    return [row for file in getattr(tables, kind) for row in pq.read_table(folder / file.path).to_pylist()]


RECORD = st.tuples(
    st.sampled_from("ab"),  # source
    st.sampled_from(["p", "q", "r", "s", "t"]),  # id
    st.one_of(st.none(), st.text("AC", min_size=1, max_size=4), st.text("ACDE", min_size=5, max_size=9)),
)


@given(
    drawn=st.lists(RECORD, min_size=1, max_size=40),
    known=st.sets(st.text("AC", min_size=1, max_size=4), max_size=12),
    rows_a_file=st.integers(1, 20),
    rows_a_group=st.integers(1, 7),
    band_bytes=st.sampled_from([1, 60, 10_000]),
    threads=st.integers(1, 3),
)
@settings(deadline=None, max_examples=40)
def test_tables_are_what_a_plain_reading_gives(
    drawn: list[tuple[str, str, str | None]],
    known: set[str],
    rows_a_file: int,
    rows_a_group: int,
    band_bytes: int,
    threads: int,
) -> None:
    rows = [staged_row(f"file:///{source}", 10 * at, id_, text) for at, (source, id_, text) in enumerate(drawn)]
    rows.sort(key=lambda row: (row["source"], row["offset"]))
    by_source = [[row for row in rows if row["source"].endswith(name)] for name in "ab"]
    files = [part[at : at + rows_a_file] for part in by_source for at in range(0, len(part), rows_a_file)]
    judged = judged_plainly(rows)
    with TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        folder = Path(place)
        patch.setattr(planned_tables, "CHUNK_ROWS", 5)
        patch.setattr(planned_tables, "ROWS_PER_GROUP", 4)
        patch.setattr(planned_tables, "MIN_BAND_BYTES", band_bytes)
        patch.setattr(planned_tables, "MAX_BAND_BYTES", band_bytes)
        tables = plan_tables(
            folder,
            stage(folder, files, rows_a_group),
            [write_known(folder, list(known))] if known else [],
            cut_in_threes,
            memory_bytes=200 << 20,
            threads=threads,
        )
        records = rows_of(folder, tables, "records")
        sequences = rows_of(folder, tables, "sequences")
    expected = [{name: row[name] for name in RECORDS.names} for row in judged]
    assert [{**row, "structure_id": row["structure_id"] and row["structure_id"].bytes} for row in records] == expected
    assert tables.outcomes == Counter(row["outcome"] for row in judged)
    texts = sequences_plainly(judged, list(known))
    assert [row["sequence"] for row in sequences] == texts
    assert [(row["structure_id"].bytes, row["length"]) for row in sequences] == [(digest(t), len(t)) for t in texts]
    for number, shard in enumerate(tables.shards):
        part = texts[3 * number : 3 * number + 3]
        assert shard.digest == shard_digest(map(digest, part))
        assert (shard.proteins, shard.residues, shard.cost) == (len(part), sum(map(len, part)), 3 * number + 7)
        assert (shard.min_length, shard.max_length) == (len(part[-1]), len(part[0]))


def test_row_groups_do_not_depend_on_staging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups and files are the same however the records were split among staged files."""
    monkeypatch.setattr(planned_tables, "ROWS_PER_GROUP", 4)
    monkeypatch.setattr(planned_tables, "RECORDS_PER_FILE", 8)
    monkeypatch.setattr(planned_tables, "MAX_SHARDS_PER_FILE", 2)
    rows = [staged_row("file:///a", at, f"p{at}", "M" + "ACDE"[at % 4] * (1 + at // 4)) for at in range(21)]
    shapes = []
    for name, cuts in (("one", [21]), ("many", [1, 2, 6, 7, 15, 21])):
        folder = tmp_path / name
        folder.mkdir()
        files = [rows[start:end] for start, end in zip([0, *cuts], cuts, strict=False)]
        tables = plan_tables(folder, stage(folder, files), [], cut_in_threes)
        assert [file.rows for file in tables.records] == [8, 8, 5]
        assert [(shard.file, shard.row_group) for shard in tables.shards] == [(n // 2, n % 2) for n in range(7)]
        shapes.append([file.sha256 for file in (*tables.records, *tables.sequences)])
    assert shapes[0] == shapes[1]


def test_repeated_ids_are_found_in_little_memory(tmp_path: Path) -> None:
    """300,000 ids of 34 bytes in 16 MB, at which DuckDB was seen to spill; every tenth of them stands twice."""
    count = 300_000
    numbers = np.arange(count)
    ids = np.where(numbers % 10 == 9, numbers - 9, numbers)
    same = np.where(numbers % 20 == 19, numbers - 9, numbers) % 10  # of those repeated half have another sequence
    sequences = ["M" + "ACDEFGHIKL"[n] for n in same.tolist()]
    table = pa.table(
        [
            pa.array(["file:///a"] * count),
            pa.array(numbers * 7),
            pa.array([f"a_rather_long_name_of_a_contig_{n}" for n in ids.tolist()]),
            pa.array([""] * count),
            pa.array([2] * count, pa.int32()),
            pa.array([digest(text) for text in sequences], pa.uuid()),
            pa.array(["0" * 16] * count),
            pa.nulls(count, pa.int64()),
            pa.nulls(count, pa.bool_()),
            pa.array(["accepted"] * count),
            pa.array(sequences),
        ],
        schema=STAGING,
    )
    with ParquetFile(tmp_path, "000000.parquet", "staging", schema=STAGING) as file:
        file.write(table, 20_000)
    with pytest.raises(FoldAtlasError, match="more memory than 3 MiB"):
        plan_tables(tmp_path, [tmp_path / "000000.parquet"], [], cut_in_threes, memory_bytes=3 << 20, threads=1)
    tables = plan_tables(tmp_path, [tmp_path / "000000.parquet"], [], cut_in_threes, memory_bytes=16 << 20, threads=1)
    twice = {n for n in range(count) if n % 10 == 9}
    repeated = sum(sequences[n] == sequences[n - 9] for n in twice)
    expected = {"accepted": count - len(twice), "repeated": repeated, "duplicate_id": len(twice) - repeated}
    assert tables.outcomes == {name: number for name, number in expected.items() if number}
    assert [row["length"] for row in rows_of(tmp_path, tables, "sequences")] == [2] * len(
        {text for n, text in enumerate(sequences) if n not in twice}
    )


def test_a_length_of_many_sequences_has_several_bands(tmp_path: Path) -> None:
    texts = [f"M{number:04d}" for number in range(1000)]  # the bands look at lengths and ids alone
    ids = pa.array([digest(text) for text in texts], pa.uuid())
    bands = LengthBands(tmp_path / "bands", [(5, 1000)], band_bytes=2500)
    assert bands.num_bands == 10
    bands.add(ids_of(ids), pa.array(texts))
    bands.add(ids_of(ids), pa.array(texts))  # all of them again, in another call
    assert bands.settle(KnownSequences([])) == [(5, 1000)]
    found = [row for table in bands.rows() for row in table["sequence"].to_pylist()]
    assert found == sorted(texts, key=digest)
    assert list((tmp_path / "bands").iterdir()) == []
