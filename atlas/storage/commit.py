"""Files that appear whole or not at all.

`commit_once` is the heart of the shard protocol: of any number of processes that commit the same name exactly one
wins, and readers see either nothing or the winner's whole document. A rename would let the last one win, and the
first one's readers would be left with names of files that the second deleted.
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
    """This host's name, and on Linux the namespace of its process numbers: two containers may share the former."""
    name = "".join(character if character.isalnum() else "-" for character in socket.gethostname())[:32] or "host"
    try:
        return f"{name}-{os.stat('/proc/self/ns/pid').st_ino:x}"
    except OSError:
        return name


_HOST = _host()


def attempt_name() -> str:
    """A name no other attempt has, which tells on its host whether the process that made it is alive."""
    return f"{_HOST}_{os.getpid()}_{secrets.token_hex(4)}"


def owner_is_dead(attempt: str) -> bool:
    """Whether the process that took this attempt name ran on this host and is gone. Unknown owners count as alive."""
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
    """Where a file is written before it gets its name: beside it, so that the move stays on one file system."""
    return path.with_name(f".{path.name}.{attempt_name()}.part")


def hidden_owner(path: Path) -> str | None:
    """The attempt that was writing the hidden file `path`, or None if it is not one."""
    if path.name.startswith(".") and path.name.endswith(".part"):
        return path.name.removesuffix(".part").rpartition(".")[2]
    return None


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Makes names in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def commit_once(path: Path, content: bytes) -> bool:
    """Writes `path` unless it exists. Returns whether this call made it; False means that another one did before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = hidden(path)
    try:
        _write_synced(temporary, content)
        try:
            os.link(temporary, path)
        except FileExistsError:
            # over NFS the answer to a link that was made may be lost, and the second request meets the first's work
            return os.path.samestat(temporary.stat(), path.stat())
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK):
                raise FoldAtlasError(
                    f"the file system of {path.parent} has no hard links, which commits need: put the atlas elsewhere"
                ) from error
            raise
        sync_folder(path.parent)
        return True
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a hidden path to build a file at; it replaces `path` when the block ends well and is deleted otherwise."""
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


def files_of_the_dead(folder: Path) -> Iterator[Path]:
    """Files in `folder`, hidden or `<name>.<attempt>.parquet`, whose attempt's process ran on this host and is gone."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        owner = hidden_owner(path) or path.name.removesuffix(".parquet").rpartition(".")[2]
        if path.is_file() and owner_is_dead(owner):
            yield path
