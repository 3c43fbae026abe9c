"""MMseqs2 as a program of its own: a search and a clustering of named sequences (Steinegger and Soeding 2017).

It is called and not linked: releases before 16 are under the GPL. Names are handed over as numbers, so that no name
can be misread, and what comes back is sorted, so that it depends on neither threads nor chance.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from foldatlas.schemas.errors import FoldAtlasError, SourceError, UsageError

SENSITIVITY: Final = "7.5"  # MMseqs2's most sensitive setting
MOST_HITS: Final = "100000"  # a query: more than there are sequences, so that none is cut off
CLUSTERING: Final = ("--min-seq-id", "0.5", "-c", "0.8", "--cov-mode", "0")
PREFILTER_RESULT: Final = (7).to_bytes(4, "little")  # MMseqs2's mark of such a database
HIT_COLUMNS: Final = "query,target,fident,alnlen,qlen,tlen,evalue,qcov,tcov"  # what MMseqs2 writes for a Hit


@dataclass(frozen=True)
class Hit:
    """An alignment. Identity, of the aligned columns, and both coverages: 0-1. Lengths: residues."""

    query: str
    target: str
    identity: float
    aligned: int
    query_length: int
    target_length: int
    evalue: float
    query_coverage: float
    target_coverage: float


def parse_hits(text: str) -> Iterator[Hit]:
    """The lines that MMseqs2 writes with `--format-output HIT_COLUMNS`. Raises SourceError for other lines."""
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split("\t")
        try:
            query, target, identity, aligned, query_length, target_length, evalue, *coverages = fields
            query_coverage, target_coverage = map(float, coverages)
            counts = int(aligned), int(query_length), int(target_length)
            yield Hit(query, target, float(identity), *counts, float(evalue), query_coverage, target_coverage)
        except ValueError as error:
            raise SourceError(
                f"line {number} of MMseqs2's hits is {line[:80]!r}, not {HIT_COLUMNS}: use MMseqs2 14 or newer"
            ) from error


def parse_clusters(text: str) -> dict[str, str]:
    """Member -> representative, from MMseqs2's table of representative and member."""
    clusters = {}
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split("\t")
        if len(fields) != 2:
            raise SourceError(f"line {number} of MMseqs2's clusters is {line[:80]!r}, not two names")
        clusters[fields[1]] = fields[0]
    return clusters


@dataclass(frozen=True)
class MMseqs:
    """The program `mmseqs`, how many threads it may use, and a folder for what it leaves."""

    program: str
    threads: int
    folder: Path

    def version(self) -> str:
        return self._call("version").strip()

    def search(self, queries: Mapping[str, str], targets: Mapping[str, str], largest_evalue: float) -> list[Hit]:
        """Hits of `queries` in `targets` (name -> residues), in their order, among pairs that share similar words."""
        if not queries or not targets:
            return []
        self._write("queries", queries.values())
        self._write("targets", targets.values())
        options = ("-s", SENSITIVITY, "--max-seqs", MOST_HITS, "--format-output", HIT_COLUMNS)
        self._run("easy-search", ("queries", "targets", "hits"), (*options, *_aligned(largest_evalue)))
        return self._hits(list(queries), list(targets))

    def align_all(self, queries: Mapping[str, str], targets: Mapping[str, str], largest_evalue: float) -> list[Hit]:
        """The same of every query with every target: some relatives share no word. Linear in the residues of both."""
        if not queries or not targets:
            return []
        with tempfile.TemporaryDirectory(prefix="databases-", dir=self.folder) as databases:
            query, target, pairs, aligned = (f"{databases}/{name}" for name in ("query", "target", "pairs", "aligned"))
            for name, sequences in (("queries", queries), ("targets", targets)):
                self._write(name, sequences.values())
            self._call("createdb", "queries", query, "--shuffle", "0")
            self._call("createdb", "targets", target, "--shuffle", "0")
            _pair_all(Path(query), Path(target), Path(pairs))
            threads = ("--threads", str(self.threads))
            self._call("align", query, target, pairs, aligned, *_aligned(largest_evalue), *threads)
            self._call("convertalis", query, target, aligned, "hits", "--format-output", HIT_COLUMNS, *threads)
        return self._hits(list(queries), list(targets))

    def _hits(self, query_names: Sequence[str], target_names: Sequence[str]) -> list[Hit]:
        hits = sorted(
            parse_hits((self.folder / "hits").read_text(encoding="ascii")),
            key=lambda hit: (int(hit.query), int(hit.target), hit.evalue, hit.identity, hit.aligned),
        )
        return [replace(hit, query=query_names[int(hit.query)], target=target_names[int(hit.target)]) for hit in hits]

    def cluster(self, sequences: Mapping[str, str]) -> dict[str, str]:
        """Member -> representative at 50 % identity, 80 % of both covered; in the order of `sequences`."""
        names = list(sequences)
        self._write("sequences", sequences.values())
        self._run("easy-cluster", ("sequences", "clusters"), CLUSTERING)
        found = parse_clusters((self.folder / "clusters_cluster.tsv").read_text(encoding="ascii"))
        return {name: names[int(found[str(number)])] for number, name in enumerate(names)}

    def _write(self, name: str, sequences: Iterable[str]) -> None:
        """FASTA with numbers for names, so that no name can be misread."""
        text = "".join(f">{number}\n{residues}\n" for number, residues in enumerate(sequences))
        (self.folder / name).write_text(text, encoding="ascii")

    def _run(self, command: str, files: Sequence[str], options: Sequence[str]) -> None:
        # A scratch folder of its own each time: in an old one MMseqs2 takes what it finds for results of this run.
        with tempfile.TemporaryDirectory(prefix="scratch-", dir=self.folder) as scratch:
            self._call(command, *files, scratch, *options, "--threads", str(self.threads))

    def _call(self, *words: str) -> str:
        done = subprocess.run(
            [self.program, *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode != 0:
            last = "\n".join((done.stdout + done.stderr).splitlines()[-5:])
            raise FoldAtlasError(f"mmseqs {words[0]} ended with exit code {done.returncode}:\n{last}")
        return done.stdout


def _aligned(largest_evalue: float) -> tuple[str, ...]:
    return ("-e", str(largest_evalue), "--alignment-mode", "3")  # 3: identity is counted, not estimated


def _pair_all(query: Path, target: Path, pairs: Path) -> None:
    """A prefilter's result in which every query has every target, by the trick of MMseqs2's own guide.

    A result lists targets by lines that begin with a key, and so does the index of the targets' database. Every
    query is pointed at the whole of it.
    """
    content = target.with_name(target.name + ".index").read_bytes()
    pairs.write_bytes(content)
    lines = query.with_name(query.name + ".index").read_text(encoding="ascii").splitlines()
    index = "".join(f"{line.split()[0]}\t0\t{len(content)}\n" for line in lines)
    pairs.with_name(pairs.name + ".index").write_text(index, encoding="ascii")
    pairs.with_name(pairs.name + ".dbtype").write_bytes(PREFILTER_RESULT)


def find_program(name: str) -> str:
    """The path of MMseqs2's program. Raises UsageError where there is none."""
    found = shutil.which(name)
    if found is None:
        raise UsageError(f"{name} is not there: install MMseqs2 (Debian: mmseqs2), or name its program: --mmseqs PATH")
    return os.path.abspath(found)  # it runs in another folder
