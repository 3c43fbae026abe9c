"""Parquet files on a store as one table of which DuckDB reads the columns and row groups that a query needs.

DuckDB cannot read files of a `Storage`, so pyarrow reads them. DuckDB reads files of a local folder itself, which is
faster.
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from foldatlas.atlas.storage.protocol import Storage


def store_dataset(storage: Storage, files: Mapping[str, int], schema: pa.Schema) -> ds.Dataset:
    """Return the rows of `files` (name -> size in bytes), with the columns of `schema` and the column `filename`.

    No request is made before rows are read.
    """
    names = list(files)
    return ds.FileSystemDataset.from_paths(
        names,
        schema=schema.append(pa.field("filename", pa.string())),
        format=ds.ParquetFileFormat(),
        filesystem=pafs.PyFileSystem(_Handler(storage, files)),
        partitions=[ds.field("filename") == name for name in names],
    )


class _Handler(pafs.FileSystemHandler):  # type: ignore[misc]
    """The part of a file system that is needed to read files of known names and sizes."""

    def __init__(self, storage: Storage, files: Mapping[str, int]):
        self._storage = storage
        self._files = files

    def get_type_name(self) -> str:
        return "atlas"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> list[pafs.FileInfo]:
        return [pafs.FileInfo(path, pafs.FileType.File, size=self._files[path]) for path in paths]

    def open_input_file(self, path: str) -> pa.PythonFile:
        return pa.PythonFile(self._storage.open(path, self._files[path]), mode="r")

    def open_input_stream(self, path: str) -> pa.PythonFile:
        return self.open_input_file(path)

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("this file system can only read")

    get_file_info_selector = create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = _refuse
    delete_file = move = copy_file = open_output_stream = open_append_stream = _refuse
