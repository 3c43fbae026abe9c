"""Fixtures: the synthetic atlas behind the application, asked in process."""

from collections.abc import Callable, Iterator

import pytest
from built_atlas import Built
from starlette.testclient import TestClient

from foldatlas.atlas.serve.current import CurrentAtlas
from foldatlas.atlas.serve.http.app import create_app
from foldatlas.atlas.serve.settings import ServerSettings

LOCAL = "http://localhost:8000"


@pytest.fixture(scope="session")
def current(indexed: Built) -> Iterator[CurrentAtlas]:
    with CurrentAtlas(indexed.root) as current:
        yield current


@pytest.fixture(scope="session")
def client(current: CurrentAtlas) -> TestClient:
    """A client of a server with default settings."""
    return TestClient(create_app(current, ServerSettings()), base_url=LOCAL)


@pytest.fixture
def client_of(current: CurrentAtlas) -> Callable[..., TestClient]:
    """Return the client of a server with given settings."""

    def made(base_url: str = LOCAL, **settings: object) -> TestClient:
        app = create_app(current, ServerSettings(**settings))
        return TestClient(app, base_url=base_url, raise_server_exceptions=False)

    return made
