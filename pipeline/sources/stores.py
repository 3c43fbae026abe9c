"""The servers that files are read from: normalised addresses, and opening a file."""

import re
import urllib.parse
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import IO, Any, Final, NamedTuple

import smart_open
from smart_open import gcs, s3

from foldatlas.atlas.storage.addresses import holds_keys
from foldatlas.atlas.storage.s3_client import new_client
from foldatlas.schemas.errors import SourceError

SCHEMES: Final = ("http", "https", "s3", "gs")
TIMEOUT: Final = 60.0  # seconds without a byte

_ALIASES: Final = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_EXTRAS: Final = {"s3": "boto3", "gs": "google-cloud-storage"}
_EXTRA_NAMES: Final = {"s3": "s3", "gs": "gcs"}
# Query parameters that sign an address for a limited time: secret, and not part of the file's identity.
_SIGNATURE: Final = re.compile(
    r"(?i)(x-(amz|goog)-.*|awsaccesskeyid|googleaccessid|signature|expires|key-pair-id|policy)"
)


class Version(NamedTuple):
    """A file's version as its server reports it.

    size: in bytes, -1 if not reported.
    mtime_ns: in ns since 1970, 0 if not reported.
    etag: the strong ETag of the content, or "".
    """

    size: int
    mtime_ns: int
    etag: str

    @property
    def is_named(self) -> bool:
        """Whether equal versions mean equal content."""
        return bool(self.etag) or (self.size >= 0 and self.mtime_ns > 0)


def scheme_of(name: str) -> str:
    """Return `s3`, `gs`, `http` or `https` for the name of a remote file, else "".

    Raise SourceError for an address of another kind.
    """
    scheme, separator, _ = name.partition("://")
    scheme = _ALIASES.get(scheme.lower(), scheme.lower())
    if not separator or scheme == "file":
        return ""
    if scheme not in SCHEMES:
        raise SourceError(f"{name}: {scheme}:// is not supported ({', '.join(SCHEMES)} are): download it first")
    return scheme


def normalised(name: str) -> str:
    """Return the address without parts that do not identify a file: default port, fragment, signature, and the case of
    scheme and host.

    Raise SourceError for an address that holds a password or keys, which the atlas would show.
    """
    scheme = scheme_of(name)
    rest = name.partition("://")[2]
    if scheme in ("s3", "gs"):
        if holds_keys(rest):
            raise SourceError(
                f"{scheme}://...@: an atlas stores the addresses of its sources: put the keys into the environment "
                "(AWS_PROFILE, AWS_ACCESS_KEY_ID) instead"
            )
        return f"{scheme}://{rest}"
    parts = urllib.parse.urlsplit(f"{scheme}://{rest}")
    if "@" in parts.netloc:
        raise SourceError(
            f"{scheme}://...@{parts.hostname}: an atlas stores the addresses of its sources: put the password into "
            "~/.netrc instead"
        )
    try:
        port = "" if parts.port in (None, _DEFAULT_PORTS[scheme]) else f":{parts.port}"
    except ValueError as error:
        raise SourceError(f"{name}: {error}: check the address") from error
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    kept = [item for item in parts.query.split("&") if item and not _SIGNATURE.fullmatch(item.partition("=")[0])]
    return urllib.parse.urlunsplit((scheme, host + port, parts.path or "/", "&".join(kept), ""))


def _open_http(address: str) -> tuple[IO[bytes], Version]:
    stream = smart_open.open(address, "rb", compression="disable", transport_params={"timeout": TIMEOUT})
    headers = stream.response.headers  # type: ignore[attr-defined]
    size = headers.get("Content-Length", "")
    if not size.isdecimal() and headers.get("Transfer-Encoding", "").lower() != "chunked":
        stream.close()
        raise SourceError(
            f"{normalised(address)}: the server does not report its length, so an incomplete file "
            "would not be noticed: download it first"
        )
    etag = headers.get("ETag", "")
    version = Version(
        size=int(size) if size.isdecimal() else -1,
        mtime_ns=_http_time(headers.get("Last-Modified", "")),
        etag="" if etag.startswith("W/") else etag,  # a weak ETag allows other bytes of equivalent content
    )
    return stream, version


def _http_time(text: str) -> int:
    try:
        return int(parsedate_to_datetime(text).timestamp()) * 1_000_000_000
    except (TypeError, ValueError):
        return 0


def _missing(scheme: str) -> SourceError:
    return SourceError(f"{scheme}:// needs {_EXTRAS[scheme]}: pip install 'foldatlas[{_EXTRA_NAMES[scheme]}]'")


def _bucket_and_key(address: str) -> tuple[str, str]:
    bucket, _, key = address.partition("://")[2].partition("/")
    if not bucket or not key:
        raise SourceError(f"{address}: give a file in a bucket, as in {scheme_of(address)}://bucket/proteins.fasta")
    return bucket, key


def _s3_client() -> Any:
    """Return a client without retries of its own: remote.py retries."""
    try:
        return new_client()
    except ImportError as error:
        raise _missing("s3") from error


def _open_s3(address: str) -> tuple[IO[bytes], Version]:
    client = _s3_client()
    bucket, key = _bucket_and_key(address)
    head = client.head_object(Bucket=bucket, Key=key)
    pinned = {"S3.Client.get_object": {"IfMatch": head["ETag"]}}
    # opened by key: in an address smart-open would interpret '?' and '@'
    stream: Any = s3.open(bucket, key, "rb", defer_seek=True, client=client, client_kwargs=pinned)
    return stream, Version(head["ContentLength"], int(head["LastModified"].timestamp()) * 1_000_000_000, head["ETag"])


def _gcs_client() -> Any:
    try:
        import google.auth.exceptions
        from google.cloud import storage
    except ImportError as error:
        raise _missing("gs") from error
    try:
        return storage.Client()
    except (google.auth.exceptions.DefaultCredentialsError, OSError):  # OSError: no project is set
        return storage.Client.create_anonymous_client()


def _open_gcs(address: str) -> tuple[IO[bytes], Version]:
    client = _gcs_client()
    bucket, key = _bucket_and_key(address)
    blob = client.bucket(bucket).get_blob(key)
    if blob is None:
        raise FileNotFoundError(address)
    pinned = {"generation": blob.generation}
    stream: Any = gcs.open(bucket, key, "rb", client=client, get_blob_kwargs=pinned)
    mtime_ns = int(blob.updated.timestamp()) * 1_000_000_000 if blob.updated else 0
    return stream, Version(blob.size, mtime_ns, str(blob.generation))


OPENERS: Final[dict[str, Callable[[str], tuple[IO[bytes], Version]]]] = {
    "http": _open_http,
    "https": _open_http,
    "s3": _open_s3,
    "gs": _open_gcs,
}


def keys_under(address: str) -> list[str]:
    """Return the addresses of all files of a bucket that begin with `address` (s3 or gs)."""
    scheme = scheme_of(address)
    bucket, _, prefix = address.partition("://")[2].partition("/")
    if scheme == "s3":
        pages = _s3_client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        names = [found["Key"] for page in pages for found in page.get("Contents", [])]
    else:
        names = [blob.name for blob in _gcs_client().list_blobs(bucket, prefix=prefix)]
    return [f"{scheme}://{bucket}/{name}" for name in names]
