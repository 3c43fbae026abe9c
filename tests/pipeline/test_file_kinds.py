"""What a file is: compressions read at any size, everything else refused by its name, pipes, folders, many files."""

import bz2
import gzip
import io
import lzma
import os
import random
import tarfile
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.pipeline.planning import ingest
from foldatlas.pipeline.planning.planner import Planned
from foldatlas.pipeline.sources.accepted import accepted
from foldatlas.pipeline.sources.compression import CompressedStream, decompressed
from foldatlas.pipeline.sources.find import SourceWarning, cut_ranges, find_sources
from foldatlas.pipeline.sources.nucleotides import Kind, kind_of
from foldatlas.pipeline.sources.record_stream import open_records
from foldatlas.schemas.errors import SourceError
from foldatlas.schemas.records import STANDARD_RESIDUES, Settings

SETTINGS = Settings("nano", "0" * 64, 0, "fp32")
PACKERS = {"gzip": gzip.compress, "zstd": zstd.compress, "bzip2": bz2.compress, "xz": lzma.compress}


def proteins(count: int = 5, *, seed: int = 1) -> bytes:
    letters = random.Random(seed)
    texts = ("M" + "".join(letters.choices(STANDARD_RESIDUES, k=letters.randint(40, 90))) for _ in range(count))
    return "".join(f">p{seed}_{number}\n{text}\n" for number, text in enumerate(texts)).encode()


def contigs(count: int = 5, *, length: int = 300) -> bytes:
    letters = random.Random(2)
    return "".join(f">c{number}\n{''.join(letters.choices('ACGT', k=length))}\n" for number in range(count)).encode()


def zipped(data: bytes, compression: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        file.writestr("proteins.faa", data)
    return out.getvalue()


def tarred(data: bytes, format: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as file:
        entry = tarfile.TarInfo("proteins.faa")
        entry.size = len(data)
        file.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def old_tar(data: bytes) -> bytes:
    """A tar of before POSIX: no magic, another checksum."""
    text = bytearray(tarred(data, tarfile.USTAR_FORMAT))
    text[257:265] = bytes(8)
    text[148:156] = b" " * 8
    text[148:156] = b"%06o\0 " % sum(text[:512])
    return bytes(text)


def parquet(data: bytes) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"text": [data]}), out)
    return out.getvalue()


