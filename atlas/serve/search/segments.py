"""The arrays of a segment: writing them, and mapping them.

Pages of files are read when they are used, and dropped when memory is short.

Shapes: N structures, T residues of all of them, M structures with an embedding of D channels.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

import numpy as np
import numpy.typing as npt

from foldatlas.atlas.reference.mmseqs2 import DatabaseWriter
from foldatlas.atlas.serve.search.documents import Segment, segment_folder
from foldatlas.schemas.errors import DamagedAtlasError

C_ALPHAS: Final = "c_alphas.f4"  # [T, 3] in angstrom, NaN for a residue without a C-alpha
STATES: Final = "states.u1"  # [T] 3Di states
OFFSETS: Final = "offsets.i8"  # [N + 1] first residue of each structure
IDENTITIES: Final = "structure_ids.u1"  # [N, 16]
EMBEDDINGS: Final = "embeddings.f2"  # [M, D] of length 1
EMBEDDED: Final = "embedded.i8"  # [M] row of the structure
SEQUENCES: Final = "sequences"  # MMseqs2 database, whose keys are rows
_ARRAYS: Final = (C_ALPHAS, STATES, OFFSETS, IDENTITIES, EMBEDDINGS, EMBEDDED)


@dataclass(frozen=True)
class SegmentArrays:
    """The arrays of a segment of the database in the folder `root`. Raise DamagedAtlasError where they are read."""

    root: Path
    segment: Segment

    @property
    def folder(self) -> Path:
        return segment_folder(self.root, self.segment.name)

    @property
    def sequences(self) -> Path:
        """The MMseqs2 database of all sequences; keys are rows."""
        return self.folder / SEQUENCES

    @cached_property
    def c_alphas(self) -> npt.NDArray[np.float32]:
        return self._array(C_ALPHAS, "<f4", (self.segment.residues, 3))  # type: ignore[no-any-return]

    @cached_property
    def states(self) -> npt.NDArray[np.uint8]:
        return self._array(STATES, "u1", (self.segment.residues,))  # type: ignore[no-any-return]

    @cached_property
    def offsets(self) -> npt.NDArray[np.int64]:
        return self._array(OFFSETS, "<i8", (self.segment.structures + 1,))  # type: ignore[no-any-return]

    @cached_property
    def structure_ids(self) -> npt.NDArray[np.uint8]:
        return self._array(IDENTITIES, "u1", (self.segment.structures, 16))  # type: ignore[no-any-return]

    @cached_property
    def embeddings(self) -> npt.NDArray[np.float16]:
        return self._array(EMBEDDINGS, "<f2", (self.segment.embeddings, self.segment.dimension))  # type: ignore[no-any-return]

    @cached_property
    def embedded(self) -> npt.NDArray[np.int64]:
        return self._array(EMBEDDED, "<i8", (self.segment.embeddings,))  # type: ignore[no-any-return]

    def structure_id(self, row: int) -> bytes:
        """Return the structure_id of a row."""
        return bytes(self.structure_ids[row])

    def sequence(self, row: int) -> str:
        """Return the sequence of a row, from the MMseqs2 database: each is followed by two bytes."""
        begin, end = self.offsets[row] + 2 * row, self.offsets[row + 1] + 2 * row
        return self._letters[begin:end].tobytes().decode("ascii")

    @cached_property
    def _letters(self) -> npt.NDArray[np.uint8]:
        return self._array(SEQUENCES, "u1", (self.segment.residues + 2 * self.segment.structures,))  # type: ignore[no-any-return]

    def _array(self, name: str, dtype: str, shape: tuple[int, ...]) -> Any:
        path = self.folder / name
        expected = int(np.prod(shape)) * np.dtype(dtype).itemsize
        try:
            size = path.stat().st_size
            if size != expected:
                raise ValueError(f"{size:,} bytes, {expected:,} expected")
            return np.memmap(path, dtype, "r", shape=shape) if expected else np.empty(shape, dtype)
        except (OSError, ValueError) as error:
            raise DamagedAtlasError(f"{path} cannot be used ({error}): build the search database again") from error


@dataclass
class SegmentWriter:
    """Context manager that writes the files of a segment, structure by structure, into a new folder."""

    folder: Path
    structures: int = 0
    residues: int = 0
    embeddings: int = 0
    dimension: int = 0
    _files: dict[str, IO[bytes]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        for name in _ARRAYS:
            self._files[name] = (self.folder / name).open("xb")
        self._write(OFFSETS, np.int64(0))
        self._sequences = DatabaseWriter(self.folder / SEQUENCES).__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        self._sequences.__exit__(kind, error, traceback)

    def add(
        self,
        sequence: str,
        backbone_L43: npt.NDArray[np.float32],
        identity: bytes,
        vector: npt.NDArray[np.float32] | None = None,
    ) -> None:
        """Append a structure: N, C-alpha, C and C-beta in angstrom, NaN for a missing atom, and its embedding.

        Embeddings without a direction, and of another dimension than the first, are left out.
        """
        from foldatlas.folding.compare.three_di import three_di_states

        self.residues += len(sequence)
        self._write(C_ALPHAS, backbone_L43[:, 1].astype("<f4"))
        self._write(STATES, three_di_states(*(backbone_L43[:, atom] for atom in range(4))))
        self._write(OFFSETS, np.int64(self.residues))
        self._write(IDENTITIES, np.frombuffer(identity, np.uint8))
        self._sequences.write([sequence.encode("ascii")])
        if vector is not None:
            length = float(np.linalg.norm(vector.astype(np.float64)))
            if np.isfinite(length) and length > 0 and len(vector) == (self.dimension or len(vector)):
                self.dimension = len(vector)
                self._write(EMBEDDINGS, (vector / length).astype("<f2"))
                self._write(EMBEDDED, np.int64(self.structures))
                self.embeddings += 1
        self.structures += 1

    def segment(self, name: str, files: dict[str, str]) -> Segment:
        """Return the document of the segment, after its files are closed."""
        size = sum(path.stat().st_size for path in self.folder.iterdir())
        return Segment(name, files, self.structures, self.residues, self.embeddings, self.dimension, size)

    def _write(self, name: str, values: Any) -> None:
        self._files[name].write(values.tobytes())
