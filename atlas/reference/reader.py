"""Open a reference database: memory-mapped arrays, names, versions, and MMseqs2 databases.

Opening reads only the version's document and the headers of the arrays. Pages of the arrays are shared by all processes
of a machine that map them, and are dropped when memory is short.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from foldatlas.atlas.reference.folder import ReferenceFolder
from foldatlas.atlas.reference.mmseqs2 import write_subset
from foldatlas.atlas.storage.protocol import file_sha256
from foldatlas.schemas.errors import DamagedAtlasError, UsageError
from foldatlas.schemas.reference_tables import ARRAYS, ReferenceVersion

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]

DEMO: Final = Path(__file__).with_name("demo")


@dataclass(frozen=True)
class Reference:
    """One version of a database, read-only, for any number of processes. Only its path and version are pickled.

    Rows are entries, sorted by the version in which they were added: those of the newest are the last ones.
    """

    root: Path
    document: ReferenceVersion

    @classmethod
    def open(cls, path: str | Path, version: int | None = None) -> "Reference":
        """Open a version of the database at `path`, by default the newest; "demo" is the one in the package.

        Raise UsageError if there is none, DamagedAtlasError if its arrays contradict its document.
        """
        folder = demo() if str(path) == "demo" and not Path("demo").exists() else ReferenceFolder.named(path)
        reference = cls(folder.root.resolve(), folder.document(version))
        if reference.kind == "structures":
            reference._check_arrays()
        return reference

    def __reduce__(self) -> tuple[Any, ...]:
        return open_shared, (str(self.root), self.version)

    @property
    def kind(self) -> str:
        """ "structures" or "sequences"."""
        return self.document.kind

    @property
    def version(self) -> int:
        return self.document.version

    @property
    def digest(self) -> str:
        """sha256 of the content, 64 hexadecimal digits: equal digests mean equal entries."""
        return self.document.digest

    @property
    def is_demo(self) -> bool:
        """Whether this is a demo, against which nothing may be called novel."""
        return self.document.demo

    def __len__(self) -> int:
        return self.document.entries

    @property
    def data(self) -> Path:
        return self.root / "data" / self.document.folder

    @cached_property
    def c_alphas(self) -> Floats:
        """C-alpha positions of all entries, float32 [residues, 3] in angstrom, as in their files."""
        return self._array("c_alphas")  # type: ignore[no-any-return]

    @cached_property
    def offsets(self) -> npt.NDArray[np.int64]:
        """First residue of each entry, and the number of all residues: int64 [entries + 1]."""
        return self._array("offsets")  # type: ignore[no-any-return]

    @cached_property
    def sequence(self) -> Codes:
        """Residue codes, ASCII, uint8 [residues]."""
        return self._array("sequence")  # type: ignore[no-any-return]

    @cached_property
    def states(self) -> Codes:
        """3Di states, uint8 [residues], 0 to 19 in the order of `reference_tables.STATE_ALPHABET`."""
        return self._array("states")  # type: ignore[no-any-return]

    @cached_property
    def secondary(self) -> Codes:
        """Secondary structure as in TM-align, ASCII C, H, T or E, uint8 [residues]."""
        return self._array("secondary")  # type: ignore[no-any-return]

    @cached_property
    def entry_versions(self) -> npt.NDArray[np.int32]:
        """Version in which each entry was added, int32 [entries], not decreasing."""
        return self._array("versions")  # type: ignore[no-any-return]

    @cached_property
    def names(self) -> "pa.StringArray":
        """Names of all entries, unique."""
        return self.entries(["name"]).column("name").combine_chunks()

    def entries(self, columns: list[str] | None = None) -> pa.Table:
        """Return the entries' table, in the order of rows (`reference_tables.STRUCTURE_ENTRIES`)."""
        return self.table("entries", columns)

    def table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Return a table of the database: entries, files, left, and chains (of sequences, records)."""
        try:
            return pq.read_table(self.data / f"{name}.parquet", columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(f"{name}.parquet", str(error)) from error

    def row(self, name: str) -> int:
        """Return the row of the entry `name`. Raise KeyError if there is none."""
        row = pc.index(self.names, value=name).as_py()
        if row < 0:
            raise KeyError(name)
        return int(row)

    def chain(self, row: int) -> tuple[str, Floats]:
        """Return sequence and C-alphas [L, 3] of an entry."""
        begin, end = self.offsets[row], self.offsets[row + 1]
        return self.sequence[begin:end].tobytes().decode("ascii"), self.c_alphas[begin:end]

    def new_rows(self, since: int) -> range:
        """Return the rows that were added after version `since` (0: all). They are the last ones."""
        if self.kind == "sequences":
            versions = self.entries(["version"]).column("version").to_numpy()
        else:
            versions = self.entry_versions
        return range(int(np.searchsorted(versions, since, side="right")), len(self))

    def database(self, name: str) -> Path:
        """Return the MMseqs2 database "states" or "amino_acids" of all entries; keys are rows."""
        path = self.data / name
        if name not in self.document.contents:
            raise UsageError(f"{self.root} has no {name}: it is a database of {self.kind}")
        return path

    def database_of(self, name: str, rows: range | npt.NDArray[np.int64], folder: Path) -> Path:
        """Write an MMseqs2 database of some rows, under the same keys, into `folder`, and return it.

        The data are linked, not copied. The caller deletes `folder` after the search.
        """
        target = folder / name
        write_subset(self.database(name), np.asarray(rows, dtype=np.int64), target)
        return target

    def memory_bytes(self) -> int:
        """Return the size of all mapped arrays in bytes; processes share this memory."""
        return sum(self.document.contents[f"{name}.npy"].bytes for name in ARRAYS if self.kind == "structures")

    def faults(self) -> Iterator[str]:
        """Read every file and yield one line for each that is missing or differs from its digest."""
        for name, listed in sorted(self.document.contents.items()):
            path = self.data / name
            try:
                found = path.stat().st_size, file_sha256(path)
            except OSError as error:
                yield f"{path}: {error.strerror}"
                continue
            if found != (listed.bytes, listed.sha256):
                yield f"{path}: does not match its digest in versions/{self.version:06d}.json"

    def _array(self, name: str) -> Any:
        try:
            array = np.load(self.data / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            if isinstance(error, ValueError) and not self.document.residues and "empty" in str(error):
                return np.load(self.data / f"{name}.npy", allow_pickle=False)
            raise self._damaged(f"{name}.npy", str(error)) from error
        return array

    def _check_arrays(self) -> None:
        residues, entries = self.document.residues, self.document.entries
        shapes = {name: (residues,) for name in ARRAYS} | {
            "c_alphas": (residues, 3),
            "offsets": (entries + 1,),
            "versions": (entries,),
        }
        for name, (dtype, _) in ARRAYS.items():
            array = self._array(name)
            if array.shape != shapes[name] or array.dtype != np.dtype(dtype):
                raise self._damaged(f"{name}.npy", f"it is {array.dtype} {array.shape}, not {dtype} {shapes[name]}")
        offsets = self.offsets
        if offsets[0] != 0 or offsets[-1] != residues or (np.diff(offsets) < 1).any():
            raise self._damaged("offsets.npy", "offsets do not increase from 0 to the number of residues")

    def _damaged(self, name: str, reason: str) -> DamagedAtlasError:
        return DamagedAtlasError(f"{self.data / name} cannot be used ({reason}): build the reference database again")


@lru_cache(maxsize=4)
def open_shared(path: str, version: int | None = None) -> Reference:
    """Return `Reference.open`, cached per process, so that a worker maps a database once for all its shards."""
    return Reference.open(path, version)


def demo() -> ReferenceFolder:
    """Return the demo reference of the package."""
    return ReferenceFolder(DEMO)


def newest(folder: ReferenceFolder) -> Reference | None:
    """Return the newest version of a database, or None if there is none yet."""
    with contextlib.suppress(FileNotFoundError):
        if folder.versions():
            return Reference.open(folder.root)
    return None
