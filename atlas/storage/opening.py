"""Opens the storage that a path or an address names. A further kind of store is a class and a branch here."""

import re
from pathlib import Path, PurePath
from typing import Final

from foldatlas.atlas.storage.addresses import SCHEME
from foldatlas.atlas.storage.local import LocalStorage
from foldatlas.atlas.storage.protocol import Storage
from foldatlas.schemas.errors import UsageError

_MANGLED: Final = re.compile(r"(s3|s3a|s3n|gs|gcs|https?|hdfs|abfss?):/", re.IGNORECASE)
_S3_ALIASES: Final = ("s3", "s3a", "s3n")


def open_storage(place: str | Path | Storage) -> Storage:
    """The storage that `place` names: a folder, or `s3://bucket/prefix`.

    Raises UsageError for an address of another kind.
    """
    if isinstance(place, PurePath):
        assert not _MANGLED.match(str(place)), f"an address was made a path: {place}"
        return LocalStorage(Path(place))
    if not isinstance(place, str):
        return place
    found = SCHEME.match(place)
    if found is None:
        if _MANGLED.match(place) and not Path(place).exists():
            meant = place.replace(":/", "://", 1)
            raise UsageError(f"{place}: an address has two slashes after its colon: write {meant}")
        return LocalStorage(Path(place))
    scheme = found[1].lower()
    if scheme in _S3_ALIASES:
        from foldatlas.atlas.storage.s3 import S3Storage

        return S3Storage.named(place[found.end() :])
    if scheme == "file":
        return LocalStorage(Path(place[found.end() :]))
    raise UsageError(
        f"{scheme}:// cannot hold an atlas: name a folder, or s3:// (of other stores too, by AWS_ENDPOINT_URL)"
    )
