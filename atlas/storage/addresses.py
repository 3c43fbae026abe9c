"""Addresses that name an atlas or a source: `scheme://...`."""

import re
from pathlib import Path
from typing import Final

SCHEME: Final = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")


def holds_keys(rest: str) -> bool:
    """Whether what follows `s3://` begins with keys, as some programs take them: `KEY:SECRET@bucket/name`."""
    bucket = rest.partition("/")[0]
    return "@" in bucket or (":" in bucket and "@" in rest)  # a secret may hold a '/'


def is_address(place: str | Path) -> bool:
    """Whether a person named something that is no path of this machine."""
    found = SCHEME.match(place) if isinstance(place, str) else None
    return found is not None and found[1].lower() != "file"
