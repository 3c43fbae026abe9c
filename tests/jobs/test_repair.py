"""`foldatlas verify --repair`: what is at fault is dropped and folded again, and nothing else."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import novelty_atlas
import pytest

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.jobs.novelty import novelty
from foldatlas.jobs.verify import repair, verify
from foldatlas.schemas.errors import FoldAtlasError
from foldatlas.schemas.manifest import plan_name

Run = Callable[..., Any]
Tables = Callable[[Path], dict[str, list[tuple[object, ...]]]]


@pytest.fixture
def atlas(whole: Path, tmp_path: Path) -> Path:
    """A copy of an atlas of 24 proteins that a test may damage."""
    shutil.copytree(whole, tmp_path / "atlas")
    return tmp_path / "atlas"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def shard_of(path: Path) -> str:
    return path.name.split(".")[0]


def test_shards_at_fault_are_folded_again(atlas: Path, whole: Path, run: Run, tables: Tables) -> None:
    """A flipped bit in each kind of file, a lost one, an entry cut short; a flipped bit in an entry is corrected."""
    files = {table: sorted((atlas / table).iterdir()) for table in ("structures", "scores", "failures", "manifest")}
    damaged = [files["structures"][0], files["scores"][1], files["failures"][2], files["manifest"][5]]
    for path in damaged:
        flip(path)
    files["structures"][3].unlink()
    files["manifest"][4].write_bytes(files["manifest"][4].read_bytes()[:100])
    before = {path: path.stat().st_mtime_ns for path in atlas.rglob("*.parquet")}

    found = run("verify", atlas)
    assert found.returncode == 3
    for path in (*damaged, files["structures"][3], files["manifest"][4]):
        assert path.relative_to(atlas).as_posix() in found.stdout
    done = run("verify", atlas, "--repair")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(": no fault\n")
    assert f"{files['manifest'][5].relative_to(atlas).as_posix()}: a flipped bit is corrected" in done.stderr
    shards = {shard_of(path) for path in (*damaged[:3], files["structures"][3], files["manifest"][4])}
    assert len(shards) == 5 == done.stderr.count(": dropped, to be folded again")
    assert tables(atlas) == tables(whole)
    kept = {path for path in before if shard_of(path) not in shards}
    assert all(path.stat().st_mtime_ns == before[path] for path in kept) and kept
    assert not [path for path in before if path.exists() and path not in kept]  # no leftovers


def test_an_index_at_fault_is_built_again(atlas: Path, run: Run) -> None:
    (atlas / "atlas.duckdb").write_bytes(b"DUCK" * 1000)
    done = run("verify", atlas, "--repair")
    assert (done.returncode, done.stdout.rpartition(": ")[2]) == (0, "no fault\n"), done.stderr
    assert "the index: built again" in done.stderr and "folded again" not in done.stderr


def test_a_run_at_fault_is_dropped(tmp_path: Path, run: Run) -> None:
    """Hits of a search: the run goes, the structures stay, and the same search runs again."""
    folder = AtlasFolder(tmp_path / "atlas")
    novelty_atlas.write_atlas(folder, novelty_atlas.proteins())
    reference = tmp_path / "reference"
    novelty_atlas.reference(reference)
    novelty(folder.root, [reference])
    (path,) = (folder.root / "novelty").glob("*/hits/*.parquet")
    flip(path)
    done = run("verify", folder.root, "--repair")
    assert done.returncode == 0 and ": dropped, run the same command again" in done.stderr
    assert not list((folder.root / "novelty").rglob("*.json")) and len(folder.entries()) > 0
    novelty(folder.root, [reference])
    assert verify(folder.root).faults == []


def test_records_and_sequences_are_planned_again(
    atlas: Path, run: Run, tables: Tables, whole: Path, tmp_path: Path
) -> None:
    """From the FASTA file of the plan, and from a copy of it where the sequences of another atlas were lost too."""
    sequences, records = next((atlas / "sequences").iterdir()), next((atlas / "records").iterdir())
    sound = {path: path.read_bytes() for path in (sequences, records)}
    flip(sequences)
    records.unlink()
    entries = sorted((atlas / "manifest").iterdir())
    done = run("verify", atlas, "--repair")
    assert (done.returncode, done.stdout.rpartition(": ")[2]) == (0, "no fault\n"), done.stderr
    assert done.stderr.count("to be made again from the sources") == 2 and "dropped" not in done.stderr
    assert {path: path.read_bytes() for path in sound} == sound
    assert sorted((atlas / "manifest").iterdir()) == entries and tables(atlas) == tables(whole)


def test_sequences_without_their_source_stay(atlas: Path, run: Run, short_proteins: str, tmp_path: Path) -> None:
    """No shard is dropped whose sequences are lost. A moved source is given with --source; another file is refused."""
    plan = AtlasFolder(atlas).plans()[0]
    lost = msgspec.structs.replace(plan.sources[0], uri=(tmp_path / "moved.fasta").as_uri())
    moved = msgspec.structs.replace(plan, sources=(lost,))
    name = plan_name(moved.sources, moved.max_length, moved.shards)
    for path in (atlas / "manifest").iterdir():
        path.unlink()
    (atlas / "plans" / f"{plan.name}.json").unlink()
    (atlas / "atlas.duckdb").unlink()
    renamed = tuple(msgspec.structs.replace(s, name=s.name.replace(plan.name, name)) for s in plan.shards)
    AtlasFolder(atlas).commit_plan(msgspec.structs.replace(moved, name=name, shards=renamed))
    flip(atlas / plan.sequences[0].path)
    other = tmp_path / "other.fasta"
    other.write_text(">a\nMKV\n")
    for words in ((), ("--source", other)):
        done = run("verify", atlas, "--repair", *words)
        assert done.returncode == 3 and "give the file with --source" in done.stderr, done.stderr
        assert f"{plan.sequences[0].path}: cannot be made again" in done.stderr
    done = run("verify", atlas, "--repair", "--source", short_proteins)
    assert plan.sequences[0].path not in done.stdout, done.stderr  # records name the source of the plan as it was
    assert "records" in done.stdout


def test_nothing_is_dropped_without_the_model(atlas: Path, run: Run) -> None:
    flip(next((atlas / "structures").iterdir()))
    entries = sorted((atlas / "manifest").iterdir())
    for words, text in (
        (("--model", "nothing"), "nothing"),
        (("--model", str(atlas)), "config.json"),
    ):
        done = run("verify", atlas, "--repair", *words)
        assert done.returncode == 2 and text in done.stderr and "Traceback" not in done.stderr
    assert sorted((atlas / "manifest").iterdir()) == entries
    done = run("verify", atlas, "--device", "cpu")
    assert done.returncode == 2 and "belong to --repair" in done.stderr


@pytest.mark.long
def test_an_atlas_on_a_store(whole: Path, s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A truncated file, a plan with a flipped bit, and records and sequences that are lost."""
    monkeypatch.setenv("FOLDATLAS_CACHE", str(tmp_path / "cache"))
    s3.create_bucket(Bucket="atlases")
    store = AtlasFolder("s3://atlases/whole")
    local = AtlasFolder(whole)
    for file in local.storage.files():
        if file.name != "atlas.duckdb":
            with store.storage.building(file.name) as path:
                path.write_bytes(local.storage.read(file.name))
    build_index(store)
    first, *_ = store.entries().values()
    name = f"whole/{first.files['structures'].path}"
    s3.put_object(Bucket="atlases", Key=name, Body=b"cut")
    assert [fault.next_step.subject for fault in verify(store.uri).faults] == [first.shard]
    assert repair(store.uri).faults == []
    assert AtlasFolder(store.uri).entries()[first.shard].attempt != first.attempt
    [plan] = store.plans()
    lost = {file.path: store.storage.read(file.path) for file in (plan.records[0], plan.sequences[0])}
    for path in lost:
        store.storage.delete(path)
    document = f"plans/{plan.name}.json"
    content = store.storage.read(document)
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 4
    s3.put_object(Bucket="atlases", Key=f"whole/{document}", Body=bytes(flipped))
    assert repair(store.uri).faults == []
    assert store.storage.read(document) == content
    assert {path: store.storage.read(path) for path in lost} == lost


def test_a_sound_atlas_is_left_alone(atlas: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in atlas.rglob("*")}
    assert repair(atlas).faults == []
    assert {path: path.stat().st_mtime_ns for path in atlas.rglob("*")} == before
    with pytest.raises(FoldAtlasError):
        repair(atlas / "nothing")
