"""Files that appear whole or not at all, also where the power fails: written aside, flushed, renamed."""

import os
from pathlib import Path


def flush(path: Path) -> None:
    """Has the disk hold what was written to a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def aside(path: Path) -> Path:
    """Where a file is written before it is whole: hidden, in the same folder."""
    return path.with_name(f".{path.name}")


def put(written: Path, path: Path) -> None:
    """Gives a file that is whole its name, in place of what bore it before."""
    flush(written)
    written.replace(path)
    flush(path.parent)
