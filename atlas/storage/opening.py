"""Open the storage that a path or an address names. Another kind of store is a class and a branch here."""

import re
from pathlib import Path, PurePath
from typing import Final

from foldatlas.atlas.storage.addresses import SCHEME
from foldatlas.atlas.storage.local import LocalStorage
from foldatlas.atlas.storage.protocol import Storage
from foldatlas.schemas.errors import UsageError

_MANGLED: Final = re.compile(r"(s3|s3a|s3n|gs|gcs|https?|hdfs|abfss?):/", re.IGNORECASE)
_S3_ALIASES: Final = ("s3", "s3a", "s3n")


def open_storage(uri: str | Path | Storage) -> Storage:
    """Return the storage that `uri` names: a folder, or `s3://bucket/prefix`. A Storage is returned as it is.

    Raise UsageError for an address of another kind.
    """
    if isinstance(uri, PurePath):
        assert not _MANGLED.match(str(uri)), f"an address was converted to a path: {uri}"
        return LocalStorage(Path(uri))
    if not isinstance(uri, str):
        return uri
    found = SCHEME.match(uri)
    if found is None:
        if _MANGLED.match(uri) and not Path(uri).exists():
            meant = uri.replace(":/", "://", 1)
            raise UsageError(f"{uri}: an address has two slashes after its colon: write {meant}")
        return LocalStorage(Path(uri))
    scheme = found[1].lower()
    if scheme in _S3_ALIASES:
        from foldatlas.atlas.storage.s3 import S3Storage

        return S3Storage.named(uri[found.end() :])
    if scheme == "file":
        return LocalStorage(Path(uri[found.end() :]))
    raise UsageError(
        f"{scheme}:// cannot hold an atlas: give a folder or an s3:// address (AWS_ENDPOINT_URL selects another "
        "S3-compatible store)"
    )
