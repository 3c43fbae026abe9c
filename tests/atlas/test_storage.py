"""What an atlas relies on, of a folder and of a place on S3 alike; and a store that is busy, deaf or gone."""

import hashlib
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.parquet.files import ParquetFile, open_parquet
from foldatlas.atlas.storage import retries, s3_client
from foldatlas.atlas.storage import s3 as s3_storage
from foldatlas.atlas.storage.opening import open_storage
from foldatlas.atlas.storage.protocol import Storage
from foldatlas.atlas.storage.s3 import S3Storage
from foldatlas.schemas.errors import FoldAtlasError, Interrupted, StoreError, UsageError
from foldatlas.schemas.records import Settings
from foldatlas.schemas.tables import FAILURES

SETTINGS = Settings("nano", "0", 0, "fp32")


@pytest.fixture
def bucket(s3: Any) -> str:
    s3.create_bucket(Bucket="storage")
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket="storage"):
        for item in page.get("Contents", []):
            s3.delete_object(Bucket="storage", Key=item["Key"])
    return "s3://storage"


@pytest.fixture(params=["folder", "store"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return open_storage(tmp_path / "atlas")
    return open_storage(f"{request.getfixturevalue('bucket')}/a b/[x]?*+%20é")


def put(storage: Storage, name: str, content: bytes) -> None:
    with storage.building(name) as path:
        path.write_bytes(content)


def test_written_bytes_are_read_back(storage: Storage, tmp_path: Path) -> None:
    put(storage, "scores/a.parquet", b"0123456789")
    put(storage, "scores/b+c d.parquet", b"")
    put(storage, "scores/.hidden", b"x")
    put(storage, ".staging/x/1.json", b"x")
    put(storage, "scores2/a.parquet", b"x")
    assert [(file.name, file.bytes) for file in storage.files("scores")] == [
        ("scores/a.parquet", 10), ("scores/b+c d.parquet", 0)
    ]  # fmt: skip
    assert all(0 <= file.age < 100 for file in storage.files())
    assert len(storage.files(hidden=True)) == 5 and len(storage.files()) == 3
    assert storage.read("scores/a.parquet") == b"0123456789" and storage.size("scores/a.parquet") == 10
    assert storage.sha256("scores/a.parquet") == hashlib.sha256(b"0123456789").hexdigest()
    with storage.open("scores/a.parquet") as file:
        assert (file.seek(-3, 2), file.read(), file.seek(2), file.read(3), file.tell()) == (7, b"789", 2, b"234", 5)
    storage.fetch(["scores/a.parquet", "scores/b+c d.parquet"], tmp_path / "copies")
    assert (tmp_path / "copies" / "scores" / "a.parquet").read_bytes() == b"0123456789"
    put(storage, "scores/a.parquet", b"new")  # the whole of it
    assert storage.read("scores/a.parquet") == b"new"
    storage.delete("scores/a.parquet")
    storage.delete("scores/a.parquet")
    assert not storage.exists("scores/a.parquet") and storage.exists("scores2/a.parquet")
    for ask in (storage.read, storage.size, storage.open, storage.sha256):
        with pytest.raises(FileNotFoundError):
            ask("scores/a.parquet")
    (found,) = storage.read_many([file for file in storage.files() if file.name == "scores2/a.parquet"])
    assert found == b"x"


def test_failed_build_is_never_visible(storage: Storage) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("a wall")

    with pytest.raises(RuntimeError, match="a wall"), storage.building("scores/a.parquet") as path:
        fail(path)
    assert storage.files(hidden=True) == [] and not path.exists()


def test_a_parquet_file_is_read_in_parts(storage: Storage) -> None:
    rows = {
        "structure_id": pa.array([bytes([n]) * 16 for n in range(10)], pa.uuid()),
        "stage": ["fold"] * 10,
        "error": [f"e{n}" for n in range(10)],
        "attempts": pa.array(range(10), pa.int32()),
    }
    with ParquetFile(storage, "failures/a.parquet", "failures") as file:
        file.write(pa.table(rows, schema=FAILURES), 4)
    assert file.entry is not None and file.entry.bytes == storage.size("failures/a.parquet")
    assert file.entry.sha256 == storage.sha256("failures/a.parquet")
    with open_parquet(storage, "failures/a.parquet") as opened:
        assert opened.num_row_groups == 3
        assert opened.read_row_group(1, columns=["error"])["error"].to_pylist() == ["e4", "e5", "e6", "e7"]


def test_one_of_many_committers_wins(storage: Storage) -> None:
    """Threads that start together, and that see what is there before the others end."""
    for round_ in range(4):
        gate = threading.Barrier(16)

        def commit(me: int, round_: int = round_, gate: threading.Barrier = gate) -> bool:
            gate.wait()
            return storage.commit_once(f"manifest/{round_}.json", f"{me}".encode() * 5_000)

        with ThreadPoolExecutor(16) as pool:
            won = [me for me, is_mine in enumerate(pool.map(commit, range(16))) if is_mine]
        assert len(won) == 1
        assert storage.read(f"manifest/{round_}.json") == f"{won[0]}".encode() * 5_000


RACER = """
import sys
from foldatlas.atlas.folder import AtlasFolder
storage = AtlasFolder(sys.argv[1]).storage
storage.exists("manifest/shard.0.json")
print("ready", flush=True)
sys.stdin.readline()
print(int(storage.commit_once("manifest/shard.0.json", (sys.argv[2] * 10_000).encode())))
"""


def test_one_of_many_processes_commits_on_a_store(bucket: str) -> None:
    place = f"{bucket}/race"
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, place, chr(65 + n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for n in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    won = [chr(65 + n) for n, racer in enumerate(racers) if racer.communicate()[0] == "1\n"]
    assert len(won) == 1
    assert open_storage(place).read("manifest/shard.0.json").decode() == won[0] * 10_000


def test_a_folder_on_a_store_survives_pickling(bucket: str) -> None:
    folder = AtlasFolder(f"{bucket}/pickled/")
    folder.create(SETTINGS)
    again = pickle.loads(pickle.dumps(folder))
    assert again == folder == AtlasFolder("s3a://storage/pickled") and again.header().settings == SETTINGS


def test_a_large_file_goes_up_in_parts(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(s3_storage, "PART_BYTES", 5 << 20)  # the least that S3 takes
    storage = S3Storage("storage", "large")
    content = bytes(range(256)) * (11 << 12)  # 11 MiB and no multiple of a part
    (tmp_path / "large").write_bytes(content)
    storage.put(tmp_path / "large", "index/large")
    assert storage.size("index/large") == len(content)
    assert storage.sha256("index/large") == hashlib.sha256(content).hexdigest()
    assert storage.range("index/large", 6_000_000, 6_000_004) == content[6_000_000:6_000_004]


def test_a_listing_of_many_pages_is_whole(bucket: str, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = S3Storage("storage", "pages")
    for number in range(7):
        storage.commit_once(f"manifest/{number}.json", b"{}")
    real = s3_client.client()
    monkeypatch.setattr(
        real, "list_objects_v2", lambda list_=real.list_objects_v2, **request: list_(**request, MaxKeys=3)
    )
    assert [file.name for file in storage.files("manifest")] == [f"manifest/{number}.json" for number in range(7)]


def test_a_swap_needs_the_version_it_was_made_for(bucket: str) -> None:
    storage = S3Storage("storage", "swap")
    assert storage.swap("index.json", b"one", None)
    assert not storage.swap("index.json", b"two", None)
    _, etag = storage.read_version("index.json")
    assert storage.swap("index.json", b"two", etag)
    assert not storage.swap("index.json", b"three", etag)
    assert storage.read("index.json") == b"two"
    assert not storage.swap("gone.json", b"x", etag)


# -- a store that misbehaves --


@pytest.mark.parametrize("faults", [[503, 500, 429], ["drop", "drop"], [503, "deaf", 409], ["deaf"]])
def test_commit_waits_for_a_busy_store_and_recognises_itself(bucket: str, flaky: Any, faults: list[int | str]) -> None:
    """Also where the write was made and its answer lost: the next try meets its own work."""
    storage = S3Storage("storage", f"busy-{len(faults)}-{faults[-1]}")
    flaky.first(faults, "PUT")
    assert storage.commit_once("manifest/a.json", b"mine")
    assert len([method for method, _ in flaky.requests if method == "PUT"]) == len(faults) + 1
    assert not storage.commit_once("manifest/a.json", b"another's")
    assert storage.read("manifest/a.json") == b"mine"


def test_lost_commit_is_recognised_when_its_answer_was_lost(bucket: str, flaky: Any) -> None:
    storage = S3Storage("storage", "lost")
    assert storage.commit_once("a.json", b"first")
    flaky.first(["deaf", 503], "PUT")
    assert not storage.commit_once("a.json", b"second")
    assert storage.read("a.json") == b"first"


def test_every_operation_waits(bucket: str, flaky: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_storage, "PART_BYTES", 5 << 20)
    storage = S3Storage("storage", "each")
    (tmp_path / "a").write_bytes(b"x" * (6 << 20))
    work: dict[str, Callable[[], Any]] = {
        "put": lambda: storage.put(tmp_path / "a", "scores/a"),
        "read": lambda: storage.read("scores/a"),
        "exists": lambda: storage.exists("scores/a"),
        "files": lambda: storage.files("scores"),
        "fetch": lambda: storage.fetch(["scores/a"], tmp_path / "copies"),
        "range": lambda: storage.open("scores/a").read(3),
        "delete": lambda: storage.delete("scores/a"),
    }
    for name, call in work.items():
        flaky.first([503, "drop"])
        before = len(flaky.requests)
        call()
        assert len(flaky.requests) >= before + 3, name
    assert not storage.exists("scores/a")


def test_a_lost_answer_to_the_last_part_counts(
    bucket: str, flaky: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_storage, "PART_BYTES", 5 << 20)
    storage = S3Storage("storage", "parts")
    (tmp_path / "a").write_bytes(b"x" * (6 << 20))
    flaky.first(["deaf"], "POST", "uploadId")
    storage.put(tmp_path / "a", "scores/a")
    assert storage.size("scores/a") == 6 << 20


def test_patience_ends_with_one_line(bucket: str, flaky: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_client, "PATIENCE_SECONDS", 0.02)
    flaky.fault = lambda method, key: 503
    with pytest.raises(StoreError, match=r"cannot be reached \(HTTP 503\).*run the same command again"):
        open_storage(f"{bucket}/away").read("a.json")
    asked = len(flaky.requests)
    assert asked > 2
    monkeypatch.setattr(s3_client, "PATIENCE_SECONDS", 240.0)
    with pytest.raises(StoreError):  # what tidies up after that does not wait as long again
        open_storage(f"{bucket}/away").delete("b.json")
    assert len(flaky.requests) == asked + 1
    flaky.fault = lambda method, key: None
    assert not open_storage(f"{bucket}/away").exists("b.json")
    flaky.first([503, 503])
    assert not open_storage(f"{bucket}/away").exists("b.json")  # it has answered since: patience is back


def test_a_request_to_stop_ends_the_waiting(bucket: str, flaky: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_client, "FIRST_WAIT", 60.0)
    monkeypatch.setattr(retries, "_stop_condition", lambda: bool(flaky.requests))
    flaky.fault = lambda method, key: 503
    began = time.monotonic()
    with pytest.raises(Interrupted):
        open_storage(f"{bucket}/away").read("a.json")
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(("status", "reason"), [(403, "check the credentials"), (405, "cannot be used")])
def test_permanent_errors_are_not_retried(bucket: str, flaky: Any, status: int, reason: str) -> None:
    flaky.fault = lambda method, key: status
    with pytest.raises(StoreError, match=reason):
        open_storage(f"{bucket}/refused").exists("a.json")
    assert len(flaky.requests) == 1


def test_a_store_without_conditions_is_found_out(bucket: str, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = s3_client.client()

    def ignore(put_object: Any = real.put_object, **request: Any) -> Any:
        return put_object(**{key: value for key, value in request.items() if key != "IfNoneMatch"})

    monkeypatch.setattr(real, "put_object", ignore)
    with pytest.raises(FoldAtlasError, match="ignores If-None-Match"):
        AtlasFolder(f"{bucket}/careless").create(SETTINGS)


def test_errors_hold_no_secret(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_client, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2-secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:hunter2-secret@127.0.0.1:1")
    with pytest.raises(StoreError) as caught:
        open_storage(f"{bucket}/a").read("b")
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("AWS_PROFILE", "none-of-this-name")
    with pytest.raises(StoreError, match="S3 is not set up"):
        open_storage(f"{bucket}/a").read("b")


def test_without_the_library_the_error_names_the_extra(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")  # another client than the one that is there
    with pytest.raises(StoreError, match=r"pip install 'foldatlas\[s3\]'"):
        open_storage(f"{bucket}/a").read("b")


# -- names --


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("gs://bucket/atlas", "gs:// cannot hold an atlas: give a folder or an s3:// address"),
        ("https://host/atlas", "https:// cannot hold an atlas"),
        ("s3://bucket", "give a prefix in a bucket"),
        ("s3://bucket//", "give a prefix in a bucket"),
        ("s3://bucket/a/../b", "dotted"),
        ("s3:/bucket/atlas", "write s3://bucket/atlas"),
        ("s3://bucket/a//b", "empty"),
    ],
)
def test_places_that_cannot_be_are_refused(place: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        AtlasFolder(place)


@pytest.mark.parametrize("rest", ["KEY:secret@bucket/atlas", "KEY:sec/secret@bucket/atlas", "KEY:secret@bucket"])
def test_keys_in_an_address_are_refused_and_not_shown(rest: str) -> None:
    with pytest.raises(UsageError, match="AWS_PROFILE") as caught:
        AtlasFolder(f"s3://{rest}")
    assert "secret" not in str(caught.value)
    assert AtlasFolder("s3://bucket/me@home").uri == "s3://bucket/me@home"


def test_an_address_never_becomes_a_path() -> None:
    with pytest.raises(AssertionError):
        AtlasFolder(Path("s3://bucket/atlas"))
    assert AtlasFolder("file:///data/atlas").root == Path("/data/atlas")
    with pytest.raises(UsageError, match="is on a store"):
        _ = AtlasFolder("s3://bucket/atlas").root


def test_a_storage_contains_itself_and_what_is_below(tmp_path: Path) -> None:
    pytest.importorskip("boto3")
    begins = [str(tmp_path / "atlas"), "s3://bucket/atlas"]
    for begin, other in zip(begins, reversed(begins), strict=True):
        here = open_storage(begin)
        assert here.contains(here) and here.contains(open_storage(f"{begin}/out"))
        assert not any(here.contains(open_storage(uri)) for uri in (f"{begin}2", begin[:-2], other, f"{other}/out"))
