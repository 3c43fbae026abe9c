"""An atlas on S3 beside the same atlas in a folder: index, queries, coordinates, export and verification agree."""

import hashlib
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from foldatlas.atlas.export import subset
from foldatlas.atlas.export.subset import export
from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index import published
from foldatlas.atlas.index.build import build_index, current_accounting
from foldatlas.atlas.index.contents import Contents, contents_of
from foldatlas.atlas.index.published import cache_folder, index_name, index_of, read_pointer
from foldatlas.atlas.reader import PARQUET_VIEWS, Atlas
from foldatlas.atlas.status import status
from foldatlas.atlas.storage import s3 as s3_storage
from foldatlas.atlas.storage.protocol import ABANDONED_SECONDS, Stored
from foldatlas.atlas.storage.s3 import S3Storage
from foldatlas.atlas.verify.atlas import verify
from foldatlas.schemas.errors import (
    DamagedAtlasError,
    ForeignFolderError,
    NotAnAtlasError,
    QueryError,
    StoreError,
)


@pytest.fixture
def empty(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AtlasFolder:
    """A place of this test's own."""
    monkeypatch.setenv("FOLDATLAS_CACHE", str(tmp_path / "cache"))
    s3.create_bucket(Bucket="atlases")
    return AtlasFolder(f"s3://atlases/{tmp_path.name}")


@pytest.fixture
def stored(empty: AtlasFolder, built: Any) -> AtlasFolder:
    """The synthetic atlas, without an index."""
    upload(built.folder, empty)
    return empty


@pytest.fixture(scope="module")
def shared() -> set[str]:
    """The atlases that tests of this module have made and share."""
    return set()


@pytest.fixture
def queried(s3: Any, empty: AtlasFolder, built: Any, shared: set[str]) -> AtlasFolder:
    """The synthetic atlas with an index, uploaded once. Read only."""
    folder = AtlasFolder("s3://atlases/queried")
    if folder.uri not in shared:
        upload(built.folder, folder)
        build_index(folder)
        shared.add(folder.uri)
    return folder


def upload(source: AtlasFolder, target: AtlasFolder) -> None:
    for file in source.storage.files():
        with target.storage.building(file.name) as path:
            path.write_bytes(source.storage.read(file.name))


def store_of(folder: AtlasFolder) -> S3Storage:
    assert isinstance(folder.storage, S3Storage)
    return folder.storage


def rows_of(place: Any, sql: str) -> list[tuple[Any, ...]]:
    with Atlas.open(place) as opened:
        return opened.query(sql).rows()


def age_everything(monkeypatch: pytest.MonkeyPatch, folder: AtlasFolder) -> None:
    """Lets all that is stored be two days old."""
    monkeypatch.setattr(s3_storage, "ABANDONED_SECONDS", -1.0)
    monkeypatch.setattr(published, "ABANDONED_SECONDS", -1.0)


def test_the_index_and_the_views_are_those_of_the_folder(stored: AtlasFolder, indexed: Any) -> None:
    with pytest.raises(NotAnAtlasError, match="no index yet"):
        Atlas.open(stored.uri)
    assert current_accounting(stored) is None
    assert build_index(stored) == current_accounting(indexed.folder) == current_accounting(stored)
    tables = ["proteins", "records", "scores", "failures", "runs", "files", "copies", "refused", *PARQUET_VIEWS[:3]]
    with Atlas.open(stored.uri) as mine, Atlas.open(indexed.root) as theirs:
        assert not mine.is_stale
        for table in tables:
            found, expected = (
                sorted(map(repr, opened.query(f"SELECT * FROM {table}").rows())) for opened in (mine, theirs)
            )
            assert found == expected, table
        assert len(mine.query("SELECT structure_id FROM copies").rows()) > 0  # so that leaving them out is tried
    assert status(stored).bytes > status(indexed.folder).bytes / 2


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT sequence FROM sequences WHERE structure_id = '{id}'",
        "SELECT sequence FROM sequences WHERE structure_id = '{id}'::UUID AND length > 3",
        "SELECT length FROM sequences WHERE structure_id IN (SELECT structure_id FROM proteins WHERE length < 20) "
        "ORDER BY ALL",
        "SELECT proteins.id, len(x) FROM structures JOIN proteins USING (structure_id) WHERE length < 20 ORDER BY ALL",
        "SELECT count(*), max(length) FROM sequences",
        "SELECT structure_id FROM embeddings WHERE structure_id > '80000000-0000-0000-0000-000000000000' ORDER BY ALL",
        "SHOW TABLES",
        "SELECT structure_id, c_alphas(s)[1] FROM structures AS s ORDER BY ALL",
        "SELECT * FROM residues('a20') ORDER BY ALL",
        "SELECT tm_score(a, b) FROM structure('a20') AS a, structure('a21') AS b",
    ],
)
def test_queries_on_parquet_give_what_they_give_in_a_folder(queried: AtlasFolder, indexed: Any, sql: str) -> None:
    [(identity,)] = rows_of(indexed.root, "SELECT structure_id FROM proteins ORDER BY structure_id LIMIT 1")
    sql = sql.format(id=identity)
    found, expected = (
        [row for row in rows_of(place, sql) if not str(row[0]).startswith("files_of_")]
        for place in (queried.uri, indexed.root)
    )
    assert found == expected and found


