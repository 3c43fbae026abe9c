"""Files over HTTP, from a real server on the loopback: whole or not at all, after any fault on the way."""

import gzip
import hashlib
import importlib.util
import random
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.folding.models import settings_of
from foldatlas.pipeline import interruption
from foldatlas.pipeline.planning.costs import CostModel
from foldatlas.pipeline.planning.planner import Planned, make_plan
from foldatlas.pipeline.sources import remote
from foldatlas.pipeline.sources.find import find_sources
from foldatlas.pipeline.sources.remote import RemoteStream
from foldatlas.pipeline.sources.stores import Version, normalised
from foldatlas.schemas.errors import Interrupted, SourceError

_spec = importlib.util.spec_from_file_location("http_server", Path(__file__).with_name("http_server.py"))
assert _spec is not None and _spec.loader is not None
http_server = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = http_server  # a dataclass looks its module up
_spec.loader.exec_module(http_server)

EXAMPLE = Path(__file__).parents[2] / "examples" / "gut.fasta"
BODY = EXAMPLE.read_bytes()
LONG = bytes(random.Random(3).choices(b"ACDEFGHIKLMNPQRSTVWY\n", k=1 << 20))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(remote, "WAITS", (0.0, 0.0, 0.0))
    with http_server.serving() as running:
        running.files = {"gut.fasta": BODY, "gut.faa.gz": gzip.compress(BODY), "long": LONG}
        yield running


def read_all(stream: RemoteStream) -> bytes:
    data = b""
    while block := stream.read(100_000):
        data += block
    return data


@pytest.mark.parametrize("name", ["gut.fasta", "gut.faa.gz"])
@pytest.mark.parametrize("length", ["content-length", "chunked"])
def test_a_file_at_an_address_becomes_a_plan(plan: Callable[..., Planned], server: Any, name: str, length: str) -> None:
    server.length = length
    made = plan(server.url(name)).plan
    assert made is not None and made.outcomes == {"accepted": 60}
    (source,) = made.sources
    body = server.files[name]
    assert (source.uri, source.size) == (server.url(name), len(body))
    assert source.sha256 == hashlib.sha256(body).hexdigest()
    assert source.etag == f'"{hashlib.md5(body).hexdigest()}"'
    assert source.mtime_ns == 1_700_000_000 * 10**9


def test_contigs_at_an_address_become_proteins(folder: AtlasFolder, costs: CostModel, server: Any) -> None:
    gene = "AGGAGGTAACAT" + "ATG" + "GCCCTGAAAGGCCGT" * 30 + "TAA"
    server.files["contigs.fna.gz"] = gzip.compress(f">c1 a contig\n{gene}\n>c2\nACGT\n".encode())
    names = [server.url("contigs.fna.gz")]
    made = make_plan(names, folder, settings_of("nano"), costs, max_length=1280, genes=True).plan
    assert made is not None and (made.outcomes, made.residues) == ({"accepted": 1}, 151)
    assert (made.sources[0].contigs, made.sources[0].contigs_without_genes) == (2, 1)
    assert make_plan(names, folder, settings_of("nano"), costs, max_length=1280, genes=True).plan is None


@pytest.mark.parametrize(
    ("etag", "modified", "length", "is_named"),
    [
        ("strong", None, "content-length", True),
        ("strong", None, "chunked", True),
        ("weak", 1e9, "content-length", True),
        ("", 1e9, "content-length", True),
        ("", 1e9, "chunked", False),
        ("weak", None, "content-length", False),
        ("", None, "content-length", False),
    ],
)
def test_unchanged_file_is_recognised_by_version_or_content(
    plan: Callable[..., Planned], server: Any, etag: str, modified: float | None, length: str, is_named: bool
) -> None:
    """A server that gives no version for the file has it read again."""
    server.etag, server.modified, server.length = etag, modified, length
    url = server.url("gut.fasta")
    assert plan(url).plan is not None
    server.requests.clear()
    again = plan(url)
    assert again.plan is None and [source.uri for source in again.known] == [url]
    assert len(server.requests) == (1 if is_named else 3)  # looked at; opened, and looked at again afterwards


def test_another_content_under_an_old_address_is_read(plan: Callable[..., Planned], server: Any) -> None:
    server.etag, server.modified = "", None
    plan(server.url("gut.fasta"))
    server.files["gut.fasta"] += b">new\nMKVLAAG\n"
    planned = plan(server.url("gut.fasta"))
    assert planned.plan is not None and planned.plan.proteins == 1
    assert planned.plan.sources[0].supersedes


@pytest.mark.parametrize("status", [404, 410, 403, 401, 400])
def test_refusal_by_the_server_is_reported_at_once(
    plan: Callable[..., Planned], folder: AtlasFolder, server: Any, status: int
) -> None:
    server.faults = [status]
    with pytest.raises(SourceError, match=rf"gut\.fasta .*HTTP {status}.*check the address"):
        plan(server.url("gut.fasta"))
    assert len(server.requests) == 1 and not folder.root.exists()


