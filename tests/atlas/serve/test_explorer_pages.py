"""Pages of the explorer and their assets: headers, prefixes, tokens, and names that are no assets."""

from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from foldatlas.atlas.serve.http import pages
from foldatlas.atlas.serve.settings import token_digest

INDEX = '<!doctype html><base href="/"><script type="module" src="assets/main-ABC123.js"></script>'


@pytest.fixture
def page_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "explorer" / "assets").mkdir(parents=True)
    (tmp_path / "explorer" / "index.html").write_text(INDEX)
    (tmp_path / "explorer" / "assets" / "main-ABC123.js").write_text("export {};")
    (tmp_path / "explorer" / "assets" / "page.html").write_text("<script>alert(1)</script>")
    (tmp_path / "secret.js").write_text("secret")
    monkeypatch.setattr(pages, "explorer_folder", lambda: tmp_path / "explorer")
    return tmp_path


@pytest.mark.usefixtures("page_files")
@pytest.mark.parametrize("path", ["/", "/protein/a1", "/protein/sp%7CP12345%2F1"])
def test_pages_run_nothing_from_elsewhere(client: TestClient, path: str) -> None:
    """A strict policy, no guessing of types, no referrer, in no frame; a page is asked for each time."""
    response = client.get(path)
    assert response.status_code == 200 and response.text == INDEX
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["base-uri"] == "'self'"
    assert not any("unsafe" in sources or "http" in sources or "*" in sources for sources in policy.values())
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["cache-control"] == "no-cache"
    assert client.get(path, headers={"If-None-Match": response.headers["etag"]}).status_code == 304


@pytest.mark.usefixtures("page_files")
def test_assets_are_kept_for_ever(client: TestClient) -> None:
    response = client.get("/assets/main-ABC123.js")
    assert response.text == "export {};" and response.headers["content-type"].startswith("text/javascript")
    assert "immutable" in response.headers["cache-control"] and response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.usefixtures("page_files")
@pytest.mark.parametrize(
    "name",
    ["..%2Findex.html", "..%2F..%2Fsecret.js", "%2E%2E%2F%2E%2E%2Fsecret.js", "page.html", "nothing.js",
     "a%00.js", "%2Fetc%2Fpasswd", "..%5Csecret.js", "x" * 300 + ".js"],
)  # fmt: skip
def test_other_files_are_no_assets(client: TestClient, name: str) -> None:
    response = client.get(f"/assets/{name}")
    assert response.status_code in (404, 422) and "secret" not in response.text


@pytest.mark.usefixtures("page_files")
@pytest.mark.parametrize("path", ["/atlas/", "/atlas", "/", "/atlas/protein/a1"])
def test_pages_know_the_prefix(client_of: Callable[..., TestClient], path: str) -> None:
    client = client_of(prefix="/atlas")
    assert '<base href="/atlas/">' in client.get(path).text
    assert client.get("/atlas/assets/main-ABC123.js").status_code == 200


@pytest.mark.usefixtures("page_files")
def test_pages_need_no_token_and_data_does(client_of: Callable[..., TestClient]) -> None:
    client = client_of(tokens=frozenset([token_digest("x" * 20)]))
    assert client.get("/").status_code == client.get("/assets/main-ABC123.js").status_code == 200
    for path in ("columns", "summary", "map?map=plddt_length", "point?key=1", "rows"):
        assert client.get(f"/v1/explore/{path}").status_code == 401
    assert client.get("/v1/proteins", params={"where": "true"}).status_code == 401


def test_pages_of_other_hosts_are_refused(client_of: Callable[..., TestClient]) -> None:
    assert client_of(base_url="http://evil.example").get("/").status_code == 421


def test_a_page_that_is_not_built_says_how(client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "explorer_folder", lambda: tmp_path)
    response = client.get("/")
    assert response.status_code == 404 and "scripts/build-web" in response.text
    assert response.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in response.headers["content-security-policy"]
