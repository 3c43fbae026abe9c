"""Made-up records through reading and checking: each is accounted for, none raises, and memory stays level."""

import random
import re
import resource
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from made_up_files import MadeUpFile, made_up_files

from foldatlas.pipeline.sources import fasta, genbank
from foldatlas.pipeline.sources.compression import compression_of, decompressed
from foldatlas.pipeline.sources.find import GENBANK, SourceFile, cut_ranges, find_sources, what_it_is
from foldatlas.pipeline.sources.record_stream import open_records
from foldatlas.schemas.errors import SourceError
from foldatlas.schemas.records import RESIDUES, Outcome

MAX_LENGTH = 300
OUTCOMES = set(map(str, Outcome))


def expected(text: bytes) -> list[int]:
    """Places of the '>' that begin a line, by a search over the whole text."""
    first = text[: fasta.BLOCK_BYTES]
    if b"\r" in first and b"\n" not in first:
        text = text.replace(b"\r", b"\n")
    mark = 3 if text.startswith(b"\xef\xbb\xbf") else 0
    return [mark + found.start() for found in re.finditer(rb"(?m)^>", text[mark:])]


def read(source: SourceFile, range_bytes: int) -> tuple[list[pa.RecordBatch], str]:
    batches, error = [], ""
    for range_ in cut_ranges([source], range_bytes):
        with open_records(source, range_.start, range_.end) as stream:
            batches += stream.batches(MAX_LENGTH)
            stream.finish(digest=range_.start == 0)
            error = error or stream.error
    return batches, error


def check_file(path: Path, made: MadeUpFile, generator: random.Random, seen: Counter[str]) -> int:
    """Reads one file and gives the number of its records."""
    path.write_bytes(made.content)
    try:
        (source,) = find_sources([str(path)])
    except SourceError as error:
        assert str(path) in str(error)
        seen["refused files"] += 1
        return max(1, made.content.count(b">") if not made.compression else 1)
    batches, error = read(source, generator.randrange(50, 4_000))
    offsets: list[int] = []
    for batch in batches:
        batch.validate(full=True)
        for row in batch.to_pylist():
            offsets.append(row["offset"])
            assert row["outcome"] in OUTCOMES
            assert (row["outcome"] == Outcome.ACCEPTED) == (row["sequence"] is not None) == bool(row["structure_id"])
            if row["sequence"] is not None:
                assert 0 < row["length"] == len(row["sequence"]) <= MAX_LENGTH
                assert set(row["sequence"]) <= RESIDUES and row["id"]
            seen[row["outcome"]] += 1
    assert len(set(offsets)) == len(offsets)
    with path.open("rb") as file:
        text, stream = b"", decompressed(file, compression_of(made.content[:6]))
        try:
            while block := stream.read(1 << 20):
                text += block
        except (EOFError, OSError):
            assert error and made.damaged
    if source.format == GENBANK:
        assert offsets == [found.start() for found in genbank._CODING.finditer(text)]
    else:
        assert offsets == expected(text)
    assert made.damaged or source.compression or not error or source.format == GENBANK
    if not offsets:
        assert what_it_is(source)
    seen["files"] += 1
    return len(offsets)


def run(folder: Path, num_records: int, seed: int) -> Counter[str]:
    generator, seen, done = random.Random(seed), Counter[str](), 0
    peak_at_half = 0
    for made in made_up_files(seed):
        done += check_file(folder / "in", made, generator, seen)
        if not peak_at_half and done >= num_records // 2:
            peak_at_half = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if done >= num_records:
            break
    seen["growth"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_at_half
    return seen


def test_ten_thousand_made_up_records_are_accounted_for(tmp_path: Path) -> None:
    seen = run(tmp_path, 10_000, seed=1)
    assert seen["files"] > 100 and seen["refused files"] > 10
    assert len(OUTCOMES & set(seen)) >= 12


@pytest.mark.long
def test_a_million_made_up_records_are_accounted_for(tmp_path: Path) -> None:
    """Memory of the second half stays within 32 MiB of the first half's peak."""
    seen = run(tmp_path, 1_000_000, seed=2)
    print(dict(seen))
    assert seen["files"] > 10_000 and len(OUTCOMES & set(seen)) >= 12
    assert seen["growth"] < 32 << 10  # KiB on Linux
