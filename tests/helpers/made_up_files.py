"""Files that no one would make on purpose: random bytes, text almost like FASTA, and real files changed at random.

`made_up_files(seed)` is the same for the same seed, on every machine.
"""

import bz2
import gzip
import lzma
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from backports import zstd

ROOT: Final = Path(__file__).parents[2]
PACKERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "": bytes,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "zstd": zstd.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}
PIECES: Final = (
    *(b">", b"\n>", b"\n", b"\r\n", b"\r", b" ", b"\t", b"\x01", b"\x1a", b"\0", b"\xff", b"\xe9", b"\xef\xbb\xbf"),
    *(b"*", b"**", b".", b"-", b":", b"7", b";", b"MKVLAAG", b"acgtn", b"NNNN", b"AG" * 20, b"ACGT" * 10, b"XBZUOJ"),
    *(b">sp|P1|X_Y name (Fragment) OS=x\nMKVL\n", b">MGYP000848664103 PL=00\nMKVL\n", b">P1;X\ntitle\nMKVL*\n"),
    *(b">c_1 # 1 # 9 # 1 # ID=1_1;partial=10;\nMKVL*\n", b"\n>a b\nMKVLAAGIV\n", b"\n>a b\nMKVLAAGWW\n"),
)
GENBANK: Final = b"".join(
    b"LOCUS       E%d 30 bp DNA linear UNK\nFEATURES             Location/Qualifiers\n"
    b'     CDS             1..12\n                     /locus_tag="L%d"\n                     /translation="MKVL"\n'
    b'     CDS             complement(join(1..6,10..15))\n                     /gene="g"\n'
    b"ORIGIN\n        1 atgaaagttc tggcggcggg cattgttggc\n//\n" % (number, number)
    for number in range(8)
)


class MadeUpFile(NamedTuple):
    """`content` is as stored, `compression` one of PACKERS; `damaged`: whether it was changed after compression."""

    content: bytes
    compression: str
    damaged: bool


def made_up_files(seed: int) -> Iterator[MadeUpFile]:
    """An endless stream of files of some dozens of records."""
    generator = random.Random(seed)
    real = real_files()
    while True:
        way = generator.randrange(8)
        if way == 0:
            text = generator.randbytes(generator.randrange(3000)).replace(b"\x07", b"\n>")
        elif way < 4:
            text = b"".join(generator.choices(PIECES, k=generator.randrange(200)))
        else:
            text = mutated(generator, generator.choice(real), generator.randrange(12))
        compression = generator.choice(["", "", "", *PACKERS])
        packed = PACKERS[compression](text)
        damaged = bool(compression) and generator.random() < 0.3
        yield MadeUpFile(mutated(generator, packed, 1) if damaged else packed, compression, damaged)


def real_files() -> list[bytes]:
    """Pieces of files of each format that is read."""
    proteins = (ROOT / "examples" / "gut.fasta").read_bytes()
    contigs = b">c1 x\n" + b"ACGTTGCANN" * 30 + b"\n>c2\n" + b"GATTACARYK" * 30 + b"\n"
    starts = range(0, len(proteins) - 12_000, len(proteins) // 6)
    return [*(proteins[proteins.index(b">", start) :][:12_000] for start in starts), GENBANK, GENBANK, contigs]


def mutated(generator: random.Random, data: bytes, changes: int) -> bytes:
    """`data` with as many random changes: a byte, a piece put in, left out, doubled or moved, the end cut off."""
    text = bytearray(data)
    for _ in range(changes):
        begin = generator.randrange(len(text) + 1)
        end = min(len(text), begin + generator.randrange(1, 200))
        match generator.randrange(6):
            case 0:
                text[begin : begin + 1] = bytes([generator.randrange(256)])
            case 1:
                text[begin:begin] = generator.choice(PIECES)
            case 2:
                del text[begin:end]
            case 3:
                text[begin:begin] = text[begin:end]
            case 4:
                piece = text[begin:end]
                del text[begin:end]
                at = generator.randrange(len(text) + 1)
                text[at:at] = piece
            case _:
                if generator.random() < 0.3:
                    del text[begin:]
    return bytes(text)
