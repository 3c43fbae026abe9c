"""The records of a file do not depend on its compression, and no content raises anything but a SourceError."""

import bz2
import gzip
import lzma
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foldatlas.pipeline.sources import genbank
from foldatlas.pipeline.sources.accepted import accepted
from foldatlas.pipeline.sources.find import SourceFile, find_sources
from foldatlas.pipeline.sources.record_stream import open_records
from foldatlas.pipeline.sources.validation import Record
from foldatlas.schemas.errors import SourceError

FAULTY = b"""text before
>good a protein
MKVLAAG
>empty
>
MKVLAAG
>stop
MKV*LAAG
>gap
MKV--LAAG
>digits
1 MKVLAAG 7
>dna
ACGTACGTACGTACGTACGTACGTACGTACGT
>nul
MKV\0LAAG
>latin\xe9
MKV\xe9LAAG
>dimer
MKVLAAG:MKVLAAG
>odd
MKV?LAAG
>lower
mkvlaag*
>sp|P1|X_Y name (Fragment) OS=Homo sapiens\r
MKVL\r
AAG\r
"""


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def records(source: SourceFile, max_length: int = 100) -> list[Record]:
    with open_records(source) as stream:
        found = [record for record, _ in stream.records(max_length)]
        stream.finish(digest=True)
    return found


@pytest.mark.parametrize("pack", [gzip.compress, zstd, bz2.compress, lzma.compress])
def test_packed_or_plain_the_records_are_the_same(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    letters = random.Random(2)
    titin = b">titin\n" + bytes(letters.choices(b"ACDEFGHIKLMNPQRSTVWY", k=3 << 20)) + b"\n"
    data = FAULTY + titin + FAULTY
    (tmp_path / "plain").write_bytes(data)
    (tmp_path / "packed").write_bytes(pack(data))
    plain, packed = (records(*find_sources([str(tmp_path / name)])) for name in ("plain", "packed"))
    assert plain == packed and len(plain) == 27
    assert len({record.outcome for record in plain}) == 12
    assert plain[12].is_fragment is True


def test_a_window_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    frame = b"\x28\xb5\x2f\xfd" + bytes([0, 21 << 3, 5 << 3 | 1, 0, 0]) + b">a\nMK"  # 2 GiB, RFC 8878 3.1.1.1.2
    path = tmp_path / "large.zst"
    path.write_bytes(frame)
    with pytest.raises(SourceError, match="without --long"):
        find_sources([str(path)])
    path.write_bytes(frame[:5] + bytes([17 << 3]) + frame[6:])  # 128 MiB
    assert [record.id for record in records(*find_sources([str(path)]))] == ["a"]


def test_a_packed_block_that_is_long_hides_no_format(tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(100_000).hex().encode()
    path = tmp_path / "in"
    path.write_bytes(zstd(b"LOCUS       x 1 bp DNA linear\nCOMMENT     " + noise + b"\n//\n"))
    assert find_sources([str(path)])[0].format == "genbank"


PACKERS = {"": bytes, "gzip": gzip.compress, "zstd": zstd, "bzip2": bz2.compress, "xz": lzma.compress}
BEGINNINGS = st.sampled_from(
    [b"", b">a\nMK\n", b"LOCUS       x 10 bp DNA\n", b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18"]
)
LINES = (
    b"     CDS             1..9\n",
    b"FEATURES             Location/Qualifiers\n",
    b'                     /translation="MK"\n',
    b"ORIGIN\n",
    b"        1 acgtacgta\n",
    b"//\n",
)
PIECES = st.lists(st.sampled_from([*LINES, b">", b"\n", b"MKVL", b"\0", b"\xff", b"LOCUS "]), max_size=30).map(b"".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(beginning=BEGINNINGS, rest=st.one_of(PIECES, st.binary(max_size=200)), pack=st.sampled_from(sorted(PACKERS)))
def test_no_content_breaks_the_reader(tmp_path: Path, beginning: bytes, rest: bytes, pack: str) -> None:
    data = beginning + rest
    path = tmp_path / "in"
    path.write_bytes(PACKERS[pack](data))
    try:
        (source,) = find_sources([str(path)])
    except SourceError:
        return
    found = records(source)
    if source.format == "genbank" and not source.compression:
        assert len(found) == len(genbank._CODING.findall(data))


def test_accepted_records_end_with_an_error_on_damage(tmp_path: Path) -> None:
    """A compressed file gives its accepted records; a damaged one gives an error at its end."""
    path = tmp_path / "in.gz"
    path.write_bytes(gzip.compress(FAULTY))
    refused: Counter[str] = Counter()
    found = list(accepted(find_sources([str(path)])[0], refused))
    assert [record.sequence for record in found] == ["MKVLAAG", "MKVLAAG", "MKVLAAG"]
    assert refused.total() == 10
    path.write_bytes(gzip.compress(FAULTY)[:-30])
    with pytest.raises(SourceError, match="is damaged after"):
        list(accepted(find_sources([str(path)])[0], refused))
