"""Files on S3, from a real S3 server (moto) on the loopback, and patterns of them."""

import gzip
import hashlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.folding.models import settings_of
from foldatlas.pipeline.planning.costs import CostModel
from foldatlas.pipeline.planning.planner import Planned, make_plan
from foldatlas.pipeline.sources import remote
from foldatlas.pipeline.sources.find import find_sources
from foldatlas.pipeline.sources.pipes import Spool
from foldatlas.pipeline.sources.remote import RemoteStream
from foldatlas.pipeline.staging import staging_of
from foldatlas.schemas.errors import SourceError

BODY = (Path(__file__).parents[2] / "examples" / "gut.fasta").read_bytes()
KEYS = {
    "gut.fasta": BODY,
    "run/a.faa": b">a\nMKVL\n",
    "run/b.faa": b">b\nMKWW\n",
    "run/deep/c.faa": b">c\nMKAA\n",
    "run/odd [1]?@#.faa": b">odd\nMKGG\n",
    "gut.faa.gz": gzip.compress(BODY),
}


@pytest.fixture
def client(s3: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(remote, "WAITS", (0.0, 0.0))
    s3.create_bucket(Bucket="proteins")
    for key, body in KEYS.items():
        s3.put_object(Bucket="proteins", Key=key, Body=body)
    return s3


@pytest.mark.parametrize("key", ["gut.fasta", "gut.faa.gz"])
def test_an_object_becomes_a_plan_and_is_known_then(client: Any, plan: Callable[..., Planned], key: str) -> None:
    made = plan(f"s3://proteins/{key}").plan
    assert made is not None and made.outcomes == {"accepted": 60}
    (source,) = made.sources
    assert (source.uri, source.size) == (f"s3://proteins/{key}", len(KEYS[key]))
    assert source.sha256 == hashlib.sha256(KEYS[key]).hexdigest()
    assert source.etag == f'"{hashlib.md5(KEYS[key]).hexdigest()}"'
    client.put_object(Bucket="proteins", Key=key, Body=KEYS[key])  # another time, the same content
    assert plan(f"s3a://proteins/{key}").plan is None


def test_an_address_that_ends_with_a_slash_is_a_folder(client: Any) -> None:
    client.put_object(Bucket="proteins", Key="run/notes.txt", Body=b"no record")
    assert [source.uri for source in find_sources(["s3://proteins/run/"])] == [
        f"s3://proteins/{key}" for key in ("run/a.faa", "run/b.faa", "run/odd [1]?@#.faa")
    ]


def test_a_pipe_is_copied_to_the_store_of_the_atlas(client: Any, costs: CostModel, tmp_path: Path) -> None:
    folder, fifo = AtlasFolder("s3://proteins/atlas"), tmp_path / "fifo"
    os.mkfifo(fifo)

    def plan() -> Planned:
        writer = threading.Thread(target=fifo.write_bytes, args=(BODY,))
        writer.start()
        with Spool(folder) as spool:
            made = make_plan([str(fifo)], folder, settings_of("nano"), costs, max_length=1280, spool=spool)
        writer.join()
        return made

    made = plan().plan
    assert made is not None and made.outcomes == {"accepted": 60}
    assert made.sources[0].uri == f"pipe:{hashlib.sha256(BODY).hexdigest()}"
    assert plan().plan is None
    assert not [file.name for file in folder.storage.files() if "pipe" in file.name]


@pytest.mark.parametrize(
    ("pattern", "keys"),
    [
        ("run/*.faa", ["run/a.faa", "run/b.faa", "run/odd [1]?@#.faa"]),
        ("run/[ab].faa", ["run/a.faa", "run/b.faa"]),
        ("*/*/?.faa", ["run/deep/c.faa"]),
        ("run/odd [1]?@#.faa", ["run/odd [1]?@#.faa"]),
    ],
)
def test_patterns_mean_what_they_mean_in_a_folder(client: Any, pattern: str, keys: list[str]) -> None:
    assert [source.uri for source in find_sources([f"s3://proteins/{pattern}"])] == [
        f"s3://proteins/{key}" for key in keys
    ]


def test_odd_keys_are_read(client: Any, plan: Callable[..., Planned]) -> None:
    made = plan("s3://proteins/run/odd [[]1[]]*.faa").plan
    assert made is not None and made.proteins == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("s3://proteins/none.faa", "does not exist"),
        ("s3://nobody/a.faa", "does not exist"),
        ("s3://proteins/run/*.none", "no file matches"),
        ("s3://*/a.faa", "give the bucket"),
        ("s3://proteins", "give a file in a bucket"),
    ],
)
def test_missing_objects_are_reported(client: Any, name: str, reason: str) -> None:
    with pytest.raises(SourceError, match=reason):
        find_sources([name])


def test_object_changed_before_reading_is_refused(client: Any) -> None:
    """The object changes between the listing and the first read."""
    (source,) = find_sources(["s3://proteins/gut.fasta"])
    client.put_object(Bucket="proteins", Key="gut.fasta", Body=b">a\nMKVL\n")
    with pytest.raises(SourceError, match="changed while"):
        RemoteStream(source.path, source.version)


def test_an_object_that_changes_while_it_is_read_is_refused(client: Any) -> None:
    client.put_object(Bucket="proteins", Key="long", Body=bytes(1 << 20))
    with RemoteStream("s3://proteins/long") as stream:
        assert len(stream.read(10)) == 10
        client.put_object(Bucket="proteins", Key="long", Body=b"x" * (1 << 20))
        stream._drop()  # as when the connection breaks
        with pytest.raises(SourceError, match="changed while"):
            stream.sha256()


def test_broken_connection_is_resumed(client: Any) -> None:
    with RemoteStream("s3://proteins/gut.fasta") as stream:
        data = stream.read(100)
        stream._drop()
        while block := stream.read(3000):
            data += block
    assert data == BODY and stream.sha256() == hashlib.sha256(BODY).hexdigest()


def test_an_object_without_the_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(SourceError, match=r"pip install 'foldatlas\[s3\]'"):
        find_sources(["s3://proteins/gut.fasta"])


def test_a_store_that_is_not_there_is_an_error(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(SourceError, match="after 3 tries"):
        find_sources(["s3://proteins/gut.fasta"])


def test_staged_files_are_fetched_again_only_if_changed(client: Any, flaky: Any) -> None:
    """Reading has several rounds on an engine that loses workers."""
    with staging_of(AtlasFolder("s3://proteins/atlas")) as staging:

        def write(name: str, text: str) -> None:
            with staging.storage.building(name) as path:
                path.write_text(text)

        def fetched() -> set[str]:
            before = len(flaky.requests)
            staging.collect()
            asked = flaky.requests[before:]
            return {key.split("?")[0].rpartition("/")[2] for method, key in asked if method == "GET"} - {"proteins"}

        write("0.parquet", "half a range")
        write("1.parquet", "a range")
        assert fetched() == {"0.parquet", "1.parquet"}
        write("0.parquet", "a whole range")  # by the next round
        write("0.json", "its note")
        assert fetched() == {"0.parquet", "0.json"}
        assert fetched() == set()
        found = {path.name: path.read_text() for path in staging.work.iterdir()}
        assert found == {"0.parquet": "a whole range", "1.parquet": "a range", "0.json": "its note"}
