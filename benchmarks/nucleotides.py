"""Error rates of telling nucleotides from proteins: proteins refused, contigs that would be folded.

python benchmarks/nucleotides.py proteins.fasta... [--contigs 100000] [--out benchmarks/results]

The proteins are those of the files, a BLAST database's `.psq` or FASTA. The contigs are made up, since their truth must
be certain: lengths log-normal (median 500, at least 30), G+C of 15 to 75 %, and IUPAC's ambiguity codes at a stated
rate; beside them assembly gaps (N alone), microsatellites (units of 1 to 6 bases), and short ones of 8 to 29 letters.
Each kind is judged alone, by its letters, and in a file in which most other records are of its kind.
"""

import argparse
import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from machine import hardware

from foldatlas.pipeline.sources.fasta import WHITE_SPACE, Reader
from foldatlas.pipeline.sources.nucleotides import Kind, is_nucleotides, kind_of
from foldatlas.pipeline.sources.validation import UPPER, without_end

SEED: Final = 12
CODES: Final = "RYSWKMBDHV"
# NCBIstdaa, the alphabet of BLAST's protein databases, of which code 0 stands between sequences.
STDAA: Final = b"-ABCDEFGHIKLMNPQRSTVWXYZU*OJ"
RATES: Final = (0.0, 0.001, 0.01, 0.05, 0.1, 0.2)


def proteins_of(path: Path) -> Iterator[bytes]:
    if path.suffix == ".psq":
        letters = bytes.maketrans(bytes(range(len(STDAA))), STDAA)
        yield from (text.translate(letters) for text in path.read_bytes().split(b"\0") if text)
        return
    with path.open("rb") as file:
        for record in Reader(file):
            yield without_end(record.text.partition(b"\n")[2].translate(UPPER, WHITE_SPACE))


def contig(generator: random.Random, rate: float) -> bytes:
    length = max(30, round(generator.lognormvariate(0, 1) * 500))
    gc = generator.uniform(0.15, 0.75)
    letters = generator.choices("ACGT", [1 - gc, gc, gc, 1 - gc], k=length)
    for index in range(length):
        if generator.random() < rate:
            letters[index] = generator.choice(CODES)
    return "".join(letters).encode()


def gap(generator: random.Random) -> bytes:
    return b"N" * generator.randint(30, 2000)


def microsatellite(generator: random.Random) -> bytes:
    unit = generator.choices("ACGT", k=generator.randint(1, 6))
    return ("".join(unit) * 1000)[: generator.randint(30, 300)].encode()


def short(generator: random.Random) -> bytes:
    return "".join(generator.choices("ACGT", k=generator.randint(8, 29))).encode()


def judged(sequences: Iterator[bytes], majority: Kind) -> tuple[int, int, int, int]:
    """The number of sequences, how many are DOUBTFUL, and how many are judged nucleotides alone and in their file."""
    kinds: Counter[Kind] = Counter()
    alone = among = 0
    for letters in sequences:
        kind = kind_of(letters)
        kinds[kind] += 1
        is_certain = kind is Kind.NUCLEOTIDES
        is_doubtful = kind is Kind.DOUBTFUL
        alone += is_certain or (is_doubtful and is_nucleotides(letters, Kind.DOUBTFUL))
        among += is_certain or (is_doubtful and is_nucleotides(letters, majority))
    return kinds.total(), kinds[Kind.DOUBTFUL], alone, among


def percent(part: int, whole: int) -> str:
    return f"{part:,} ({100 * part / whole:.4f} %)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("proteins", type=Path, nargs="+", help="FASTA, or the .psq of a BLAST database")
    parser.add_argument("--contigs", type=int, default=100_000, help="of each kind")
    parser.add_argument("--out", type=Path, help="folder for nucleotides.md")
    arguments = parser.parse_args()
    lines = [
        "# Nucleotides or proteins",
        "",
        f"`benchmarks/nucleotides.py`, {datetime.now(UTC).date()}, {hardware()}.",
        "",
        "| | sequences | letters do not decide | wrong alone | wrong in a file of their kind |",
        "|---|---|---|---|---|",
    ]
    for path in arguments.proteins:
        total, doubtful, alone, among = judged(proteins_of(path), Kind.PROTEIN)
        name = f"proteins of {path.name}"
        lines.append(f"| {name} | {total:,} | {doubtful:,} | {percent(alone, total)} | {percent(among, total)} |")
    kinds: dict[str, Callable[[random.Random], bytes]] = {
        **{f"contigs, {rate:.1%} ambiguity codes": partial(contig, rate=rate) for rate in RATES},
        "assembly gaps, N alone": gap,
        "microsatellites": microsatellite,
        "shorter than 30": short,
    }
    for name, make in kinds.items():
        generator = random.Random(SEED)
        found = judged((make(generator) for _ in range(arguments.contigs)), Kind.NUCLEOTIDES)
        total, doubtful, alone, among = found
        wrong = percent(total - alone, total), percent(total - among, total)
        lines.append(f"| {name} | {total:,} | {doubtful:,} | {wrong[0]} | {wrong[1]} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        (arguments.out / "nucleotides.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
