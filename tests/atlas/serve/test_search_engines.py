"""What searches find, against independent references: MMseqs2 called directly, exhaustive TM-align, and tmtools."""

from pathlib import Path

import made_families
import numpy as np
import pytest
from made_chains import backbone

from foldatlas.atlas.novelty.hits import Query
from foldatlas.atlas.reference.mmseqs2 import run_program
from foldatlas.atlas.serve.search.build import build_search
from foldatlas.atlas.serve.search.documents import read_database
from foldatlas.atlas.serve.search.requests import Hit
from foldatlas.atlas.serve.search.segments import SegmentArrays, SegmentWriter
from foldatlas.atlas.serve.search.sequences import search_sequences
from foldatlas.atlas.serve.search.structures import search_structures
from foldatlas.folding.compare.three_di import three_di_states
from foldatlas.folding.compare.tm_align import Chains, tm_align_many

PROTEINS = made_families.families(10, 6, seed=3)
BY_ID = {protein.identity: protein for protein in PROTEINS}


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Search databases of 61 proteins: of one segment, and of several."""
    root = tmp_path_factory.mktemp("engines") / "atlas"
    made_families.make_atlas(root, *(PROTEINS[number::4] for number in range(4)))
    build_search(root, root / "search")
    build_search(root, root / "parts", segment_residues=2_000)
    return [root / "search", root / "parts"]


def segments_of(root: Path) -> list[SegmentArrays]:
    return [SegmentArrays(root, segment) for segment in read_database(root).segments]


def quiet(phase: str, fraction: float) -> None:
    assert 0 <= fraction <= 1


def sequence_hits(root: Path, sequence: str, scratch: Path, **options: float) -> list[Hit]:
    scratch.mkdir()
    given = {"limit": 100, "max_evalue": 1e-3, "threads": 1, **options}
    return search_sequences(segments_of(root), sequence, scratch=scratch, on_progress=quiet, **given)


def test_sequence_hits_are_those_of_mmseqs2(roots: list[Path], tmp_path: Path) -> None:
    """`mmseqs easy-search` of FASTA files without a prefilter: the same targets, scores, E-values and spans."""
    queries = [PROTEINS[k] for k in (0, 13, 26, 40)]
    for name, given in (("queries", queries), ("targets", PROTEINS)):
        text = "".join(f">{protein.name}\n{protein.sequence}\n" for protein in given)
        (tmp_path / f"{name}.fasta").write_text(text)
    columns = "query,target,fident,bits,evalue,qstart,qend,tstart,tend"
    run_program(
        *("easy-search", "queries.fasta", "targets.fasta", "found.tsv", "work", "--prefilter-mode", "2"),
        *("--alignment-mode", "3", "-e", "0.001", "--format-output", columns, "--threads", "1", "-v", "1"),
        folder=tmp_path,
    )
    lines = [line.split("\t") for line in (tmp_path / "found.tsv").read_text().splitlines()]
    for number, query in enumerate(queries):
        expected = {line[1]: list(map(float, line[2:])) for line in lines if line[0] == query.name}
        hits = sequence_hits(roots[0], query.sequence, tmp_path / str(number))
        found = {
            BY_ID[hit.structure_id].name: [
                hit.identity, hit.bits, hit.evalue, hit.query_start, hit.query_end, hit.target_start, hit.target_end
            ]
            for hit in hits
        }  # fmt: skip
        assert found.keys() == expected.keys() and len(found) >= 3
        for name, values in found.items():
            assert values == pytest.approx(expected[name], rel=1e-3)


def test_identity_is_that_of_the_aligned_letters(roots: list[Path], tmp_path: Path) -> None:
    """Of near relatives, whose alignments have no gaps: their letters are compared one by one."""
    query = PROTEINS[0]
    compared = 0
    for hit in sequence_hits(roots[0], query.sequence, tmp_path / "0"):
        own = query.sequence[hit.query_start - 1 : hit.query_end]
        theirs = BY_ID[hit.structure_id].sequence[hit.target_start - 1 : hit.target_end]
        if hit.identity > 0.85:
            compared += 1
            assert hit.identity == pytest.approx(np.mean([a == b for a, b in zip(own, theirs, strict=True)]), abs=1e-3)
            assert hit.coverage == len(own) / len(query.sequence)
    assert compared >= 2


def test_segments_give_the_hits_of_one(roots: list[Path], tmp_path: Path) -> None:
    """E-values are of the whole database, within a hundredth; structures are the same to the last bit."""
    assert len(segments_of(roots[1])) >= 3
    whole, parts = (sequence_hits(root, PROTEINS[5].sequence, tmp_path / root.name, max_evalue=10.0) for root in roots)
    assert [hit.structure_id for hit in whole if hit.evalue < 1] == [
        hit.structure_id for hit in parts if hit.evalue < 1
    ]
    for one, other in zip(whole, parts, strict=False):
        if one.evalue < 1:
            assert other.evalue == pytest.approx(one.evalue, rel=0.02) and other.bits == one.bits
    whole, parts = (structure_hits(root, PROTEINS[5], min_tm=0.3) for root in roots)
    assert whole == parts


def query_of(protein: made_families.Protein) -> Query:
    return Query("query", protein.sequence, protein.backbone_4L3.transpose(1, 0, 2).astype(np.float32))


def structure_hits(root: Path, protein: made_families.Protein, **options: float) -> list[Hit]:
    given = {"limit": 100, "min_tm": 0.5, "threads": 1, **options}
    found = search_structures(segments_of(root), query_of(protein), on_progress=quiet, **given)
    assert found is not None
    return found


@pytest.mark.parametrize("number", [2, 17, 33, 47, 55])
def test_structure_hits_are_those_of_exhaustive_tm_align(roots: list[Path], number: int) -> None:
    """Every structure aligned with the query: the same hits at 0.5, none with a smaller score."""
    [segment] = segments_of(roots[0])
    query = query_of(PROTEINS[number]).backbone_L43
    states = three_di_states(*(query[:, atom] for atom in range(4)))
    chains = Chains(segment.c_alphas, segment.states, segment.offsets)
    exhaustive = tm_align_many(query[:, 1], states, chains)
    expected = {segment.structure_id(row): score for row, score in enumerate(exhaustive.tm_query_P) if score >= 0.5}
    hits = structure_hits(roots[0], PROTEINS[number])
    found = {hit.structure_id: hit.tm_query for hit in hits}
    assert found.keys() == expected.keys() and len(found) >= 6
    assert all(found[name] >= score - 0.01 for name, score in expected.items())
    assert [hit.tm_query for hit in hits] == sorted(found.values(), reverse=True)
    best = structure_hits(roots[0], PROTEINS[number], limit=3)
    assert best == hits[:3]


def test_scores_are_those_of_tm_align(roots: list[Path]) -> None:
    """tmtools, the program of the authors as a library: both normalisations, by the lengths of both chains."""
    tmtools = pytest.importorskip("tmtools")
    query = PROTEINS[9]
    hits = structure_hits(roots[0], query)
    assert len(hits) >= 6
    for hit in hits:
        target = BY_ID[hit.structure_id]
        theirs = tmtools.tm_align(
            query.backbone_4L3[1].astype(float), target.backbone_4L3[1].astype(float), query.sequence, target.sequence
        )
        assert hit.tm_query >= theirs.tm_norm_chain1 - 0.01 and hit.tm_target >= theirs.tm_norm_chain2 - 0.01
        assert hit.tm_query <= theirs.tm_norm_chain1 + 0.02


def test_residues_without_a_c_alpha_keep_their_numbers(tmp_path: Path) -> None:
    """Of the query and of the target: alignments count all residues, as their files do."""
    atoms = np.stack(backbone(90, seed=5), axis=1).astype(np.float32)
    missing = atoms.copy()
    missing[20:26] = np.nan
    with SegmentWriter(tmp_path / "segments" / "0") as writer:
        writer.add("A" * 90, missing, b"a" * 16)
        writer.add("G" * 60, np.stack(backbone(60, seed=6), axis=1).astype(np.float32), b"b" * 16)
    segment = SegmentArrays(tmp_path, writer.segment("0", {}))
    query = atoms.copy()
    query[50:53] = np.nan
    hits = search_structures([segment], Query("q", "A" * 90, query), limit=5, min_tm=0.5, threads=1, on_progress=quiet)
    [hit] = hits
    assert hit.structure_id == b"a" * 16 and hit.alignment == [(1, 1, 20), (27, 27, 24), (54, 54, 37)]
    assert hit.aligned_length == 81 and hit.rmsd == pytest.approx(0, abs=1e-3) and hit.identity == 1.0
    assert hit.tm_query == pytest.approx(81 / 87, abs=1e-6)  # by the 87 residues that have a C-alpha
    assert search_structures([segment], Query("q", "A" * 20, atoms[:20]), limit=5, min_tm=0.5, threads=1,
                             on_progress=quiet) is None  # fmt: skip
