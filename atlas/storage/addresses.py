"""Addresses of atlases and sources: `scheme://...`."""

import re
from pathlib import Path
from typing import Final

SCHEME: Final = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")


def holds_keys(rest: str) -> bool:
    """Return whether the text after `s3://` begins with credentials, as in `KEY:SECRET@bucket/name`."""
    bucket = rest.partition("/")[0]
    return "@" in bucket or (":" in bucket and "@" in rest)  # a secret may contain '/'


def is_address(name: str | Path) -> bool:
    """Return whether `name` is an address, not a local path. `file://` is a local path."""
    found = SCHEME.match(name) if isinstance(name, str) else None
    return found is not None and found[1].lower() != "file"
