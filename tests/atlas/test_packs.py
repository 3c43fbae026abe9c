"""Manifests of stores in packs: quicker to read, and never anything but what the listing says."""

import gzip
import hashlib
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from manifest_entries import made_entry

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.storage import packs
from foldatlas.atlas.storage.s3 import S3Storage
from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.manifest import FileEntry, ShardEntry, encode

FILES = {"failures": FileEntry("failures/x.parquet", 0, 9, "0" * 64)}


@pytest.fixture
def atlas(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AtlasFolder:
    """An empty place of this test's own. Three documents are many here."""
    monkeypatch.setattr(packs, "MIN_DOCUMENTS", 3)
    s3.create_bucket(Bucket="atlases")
    return AtlasFolder(f"s3://atlases/{tmp_path.name}")


def entry(number: int, generation: int = 0) -> ShardEntry:
    return made_entry(shard=f"p-{number:05d}", generation=generation, attempt=f"host_{number}_00", files=FILES)


def commit(atlas: AtlasFolder, *numbers: int) -> None:
    for number in numbers:
        assert atlas.commit_entry(entry(number))


def fresh(atlas: AtlasFolder) -> AtlasFolder:
    """The same atlas with nothing in memory, as in a process that has just begun."""
    return AtlasFolder(atlas.uri)


def asked(flaky: Any, atlas: AtlasFolder) -> tuple[dict[str, ShardEntry], list[str]]:
    """The entries, read by a new process, and the names of the objects that it fetched for that."""
    before = len(flaky.requests)
    found = fresh(atlas).entries()
    keys = [key.split("?")[0] for method, key in flaky.requests[before:] if method == "GET" and "list-type" not in key]
    return found, sorted(key.split("/", 3)[3] for key in keys)


def packs_of(atlas: AtlasFolder) -> list[str]:
    return [file.name for file in atlas.storage.files(packs.FOLDER)]


def test_pack_replaces_requests_and_newer_entries_are_read(atlas: AtlasFolder, flaky: Any) -> None:
    """Entries committed after the pack was made are read one by one beside it."""
    commit(atlas, 0, 1, 2, 3)
    assert asked(flaky, atlas)[1] == [f"manifest/p-{number:05d}.0.json" for number in range(4)]
    assert atlas.pack_manifest()
    (pack,) = packs_of(atlas)
    commit(atlas, 4)
    assert atlas.commit_entry(entry(1, generation=1))
    expected = {each.shard: each for each in (entry(0), entry(1, 1), entry(2), entry(3), entry(4))}
    assert asked(flaky, atlas) == (expected, ["manifest/p-00001.1.json", "manifest/p-00004.0.json", pack])
    assert not atlas.pack_manifest()  # two are too few
    commit(atlas, 5)
    assert atlas.pack_manifest()
    assert len(packs_of(atlas)) == 1 and pack not in packs_of(atlas)  # replaced
    assert asked(flaky, atlas) == ({**expected, "p-00005": entry(5)}, packs_of(atlas))


def test_the_listing_says_what_there_is_and_not_the_pack(atlas: AtlasFolder, flaky: Any) -> None:
    commit(atlas, 0, 1, 2, 3, 4)
    assert atlas.pack_manifest()
    atlas.storage.delete("manifest/p-00003.0.json")  # as a person does to have a damaged shard folded again
    atlas.storage.delete("manifest/p-00004.0.json")
    again = msgspec.structs.replace(entry(4), attempt="other_1_00")
    assert atlas.commit_entry(again)
    found, fetched = asked(flaky, atlas)
    assert found == {each.shard: each for each in (entry(0), entry(1), entry(2), again)}
    assert fetched == ["manifest/p-00004.0.json", *packs_of(atlas)]


@pytest.mark.parametrize("content", [b"", b"not what was put there", None])
def test_a_damaged_pack_costs_time_and_is_replaced(
    atlas: AtlasFolder, flaky: Any, caplog: pytest.LogCaptureFixture, content: bytes | None
) -> None:
    commit(atlas, 0, 1, 2)
    assert atlas.pack_manifest()
    (pack,) = packs_of(atlas)
    assert isinstance(atlas.storage, S3Storage)
    if content is None:  # the right name, but not a pack
        atlas.storage.delete(pack)
        content = b"{}"
        pack = packs.name_of(content)
    atlas.storage.write(pack, content)
    found, fetched = asked(flaky, atlas)
    assert found == {each.shard: each for each in map(entry, range(3))}
    assert pack in fetched and "is damaged and is not used" in caplog.text
    commit(atlas, *range(3, 9))
    assert fresh(atlas).pack_manifest() and len(packs_of(atlas)) == 1 and pack not in packs_of(atlas)
    assert asked(flaky, atlas) == ({each.shard: each for each in map(entry, range(9))}, packs_of(atlas))


def test_pack_replaced_during_reading_is_looked_up_again(
    atlas: AtlasFolder, flaky: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(atlas, 0, 1, 2)
    assert atlas.pack_manifest()
    (first,) = packs_of(atlas)
    listed, once = S3Storage.files, []

    def list_then_replace(self: S3Storage, folder: str = "", *, hidden: bool = False) -> list[Any]:
        found = listed(self, folder, hidden=hidden)
        if folder == packs.FOLDER and not once:
            once.append(True)
            commit(atlas, 3, 4, 5)
            assert fresh(atlas).pack_manifest()
        return found

    monkeypatch.setattr(S3Storage, "files", list_then_replace)
    found, fetched = asked(flaky, atlas)
    assert found == {each.shard: each for each in map(entry, range(3))}  # what was listed when it began
    assert first in fetched and packs_of(atlas) != [first]


def pack_of(entries: list[ShardEntry], tags: list[str]) -> tuple[str, bytes]:
    """A pack's name and content, as its description says: entries under the tags given."""
    lines = [
        {"name": f"manifest/{each.shard}.{each.generation}.json", "etag": tag, "text": encode(each).decode()}
        for each, tag in zip(entries, tags, strict=True)
    ]
    content = gzip.compress(b"\n".join(msgspec.json.encode(line) for line in lines))
    return f"packs/{hashlib.sha256(content).hexdigest()}.jsonl.gz", content


def test_a_pack_that_says_what_is_not_so_is_found(atlas: AtlasFolder) -> None:
    """FoldAtlas makes none, but other writers to the store can."""
    commit(atlas, 0, 1, 2)
    assert isinstance(atlas.storage, S3Storage)
    tags = [file.etag for file in atlas.storage.files("manifest")]
    made = [
        pack_of([entry(0), entry(1)], tags[:2]),
        pack_of([entry(1)], ["of what was there before"]),
        pack_of([entry(0), msgspec.structs.replace(entry(1), folded=9)], tags[:2]),
    ]
    for name, content in made:
        atlas.storage.write(name, content)
    atlas.storage.write("packs/notes.txt", b"of a person")
    assert atlas.false_packs() == {made[2][0]: "manifest/p-00001.0.json"}


def test_other_files_among_packs_are_left_alone(
    atlas: AtlasFolder, flaky: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(atlas, 0, 1, 2)
    assert isinstance(atlas.storage, S3Storage)
    bomb = gzip.compress(b"\n" * 100_000)
    inflated = f"packs/{hashlib.sha256(bomb).hexdigest()}.jsonl.gz"
    large = f"packs/{'0' * 64}.jsonl.gz"
    for name, content in (("packs/notes.txt", b"of a person"), (inflated, bomb), (large, b"0" * 1001)):
        atlas.storage.write(name, content)
    atlas.storage.write("manifest/notes.bin", b"\xff\xfe no entry")
    monkeypatch.setattr(packs, "MAX_BYTES", 1000)
    monkeypatch.setattr(packs, "MAX_UNPACKED_BYTES", 99_999)
    found, fetched = asked(flaky, atlas)
    assert found == {each.shard: each for each in map(entry, range(3))}
    assert [name for name in fetched if name.startswith("packs")] == [inflated]
    assert "unpacks to more than 99,999 bytes" in caplog.text and "it has 1,001 bytes" in caplog.text
    assert atlas.pack_manifest()  # in place of both
    assert len(packs_of(atlas)) == 2 and {inflated, large}.isdisjoint(packs_of(atlas))
    assert "packs/notes.txt" in packs_of(atlas)
    assert len(asked(flaky, atlas)[1]) == 1


def test_entry_that_is_not_text_is_left_out(atlas: AtlasFolder) -> None:
    commit(atlas, 0, 1, 2)
    assert isinstance(atlas.storage, S3Storage)
    atlas.storage.write("manifest/p-00007.0.json", b"\xff\xfe")
    assert atlas.pack_manifest()
    with pytest.raises(DamagedAtlasError, match="p-00007"):
        fresh(atlas).entries()


def test_entry_replaced_after_listing_is_not_packed(atlas: AtlasFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry replaced between listing and reading is not packed under its old tag, nor after its content returns."""
    commit(atlas, 0, 1, 2)
    atlas.entries()
    other = msgspec.structs.replace(entry(1), attempt="other_1_00")
    read = S3Storage.read_versions

    def replace_then_read(self: S3Storage, names: Any) -> Any:
        self.write("manifest/p-00001.0.json", encode(other))
        return read(self, names)

    monkeypatch.setattr(S3Storage, "read_versions", replace_then_read)
    assert fresh(atlas).pack_manifest()
    monkeypatch.setattr(S3Storage, "read_versions", read)
    assert fresh(atlas).entries() == {each.shard: each for each in (entry(0), other, entry(2))}
    assert isinstance(atlas.storage, S3Storage)
    atlas.storage.write("manifest/p-00001.0.json", encode(entry(1)))
    assert fresh(atlas).entries() == {each.shard: each for each in map(entry, range(3))}
    assert atlas.false_packs() == {}


def test_unreadable_packs_are_ignored(atlas: AtlasFolder, flaky: Any) -> None:
    commit(atlas, 0, 1, 2)
    assert atlas.pack_manifest()
    flaky.fault = lambda method, key: 403 if "/packs/" in key and "list-type" not in key else None
    assert asked(flaky, atlas)[0] == {each.shard: each for each in map(entry, range(3))}
    assert atlas.false_packs() == {}
    flaky.fault = lambda method, key: 403 if "/packs/" in key else None
    assert asked(flaky, atlas)[0] == {each.shard: each for each in map(entry, range(3))}


def test_one_pack_stays_when_several_pack_at_once(
    atlas: AtlasFolder, flaky: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the tasks of an array do, that begin together: none of them has seen another's pack."""
    commit(atlas, 0, 1, 2)
    write, others = S3Storage.write, iter(range(1, 4))

    def write_after_others(self: S3Storage, name: str, content: bytes) -> None:
        number = next(others, None)
        if number is not None:
            commit(atlas, *range(3 * number, 3 * number + 3))
            assert fresh(atlas).pack_manifest()
        write(self, name, content)

    monkeypatch.setattr(S3Storage, "write", write_after_others)
    assert atlas.pack_manifest()
    assert asked(flaky, atlas) == ({each.shard: each for each in map(entry, range(12))}, packs_of(atlas))
    assert len(packs_of(atlas)) == 1


def test_other_packs_are_read_only_if_the_largest_lacks_much(atlas: AtlasFolder, flaky: Any) -> None:
    commit(atlas, *range(12))
    assert isinstance(atlas.storage, S3Storage)
    tags = [file.etag for file in atlas.storage.files("manifest")]
    name_of = []
    for numbers in (range(8), range(2, 6), range(8, 11)):
        name, content = pack_of([entry(number) for number in numbers], [tags[number] for number in numbers])
        atlas.storage.write(name, content)
        name_of.append(name)
    expected = {each.shard: each for each in map(entry, range(12))}
    found, fetched = asked(flaky, atlas)
    assert found == expected and fetched == ["manifest/p-00011.0.json", *sorted(name_of)]
    atlas.storage.delete("manifest/p-00010.0.json")
    atlas.storage.delete("manifest/p-00009.0.json")
    assert asked(flaky, atlas)[1] == ["manifest/p-00008.0.json", "manifest/p-00011.0.json", name_of[0]]


def test_writers_packers_and_readers_at_once(atlas: AtlasFolder) -> None:
    """A reader gets all that was committed when it began, each entry once, as it was written."""
    committed: list[int] = []
    wrong: list[str] = []

    def write(first: int) -> None:
        for number in range(first, 60, 2):
            commit(atlas, number)
            committed.append(number)

    def read_and_pack() -> None:
        while any(writer.is_alive() for writer in writers):
            before = set(committed)
            found = fresh(atlas).entries()
            wrong.extend(name for name, each in found.items() if each != entry(int(name[2:])))
            wrong.extend(f"{number} is lost" for number in before if f"p-{number:05d}" not in found)
            atlas.pack_manifest()

    writers = [threading.Thread(target=write, args=(first,)) for first in range(2)]
    threads = [*writers, *(threading.Thread(target=read_and_pack) for _ in range(3))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(packs_of(atlas)) <= 1
    assert wrong == [] and fresh(atlas).entries() == {each.shard: each for each in map(entry, range(60))}


def test_packing_ignores_silent_stores_and_local_folders(
    atlas: AtlasFolder, flaky: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that does not answer is no error while packing; a local folder gets no pack."""
    commit(atlas, 0, 1, 2)
    monkeypatch.setattr("foldatlas.atlas.storage.s3_client.PATIENCE_SECONDS", 0.0)
    flaky.fault = lambda method, key: 503 if packs.FOLDER in key else None
    assert not atlas.pack_manifest()
    flaky.fault = lambda method, key: None
    assert packs_of(atlas) == []
    local = AtlasFolder(tmp_path / "atlas")
    commit(local, 0, 1, 2)
    assert not local.pack_manifest() and {path.name for path in local.root.iterdir()} == {"manifest"}
