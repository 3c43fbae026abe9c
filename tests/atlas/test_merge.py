"""Merging: the union of plans, the first named wins, and all of the new atlas or nothing."""

import dataclasses
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from msgspec import structs

from foldatlas.atlas import merge
from foldatlas.atlas.accounting import Accounting
from foldatlas.atlas.folder import HEADER, AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.merge import merge_atlases
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.storage import commit
from foldatlas.atlas.verify.atlas import verify
from foldatlas.schemas.errors import (
    DamagedAtlasError,
    ForeignFolderError,
    NotAnAtlasError,
    SettingsMismatchError,
    UsageError,
)
from foldatlas.schemas.manifest import AtlasHeader, Plan, ShardEntry, encode, settings_digest
from foldatlas.schemas.records import Settings, structure_id


def snapshot(root: Path) -> dict[str, tuple[bytes, int]]:
    """Every file's bytes and modification time."""
    paths = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def remove(folder: AtlasFolder, entries: list[ShardEntry]) -> None:
    """Takes shards out of an atlas, with every file: another machine's part."""
    for entry in entries:
        for file in entry.files.values():
            (folder.root / file.path).unlink(missing_ok=True)
        folder.entry_path(entry.shard, entry.generation).unlink()


@pytest.fixture
def parts(copy: Callable[[], object], built: object) -> list[AtlasFolder]:
    """Two copies of the synthetic atlas's plans, the committed shards without embeddings shared out between them."""
    folders = [copy().folder, copy().folder]
    for number, folder in enumerate(folders):
        entries = list(folder.entries().values())
        odd = [entry for entry in entries if entry.outputs]
        remove(folder, odd + [entry for entry in entries if not entry.outputs][number::2])
    return folders


