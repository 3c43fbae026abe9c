"""Running the program MMseqs2 (Steinegger and Soeding 2017): search and clustering of named sequences.

It is called as a process and not linked: releases before 16 are under the GPL. Sequences are passed under numbers, so
that no name can be misparsed, and results are sorted, so that they do not depend on threads or timing.
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
MAX_HITS: Final = "100000"  # per query: more than there are sequences, so that none is cut off
CLUSTERING: Final = ("--min-seq-id", "0.5", "-c", "0.8", "--cov-mode", "0")
PREFILTER_RESULT: Final = (7).to_bytes(4, "little")  # MMseqs2's type code of a prefilter database
HIT_COLUMNS: Final = "query,target,fident,alnlen,qlen,tlen,evalue,qcov,tcov"  # MMseqs2's columns of a Hit


@dataclass(frozen=True)
class Hit:
    """An alignment. Identity, of the aligned columns, and both coverages are 0 to 1; lengths are in residues."""

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
    """Parse what MMseqs2 writes with `--format-output HIT_COLUMNS`. Raise SourceError for other lines."""
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split("\t")
        try:
            query, target, identity, aligned, query_length, target_length, evalue, *coverages = fields
            query_coverage, target_coverage = map(float, coverages)
            counts = int(aligned), int(query_length), int(target_length)
            yield Hit(query, target, float(identity), *counts, float(evalue), query_coverage, target_coverage)
        except ValueError as error:
            raise SourceError(
                f"line {number} of MMseqs2's hits is {line[:80]!r}, not {HIT_COLUMNS}: use MMseqs2 14 or later"
            ) from error


def parse_clusters(text: str) -> dict[str, str]:
    """Return member -> representative from MMseqs2's table of representatives and members."""
    clusters = {}
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split("\t")
        if len(fields) != 2:
            raise SourceError(f"line {number} of MMseqs2's clusters is {line[:80]!r}, not two names")
        clusters[fields[1]] = fields[0]
    return clusters


@dataclass(frozen=True)
class MMseqs:
    """The program `mmseqs`, its number of threads, and a folder for its files."""

    program: str
    threads: int
    folder: Path

    def version(self) -> str:
        return self._call("version").strip()

    def search(self, queries: Mapping[str, str], targets: Mapping[str, str], largest_evalue: float) -> list[Hit]:
        """Return the hits of `queries` in `targets` (name -> residues), in their order, after the k-mer prefilter."""
        if not queries or not targets:
            return []
        self._write("queries", queries.values())
        self._write("targets", targets.values())
        options = ("-s", SENSITIVITY, "--max-seqs", MAX_HITS, "--format-output", HIT_COLUMNS)
        self._run("easy-search", ("queries", "targets", "hits"), (*options, *_aligned(largest_evalue)))
        return self._hits(list(queries), list(targets))

    def align_all(self, queries: Mapping[str, str], targets: Mapping[str, str], largest_evalue: float) -> list[Hit]:
        """Return the same, aligning every query with every target: the prefilter misses some relatives.

        The time is proportional to the product of the residues of both.
        """
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
        """Return member -> representative at 50 % identity and 80 % coverage of both, in the order of `sequences`."""
        names = list(sequences)
        self._write("sequences", sequences.values())
        self._run("easy-cluster", ("sequences", "clusters"), CLUSTERING)
        found = parse_clusters((self.folder / "clusters_cluster.tsv").read_text(encoding="ascii"))
        return {name: names[int(found[str(number)])] for number, name in enumerate(names)}

    def _write(self, name: str, sequences: Iterable[str]) -> None:
        """Write FASTA with numbers as names, so that no name can be misparsed."""
        text = "".join(f">{number}\n{residues}\n" for number, residues in enumerate(sequences))
        (self.folder / name).write_text(text, encoding="ascii")

    def _run(self, command: str, files: Sequence[str], options: Sequence[str]) -> None:
        # A new scratch folder for each run: MMseqs2 would reuse results that it finds in an old one.
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
            raise FoldAtlasError(f"mmseqs {words[0]} failed with exit code {done.returncode}:\n{last}")
        return done.stdout


def _aligned(largest_evalue: float) -> tuple[str, ...]:
    return ("-e", str(largest_evalue), "--alignment-mode", "3")  # 3: exact identity, not an estimate


def _pair_all(query: Path, target: Path, pairs: Path) -> None:
    """Write a prefilter result in which every query has every target, as in MMseqs2's user guide ("fake prefilter").

    A prefilter result lists targets by lines that begin with a key, as does the index of the target database. Each
    query refers to the whole of that index.
    """
    content = target.with_name(target.name + ".index").read_bytes()
    pairs.write_bytes(content)
    lines = query.with_name(query.name + ".index").read_text(encoding="ascii").splitlines()
    index = "".join(f"{line.split()[0]}\t0\t{len(content)}\n" for line in lines)
    pairs.with_name(pairs.name + ".index").write_text(index, encoding="ascii")
    pairs.with_name(pairs.name + ".dbtype").write_bytes(PREFILTER_RESULT)


def find_program(name: str) -> str:
    """Return the absolute path of the program `name`. Raise UsageError if it is not installed."""
    found = shutil.which(name)
    if found is None:
        raise UsageError(
            f"{name} was not found: install MMseqs2 (Debian: mmseqs2), or give its path with --mmseqs PATH"
        )
    return os.path.abspath(found)  # absolute, because it runs in another folder
