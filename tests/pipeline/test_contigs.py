"""Genes of contigs: against Pyrodigal called directly, against genes that were put there, and under any cutting."""

import gzip
import io
import itertools
import os
import random
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyrodigal
import pytest
import zstandard
from Bio import SeqIO
from Bio.Data import CodonTable
from Bio.Seq import Seq

from foldatlas.pipeline.engines.dask.local import worker_environments
from foldatlas.pipeline.planning.planner import Planned
from foldatlas.pipeline.sources import contigs, fasta
from foldatlas.pipeline.sources.contigs import ContigReader
from foldatlas.pipeline.sources.find import SourceFile, SourceWarning, find_sources
from foldatlas.pipeline.sources.genbank import CodingSequence
from foldatlas.pipeline.sources.record_stream import open_records
from foldatlas.pipeline.sources.validation import Record
from foldatlas.schemas.errors import SourceError
from foldatlas.schemas.records import Outcome

BETWEEN = "TTAACTAACTAA"  # stops in all six frames, so that no gene reaches past it
PROTEINS = b">p1\nMKVLAAGFFEQILPWYT\n>p2\nMEFLIPQRST\n"


def gene(letters: random.Random, num_codons: int) -> str:
    """A gene as bacteria have them: a ribosome's place, ATG, codons of a GC-rich genome, a stop."""
    codons = [first + second + third for first in "ACG" for second in "ACGT" for third in "GC"]
    return "AGGAGGTAACAT" + "ATG" + "".join(letters.choices(codons, k=num_codons - 1)) + "TAA"


def contig(seed: int) -> tuple[str, list[str]]:
    """Nucleotides, and the proteins of the genes in them: one on each strand, then one that the end cuts."""
    letters = random.Random(seed)
    genes = [gene(letters, 300), gene(letters, 200), gene(letters, 400)]
    parts = [genes[0], str(Seq(genes[1]).reverse_complement()), genes[2][:702]]
    text = (4 * BETWEEN).join(["", *parts]).removesuffix(BETWEEN)
    return text, [str(Seq(part[12:]).translate()).rstrip("*") for part in (genes[0], genes[1], genes[2][:702])]


CONTIGS = {f"c{seed}": contig(seed) for seed in range(8)}
FILE = b"".join(
    f">{name} flag=1\n{chr(10).join(text[at : at + 60] for at in range(0, len(text), 60))}\n".encode()
    for name, (text, _) in CONTIGS.items()
)


