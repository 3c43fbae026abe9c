"""Cutting FASTA into records, against Biopython's parser and against itself under any cutting into ranges."""

import gzip
import io
import itertools
import random
import tracemalloc

import pytest
import zstandard
from Bio.SeqIO.FastaIO import SimpleFastaParser
from hypothesis import given
from hypothesis import strategies as st

from foldatlas.pipeline.sources import fasta
from foldatlas.pipeline.sources.compression import GzipStream, ZstdStream, compression_of
from foldatlas.pipeline.sources.fasta import RawRecord, Reader

EXAMPLE = b">a first\nMKVL\nAAG\n>b\n\n>c > not a record\r\nMK\r\nVL\r\n>d\nMMMM"

# text that is likely to hold what a parser trips over
FASTA_BYTES = st.lists(st.sampled_from([b">", b"\n>", b"\n", b"\r\n", b"MK", b"id x", b" ", b">>", b"*"])).map(b"".join)


def read(data: bytes, start: int = 0, end: int | None = None) -> list[RawRecord]:
    return list(Reader(io.BytesIO(data), start, end))


@pytest.fixture(params=[1, 2, 3, 7, 1 << 20])
def block_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(fasta, "BLOCK_BYTES", request.param)
    return int(request.param)


def test_records_are_those_of_biopython(block_bytes: int) -> None:
    ours = [
        (text.partition(b"\n")[0].decode().rstrip(), "".join(text.partition(b"\n")[2].decode().split()))
        for _, text, _, _ in read(EXAMPLE)
    ]
    assert ours == list(SimpleFastaParser(io.StringIO(EXAMPLE.decode(), newline=None)))


def test_offsets_point_at_the_records(block_bytes: int) -> None:
    for record in read(EXAMPLE):
        assert EXAMPLE[record.offset : record.offset + 1] == b">"
        assert EXAMPLE[record.offset + 1 :].startswith(record.text)


@given(data=FASTA_BYTES, cuts=st.lists(st.integers(0, 40)), size=st.sampled_from([1, 2, 5, 1 << 20]))
def test_any_cutting_into_ranges_gives_every_record_once(data: bytes, cuts: list[int], size: int) -> None:
    bounds = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fasta, "BLOCK_BYTES", size)
        parts = [record for start, end in itertools.pairwise(bounds) for record in read(data, start, end)]
        assert parts == read(data)
    assert len(parts) == sum(line.startswith(b">") for line in data.split(b"\n"))


@pytest.mark.parametrize(
    ("data", "leading"), [(b"junk\n>a\nMK", True), (b"\n \n>a\nMK", False), (b">a\nMK", False), (b"junk", True)]
)
def test_text_before_the_first_record_is_noticed(data: bytes, leading: bool, block_bytes: int) -> None:
    reader = Reader(io.BytesIO(data))
    records = list(reader)
    assert reader.leading_text is leading
    assert [record.text for record in records] == ([b"a\nMK"] if b">" in data else [])


def test_a_byte_order_mark_hides_no_record() -> None:
    reader = Reader(io.BytesIO(b"\xef\xbb\xbf>a\nMK"))
    assert list(reader) == [RawRecord(3, b"a\nMK", 0, False)]
    assert not reader.leading_text


@given(cuts=st.lists(st.integers(0, 60)), size=st.sampled_from([12, 20, 1 << 20]))
def test_lines_that_end_with_cr_alone_are_lines(cuts: list[int], size: int) -> None:
    """As old Macintoshes and some spreadsheets write them. A later LF changes nothing."""
    data = EXAMPLE.replace(b"\r\n", b"\n").replace(b"\n", b"\r")
    bounds = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fasta, "BLOCK_BYTES", size)
        parts = [record for start, end in itertools.pairwise(bounds) for record in read(data, start, end)]
    expected = read(data.replace(b"\r", b"\n"))
    assert parts == expected and len(parts) == 4
    assert list(Reader(GzipStream(io.BytesIO(gzip_of(data))))) == expected


def test_a_line_that_never_ends_is_counted_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fasta, "MAX_RECORD_BYTES", 100)
    monkeypatch.setattr(fasta, "BLOCK_BYTES", 64)
    endless, after = read(b">endless\n" + b"A" * 5000 + b"\n" + b"A" * 7 + b"\n>after\nMK\n")
    assert len(endless.text) == 100
    assert endless.dropped + len(endless.text) - len(b"endless\n") - endless.text.count(b"\n", 8) == 5007
    assert after.text == b"after\nMK"


def gzip_of(*members: bytes) -> bytes:
    return b"".join(gzip.compress(member) for member in members)


def test_gzip_of_several_members_and_padding_is_one_text() -> None:
    data = EXAMPLE * 50
    packed = gzip_of(data[:100], data[100:]) + bytes(512)
    assert list(Reader(GzipStream(io.BytesIO(packed)))) == read(data)


def test_gzip_with_padding_or_garbage_after_it_loses_no_record() -> None:
    for tail, is_garbage in ((bytes(300_000), False), (b"garbage" * 20_000, True), (b"\x1f", True)):
        stream = GzipStream(io.BytesIO(gzip_of(EXAMPLE) + tail))
        reader = Reader(stream)
        assert list(reader) == read(EXAMPLE)
        assert (reader.error, stream.has_garbage) == (None, is_garbage)


