"""Atomic writes: a file is written under a temporary name, flushed to disk and renamed, so that it is never partial."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_path(path: Path) -> Path:
    """Return the path under which `path` is written before it is complete: hidden, in the same folder."""
    return path.with_name(f".{path.name}")


def rename_into_place(temporary: Path, path: Path) -> None:
    """Flush the complete file `temporary` and rename it to `path`, replacing what was there."""
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)