def test_gene_finding_uses_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--workers` sets each worker's share by its environment (engines.dask.local.worker_environments)."""
    threads: list[int] = []

    class Counted(ThreadPoolExecutor):
        def __init__(self, max_workers: int, **others: str):
            threads.append(max_workers)
            super().__init__(max_workers, **others)

    monkeypatch.setattr(contigs, "ThreadPoolExecutor", Counted)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    alone = read(FILE)
    monkeypatch.setenv("OMP_NUM_THREADS", worker_environments(3, "cpu")[0]["OMP_NUM_THREADS"])
    assert read(FILE) == alone and threads == [6, 2]


def read(data: bytes, start: int = 0, end: int | None = None) -> list[CodingSequence]:
    return list(ContigReader(io.BytesIO(data), start, end))


def texts(found: list[CodingSequence]) -> list[str]:
    return [coding.record.text.decode() for coding in found]


def test_genes_are_those_of_pyrodigal() -> None:
    finder, expected = pyrodigal.GeneFinder(meta=True, mask=True), []
    for name, (text, _) in CONTIGS.items():
        for number, found in enumerate(finder.find_genes(text), start=1):
            strand, edges = found.strand, f"{found.partial_begin:d}{found.partial_end:d}"
            header = f"{name}_{number} # {found.begin} # {found.end} # {strand} # ID={name}_{number};partial={edges}"
            expected.append((header, found.translate()))
    ours = [(record.description, str(record.seq)) for record in parsed(read(FILE))]
    assert [(header.partition(";start_type")[0], protein) for header, protein in ours] == expected
    assert len(ours) >= 24 and any("partial=01;start_type=ATG;" in header for header, _ in ours)


def parsed(found: list[CodingSequence]) -> list[SeqIO.SeqRecord]:
    return list(SeqIO.parse(io.StringIO("".join(f">{text}\n" for text in texts(found))), "fasta"))


def test_genes_that_were_put_there_are_found() -> None:
    proteins = {str(record.seq).rstrip("*") for record in parsed(read(FILE))}
    planted = {protein for _, found in CONTIGS.values() for protein in found}
    assert len(planted) == 24 and planted <= proteins


def test_proteins_are_those_of_their_place_in_the_file() -> None:
    """By Biopython's translation of the nucleotides that stand at the record's offset."""
    table = CodonTable.unambiguous_dna_by_id[11]
    for coding, record in zip(found := read(FILE), parsed(found), strict=True):
        begin, end, strand = (int(word) for word in record.description.split(" # ")[1:4])
        length = end - begin + 1
        letters = FILE[coding.record.offset :].translate(None, b"\n")[:length].decode()
        coded = Seq(letters) if strand == 1 else Seq(letters).reverse_complement()
        protein = str(coded[: length // 3 * 3].translate(table=11))
        whole = "partial=00" in record.description
        assert str(record.seq) == ("M" + protein[1:] if whole and str(coded[:3]) in table.start_codons else protein)
    assert len({coding.record.offset for coding in found}) == len(found)


@pytest.mark.parametrize("size", [61, 1000, 1 << 18])
def test_any_cutting_gives_every_gene_once(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, letters = read(FILE), random.Random(size)
    monkeypatch.setattr(fasta, "BLOCK_BYTES", size)
    bounds = sorted({0, len(FILE), *letters.sample(range(len(FILE)), 12)})
    assert [coding for start, end in itertools.pairwise(bounds) for coding in read(FILE, start, end)] == whole


def records(source: SourceFile) -> list[Record]:
    with open_records(source) as stream:
        found = [record for record, _ in stream.records(1280)]
        batches = [row["id"] for batch in stream.batches(1280) for row in batch.to_pylist()]
    assert not batches  # the stream has been read
    return found


@pytest.mark.parametrize("pack", [gzip.compress, lambda data: zstandard.ZstdCompressor().compress(data)])
def test_packed_or_plain_the_records_are_the_same(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / "plain").write_bytes(FILE)
    (tmp_path / "packed").write_bytes(pack(FILE))
    plain, packed = (records(*find_sources([str(tmp_path / name)], genes=True)) for name in ("plain", "packed"))
    assert plain == packed
    assert {record.outcome for record in plain} == {Outcome.ACCEPTED}
    assert {record.is_fragment for record in plain} == {True, False}
    assert all(record.sequence and "*" not in record.sequence for record in plain)


def test_case_rna_and_ambiguous_letters() -> None:
    text = CONTIGS["c0"][0]
    for other in (text.lower(), text.replace("T", "U"), "  " + text[:100] + "\t\r\n" + text[100:] + "\n\n"):
        assert texts(read(f">c\n{other}\n".encode())) == texts(read(f">c\n{text}\n".encode()))
    place = text.index("ATG") + 150
    masked = text[:place] + "NNNRYK" + text[place + 6 :]
    proteins = [record.seq for record in parsed(read(f">c\n{masked}\n".encode()))]
    assert texts(read(f">c\n{masked.replace('R', 'N').replace('Y', 'N').replace('K', 'N')}\n".encode())) == texts(
        read(f">c\n{masked}\n".encode())
    )
    assert any("XX" in protein for protein in proteins)


FAULTS = [
    (b"\n" + b"ACGT" * 9, Outcome.MISSING_ID),
    (b"a", Outcome.EMPTY_SEQUENCE),
    (b"a\n\n", Outcome.EMPTY_SEQUENCE),
    (b"a\0b\nACGT", Outcome.NUL_BYTE),
    (b"a\nAC\0GT", Outcome.NUL_BYTE),
    (b"a\nAC\xff", Outcome.NOT_NUCLEOTIDES),
    (b"a\nACGT--ACGT", Outcome.GAP),
    (b"a\nMKVLAAGEF", Outcome.NOT_NUCLEOTIDES),
    (b"a\nMKVRSDMKVWHK", Outcome.NOT_NUCLEOTIDES),  # IUPAC's codes all of them
    (b"a\nACGT*", Outcome.NOT_NUCLEOTIDES),
    (b"a\nAC1GT", Outcome.NOT_NUCLEOTIDES),
    (b"a\nAC\xffGT", Outcome.NOT_NUCLEOTIDES),
]


@pytest.mark.parametrize(("text", "outcome"), FAULTS)
def test_invalid_contig_is_refused_and_costs_no_other(tmp_path: Path, text: bytes, outcome: Outcome) -> None:
    path = tmp_path / "in.fna"
    path.write_bytes(FILE + b">" + text + b"\n" + FILE)
    found = records(*find_sources([str(path)], genes=True))
    (refused,) = [record for record in found if record.outcome != Outcome.ACCEPTED]
    assert (refused.outcome, refused.offset, refused.sequence) == (outcome, len(FILE), None)
    assert len(found) == 2 * len(read(FILE)) + 1


@pytest.mark.parametrize("text", [b"A", b"ACGT" * 4, b"N" * 1000, b"ACGTTTAA" * 10, b"XXXX"])
def test_contigs_without_a_gene_are_counted(text: bytes) -> None:
    reader = ContigReader(io.BytesIO(b">a\n" + text + b"\n" + FILE + b">b\n" + text))
    assert len(list(reader)) == len(read(FILE))
    assert (reader.counts.contigs, reader.counts.contigs_without_genes) == (len(CONTIGS) + 2, 2)


def test_contig_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contigs waiting for gene finding are bounded in bytes, too."""
    whole = texts(read(FILE))
    monkeypatch.setattr(contigs, "WAITING_BYTES", 1)
    assert texts(read(FILE)) == whole
    monkeypatch.setattr(fasta, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(fasta, "MAX_RECORD_BYTES", 10_000)
    found = read(FILE + b">long\n" + b"ACGT" * 5000 + b"\n" + FILE)
    assert [coding.fault for coding in found if coding.fault] == [Outcome.TOO_LONG]
    assert texts([coding for coding in found if not coding.fault]) == 2 * whole


def test_a_contig_that_a_broken_file_ends_in_is_refused() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if data := super().read(size):
                return data
            raise EOFError("the compressed file ends early")

    reader = ContigReader(Broken(FILE[:-900]))
    *genes, last = list(reader)
    assert (last.fault, reader.error) == (Outcome.TRUNCATED, "the compressed file ends early")
    assert texts(genes) == [text for text in texts(read(FILE)) if not text.startswith("c7_")]


@pytest.fixture
def assembly(tmp_path: Path) -> Path:
    path = tmp_path / "assembly.fna"
    path.write_bytes(FILE + b">short\nACGT\n")
    return path


def test_an_assembly_becomes_a_plan_and_is_known_again(plan: Callable[..., Planned], assembly: Path) -> None:
    made = plan(assembly, genes=True).plan
    assert made is not None and made.proteins == made.outcomes["accepted"] == len(read(FILE))
    (source,) = made.sources
    assert source.genes == f"pyrodigal {pyrodigal.__version__}, metagenomic mode"
    assert (source.records, source.contigs, source.contigs_without_genes) == (made.proteins, 9, 1)
    assert plan(assembly, genes=True).plan is None
    with pytest.warns(SourceWarning, match="looks like nucleotides .* --genes"):
        as_proteins = plan(assembly, genes=False).plan
    assert as_proteins is not None and as_proteins.outcomes == {"nucleotides": 9}
    assert as_proteins.sources[0].genes == ""
    assert plan(assembly, genes=False).plan is plan(assembly, genes=True).plan is None


def test_file_read_as_proteins_is_read_again_as_contigs(plan: Callable[..., Planned], assembly: Path) -> None:
    with warnings.catch_warnings(action="ignore", category=SourceWarning):
        assert plan(assembly, genes=False).plan is not None
    made = plan(assembly, genes=True).plan
    assert made is not None and made.outcomes == {"accepted": len(read(FILE))}


def test_proteins_and_genbank_are_refused_as_contigs(plan: Callable[..., Planned], tmp_path: Path) -> None:
    (tmp_path / "in.faa").write_bytes(PROTEINS)
    with pytest.raises(SourceError, match=r"holds no nucleotides.* without --genes"):
        plan(tmp_path / "in.faa", genes=True)
    (tmp_path / "in.gbk").write_bytes(b"LOCUS       x 10 bp DNA\n//\n")
    with pytest.raises(SourceError, match=r"GenBank.* without --genes"):
        plan(tmp_path / "in.gbk", genes=True)
    assert not (tmp_path / "atlas").exists()


def test_contigs_without_any_gene_give_a_warning(plan: Callable[..., Planned], tmp_path: Path) -> None:
    (tmp_path / "in.fna").write_bytes(b">a\nACGT\n>b\nACGT\n")
    with pytest.warns(SourceWarning, match="no gene found in 2 contigs"):
        made = plan(tmp_path / "in.fna", genes=True).plan
    assert made is not None and (made.outcomes, made.shards) == ({}, ())
    assert plan(tmp_path / "in.fna", genes=True).plan is None


def test_few_nucleotides_among_proteins_give_no_warning(plan: Callable[..., Planned], tmp_path: Path) -> None:
    (tmp_path / "in.faa").write_bytes(PROTEINS + b">dna\n" + b"ACGT" * 10 + b"\n")
    with warnings.catch_warnings(action="error"):
        made = plan(tmp_path / "in.faa", genes=False).plan
    assert made is not None and made.outcomes == {"accepted": 2, "nucleotides": 1}


def test_without_pyrodigal_the_extra_is_named(
    plan: Callable[..., Planned], assembly: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pyrodigal", None)
    with pytest.raises(SourceError, match=r"under the GPL.*pip install 'foldatlas\[genes\]'"):
        plan(assembly, genes=True)
    assert not (tmp_path / "atlas").exists()
    with pytest.warns(SourceWarning, match="--genes"):
        assert plan(assembly, genes=False).plan is not None