@given(members=st.lists(st.binary(max_size=200), min_size=1, max_size=4), size=st.sampled_from([1, 7, 1 << 20]))
def test_gzip_is_read_as_the_library_reads_it(members: list[bytes], size: int) -> None:
    packed = gzip_of(*members)
    stream, found = GzipStream(io.BytesIO(packed)), b""
    while data := stream.read(size):
        found += data
    assert found == gzip.decompress(packed)


@pytest.mark.parametrize("lost", [1, 9, 200, 1000])
def test_a_cut_gzip_loses_only_the_record_it_is_cut_in(lost: int) -> None:
    letters = random.Random(1)
    data = b"".join(b">p%d\n%s\n" % (n, bytes(letters.choices(b"ACDEFGHIKLMNPQRSTVWY", k=200))) for n in range(100))
    reader = Reader(GzipStream(io.BytesIO(gzip_of(data)[:-lost])))
    records = list(reader)
    whole = read(data)
    assert reader.error
    assert records[:-1] == whole[: len(records) - 1]
    assert records[-1].truncated
    assert whole[len(records) - 1].text.startswith(records[-1].text)
    # a record takes some 110 bytes packed: no more may be missing than was cut off, and the one at the cut
    assert len(whole) - len(records) <= lost / 100 + 1


def test_a_damaged_gzip_ends_with_an_error_not_an_exception() -> None:
    packed = bytearray(gzip_of(EXAMPLE * 5000))
    packed[len(packed) // 2 :] = b"\xff" * (len(packed) - len(packed) // 2)
    reader = Reader(GzipStream(io.BytesIO(bytes(packed))))
    records = list(reader)
    assert reader.error and records[-1].truncated


def zstd_of(*frames: bytes) -> bytes:
    return b"".join(zstandard.ZstdCompressor(write_checksum=True).compress(frame) for frame in frames)


SKIPPED_FRAME = b"\x5a\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"notes"


@given(frames=st.lists(st.binary(max_size=200), min_size=1, max_size=4), size=st.sampled_from([1, 7, 1 << 20]))
def test_zstd_frames_are_one_text(frames: list[bytes], size: int) -> None:
    packed = SKIPPED_FRAME + SKIPPED_FRAME.join(zstd_of(frame) for frame in frames) + bytes(20)
    assert compression_of(packed[:4]) == "zstd"
    stream, found = ZstdStream(io.BytesIO(packed)), b""
    while data := stream.read(size):
        assert len(data) <= size
        found += data
    assert found == b"".join(frames) and not stream.has_garbage


@pytest.mark.parametrize("lost", [1, 9, 200, 1000])
def test_a_cut_zstd_loses_only_what_was_not_written_out(lost: int) -> None:
    """zstd packs blocks of up to 128 KiB, and no part of a block can be had without the whole."""
    letters = random.Random(1)
    data = b"".join(b">p%d\n%s\n" % (n, bytes(letters.choices(b"ACDEFGHIKLMNPQRSTVWY", k=200))) for n in range(2000))
    reader = Reader(ZstdStream(io.BytesIO(zstd_of(data)[:-lost])))
    records, whole = list(reader), read(data)
    assert reader.error
    assert records[:-1] == whole[: len(records) - 1]
    assert records[-1].truncated or lost == 1  # one byte: of the checksum
    assert len(records) > 1200


def test_a_damaged_zstd_ends_with_an_error_not_an_exception() -> None:
    packed = bytearray(zstd_of(EXAMPLE * 5000, EXAMPLE * 5))
    packed[len(packed) // 2 :] = b"\xff" * (len(packed) - len(packed) // 2)
    reader = Reader(ZstdStream(io.BytesIO(bytes(packed))))
    list(reader)
    assert reader.error


def test_zstd_that_is_followed_by_garbage_loses_no_record() -> None:
    stream = ZstdStream(io.BytesIO(zstd_of(EXAMPLE) + b"garbage"))
    assert list(Reader(stream)) == read(EXAMPLE)
    assert stream.has_garbage


class Endless:
    """A FASTA file of one line of `size` letters between two small records, made as it is read."""

    def __init__(self, size: int):
        self._block = b"A" * fasta.BLOCK_BYTES
        self._left = size // fasta.BLOCK_BYTES
        self._begun = self._ended = False

    def read(self, _size: int) -> bytes:
        if not self._begun:
            self._begun = True
            return b">before\nMKVL\n>endless\n"
        if self._left:
            self._left -= 1
            return self._block
        self._ended, last = True, b"" if self._ended else b"\n>after\nMKVL\n"
        return last


def test_a_line_of_two_gigabytes_is_read_in_bounded_memory() -> None:
    tracemalloc.start()
    try:
        before, endless, after = Reader(Endless(2 << 30))  # type: ignore[arg-type]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert endless.dropped + len(endless.text) - len(b"endless\n") == 2 << 30
    assert (before.text, after.text) == (b"before\nMKVL", b"after\nMKVL")
    assert peak < 4 * fasta.MAX_RECORD_BYTES
