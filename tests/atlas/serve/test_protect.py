"""Tokens, names of hosts, bodies, browsers: what a server refuses, asked in process."""

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from foldatlas.atlas.serve.current import CurrentAtlas
from foldatlas.atlas.serve.http.app import create_app
from foldatlas.atlas.serve.settings import Limits, ServerSettings, read_tokens, token_digest
from foldatlas.schemas.errors import UsageError

TOKEN = "a" * 32
TOKENS = frozenset({token_digest("b" * 32), token_digest(TOKEN)})


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_with_tokens_everything_but_health_needs_one(client_of: Callable[..., TestClient]) -> None:
    client = client_of(tokens=TOKENS)
    for path in ("/v1/proteins", "/v1/structures/a1", "/fetchSequence/a1", "/api/prediction/a1", "/metrics"):
        refused = client.get(path)
        assert refused.status_code == 401 and refused.headers["www-authenticate"].startswith("Bearer")
        assert client.get(path, headers=bearer(TOKEN)).status_code == 200
    assert client.get("/healthz").json()["access"] == dict.fromkeys(
        ("read", "sql", "search", "fold", "metrics"), "token"
    )


def test_every_route_asks_for_a_token(client_of: Callable[..., TestClient]) -> None:
    """No route is forgotten: each of the OpenAPI document refuses a request without a token."""
    client = client_of(tokens=TOKENS)
    schema = client.get("/openapi.json").json()
    routes = [(path, method) for path, methods in schema["paths"].items() for method in methods]
    assert len(routes) > 15
    given = {"name": "a1", "level": "structure", "representative": "0" * 32, "protein_hash": "0" * 32, "file": "x",
             "search": "0" * 32, "job": "0" * 32}  # fmt: skip
    for path, method in routes:
        response = client.request(
            method, path.format(**given), json={"ids": ["a1"], "sql": "SELECT 1"} if method == "post" else None
        )
        assert response.status_code == (200 if path == "/healthz" else 401), path


def test_public_names_features_without_a_token(client_of: Callable[..., TestClient]) -> None:
    client = client_of(tokens=TOKENS, public=frozenset({"read"}))
    assert client.get("/v1/proteins").status_code == 200
    assert client.get("/metrics").status_code == 401


def test_guessing_is_slowed_down_by_address(client_of: Callable[..., TestClient]) -> None:
    """After ten wrong tokens even a right one has to wait."""
    client = client_of(tokens=TOKENS)
    statuses = [client.get("/v1/proteins", headers=bearer(f"guess {n}" + "x" * 20)).status_code for n in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    waiting = client.get("/v1/proteins", headers=bearer(TOKEN))
    assert waiting.status_code == 429 and 1 <= int(waiting.headers["retry-after"]) <= 61


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        ("", 0o600, "has no token"),
        ("short\n", 0o600, "fewer than 20"),
        ("# a comment\n" + TOKEN, 0o644, "chmod 600"),
        ("ä" * 30, 0o600, "not ASCII"),
    ],
)
def test_a_bad_token_file_is_refused(tmp_path: Path, text: str, mode: int, message: str) -> None:
    file = tmp_path / "tokens"
    file.write_text(text, encoding="utf-8")
    file.chmod(mode)
    with pytest.raises(UsageError, match=message):
        read_tokens(file)


