"""Recognise a file by its first bytes: the compressions and formats that are read, and the names of others.

The first bytes decide, for a file of any size: a binary file contains lines that begin with '>' by chance, and its
"records" would be noise. Text formats whose beginning could also be FASTA are named only when no record was found.
"""

import codecs
import re
import tarfile
from typing import IO, Any, Final, NamedTuple

from foldatlas.pipeline.sources.compression import BZIP2, GZIP, XZ, ZSTD, compression_of, decompressed

HEAD_BYTES: Final = 512  # a header of tar
# Enough of a compressed file for HEAD_BYTES of its content: bzip2 decompresses blocks of up to 900 kB at once, zstd of
# 128 KiB.
PACKED_HEAD_BYTES: Final = 1 << 20

_WINDOWS: Final = {
    ZSTD: "needs a window of more than 128 MiB: compress it without --long or --ultra",
    XZ: "needs more than 256 MiB to decompress: compress it with xz -9 at most",
}
_UNPACK: Final = "unpack it first"
# First bytes -> what the file is, and the next step. These formats are never read.
_PACKED: Final = {
    b"PK\x03\x04": f"a zip archive: {_UNPACK} (`unzip`)",
    b"PK\x05\x06": f"a zip archive without files: {_UNPACK} (`unzip`)",
    b"PK\x07\x08": f"a zip archive: {_UNPACK} (`unzip`)",
    b"7z\xbc\xaf\x27\x1c": f"a 7z archive: {_UNPACK} (`7z x`)",
    b"Rar!\x1a\x07": f"a rar archive: {_UNPACK} (`unrar x`)",
    b"!<arch>\n": f"an ar archive: {_UNPACK} (`ar x`)",
    b"070701": f"a cpio archive: {_UNPACK} (`cpio -i`)",
    b"070707": f"a cpio archive: {_UNPACK} (`cpio -i`)",
    b"\x1f\x9d": "compressed by compress (.Z): decompress it first (`gunzip`)",
    b"\x04\x22\x4d\x18": "compressed by lz4: decompress it first (`lz4 -d`)",
    b"\x02\x21\x4c\x18": "compressed by lz4: decompress it first (`lz4 -d`)",
    b"LZIP": "compressed by lzip: decompress it first (`lzip -d`)",
    b"]\0\0": "compressed by lzma: decompress it first (`xz -d`)",
    b"\x89LZO\0": "compressed by lzop: decompress it first (`lzop -d`)",
    b"\xff\x06\0\0sNaPpY": "compressed by snappy: decompress it first",
    b"PAR1": "Parquet: write its sequences as FASTA first",
    b"ARROW1": "an Arrow file: write its sequences as FASTA first",
    b"\x89HDF": "an HDF5 file: write its sequences as FASTA first",
    b"SQLite format 3\0": "an SQLite database: write its sequences as FASTA first",
    b"%PDF": "a PDF document: write its sequences as FASTA first",
    b"BAM\1": "BAM: reads must be assembled and translated first",
    b"CRAM": "CRAM: reads must be assembled and translated first",
    b"version https://git-lfs": "a Git LFS pointer instead of the file: fetch it (`git lfs pull`)",
    b"/annex/objects/": "a git-annex pointer instead of the file: fetch it (`git annex get`)",
}
_GENPEPT: Final = re.compile(rb"LOCUS +\S+ +\d+ aa\b")
_PIR: Final = re.compile(rb"(?:[^>\n][^\n]*\n|\n)*>(?:P1|F1|DL|DC|RL|RC|N1|N3|XX);")
_FASTQ: Final = re.compile(rb"@[^\r\n]*\r?\n[A-Za-z*.\r\n-]*(?:\n\+|\Z)")
_SAM: Final = re.compile(rb"@(?:HD|SQ|RG|PG|CO)\t")
_HTML: Final = re.compile(rb"<(?:!doctype\s+html|html|head|body|title)\b", re.IGNORECASE)
_JSON: Final = re.compile(rb'[\[{]\s*(?:["\[{\]}\d-]|true|false|null|\Z)')
# First bytes of files in which no record was found -> what they may be, and the next step.
_OTHER_TEXTS: Final = {
    b"# STOCKHOLM": "a Stockholm alignment: write its sequences as FASTA without gaps first",
    b"CLUSTAL": "a Clustal alignment: write its sequences as FASTA without gaps first",
    b"##gff-version": "GFF, which has no sequences: give the proteins as FASTA",
    b"ID   ": "EMBL or Swiss-Prot text: convert it to FASTA or GenBank first",
    b"HEADER  ": "a PDB file: write its sequence as FASTA first",
    b"ATOM  ": "a PDB file: write its sequence as FASTA first",
    b"data_": "an mmCIF file: write its sequence as FASTA first",
    b"@": "FASTQ: reads must be assembled and translated first",
    b"<": "HTML or XML, possibly an error page: check the address",
}