def test_a_structure_is_fetched_by_its_row_group(stored: AtlasFolder, indexed: Any, flaky: Any) -> None:
    build_index(stored)
    with Atlas.open(stored.uri) as mine, Atlas.open(indexed.root) as theirs:
        before = len(flaky.requests)
        found, expected = mine.structure("a50"), theirs.structure("a50")
        asked = flaky.requests[before:]
    assert (found.positions == expected.positions).all() and (found.plddt == expected.plddt).all()
    assert {method for method, _ in asked} <= {"GET", "HEAD"} and len(asked) <= 4
    assert all("/structures/" in path for _, path in asked)


def test_the_copy_of_the_index_is_fetched_once_and_checked(stored: AtlasFolder, flaky: Any, s3: Any) -> None:
    build_index(stored)

    def downloads() -> int:
        return sum(method == "GET" and "/index/" in path for method, path in flaky.requests)

    for _ in range(3):
        assert rows_of(stored.uri, "SELECT count(*) FROM proteins")[0][0] > 0
    assert downloads() == 1
    (copy,) = cache_folder().rglob("*.duckdb")
    stored.storage.delete(stored.storage.files("manifest")[0].name)
    with Atlas.open(stored.uri) as opened:
        assert opened.is_stale
        build_index(stored)
        assert (
            rows_of(stored.uri, "SELECT count(*) FROM proteins") != opened.query("SELECT count(*) FROM proteins").rows()
        )  # who has the old one open keeps it
    assert downloads() == 2 and not copy.exists() and len(list(cache_folder().rglob("*.duckdb"))) == 1

    found = read_pointer(store_of(stored))
    assert found is not None
    copies = list(cache_folder().rglob("*.duckdb"))
    copies[0].unlink()
    s3.put_object(Bucket="atlases", Key=f"{store_of(stored).prefix}/{index_name(found[0])}", Body=b"x" * 9_000)
    with pytest.raises(DamagedAtlasError, match="is not what was published"):
        Atlas.open(stored.uri)
    assert not [path for path in cache_folder().rglob("*") if path.is_file()]
    stored.storage.delete(index_name(found[0]))
    with pytest.raises(DamagedAtlasError, match="does not exist: run `foldatlas index"):
        Atlas.open(stored.uri)
    build_index(stored)
    assert verify(stored, deep=False).faults == []


def test_newer_of_two_indexes_stays(stored: AtlasFolder) -> None:
    """A build that began with fewer documents and ends later does not replace the index; called by hand, it does."""
    late = index_of(stored).publication()
    build_index(stored)
    winner = read_pointer(store_of(stored))
    assert winner is not None and winner[0].documents == contents_of(stored).documents
    (database,) = _copy_of(stored)
    accounting = current_accounting(stored)
    assert accounting is not None
    late.publish(database, Contents("older", "", winner[0].documents - 1), accounting)
    assert read_pointer(store_of(stored)) == winner
    late.publish(database, Contents("more", "", winner[0].documents + 1), accounting)
    after = read_pointer(store_of(stored))
    assert after is not None and after[0].contents == "more"
    stored.storage.delete(stored.storage.files("manifest")[0].name)
    build_index(stored)
    after = read_pointer(store_of(stored))
    assert after is not None and after[0].documents == winner[0].documents - 1


def _copy_of(folder: AtlasFolder) -> list[Path]:
    Atlas.open(folder.uri).close()
    return list(cache_folder().rglob("*.duckdb"))


