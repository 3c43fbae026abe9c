"""Standard input and named pipes as sources: copied once, beside the atlas, and read from there like files.

A pipe cannot be read twice, nor in ranges. Its copy is named by the digest of its content, `pipe:<sha256>`. The same
content is the same source through any pipe, so that a stopped run resumes when it is given the content again.
"""

import contextlib
import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.storage.scratch import work_folder
from foldatlas.pipeline.staging import Staging, staging_of
from foldatlas.schemas.errors import SourceError

STANDARD_INPUT: Final = "-"
SCHEME: Final = "pipe:"

_BLOCK_BYTES: Final = 1 << 20


def is_pipe(name: str) -> bool:
    """Return whether `name` is standard input (`-`), or a file that can be read only once."""
    if name == STANDARD_INPUT:
        return True
    try:
        mode = os.stat(name).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


class Spool:
    """Copies of pipes, each pipe read once. Use as a context manager: at its end the copies are deleted.

    With `folder` they are in the atlas's staging area, where workers find them; without, in a folder of this machine.
    """

    def __init__(self, folder: AtlasFolder | None = None):
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self._area: Staging | Path | None = None
        self._copies: dict[str, tuple[str, str]] = {}

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def copy(self, name: str) -> tuple[str, str]:
        """Return the URI of the content of the pipe `name`, and the path or address of its copy.

        Raise SourceError if it cannot be read.
        """
        if name not in self._copies:
            self._copies[name] = self._copy(name)
        return self._copies[name]

    def _copy(self, name: str) -> tuple[str, str]:
        work = self._work()
        part = work / f"pipe-{len(self._copies)}.part"
        digest = hashlib.sha256()
        try:
            with _opened(name) as stream, part.open("xb") as file:
                while block := stream.read(_BLOCK_BYTES):
                    digest.update(block)
                    file.write(block)
        except OSError as error:
            raise SourceError(f"{name} cannot be copied ({error.strerror}): write it to a file first") from error
        path = part.with_name(f"pipe-{digest.hexdigest()}")
        part.rename(path)
        os.utime(path, ns=(0, 0))  # so that the same content makes the same plan
        location = str(path)
        if isinstance(self._area, Staging) and self._area.storage.root is None:
            self._area.storage.put(path, path.name)
            location = f"{self._area.uri}/{path.name}"
        return SCHEME + digest.hexdigest(), location

    def _work(self) -> Path:
        if self._area is None:
            if self._folder is None:
                self._area = self._stack.enter_context(work_folder())
            else:
                self._folder.refuse_foreign()
                self._area = self._stack.enter_context(staging_of(self._folder))
        return self._area if isinstance(self._area, Path) else self._area.work


@contextlib.contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    if name == STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    with Path(name).open("rb") as stream:
        yield stream