@pytest.mark.parametrize("kind", ["plans", "manifest"])
def test_a_document_under_another_name_than_its_own_is_not_taken(
    kind: str, parts: list[AtlasFolder], tmp_path: Path
) -> None:
    """Output paths are made from names inside the atlas: an atlas from elsewhere must not choose them."""
    path = next((parts[1].root / kind).iterdir())
    path.rename(path.with_name(f"other{path.name}"))
    with pytest.raises(DamagedAtlasError, match=f"other{path.name} is of"):
        merge_atlases([folder.root for folder in parts], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_parts_of_plans_unite(parts: list[AtlasFolder], tmp_path: Path) -> None:
    before = [snapshot(folder.root) for folder in parts]
    out = AtlasFolder(tmp_path / "out")
    accounting = merge_atlases([folder.root for folder in parts], out.root)
    assert [snapshot(folder.root) for folder in parts] == before  # but for the counts of links, untouched
    united = {**parts[0].entries(), **parts[1].entries()}
    assert len(united) == 2 and all(len(folder.entries()) == 1 for folder in parts)
    assert out.entries() == united
    assert out.plans() == parts[0].plans()
    assert verify(out).faults == []
    assert [note for note in verify(out).notes if "nowhere" in note] == []
    assert accounting.pending > 0 and accounting == build_index(out)
    for folder in parts:
        alone = build_index(folder)
        assert (alone.records, alone.refused, alone.repeated) == (
            accounting.records, accounting.refused, accounting.repeated,
        )  # fmt: skip
        assert alone.pending > accounting.pending
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_files_are_linked_or_copied(parts: list[AtlasFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = [folder.root for folder in parts]
    linked = merge_atlases(roots, tmp_path / "linked", check=True)
    sequences = parts[0].plans()[0].sequences[0].path
    assert (tmp_path / "linked" / sequences).samefile(roots[0] / sequences)
    real = os.link

    def refuse(source: Path, target: Path) -> None:
        if not str(source).startswith(str(tmp_path / ".copied")):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(source, target)  # commits within the new atlas

    monkeypatch.setattr(os, "link", refuse)
    assert merge_atlases(roots, tmp_path / "copied") == linked
    assert not (tmp_path / "copied" / sequences).samefile(roots[0] / sequences)
    data = [
        {name: content for name, (content, _) in snapshot(tmp_path / kind).items() if name.endswith(".parquet")}
        for kind in ("linked", "copied")
    ]
    assert data[0] == data[1]


def test_a_structure_in_both_comes_from_the_first_named(
    two: tuple[AtlasFolder, AtlasFolder, bytes], tmp_path: Path
) -> None:
    older, newer, shared = two
    for number, (first, second) in enumerate([(older, newer), (newer, older)]):
        out = tmp_path / f"out{number}"
        accounting = merge_atlases([first.root, second.root], out)
        assert accounting == Accounting(folded=5)  # a1 a2 s of one, s b1 of the other: five records, four structures
        with duckdb.connect(str(out / "atlas.duckdb"), read_only=True) as connection:
            sql = "select structure_file::varchar from scores where structure_id = ?"
            [(path,)] = connection.execute(sql, [shared.hex()]).fetchall()
            [(rows,)] = connection.execute("select count(*) from scores").fetchall()
            copies = connection.execute("select distinct structure_id::varchar from copies").fetchall()
        assert rows == 4
        assert (first.root / path).exists() and not (second.root / path).exists()
        assert [found.replace("-", "") for (found,) in copies] == [shared.hex()]
        with Atlas.open(out) as atlas:
            assert atlas.query("select count(*) from proteins").rows() == [(5,)]
        assert verify(AtlasFolder(out)).faults == []
    # merged again with a third place for the same: the order holds over two merges
    again = tmp_path / "again"
    shutil.copytree(older.root, tmp_path / "third")
    merge_atlases([tmp_path / "out1", tmp_path / "third"], again)
    assert [plan.order for plan in AtlasFolder(again).plans()] == [0, 1]
    assert AtlasFolder(again).plans()[0].name == newer.plans()[0].name


@pytest.fixture
def two(built: object, tmp_path: Path, atlas_of: Callable[..., AtlasFolder]) -> tuple[AtlasFolder, AtlasFolder, bytes]:
    older = atlas_of("older", {"a1": "MKVLA", "a2": "MAAAW", "s": "MSHARED".replace("H", "K")}, "2026-11-01")
    newer = atlas_of("newer", {"s": "MSKARED", "b1": "MWWWW"}, "2026-11-05")
    return older, newer, structure_id("MSKARED")


def test_shard_in_both_inputs_comes_from_the_first(atlas_of: Callable[..., AtlasFolder], tmp_path: Path) -> None:
    """All files of the shard come from the first input, at its highest generation."""
    one = atlas_of("one", {"a": "MKVLA"}, "2026-11-01")
    other = AtlasFolder(tmp_path / "other")
    shutil.copytree(one.root, other.root)
    # in `other` the shard was repaired: generation 1 names another scores file
    (entry,) = other.entries().values()
    scores = entry.files["scores"]
    moved = structs.replace(scores, path=scores.path.replace("_0_0", "_0_9"))
    shutil.copy(other.root / scores.path, other.root / moved.path)
    files = {**entry.files, "scores": moved}
    assert other.commit_entry(structs.replace(entry, generation=1, attempt="repaired", files=files))
    merge_atlases([one.root, other.root], tmp_path / "a")
    assert AtlasFolder(tmp_path / "a").histories() == one.histories()
    merge_atlases([other.root, one.root], tmp_path / "b")
    merged = AtlasFolder(tmp_path / "b")
    assert merged.histories() == other.histories() and len(merged.histories()[entry.shard]) == 2
    assert (merged.root / moved.path).exists() and not (merged.root / scores.path).exists()
    assert verify(merged).faults == []
    assert merged.committed_entry(merged.plans()[0].shards[0], entry.settings_digest) == merged.entries()[entry.shard]


def test_other_settings_are_refused_by_name(atlas_of: Callable[..., AtlasFolder], tmp_path: Path) -> None:
    one, other = (atlas_of(name, {"a": "MKVLA"}, "2026-11-01") for name in ("one", "other"))
    header = other.header()
    changed: Settings = dataclasses.replace(header.settings, recycles=3)
    altered: AtlasHeader = structs.replace(header, settings=changed, settings_digest=settings_digest(changed))
    (other.root / HEADER).write_bytes(encode(altered))
    with pytest.raises(SettingsMismatchError, match=r"one was made with recycles 0, .*other has 3"):
        merge_atlases([one.root, other.root], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_outputs_in_one_alone_are_refused(atlas_of: Callable[..., AtlasFolder], tmp_path: Path) -> None:
    one = atlas_of("one", {"a": "MKVLA"}, "2026-11-01", embeddings=True)
    other = atlas_of("other", {"b": "MWWWW"}, "2026-11-01")
    for names in ([one.root, other.root], [other.root, one.root]):
        with pytest.raises(UsageError, match=r"one has embeddings, .*other has shards without.*--add-outputs"):
            merge_atlases(names, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    planned = atlas_of("planned", {"c": "MYYYY"}, "2026-11-01", folded=False)
    assert merge_atlases([one.root, planned.root], tmp_path / "out").pending == 1  # nothing folded, nothing to mix


def test_places_that_cannot_be_used(atlas_of: Callable[..., AtlasFolder], tmp_path: Path) -> None:
    one, other = (atlas_of(name, {name: "MKVLA"}, "2026-11-01").root for name in ("one", "other"))
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years")
    (tmp_path / "link").symlink_to(one)
    before = [snapshot(path) for path in (one, other, tmp_path / "thesis")]
    refused: list[tuple[list[str | Path], str | Path, type[Exception], str]] = [
        ([one, other], one, UsageError, "is an atlas to be merged"),
        ([one, other], tmp_path / "link", UsageError, "is an atlas to be merged"),
        ([one, other], other / "deep" / "out", UsageError, "inside of an atlas"),
        ([one, tmp_path / "link"], tmp_path / "out", UsageError, "given twice"),
        ([one], tmp_path / "out", UsageError, "at least two atlases"),
        ([one, other], tmp_path / "thesis", ForeignFolderError, "thesis"),
        ([one, tmp_path / "thesis"], tmp_path / "out", NotAnAtlasError, "not an atlas"),
        ([one, "s3://bucket/atlas"], tmp_path / "out", UsageError, "local folder"),
        ([one, other], "s3://bucket/out", UsageError, "local folder"),
        ([one, other], tmp_path / "what?", UsageError, "DuckDB cannot open"),
    ]
    for names, out, error, reason in refused:
        with pytest.raises(error, match=reason):
            merge_atlases(names, out)
    (tmp_path / "third").mkdir()
    merge_atlases([one, other], tmp_path / "third")  # an empty folder is as good as none
    with pytest.raises(ForeignFolderError, match="not empty"):
        merge_atlases([one, other], tmp_path / "third")
    assert [snapshot(path) for path in (one, other, tmp_path / "thesis")] == before
    assert not (tmp_path / "out").exists() and not Path("s3:").exists()


def test_damage_ends_it_with_nothing_made(
    atlas_of: Callable[..., AtlasFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (atlas_of(name, {name: "MKVLA"}, "2026-11-01") for name in ("one", "other"))
    (entry,) = other.entries().values()
    path = other.root / entry.files["structures"].path
    good = path.read_bytes()
    flipped = bytes([*good[:50], good[50] ^ 1, *good[51:]])
    names, out = [one.root, other.root], tmp_path / "out"
    path.write_bytes(flipped)
    with pytest.raises(DamagedAtlasError, match="another sha256"):
        merge_atlases(names, out, check=True)
    real = os.link
    with monkeypatch.context() as patched:

        def refuse(source: Path, target: Path) -> None:
            if "manifest" in str(target) or "atlas.json" in str(target) or "plans" in str(target):
                return real(source, target)
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        patched.setattr(os, "link", refuse)
        with pytest.raises(DamagedAtlasError, match="another sha256"):
            merge_atlases(names, out)
    path.write_bytes(good[:-1])
    with pytest.raises(DamagedAtlasError, match="were committed"):
        merge_atlases(names, out)
    path.unlink()
    with pytest.raises(DamagedAtlasError, match="does not exist"):
        merge_atlases(names, out)
    foreign = structs.replace(entry, files={**entry.files, "scores": structs.replace(entry.files["scores"], path="x")})
    path.write_bytes(good)
    other.entry_path(entry.shard, 0).write_bytes(encode(foreign))
    with pytest.raises(DamagedAtlasError, match="as a file of scores"):
        merge_atlases(names, out)
    other.entry_path(entry.shard, 0).write_bytes(encode(structs.replace(entry, shard_digest="0")))
    with pytest.raises(DamagedAtlasError, match="other sequences"):
        merge_atlases(names, out)
    other.entry_path(entry.shard, 0).write_bytes(encode(entry))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other"]
    assert merge_atlases(names, out).folded == 2


def test_interrupted_merge_leaves_no_atlas(
    atlas_of: Callable[..., AtlasFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next merge removes what the interrupted one left."""
    one, other = (atlas_of(name, {name: "MKVLA"}, "2026-11-01").root for name in ("one", "other"))
    out = tmp_path / "out"
    with monkeypatch.context() as patched:

        def interrupt(self: AtlasFolder, plan: Plan) -> bool:
            raise KeyboardInterrupt

        patched.setattr(AtlasFolder, "commit_plan", interrupt)
        with pytest.raises(KeyboardInterrupt):
            merge_atlases([one, other], out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other"]
    living = commit.attempt_name()
    dead = living.replace(f"_{os.getpid()}_", "_4194304_")
    for attempt in (living, dead):
        (tmp_path / f".out.{attempt}{merge._SUFFIX}").mkdir()
    merge_atlases([one, other], out)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".out.{living}{merge._SUFFIX}", "one", "other", "out"]
