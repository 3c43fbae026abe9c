"""Settings of a server: where it listens, who may use what, and its limits."""

import hashlib
import hmac
import ipaddress
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from foldatlas.schemas.errors import UsageError

READ: Final = "read"  # pages, look-ups, structures, downloads
SQL: Final = "sql"
SEARCH: Final = "search"
FOLD: Final = "fold"
METRICS: Final = "metrics"
FEATURES: Final = (READ, SQL, SEARCH, FOLD, METRICS)
GUARDED: Final = (SQL, SEARCH, FOLD)  # off loopback these need a token, or to be named public

MIN_TOKEN_LENGTH: Final = 20  # characters; 20 random letters and digits have 119 bits


@dataclass(frozen=True)
class Limits:
    """Limits of requests. Times are in seconds, sizes in bytes."""

    header_bytes: int = 16 << 10
    body_bytes: int = 1 << 20
    search_body_bytes: int = 8 << 20  # of a search, which may have a structure
    large_bodies: int = 4  # of more than body_bytes that are read at a time
    header_seconds: float = 10  # from the first byte of a request to the end of its headers
    body_seconds: float = 30
    send_seconds: float = 60  # for a client to take one piece of a response
    connections: int = 500
    page: int = 1_000  # proteins of a page
    batch: int = 500  # ids of a batch
    download: int = 100_000  # structures of a download
    downloads: int = 2  # downloads at a time
    failed_tokens: int = 10  # per address and minute


@dataclass(frozen=True)
class ServerSettings:
    """Where a server listens, and who may use it.

    `tokens` are SHA-256 digests. `public` are features that need no token. `host_names` are accepted in the header
    Host, beside the names of the address it listens on. `prefix` is the path under which a proxy publishes the server.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    tokens: frozenset[bytes] = field(default_factory=frozenset, repr=False)
    public: frozenset[str] = frozenset()
    host_names: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    prefix: str = ""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if unknown := sorted(self.public - set(FEATURES)):
            raise UsageError(f"{unknown[0]!r} is not a feature: --public takes {', '.join(FEATURES)}")
        if self.prefix and (not self.prefix.startswith("/") or self.prefix.endswith("/")):
            raise UsageError(f"the prefix {self.prefix!r} must begin with / and not end with it, such as /atlas")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def access(self, feature: str) -> str:
        """Return who may use `feature`: "public", "token" or "off"."""
        if feature in self.public:
            return "public"
        if self.tokens:
            return "token"
        return "off" if feature in GUARDED and not self.is_loopback else "public"

    def accepts_token(self, token: str) -> bool:
        """Return whether `token` is one of the tokens, in a time that does not depend on which characters agree."""
        given = token_digest(token)
        return any([hmac.compare_digest(given, known) for known in self.tokens])

    def accepted_hosts(self) -> frozenset[str]:
        """Return the names that the header Host may have, in lower case and without a port."""
        names = {"localhost", "127.0.0.1", "[::1]", *self.host_names}
        if not self.is_loopback:
            names |= {socket.gethostname(), socket.getfqdn()}
        if self.host not in ("0.0.0.0", "::"):
            names.add(f"[{self.host}]" if ":" in self.host else self.host)
        return frozenset(name.lower() for name in names)


def token_digest(token: str) -> bytes:
    """Return the SHA-256 of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def read_tokens(path: str | Path) -> frozenset[bytes]:
    """Return the digests of the tokens in a file, one a line; empty lines and lines that begin with # are ignored.

    Raise UsageError for a file that cannot be read or is readable by other users, and for short tokens.
    """
    file = Path(path)
    try:
        mode = file.stat().st_mode
        lines = file.read_text(encoding="ascii").splitlines()
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not ASCII text: give one token a line") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    # systemd gives a service its credentials by an access control list, which `stat` shows as the group's.
    is_credential = str(file.parent) == os.environ.get("CREDENTIALS_DIRECTORY")
    if mode & (0o007 if is_credential else 0o077):
        raise UsageError(f"{path} can be read by other users: run `chmod 600 {path}`")
    return _digests(path, [line.strip() for line in lines])


def _digests(path: str | Path, lines: Iterable[str]) -> frozenset[bytes]:
    tokens = [line for line in lines if line and not line.startswith("#")]
    if not tokens:
        raise UsageError(f"{path} has no token: write one a line, such as the output of `openssl rand -hex 32`")
    if short := [number for number, token in enumerate(tokens, 1) if len(token) < MIN_TOKEN_LENGTH]:
        raise UsageError(f"token {short[0]} of {path} has fewer than {MIN_TOKEN_LENGTH} characters")
    return frozenset(map(token_digest, tokens))
