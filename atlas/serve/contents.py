"""What is stored of one protein: its structure as a file, its sequence, confidence, aligned errors and embedding.

Rows are read by their place: one row group of one file. Footers of files, which take longer to read than a row group,
are kept, and so are files of structures that were asked for lately.
"""

import hashlib
import threading
from collections import OrderedDict
from typing import Any, Final, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from foldatlas.atlas.parquet.coordinates import StoredStructure, decode_structures, structure_ids_of
from foldatlas.atlas.parquet.files import open_parquet
from foldatlas.atlas.parquet.matrices import decode_pae
from foldatlas.atlas.serve.catalogue import NotFoundError, Protein
from foldatlas.atlas.serve.current import Served
from foldatlas.atlas.writers.structure_files import structure_writer
from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.formats import IMPORTED
from foldatlas.schemas.tables import STRUCTURES_PER_ROW_GROUP
from foldatlas.schemas.version import program_version

FORMATS: Final = {"pdb": "chemical/x-pdb", "cif": "chemical/x-cif"}  # with their media types
CACHED_FILE_BYTES: Final = 64 << 20
CACHED_FOOTERS: Final = 2_000

Value = TypeVar("Value")


class _Cache(Generic[Value]):
    """The values used last, up to a total size; safe for several threads."""

    def __init__(self, size: int):
        self._size = size
        self._left = size
        self._values: OrderedDict[Any, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any) -> Value | None:
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: Any, value: Value, size: int = 1) -> None:
        with self._lock:
            if key in self._values or size > self._size:
                return
            self._values[key] = value, size
            self._left -= size
            while self._left < 0:
                _, (_, freed) = self._values.popitem(last=False)
                self._left += freed


class Contents:
    """Reads what is stored of single proteins. One for all threads of a server."""

    def __init__(self) -> None:
        self._footers: _Cache[pq.FileMetaData] = _Cache(CACHED_FOOTERS)
        self._files: _Cache[bytes] = _Cache(CACHED_FILE_BYTES)

    def structure(self, served: Served, protein: Protein) -> StoredStructure:
        """Return the stored structure of a protein. Raise DamagedAtlasError."""
        return decode_structures(self._row(served, protein))[0]

    def _row(self, served: Served, protein: Protein, columns: list[str] | None = None) -> pa.Table:
        """Return the row of a protein in its structures file (None: all columns)."""
        number, row = divmod(protein.row, STRUCTURES_PER_ROW_GROUP)
        rows = self._first_rows(served, protein.file, number, row + 1, columns).slice(row, 1)
        if rows.num_rows != 1 or structure_ids_of(rows) != [protein.structure_id.bytes]:
            raise DamagedAtlasError(
                f"row {protein.row} of {protein.file} is not structure {protein.structure_id}: run `foldatlas index`"
            )
        return rows

    def structure_file(self, served: Served, protein: Protein, format: str) -> bytes:
        """Return a protein's structure as a file in one of FORMATS. Raise UsageError beyond the limits of PDB."""
        key = structure_etag(served, protein, format)
        cached = self._files.get(key)
        if cached is None:
            with structure_writer(format) as write:
                cached = write(
                    self.structure(served, protein),
                    name=protein.id,
                    model=_model_of(served, protein),
                    mean_plddt=protein.mean_plddt,
                    ptm=protein.ptm,
                )
            self._files.put(key, cached, len(cached))
        return cached

    def sequence(self, served: Served, protein: Protein) -> str:
        """Return the sequence of a protein. Raise DamagedAtlasError."""
        sequence: str = self._row(served, protein, ["structure_id", "sequence"])["sequence"][0].as_py()
        return sequence

    def pae(self, served: Served, protein: Protein) -> npt.NDArray[np.float32] | None:
        """Return the predicted aligned errors, float32 [L, L] in angstrom, or None if the atlas has none of it."""
        found = self._beside(served, protein, "pae")
        return None if found is None else decode_pae(found)[0]

    def has_pae(self, served: Served, protein: Protein) -> bool:
        """Return whether the atlas has predicted aligned errors of a protein."""
        return self._beside(served, protein, "pae", columns=["structure_id"]) is not None

    def embedding(self, served: Served, protein: Protein) -> npt.NDArray[np.float32]:
        """Return the mean embedding of a protein, float32 [D]. Raise NotFoundError."""
        found = self._beside(served, protein, "embeddings")
        if found is None:
            raise NotFoundError(f"the atlas has no embedding of {protein.structure_id}: fold with --embeddings mean")
        values: Any = found.column("mean").combine_chunks()
        embedding: npt.NDArray[np.float32] = values.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
        return embedding

    def _beside(
        self, served: Served, protein: Protein, table: str, columns: list[str] | None = None
    ) -> pa.Table | None:
        """Return the row of a protein in a file of the same shard (None: all columns), or None."""
        listed = served.rows(
            "SELECT others.path FROM files JOIN files AS others USING (plan, shard) "
            "WHERE files.path = ? AND others.table_name = ? ORDER BY others.path",
            [protein.file, table],
        )
        wanted = protein.structure_id.bytes
        for entry in listed:
            file = self._open(served, entry["path"])
            for number in range(file.num_row_groups):
                identities: Any = file.read_row_group(number, columns=["structure_id"]).column(0).combine_chunks()
                row = pc.index(identities.storage, pa.scalar(wanted, pa.binary(16))).as_py()
                if row >= 0:
                    return file.read_row_group(number, columns=columns).slice(row, 1)
        return None

    def _first_rows(self, served: Served, path: str, number: int, rows: int, columns: list[str] | None) -> pa.Table:
        """Return the first rows of a row group. Values of later rows are not decoded: on average half of the group."""
        try:
            file = self._open(served, path)
            if number >= file.num_row_groups:
                raise pa.ArrowInvalid(f"it has {file.num_row_groups} row groups, {number + 1} are needed")
            batches = file.iter_batches(batch_size=rows, row_groups=[number], columns=columns, use_threads=False)
            return pa.Table.from_batches([next(batches)])
        except (OSError, StopIteration, pa.ArrowException) as error:
            raise DamagedAtlasError(f"{path} cannot be read ({error}): run `foldatlas verify`") from error

    def _open(self, served: Served, path: str) -> pq.ParquetFile:
        """Open a file of the atlas, with its footer from the cache: files of an atlas never change."""
        storage = served.atlas.folder.storage
        footer = self._footers.get(path)
        if footer is None:
            file = open_parquet(storage, path)
            self._footers.put(path, file.metadata)
            return file
        if storage.root is not None:
            return pq.ParquetFile(storage.root / path, metadata=footer)
        return pq.ParquetFile(storage.open(path), metadata=footer, pre_buffer=True)


def structure_etag(served: Served, protein: Protein, format: str) -> str:
    """Return what identifies the bytes of a structure's file, without reading it."""
    parts = (format, protein.file, protein.row, protein.id, protein.mean_plddt, protein.ptm, program_version(),
             served.atlas.header.settings.model)  # fmt: skip
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def plddt_values(structure: StoredStructure, scale: float = 1.0) -> list[float | None]:
    """Return the pLDDT of each residue, divided by `scale`; None where there is none."""
    return [None if np.isnan(value) else round(float(value) / scale, 4) for value in structure.plddt]


def _model_of(served: Served, protein: Protein) -> str | None:
    """Return the model that predicted a structure; of an imported one its own, None if it is unknown."""
    model: str | None = served.atlas.header.settings.model
    if model == IMPORTED:
        [row] = served.rows("SELECT model FROM scores WHERE structure_id = ?", [protein.structure_id])
        model = row["model"]
    return model