BIG = b"".join(b">n%d\n%s\n" % (number, random.Random(number).randbytes(300)) for number in range(2000))
OTHERS = {
    "zip": (zipped(BIG, zipfile.ZIP_DEFLATED), "is a zip archive: unpack it first"),
    "zip_stored": (zipped(proteins(), zipfile.ZIP_STORED), "is a zip archive"),
    "tar": (tarred(proteins()), "is a tar archive"),
    "tar_v7": (old_tar(proteins()), "is a tar archive"),
    "tar_gzip": (gzip.compress(tarred(proteins())), "is a tar archive"),
    "tar_xz": (lzma.compress(tarred(proteins())), "is a tar archive"),
    "zip_gzip": (gzip.compress(zipped(proteins(), zipfile.ZIP_STORED)), "is a zip archive"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + BIG, "is a 7z archive"),
    "rar": (b"Rar!\x1a\x07\x01\0" + BIG, "is a rar archive"),
    "compress": (b"\x1f\x9d\x90" + BIG, r"compressed by compress \(.Z\)"),
    "lz4": (b"\x04\x22\x4d\x18" + BIG, "compressed by lz4"),
    "lzma": (lzma.compress(BIG, lzma.FORMAT_ALONE), "compressed by lzma"),
    "parquet": (parquet(BIG), "is Parquet"),
    "gzip_gzip": (gzip.compress(gzip.compress(proteins())), "is gzip in gzip, compressed twice"),
    "xz_gzip": (gzip.compress(lzma.compress(proteins())), "is xz in gzip"),
    "utf16": (proteins().decode().encode("utf-16"), "is UTF-16 text"),
    "utf16_le": (proteins().decode().encode("utf-16-le"), "is UTF-16 text"),
    "utf16_be_gzip": (gzip.compress(proteins().decode().encode("utf-16-be")), "is UTF-16 text"),
    "utf32": (proteins().decode().encode("utf-32"), "is UTF-32 text"),
    "genpept": (b"LOCUS       FIC_001  20 aa   linear BCT 01-JAN-2020\nORIGIN\n 1 mkvl\n//\n", "is GenPept"),
    "pir": (b">P1;CRAB_ANAPL\nALPHA CRYSTALLIN B CHAIN\n  MDITIHNPLI*\n", "is PIR"),
    "pir_commented": (b"C; made by hand\n\n>F1;X\ntitle\nMKVL*\n", "is PIR"),
    "fastq": (b"@r1 x\nACGT\n+\n>III\n@r2\nACGT\n+\n>>II\n", "is FASTQ"),
    "sam": (b"@HD\tVN:1.6\nr1\t0\t*\n", "is SAM"),
    "html": (b"\n <!DOCTYPE html>\n<p\n>Log in</p>\n", "is HTML, possibly .* login page"),
    "html_bare": (b"<HTML><body\n>Log in", "is HTML"),
    "xml": (b'<?xml version="1.0"?>\n<a\n>b</a>', "is XML"),
    "json": (b'{"error": "log in",\n "x": "\n>y"}', "is JSON"),
    "json_list": (b'[\n {"sequence": "MKVL"}]', "is JSON"),
    "git_lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", "is a Git LFS pointer"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + BIG, "is an HDF5 file"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_kinds_are_refused_by_name(plan: Callable[..., Planned], tmp_path: Path, kind: str) -> None:
    """Cases packed-archives-read-as-fasta, wrong-kind-of-file-messages, genpept-named-wrongly, pir-title-folded."""
    content, reason = OTHERS[kind]
    (tmp_path / "in.faa").write_bytes(content)
    with pytest.raises(SourceError, match=reason):
        plan(tmp_path / "in.faa")
    assert not (tmp_path / "atlas").exists()


@pytest.mark.parametrize(
    "text", [b">P1 x\nMKVL\n", b">a;P1\nMKVL\n", b"[note\n>a\nMKVL\n", b"  \n\xef\xbb\xbf>a\nMKVL\n"]
)
def test_fasta_that_looks_like_others_is_read(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "in.faa").write_bytes(text)
    (source,) = find_sources([str(tmp_path / "in.faa")])
    assert source.format == "fasta"


@pytest.mark.parametrize("packer", PACKERS)
def test_packed_proteins_are_read(plan: Callable[..., Planned], tmp_path: Path, packer: str) -> None:
    """More than one block of bzip2, in two members."""
    data = proteins(9_000)
    half = data.index(b"\n>", len(data) // 2) + 1
    (tmp_path / "in").write_bytes(PACKERS[packer](data[:half]) + PACKERS[packer](data[half:]))
    made = plan(tmp_path / "in").plan
    assert made is not None and made.outcomes == {"accepted": 9_000}


@pytest.mark.parametrize("packer", ["bzip2", "xz"])
@pytest.mark.parametrize("size", [100, 1 << 18])
def test_cut_and_damaged_streams_give_what_they_have(packer: str, size: int) -> None:
    data = proteins(20_000)
    packed = PACKERS[packer](data)
    damaged = packed[:-2000] + b"\xff" * 100 + packed[-1900:]
    for broken in (packed[:-20], packed[: len(packed) * 3 // 4], damaged):
        stream = decompressed(io.BytesIO(broken), packer)
        found: list[bytes] = []
        with pytest.raises((EOFError, OSError)):
            while block := stream.read(size):
                found.append(block)
        assert found and (broken is damaged or data.startswith(b"".join(found)))


def test_a_bomb_is_read_in_bounded_steps() -> None:
    for name, pack in PACKERS.items():
        stream = decompressed(io.BytesIO(pack(bytes(20 << 20))), name)
        assert isinstance(stream, CompressedStream)
        longest = max(len(block) for block in iter(lambda stream=stream: stream.read(1 << 16), b""))
        assert longest <= 1 << 16


def test_xz_with_a_large_dictionary_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 512 << 20}]
    (tmp_path / "in.xz").write_bytes(_header_of(filters))
    with pytest.raises(SourceError, match="more than 256 MiB"):
        find_sources([str(tmp_path / "in.xz")])


def _header_of(filters: list[dict[str, int]]) -> bytes:
    """An xz file whose header asks for a dictionary, changed in place: compressing with it would need gigabytes."""
    small = [{**filters[0], "dict_size": 1 << 20}]
    text = bytearray(lzma.compress(b">a\nMK\n", lzma.FORMAT_XZ, filters=small))
    header = 12  # of the stream; then the block's: size, flags, filter, size of properties, dictionary, padding, CRC-32
    length = (text[header] + 1) * 4
    assert text[header + 2 : header + 4] == b"\x21\x01"
    text[header + 4] = 34  # 2^29 bytes
    text[header + length - 4 : header + length] = _crc32(bytes(text[header : header + length - 4]))
    return bytes(text)


def _crc32(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


def test_an_empty_file_among_many_is_a_warning(
    plan: Callable[..., Planned], folder: AtlasFolder, tmp_path: Path
) -> None:
    """Case empty-file-among-many."""
    empties = {"nothing": b"", "blank": b" \r\n", "mark": b"\xef\xbb\xbf", "packed.gz": gzip.compress(b"")}
    for name, content in {"a": proteins(), **empties, "b": proteins(seed=2)}.items():
        (tmp_path / name).write_bytes(content)
    names = [tmp_path / name for name in ("a", *empties, "b")]
    with pytest.warns(SourceWarning, match="is empty") as warned:
        made = plan(*names).plan
    assert len(warned) == len(empties)
    assert made is not None and made.outcomes == {"accepted": 10}
    assert {Path(source.uri).name: source.records for source in made.sources} == {
        **dict.fromkeys(empties, 0),
        "a": 5,
        "b": 5,
    }
    assert plan(*names).plan is None
    with pytest.raises(SourceError, match=r"2 sources cannot be used(.|\n)*nothing is empty(.|\n)*blank is empty"):
        plan(tmp_path / "nothing", tmp_path / "blank")


def test_bad_files_are_named_all_at_once(plan: Callable[..., Planned], tmp_path: Path) -> None:
    (tmp_path / "a.faa").write_bytes(proteins())
    for number in (1, 2):
        (tmp_path / f"text{number}").write_text("no record\n")
    (tmp_path / "in.zip").write_bytes(OTHERS["zip"][0])
    with pytest.raises(SourceError) as caught:
        plan(tmp_path / "a.faa", tmp_path / "none", tmp_path / "in.zip", f"{tmp_path}/*.gb", tmp_path / "a.faa")
    head, *lines = str(caught.value).split("\n")
    assert head == "3 sources cannot be used:" and len(lines) == 3
    with pytest.raises(SourceError, match=r"text2 is not FASTA(.|\n)*text1 is not FASTA"):
        plan(tmp_path / "a.faa", tmp_path / "text2", tmp_path / "text1")


def test_a_folder_means_its_sequence_files(plan: Callable[..., Planned], tmp_path: Path) -> None:
    home = tmp_path / "in"
    (home / "sub.faa").mkdir(parents=True)
    for number, name in enumerate(["z.faa", "b.FASTA.gz", "a.fa.bz2", "notes.txt", "x.gff", ".hidden.faa"]):
        data = proteins(2, seed=number + 1)
        (home / name).write_bytes({"gz": gzip.compress, "z2": bz2.compress}.get(name[-2:], bytes)(data))
    made = plan(home).plan
    assert made is not None
    assert [Path(source.uri).name for source in made.sources] == ["a.fa.bz2", "b.FASTA.gz", "z.faa"]
    (home / "sub.faa" / "x").touch()
    with pytest.raises(SourceError, match="a folder without a file of FASTA or GenBank"):
        plan(home / "sub.faa")


def test_a_pipe_is_a_source_named_by_its_content(
    plan: Callable[..., Planned], folder: AtlasFolder, tmp_path: Path
) -> None:
    """Case pipe-as-input: `<(zcat a.gz)`, and the same content again by another pipe."""

    def through(name: str, data: bytes) -> Planned:
        os.mkfifo(tmp_path / name)
        writer = threading.Thread(target=(tmp_path / name).write_bytes, args=(data,))
        writer.start()
        try:
            return plan(tmp_path / name)
        finally:
            writer.join()

    data = proteins(50)
    made = through("first", gzip.compress(data, mtime=0)).plan
    assert made is not None and made.outcomes == {"accepted": 50}
    assert through("plain", data).plan is not None
    (source,) = made.sources
    assert source.uri == f"pipe:{source.sha256}" and source.mtime_ns == 0
    assert through("again", gzip.compress(data, mtime=0)).plan is None
    assert not folder.staging.exists()
    with pytest.raises(SourceError, match="can be read only once"):
        find_sources([str(tmp_path / "first")])


MIXED = b">gap\n" + b"N" * 45 + b"\n>repeat\n" + b"AG" * 20 + b"\n>short\nACGTACGT\n>serine\n" + b"SR" * 20 + b"\n"


@pytest.mark.parametrize("range_bytes", [200, 1 << 20])
def test_doubtful_letters_are_judged_by_their_file(
    plan: Callable[..., Planned], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, range_bytes: int
) -> None:
    """Cases low-complexity-protein-refused and nucleotides-with-ambiguity-folded, for any ranges."""
    monkeypatch.setattr("foldatlas.pipeline.sources.find.RANGE_BYTES", range_bytes)
    ambiguous = contigs(1, length=1_200).replace(b">c0\n", b">ambiguous\nR")
    cases = {
        "among_proteins": (MIXED + proteins(), {"accepted": 9}),
        "among_contigs": (contigs() + MIXED + ambiguous, {"nucleotides": 10}),
        "alone": (MIXED, {"accepted": 4}),
        "one_contig": (ambiguous, {"nucleotides": 1}),
        "three_bases": (b">cag\n" + b"CAG" * 20 + b"\n", {"nucleotides": 1}),
        "both": (contigs(2) + MIXED + proteins(5), {"accepted": 9, "nucleotides": 2}),
    }
    for name, (data, outcomes) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.warns(SourceWarning) if "accepted" not in outcomes else nullcontext():
            made = plan(tmp_path / name).plan
        assert made is not None and made.outcomes == outcomes, name


def test_refused_nucleotides_keep_no_sequence(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(contigs() + MIXED)
    (range_,) = cut_ranges(find_sources([str(tmp_path / "in")]))
    ingest.ingest(ingest.IngestTask(range_, str(tmp_path), 1280))
    note = ingest.read_note(tmp_path, 0)
    assert note is not None
    assert (note.counts.proteins, note.counts.misread, note.counts.doubtful) == (0, 5, 4)
    staged = tmp_path / ingest.staged_path(0)
    assert ingest.refuse_nucleotides(staged, Kind.NUCLEOTIDES) == 4
    table = pq.read_table(staged)
    assert table.num_rows == 9 and set(table["outcome"].to_pylist()) == {"nucleotides"}
    assert table["sequence"].null_count == table["structure_id"].null_count == table["sequence_crc64"].null_count == 9
    assert list(tmp_path.glob("*.part")) == []


def test_records_without_an_atlas_are_judged_too(tmp_path: Path) -> None:
    for data, good in ((MIXED + proteins(), 9), (MIXED + contigs(), 0), (MIXED, 4)):
        (tmp_path / "in").write_bytes(data)
        refused: Counter[str] = Counter()
        (source,) = find_sources([str(tmp_path / "in")])
        assert len(list(accepted(source, refused))) == good
        assert refused.total() == data.count(b">") - good


@pytest.mark.parametrize(
    ("letters", "kind"),
    [
        (b"ACGT" * 8, Kind.NUCLEOTIDES),
        (b"ACGU" * 8, Kind.NUCLEOTIDES),
        (b"ACGT" * 7, Kind.DOUBTFUL),
        (b"R" + b"ACGT" * 300, Kind.NUCLEOTIDES),
        (b"ACGT" * 300 + b"N" * 3000, Kind.DOUBTFUL),
        (b"E" + b"ACGT" * 300, Kind.PROTEIN),
        (b"ACGT" * 300 + b"L", Kind.PROTEIN),
        (b"GAGAGS" * 30, Kind.DOUBTFUL),
        (b"AAT" * 30, Kind.DOUBTFUL),
        (b"NNGNANNTNCNNSNNNNNNNNNNNNNNNNNNNNNNNNNNNN", Kind.DOUBTFUL),
    ],
)
def test_letters_settle_what_they_can(letters: bytes, kind: Kind) -> None:
    assert kind_of(letters) is kind


def test_headers_of_latin_1_cost_no_protein(plan: Callable[..., Planned], tmp_path: Path) -> None:
    """Case header-not-utf8."""
    (tmp_path / "in").write_bytes(b">cyt\xe9 prot\xe9ine \x92\nMKVLAAGIVGLCAAWLLKDE\n")
    (source,) = find_sources([str(tmp_path / "in")])
    with open_records(source) as stream:
        [(record, _)] = stream.records(1280)
    assert (record.outcome, record.id, record.description) == ("accepted", "cyt\\xe9", "prot\\xe9ine \\x92")
