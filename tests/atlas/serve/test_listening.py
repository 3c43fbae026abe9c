"""The address of a server is checked before the atlas is opened."""

import socket
from pathlib import Path

import pytest

from foldatlas.jobs.serve import serve
from foldatlas.schemas.errors import UsageError


def test_port_in_use_is_an_error_of_usage(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            UsageError, match=rf"127\.0\.0\.1 port {port} \(Address already in use\): give another --port"
        ):
            serve(tmp_path / "atlas", port=port)


def test_foreign_address_is_an_error_of_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot listen on 192\.0\.2\.1 port 0"):
        serve(tmp_path / "atlas", host="192.0.2.1", port=0)
