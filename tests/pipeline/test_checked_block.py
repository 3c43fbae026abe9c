"""A block of records checked at once equals checking them one by one, for any content."""

import io
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldatlas.pipeline.planning.ingest import IngestTask, ingest, read_note, staged_path
from foldatlas.pipeline.sources import block_validation, fasta
from foldatlas.pipeline.sources.block_validation import FIELDS, check_block
from foldatlas.pipeline.sources.fasta import RawBlock, Reader
from foldatlas.pipeline.sources.find import cut_ranges, find_sources
from foldatlas.pipeline.sources.validation import Record, check
from foldatlas.schemas.records import Outcome
from foldatlas.schemas.tables import STAGING

HEADERS = [
    b"",
    b" ",
    b"a first",
    b"MGYP000123 PL=01 UP=0",
    b"c_1 # 2 # 181 # 1 # ID=1_1;partial=10;start_type=Edge",
    b"c_2 # partial=00;x partial=11;",
    b"c partial=11",
    b";partial=10;",
    b"tr|A|B x (Fragment) OS=y\r",
    "prot\u00e9ine \u2003\u00e9".encode(),
    b"\xff",
    b"nul\0",
    b"x > y",
]
SEQUENCES = [
    *(b"", b"*", b"MKVL", b"mk vl*\r\n", b"MK*VL", b"MKVL**", b"MK-VL", b"MK>VL", b"M\0K", b"MK\xff", b"MKVL:MK", b"7"),
    *(b"ACGT" * 7, b"ACGTN" * 6, b"ACGTN" * 6 + b"M", b"acgu" * 8 + b"*", b"M" * 40, b"M" * 41, b"XBZUOJ", b"A" * 29),
    *(b"MKVL.", b"MKVL..", b"MK.VL", b"MKVL*\x1a", b"M\x1aKVL", b"AG" * 20, b"N" * 40, b"SR" * 15, b"ACGTR" * 6),
]
RECORDS = st.lists(st.tuples(st.sampled_from(HEADERS), st.lists(st.sampled_from(SEQUENCES), max_size=3)), max_size=8)
MAX_LENGTH = 40


def one_by_one(data: bytes) -> list[Record]:
    return [check(raw, MAX_LENGTH) for raw in Reader(io.BytesIO(data))]


def at_once(data: bytes) -> list[Record]:
    batches = [check_block(block, MAX_LENGTH).batch for block in Reader(io.BytesIO(data)).blocks()]
    for batch in batches:
        batch.validate(full=True)
    return [record for batch in batches for record in records_of(batch)]


def records_of(batch: pa.RecordBatch) -> list[Record]:
    rows = batch.to_pylist()
    return [Record(**{**row, "structure_id": row["structure_id"] and row["structure_id"].bytes}) for row in rows]


@given(records=RECORDS, size=st.sampled_from([3, 50, 1 << 20]))
def test_at_once_is_as_one_by_one(records: list[tuple[bytes, list[bytes]]], size: int) -> None:
    data = b"".join(b">" + header + b"\n" + b"\n".join(lines) + b"\n" for header, lines in records)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fasta, "BLOCK_BYTES", size)
        assert at_once(data) == one_by_one(data)


@given(data=st.lists(st.sampled_from([b">", b"\n>", b"\n", b"MK", b"id x", b" ", b"*", b"\0", b"\xff"])).map(b"".join))
def test_at_once_is_as_one_by_one_for_any_bytes(data: bytes) -> None:
    assert at_once(data) == one_by_one(data)


def test_every_fault_among_good_records_at_once() -> None:
    letters = random.Random(3)
    good = [b"p%d\n%s" % (n, bytes(letters.choices(b"ACDEFGHIKLMNPQRSTVWY", k=30))) for n in range(500)]
    faulty = [b"q%d\n%s" % (n, sequence) for n, sequence in enumerate(SEQUENCES) if b">" not in sequence]
    texts = [text for pair in zip(good, faulty * 30, strict=False) for text in pair]
    block = RawBlock(7, texts)
    (*_, last) = found = records_of(check_block(block, MAX_LENGTH).batch)
    assert found == [check(raw, MAX_LENGTH) for raw in block.records()]
    assert len({record.outcome for record in found}) == 11 and last.offset > 15_000


def test_plain_records_are_not_judged_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else ingest is slow, and no other test would say so."""
    monkeypatch.delattr(block_validation, "check")
    block = RawBlock(0, [b"c_1 # 1 # 9 # 1 # ID=1_1;partial=00;\nMKVL*\n", b"d\nACGTACGTACGTACGTACGTACGTACGTAE"])
    assert check_block(block, 100).batch["outcome"].to_pylist() == [Outcome.ACCEPTED] * 2


def test_staging_is_of_bounded_row_groups_and_holds_every_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foldatlas.pipeline.planning.ingest.RECORDS_PER_ROW_GROUP", 20)
    monkeypatch.setattr(fasta, "BLOCK_BYTES", 256)
    path = tmp_path / "in.fasta"
    path.write_bytes(b"".join(b">p%d x\nMK%s\n" % (n, b"VL" * (n % 50)) for n in range(300)) + b">bad\nM?K\n")
    (range_,) = cut_ranges(find_sources([str(path)]))
    ingest(IngestTask(range_, str(tmp_path), MAX_LENGTH))
    note = read_note(tmp_path, 0)
    assert note is not None and (note.counts.records, note.error) == (301, "")
    file = pq.ParquetFile(tmp_path / staged_path(0))
    assert file.schema_arrow.equals(STAGING, check_metadata=False)
    assert max(file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)) <= 60
    table = file.read()
    assert set(table["source"].to_pylist()) == {path.resolve().as_uri()}
    assert records_of(table.drop_columns("source").combine_chunks().to_batches()[0]) == one_by_one(path.read_bytes())
    assert table.column_names[1:] == [field.name for field in FIELDS]