def test_a_token_file_has_a_token_per_line(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# two\n{TOKEN}\n\n  {'b' * 32}  \n")
    file.chmod(0o600)
    settings = ServerSettings(tokens=read_tokens(file))
    assert settings.accepts_token(TOKEN) and settings.accepts_token("b" * 32)
    assert not settings.accepts_token("b" * 31) and not settings.accepts_token("") and TOKEN not in repr(settings)


def test_a_credential_of_systemd_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its access control list looks like a right of the group; elsewhere that is refused."""
    file = tmp_path / "tokens"
    file.write_text(TOKEN)
    file.chmod(0o440)
    with pytest.raises(UsageError, match="chmod 600"):
        read_tokens(file)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert ServerSettings(tokens=read_tokens(file)).accepts_token(TOKEN)
    file.chmod(0o444)
    with pytest.raises(UsageError, match="chmod 600"):
        read_tokens(file)


def test_hosts_of_a_server_for_others() -> None:
    hosts = ServerSettings(host="0.0.0.0", host_names=("Atlas.example.org",)).accepted_hosts()
    assert {"atlas.example.org", "localhost"} <= hosts and "0.0.0.0" not in hosts
    assert ServerSettings(host="::1").is_loopback and not ServerSettings(host="192.0.2.1").is_loopback


def test_cors_is_for_named_origins_alone(client_of: Callable[..., TestClient]) -> None:
    client = client_of(origins=("https://viewer.example",))
    allowed = client.get("/v1/proteins?size=1", headers={"Origin": "https://viewer.example"})
    assert allowed.headers["access-control-allow-origin"] == "https://viewer.example"
    other = client.get("/v1/proteins?size=1", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers
    assert "access-control-allow-origin" not in client_of().get(
        "/healthz", headers={"Origin": "https://viewer.example"}
    ).headers  # fmt: skip


def test_browsers_do_not_guess_types(client: TestClient) -> None:
    for path in ("/v1/structures/a1", "/nowhere", "/v1/proteins"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'")


def test_metrics_and_log_hold_no_names(client_of: Callable[..., TestClient], caplog: pytest.LogCaptureFixture) -> None:
    """Routes, not paths; neither ids, sequences nor tokens."""
    client = client_of(tokens=TOKENS)
    with caplog.at_level(logging.INFO, "foldatlas.serve"):
        client.get("/v1/sequences/a1?x=MKVL", headers=bearer(TOKEN))
        client.get("/v1/sequences/a1", headers=bearer("wrong" * 8))
        client.get("/api/sequence/summary?id=MKVLAAGI", headers=bearer(TOKEN))
        client.get("/secret-path", headers=bearer(TOKEN))
    metrics = client.get("/metrics", headers=bearer(TOKEN)).text
    assert 'route="/v1/sequences/{name:path}",status="401"' in metrics
    for secret in (TOKEN, "wrong", "MKVL", "a1", "secret"):
        assert secret not in caplog.text
        assert secret not in metrics


def test_an_unexpected_error_is_not_described(current: CurrentAtlas, monkeypatch: pytest.MonkeyPatch) -> None:
    app = create_app(current, ServerSettings())
    monkeypatch.setattr("foldatlas.atlas.serve.catalogue.novelty_runs", lambda served: 1 / 0)
    monkeypatch.setattr("foldatlas.atlas.serve.http.groups.catalogue.novelty_runs", lambda served: 1 / 0)
    response = TestClient(app, base_url="http://localhost", raise_server_exceptions=False).get("/v1/novelty")
    assert response.status_code == 500 and "division" not in response.text
    assert response.headers["content-type"] == "application/problem+json"


def ask(app, messages: list, *, stuck: bool = False, path: str = "/v1/batch/proteins") -> list:
    """Send ASGI messages to a route and return what it sends. After the messages, `receive` waits for ever; with
    `stuck` the client takes nothing."""
    sent: list = []

    async def run() -> None:
        waiting = iter(messages)

        async def receive() -> dict:
            for message in waiting:
                return message
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: dict) -> None:
            if stuck:
                await asyncio.Event().wait()
            sent.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "client": ("127.0.0.1", 1),
            "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")], "server": ("localhost", 80),
        }  # fmt: skip
        await app(scope, receive, send)

    asyncio.run(run())
    return sent


def body_of(*parts: bytes) -> list:
    return [{"type": "http.request", "body": part, "more_body": True} for part in parts]


def test_a_slow_body_is_408(current: CurrentAtlas) -> None:
    """The body never ends; the limit is the only thing that ends the request."""
    app = create_app(current, ServerSettings(limits=Limits(body_seconds=0.05)))
    [start, body] = ask(app, body_of(b'{"ids": ["a1"'))
    assert start["status"] == 408 and json.loads(body["body"])["status"] == 408


def test_a_body_without_a_length_is_counted(current: CurrentAtlas) -> None:
    app = create_app(current, ServerSettings(limits=Limits(body_bytes=1000)))
    [start, _] = ask(app, body_of(b"[" * 900, b"[" * 900))
    assert start["status"] == 413


def test_a_client_that_takes_nothing_is_dropped(current: CurrentAtlas) -> None:
    app = create_app(current, ServerSettings(limits=Limits(send_seconds=0.05)))
    messages = [{"type": "http.request", "body": b'{"ids": ["a1"]}', "more_body": False}]
    with pytest.raises(TimeoutError):
        ask(app, messages, stuck=True)


def test_a_client_that_leaves_during_its_body(current: CurrentAtlas) -> None:
    app = create_app(current, ServerSettings())
    assert ask(app, [*body_of(b"{"), {"type": "http.disconnect"}]) == []