def test_a_server_that_is_busy_for_a_while_is_asked_again(
    plan: Callable[..., Planned], server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server.faults = [503, 429, 500, 0, 503, 503]  # looking at it needs four tries, opening it three
    made = plan(server.url("gut.fasta")).plan
    assert made is not None and made.proteins == 60
    said = [record.getMessage() for record in caplog.records if record.name == remote.__name__]
    assert len(said) == 5 and said[0].endswith("HTTP 503: trying again in 0.0 s")


def test_a_server_that_stays_busy_is_an_error(plan: Callable[..., Planned], folder: AtlasFolder, server: Any) -> None:
    server.faults = [503] * 4
    with pytest.raises(SourceError, match=r"HTTP 503.*after 4 tries.*again later"):
        plan(server.url("gut.fasta"))
    assert not folder.root.exists()


def test_unreachable_address_is_an_error(plan: Callable[..., Planned], server: Any) -> None:
    port = server.address.rpartition(":")[2]
    with pytest.raises(SourceError, match="after 4 tries"):
        plan("http://127.0.0.1:1/a.fasta")
    with pytest.raises(SourceError, match="check the address"):
        plan(f"http://nowhere.invalid:{port}/a.fasta")


@pytest.mark.parametrize("length", ["content-length", "chunked"])
@pytest.mark.parametrize("etag", ["strong", "weak", ""])
@pytest.mark.parametrize("ranges", [True, False])
def test_dropped_connection_is_resumed_where_it_broke(server: Any, length: str, etag: str, ranges: bool) -> None:
    server.length, server.etag, server.ranges, server.modified = length, etag, ranges, None
    server.faults = [-300_000, 0, -500_000 if ranges else 0, -400_000]
    with RemoteStream(server.url("long")) as stream:
        assert read_all(stream) == LONG
        assert stream.sha256() == hashlib.sha256(LONG).hexdigest()
    resumed = [asked for asked, status in server.requests if status == 206]
    assert bool(resumed) == (ranges and etag == "strong")  # without a name for the version all is read again


def test_a_connection_that_keeps_dropping_is_an_error(
    plan: Callable[..., Planned], folder: AtlasFolder, server: Any
) -> None:
    server.ranges = False
    server.faults = [0, *[-5000] * 9]
    with pytest.raises(SourceError, match="after 4 tries"):
        plan(server.url("gut.fasta"))
    assert not folder.root.exists()


@pytest.mark.parametrize("etag", ["strong", ""])
def test_a_file_that_changes_while_it_is_read_is_refused(server: Any, etag: str) -> None:
    server.etag, server.modified = etag, None
    server.faults = [-300_000]
    with RemoteStream(server.url("long")) as stream:
        assert stream.read(1000) == LONG[:1000]
        server.files["long"] = LONG[::-1]
        with pytest.raises(SourceError, match="changed while"):
            read_all(stream)


def test_file_changed_before_reading_is_refused(server: Any) -> None:
    """The file changes between the listing and the first read."""
    (source,) = find_sources([server.url("gut.fasta")])
    server.files["gut.fasta"] = BODY + b">more\nMKVL\n"
    with pytest.raises(SourceError, match="changed while"):
        RemoteStream(source.path, source.version)


def test_a_server_that_does_not_mark_the_end_is_refused(server: Any) -> None:
    server.length = ""
    with pytest.raises(SourceError, match="does not report its length"):
        find_sources([server.url("gut.fasta")])


def test_html_page_is_refused(plan: Callable[..., Planned], server: Any) -> None:
    server.files["a.fasta"] = b"<!DOCTYPE html><html>Not found</html>"
    with pytest.raises(SourceError, match="is HTML"):
        plan(server.url("a.fasta"))


def test_a_cut_gzip_that_came_whole_loses_what_it_lacks(plan: Callable[..., Planned], server: Any) -> None:
    server.files["gut.faa.gz"] = server.files["gut.faa.gz"][:-500]
    with pytest.warns(UserWarning, match="ends early"):
        made = plan(server.url("gut.faa.gz")).plan
    assert made is not None and made.outcomes["truncated"] == 1


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("HTTP://Example.ORG:80/a.fasta#top", "http://example.org/a.fasta"),
        ("https://example.org:8443", "https://example.org:8443/"),
        ("https://example.org/a?query=taxon:9606&format=fasta", None),
        ("https://b.s3.amazonaws.com/a?X-Amz-Signature=ab&X-Amz-Date=1", "https://b.s3.amazonaws.com/a"),
        ("https://e.org/a?id=1&Signature=x&Expires=3", "https://e.org/a?id=1"),
        ("s3a://bucket/Key", "s3://bucket/Key"),
        ("gcs://bucket/key", "gs://bucket/key"),
    ],
)
def test_addresses_have_one_form(address: str, name: str | None) -> None:
    assert normalised(address) == (name or address)


@pytest.mark.parametrize(
    ("address", "step"),
    [
        ("https://me:secret@example.org/a.fasta", "netrc"),
        ("s3://KEY:secret@bucket/a.fasta", "AWS_PROFILE"),
        ("s3://KEY:sec/secret@bucket/*.fasta", "AWS_PROFILE"),
    ],
)
def test_a_password_in_an_address_is_refused_and_not_shown(address: str, step: str) -> None:
    with pytest.raises(SourceError, match=step) as caught:
        find_sources([address])
    assert "secret" not in str(caught.value)


def test_a_signature_is_not_shown(server: Any) -> None:
    with pytest.raises(SourceError) as caught:
        find_sources([server.url("none.fasta?X-Amz-Signature=secret")])
    assert "secret" not in str(caught.value)
    (source,) = find_sources([server.url("gut.fasta?X-Amz-Signature=secret")])
    assert "secret" not in source.uri and source.name == source.uri


def test_equal_versions_without_any_name_prove_nothing() -> None:
    assert not Version(-1, 5, "").is_named and not Version(5, 0, "").is_named
    assert Version(5, 5, "").is_named and Version(-1, 0, "x").is_named


def test_a_run_that_is_asked_to_stop_does_not_wait_for_a_server(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "WAITS", (600.0,))
    server.faults = [503]
    asked = threading.Timer(0.3, interruption.request_stop)
    asked.start()
    try:
        with pytest.raises(Interrupted):
            RemoteStream(server.url("gut.fasta"))
    finally:
        asked.join()
        interruption.reset()
