"""The structures and PAE of a staged chunk, written in row groups as they are read."""

import contextlib
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from foldatlas.atlas.importing.record import ImportedStructure
from foldatlas.atlas.parquet.coordinates import encode_structures
from foldatlas.atlas.parquet.files import ParquetFile
from foldatlas.atlas.parquet.matrices import BULKY_ROW_GROUP_BYTES, encode_pae
from foldatlas.atlas.storage.protocol import Storage
from foldatlas.schemas.formats import IMPORTED_FORMAT
from foldatlas.schemas.records import structure_id
from foldatlas.schemas.tables import STRUCTURES_PER_ROW_GROUP


class StagedStructures:
    """Context manager that writes the accepted structures of a chunk. Files appear at its end.

    name        the file of structures
    pae         the file of their PAE, "" if no structure has one
    rows, residues    of the structures
    """

    def __init__(self, staging: Storage, base: str):
        self._staging = staging
        self.name = f"{base}.structures.parquet"
        self.pae = ""
        self.rows = self.residues = 0
        self._pae_name = f"{base}.pae.parquet"
        self._pae_file: ParquetFile | None = None
        self._pae_rows = 0
        self._pending: list[ImportedStructure] = []
        self._matrices: list[tuple[bytes, npt.NDArray[np.float32]]] = []

    def __enter__(self) -> Self:
        self._open = contextlib.ExitStack()
        self._file = self._open.enter_context(ParquetFile(self._staging, self.name, "structures"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            try:
                self._flush()
                self._flush_matrices()
            except BaseException as failure:
                self._open.__exit__(type(failure), failure, failure.__traceback__)
                raise
        self._open.__exit__(kind, error, traceback)

    def add(self, structure: ImportedStructure, *, with_pae: bool) -> dict[str, int]:
        """Take a structure, and its PAE if it has one. Return its `row` and `pae_row`."""
        places = {"row": self.rows}
        self.rows += 1
        self.residues += len(structure.sequence)
        self._pending.append(structure)
        if structure.pae is not None and with_pae:
            places["pae_row"] = self._pae_rows
            self._pae_rows += 1
            self._matrices.append((structure_id(structure.sequence), structure.pae))
            if sum(matrix.nbytes for _, matrix in self._matrices) >= BULKY_ROW_GROUP_BYTES:
                self._flush_matrices()
        if len(self._pending) == STRUCTURES_PER_ROW_GROUP:
            self._flush()
        return places

    def _flush(self) -> None:
        some, self._pending = self._pending, []
        if some:
            missing = [np.full(len(one.sequence), np.nan, np.float32) for one in some]
            plddt = [one.plddt if one.plddt is not None else none for one, none in zip(some, missing, strict=True)]
            self._file.write(
                encode_structures(
                    [structure_id(one.sequence) for one in some],
                    [one.sequence for one in some],
                    [one.positions for one in some],
                    plddt,
                )
            )

    def _flush_matrices(self) -> None:
        some, self._matrices = self._matrices, []
        if not some:
            return
        if self._pae_file is None:
            file = ParquetFile(self._staging, self._pae_name, "pae", format=IMPORTED_FORMAT)
            self._pae_file = self._open.enter_context(file)
            self.pae = self._pae_name
        identities, matrices = zip(*some, strict=True)
        self._pae_file.write(encode_pae(identities, matrices))
