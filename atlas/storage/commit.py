"""Files that appear whole or not at all.

`commit_once` is the basis of the shard protocol: of several processes that commit the same name exactly one succeeds,
and readers see either nothing or its whole document. With a rename the last one would succeed, and readers of the
first document would be left with names of files that the second process deleted.
"""

import contextlib
import errno
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

from foldatlas.schemas.errors import FoldAtlasError


def _host() -> str:
    """Return this host's name, on Linux with its PID namespace: two containers may share a host name."""
    name = "".join(character if character.isalnum() else "-" for character in socket.gethostname())[:32] or "host"
    try:
        return f"{name}-{os.stat('/proc/self/ns/pid').st_ino:x}"
    except OSError:
        return name


_HOST = _host()


def attempt_name() -> str:
    """Return a unique name that holds host and process id, so that `owner_is_dead` can check the process."""
    return f"{_HOST}_{os.getpid()}_{secrets.token_hex(4)}"


def owner_is_dead(attempt: str) -> bool:
    """Return whether the process that took this attempt name ran on this host and has ended.

    Processes of other hosts count as alive.
    """
    host, _, rest = attempt.rpartition("_")[0].rpartition("_")
    if host != _HOST or not rest.isdigit():
        return False
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def hidden(path: Path) -> Path:
    """Return a hidden path beside `path`, on the same file system, at which to write the file before renaming it."""
    return path.with_name(f".{path.name}.{attempt_name()}.part")


def hidden_owner(path: Path) -> str | None:
    """Return the attempt that was writing the hidden file `path`, or None for other files."""
    if path.name.startswith(".") and path.name.endswith(".part"):
        return path.name.removesuffix(".part").rpartition(".")[2]
    return None


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make changes of names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def commit_once(path: Path, content: bytes) -> bool:
    """Write `path` unless it exists. Return whether this call wrote it.

    Raise FoldAtlasError for a file system without hard links.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # 1. Write the content under a hidden name, and wait until it is on the disk.
    temporary = hidden(path)
    try:
        _write_synced(temporary, content)
        # 2. Link it to its name, which fails if the name exists.
        try:
            os.link(temporary, path)
        except FileExistsError:
            # Over NFS the reply to a successful link may be lost, and the repeated request then fails: compare files.
            return os.path.samestat(temporary.stat(), path.stat())
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK):
                raise FoldAtlasError(
                    f"the file system of {path.parent} has no hard links, which commits need: choose another folder "
                    "for the atlas"
                ) from error
            raise
        # 3. Make the new name durable, and remove the hidden one.
        sync_folder(path.parent)
        return True
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a hidden path to write a file at; it replaces `path` if the block succeeds and is deleted otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = hidden(path)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def files_of_dead_processes(folder: Path) -> Iterator[Path]:
    """Yield files in `folder`, hidden or `<name>.<attempt>.parquet`, whose process ran on this host and has ended."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        owner = hidden_owner(path) or path.name.removesuffix(".parquet").rpartition(".")[2]
        if path.is_file() and owner_is_dead(owner):
            yield path