class Beginning(NamedTuple):
    """What the first bytes of a file show.

    compression: one of compression.py's, or "".
    head: the first HEAD_BYTES of the content, or all of it.
    refusal: why the file is not read, and the next step; "" if it is read.
    is_empty: whether there is no content.
    """

    compression: str
    head: bytes
    refusal: str
    is_empty: bool


def look_at(first: bytes) -> Beginning:
    """Judge a file by its `first` bytes, as `beginning` reads them."""
    compression = compression_of(first)
    head, fault = content_head(first)
    is_empty = not head.removeprefix(codecs.BOM_UTF8).strip() and len(head) < HEAD_BYTES and not fault
    return Beginning(compression, head, _refusal(compression, head, fault), is_empty)


def beginning(stream: IO[bytes]) -> bytes:
    """Read enough of a file to recognise its kind."""
    first = stream.read(HEAD_BYTES)
    return first + stream.read(PACKED_HEAD_BYTES) if compression_of(first) else first


def text_format(head: bytes) -> str:
    """Return what a file without a record, but with text, seems to be, and the next step; "" if it is unknown."""
    for magic, advice in _OTHER_TEXTS.items():
        if head.startswith(magic):
            return f"it looks like {advice}"
    return ""


def _refusal(compression: str, head: bytes, fault: str) -> str:
    if compression in _WINDOWS and "memory" in fault.lower():
        return _WINDOWS[compression]
    inner = compression_of(head)
    if compression and inner:
        return f"is {inner} in {compression}, compressed twice: decompress it once ({_decompressor(compression)})"
    packed = next((advice for magic, advice in _PACKED.items() if head.startswith(magic)), "")
    if not packed and _is_tar(head):  # file names and padding would become part of records
        packed = f"a tar archive: {_UNPACK} (`tar -xf`)"
    named = packed or _wide_text(head) or _text_refusal(head.removeprefix(codecs.BOM_UTF8).lstrip())
    return f"is {named}" if named else ""


def _decompressor(compression: str) -> str:
    return {GZIP: "`gunzip`", ZSTD: "`zstd -d`", BZIP2: "`bunzip2`", XZ: "`xz -d`"}[compression]


def _is_tar(head: bytes) -> bool:
    """Return whether a file begins with a tar header, by its magic number or, for old formats, its checksum."""
    if head[257:262] == b"ustar":
        return True
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True


def _wide_text(head: bytes) -> str:
    """Recognise UTF-16 or UTF-32, by its byte order mark or by NUL bytes beside ASCII letters."""
    advice = "save it as UTF-8 (`iconv -t UTF-8`)"
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, b">\0\0\0", b"\0\0\0>")):
        return f"UTF-32 text: {advice}"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return f"UTF-16 text: {advice}"
    even, odd = head[::2], head[1::2]
    for letters, nuls in ((even, odd), (odd, even)):
        if len(nuls) > 1 and not nuls.strip(b"\0") and letters.isascii() and b"\0" not in letters:
            return f"UTF-16 text: {advice}"
    return ""


def _text_refusal(text: bytes) -> str:
    """Recognise a text format whose lines may begin with '>' although it is not FASTA."""
    if _HTML.match(text):
        return "HTML, possibly an error or login page: check the address, and download it again"
    if text.startswith((b"<?xml", b"<!DOCTYPE")):
        return "XML: write its sequences as FASTA first"
    if _JSON.match(text):
        return "JSON, possibly an error message: write its sequences as FASTA first"
    if _SAM.match(text):
        return "SAM: reads must be assembled and translated first"
    if _FASTQ.match(text):
        return "FASTQ: reads must be assembled and translated first"
    if _GENPEPT.match(text):
        return "GenPept, proteins in GenBank's form: download them as FASTA"
    if _PIR.match(text):
        return "PIR, whose second lines are titles: convert it to FASTA first (Biopython: SeqIO.convert)"
    return ""


class _Bytes:
    """A stream of only the first bytes of a file."""

    def __init__(self, first: bytes):
        self._first = first

    def read(self, _size: int) -> bytes:
        first, self._first = self._first, b""
        return first

    def close(self) -> None:
        pass


def content_head(first: bytes) -> tuple[bytes, str]:
    """Return the first bytes of the content of a file that begins with `first`, and the error that prevented more, or
    ""."""
    stream: Any = decompressed(_Bytes(first), compression_of(first))  # type: ignore[arg-type]
    head = b""
    try:
        while len(head) < HEAD_BYTES and (block := stream.read(HEAD_BYTES - len(head))):
            head += block
    except (EOFError, OSError) as error:
        return head, str(error)
    return head[:HEAD_BYTES], ""