def test_two_indexes_at_once_leave_one_that_is_right(stored: AtlasFolder) -> None:
    threads = [threading.Thread(target=build_index, args=(stored,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verify(stored).faults == []


# Files of an export with times in them, or digests of such files; an index is a database.
TIMED = ("manifest.json", "SHA256SUMS", "atlas.json", "plans/", "atlas.duckdb", "index.json", "index/")


def exported_files(place: Path | str) -> dict[str, bytes]:
    storage = AtlasFolder(place).storage
    return {file.name: storage.read(file.name) for file in storage.files(hidden=True)}


@pytest.mark.parametrize("format", ["pdb", "tar", "parquet"])
def test_an_export_is_that_of_the_folder(stored: AtlasFolder, indexed: Any, tmp_path: Path, format: str) -> None:
    """From a store to a folder, from a folder to a folder, and from a store to a store."""
    build_index(stored)
    address = f"{stored.uri}-out"
    for place, dest in ((stored.uri, tmp_path / "mine"), (indexed.root, tmp_path / "theirs"), (stored.uri, address)):
        export(place, dest, format=format, where="length < 40")
    exports = [exported_files(dest) for dest in (tmp_path / "mine", tmp_path / "theirs", address)]
    timed = (*TIMED, "files.jsonl") if format == "parquet" else TIMED  # it lists documents of the atlas
    same = [{name: content for name, content in files.items() if not name.startswith(timed)} for files in exports]
    assert len(same[0]) > 4 and same[0] == same[1] == same[2]
    for files in exports:
        sums = [line.split("  ", 1) for line in files["SHA256SUMS"].decode().splitlines()]
        assert {name for _, name in sums} == files.keys() - {"SHA256SUMS"}
        assert all(hashlib.sha256(files[name]).hexdigest() == digest for digest, name in sums)
    with pytest.raises(ForeignFolderError, match="is not empty"):
        export(stored.uri, address, format=format)
    if format == "parquet":
        sql = "SELECT id, source, run_id, mean_plddt, sequence, x FROM proteins JOIN structures USING (structure_id)"
        assert sorted(rows_of(address, sql)) == sorted(rows_of(indexed.root, f"{sql} WHERE proteins.length < 40"))
        assert verify(AtlasFolder(address)).faults == []


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_stopped_export_to_a_store_is_resumed(
    stored: AtlasFolder, indexed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """A file of a finished chunk that has other bytes is written again, also where several processes write."""
    monkeypatch.setattr(subset, "ROWS", 20)
    monkeypatch.setattr(subset, "RECORDS_PER_PROCESS", 10)
    address, clean = f"{stored.uri}-out", tmp_path / "clean"
    export(indexed.root, clean, format="pdb", where="length < 40")

    def stopped(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(indexed.root, address, format="pdb", where="length < 40", progress=stopped, workers=workers)
    storage = AtlasFolder(address).storage
    first = next(file.name for file in storage.files() if file.name.endswith(".pdb"))
    with storage.building(first) as path:
        path.write_bytes(b"damaged")
    with pytest.raises(ForeignFolderError, match="unfinished export of other records"):
        export(indexed.root, address, format="cif")
    done = export(indexed.root, address, format="pdb", where="length < 40", workers=workers)
    assert done.resumed < 4
    files, expected = exported_files(address), exported_files(clean)
    assert files.keys() == expected.keys()
    assert {name for name in files if files[name] != expected[name]} <= {"manifest.json", "SHA256SUMS"}


def test_verify_finds_on_a_store_what_it_finds_in_a_folder(stored: AtlasFolder) -> None:
    build_index(stored)
    sound = verify(stored)
    assert sound.faults == [] and sound.proteins > 100
    entry = next(iter(stored.entries().values()))
    for table, damage in (("scores", lambda content: content[:-1]), ("structures", lambda content: b"x" + content[1:])):
        name = entry.files[table].path
        content = stored.storage.read(name)
        with stored.storage.building(name) as path:
            path.write_bytes(damage(content))
    plan = stored.plans()[0]
    stored.storage.delete(plan.records[0].path)
    with stored.storage.building("structures/stray.parquet") as path:
        path.write_bytes(b"x")
    result = verify(stored)
    kinds = {(fault.where, str(fault.kind)) for fault in result.faults}
    assert (entry.files["scores"].path, "damaged") in kinds and (entry.files["structures"].path, "damaged") in kinds
    assert (plan.records[0].path, "missing") in kinds
    assert any("structures/stray.parquet is listed nowhere" in note for note in result.notes)


def test_a_missing_file_is_named_when_the_index_is_built(stored: AtlasFolder) -> None:
    name = stored.plans()[0].records[0].path
    stored.storage.delete(name)
    with pytest.raises(DamagedAtlasError, match=name):
        build_index(stored)
    assert read_pointer(store_of(stored)) is None


def test_ctrl_c_ends_the_copying_of_files(stored: AtlasFolder, flaky: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the main thread, while the thread that builds the index waits for the store."""
    monkeypatch.setattr("foldatlas.atlas.storage.s3_client.FIRST_WAIT", 60.0)
    asked = threading.Event()

    def busy(method: str, key: str) -> int | None:
        if "/scores/" not in key or method != "GET":
            return None
        if not asked.is_set():
            asked.set()
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return 503

    flaky.fault = busy
    began = time.monotonic()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            build_index(stored)
    finally:
        signal.signal(signal.SIGINT, before)
    assert asked.is_set() and time.monotonic() - began < 30


def test_documents_are_read_once(stored: AtlasFolder, flaky: Any) -> None:
    assert len(stored.entries()) == 5
    before = len(flaky.requests)
    stored.entries()
    assert len(flaky.requests) == before + 1  # the listing
    name = stored.storage.files("manifest")[0].name
    with stored.storage.building(name) as path:
        path.write_bytes(b"[]")
    with pytest.raises(DamagedAtlasError):  # another content has another tag
        stored.entries()


def test_a_sweep_takes_what_is_old_and_listed_nowhere(stored: AtlasFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file.name for file in stored.storage.files()}
    committed = next(iter(stored.entries()))
    pending = next(shard.name for plan in stored.plans() for shard in plan.shards if shard.name not in stored.entries())
    garbage = [f"structures/{committed}.host_1_00.parquet", "records/0000000000000000-0000.host_1_00.parquet"]
    kept = [f"scores/{pending}.host_1_00.parquet"]  # its entry may be on its way
    for name in (*garbage, *kept, ".staging/host_1_00/000000.parquet"):
        with stored.storage.building(name) as path:
            path.write_bytes(b"x")
    assert stored.sweep() == 0  # not a day old
    assert stored.storage.exists(garbage[0]) and stored.storage.exists(".staging/host_1_00/000000.parquet")
    age_everything(monkeypatch, stored)
    assert stored.sweep() == 2
    assert {file.name for file in stored.storage.files(hidden=True)} == before | set(kept)


def test_planning_that_takes_longer_than_a_day_is_left_alone(
    stored: AtlasFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f".staging/{name}.parquet" for name in ("at_work/000000", "at_work/000001", "gone/000000", "gone/000001")]
    for name in names:
        with stored.storage.building(name) as path:
            path.write_bytes(b"x")
    listed = S3Storage.files

    def aged(self: S3Storage, folder: str = "", *, hidden: bool = False) -> list[Stored]:
        found = listed(self, folder, hidden=hidden)
        return [file if file.name == names[1] else file._replace(age=2 * ABANDONED_SECONDS) for file in found]

    monkeypatch.setattr(S3Storage, "files", aged)
    stored.storage.sweep_work()
    assert [stored.storage.exists(name) for name in names] == [True, True, False, False]


def test_older_indexes_go_after_a_day(stored: AtlasFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    build_index(stored)
    time.sleep(0.002)  # the index says when it was made, to the millisecond
    build_index(stored)
    assert len(stored.storage.files("index")) == 2
    age_everything(monkeypatch, stored)
    build_index(stored)
    (left,) = stored.storage.files("index")
    found = read_pointer(store_of(stored))
    assert found is not None and left.name == index_name(found[0])


def test_store_lost_during_a_query_is_reported(
    stored: AtlasFolder, flaky: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(stored)
    monkeypatch.setattr("foldatlas.atlas.storage.s3_client.PATIENCE_SECONDS", 0.02)
    with Atlas.open(stored.uri) as opened:
        flaky.fault = lambda method, key: 503
        assert opened.query("SELECT count(*) FROM proteins").rows()[0][0] > 0  # of the local copy
        with pytest.raises((QueryError, StoreError), match="cannot be reached"):
            opened.query("SELECT sequence FROM sequences").rows()
        with pytest.raises(StoreError, match="cannot be reached"):
            opened.structure("a50")
