"""The targets of a run's hits: each best hit once, so that hits can be shown and checked without the reference."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from foldatlas.atlas.novelty.search_run import TARGETS_TABLE, SearchRun
from foldatlas.atlas.parquet.files import ParquetFile, open_parquet
from foldatlas.atlas.reference.reader import Reference
from foldatlas.atlas.storage.commit import attempt_name
from foldatlas.atlas.storage.protocol import Storage
from foldatlas.schemas.manifest import FileEntry
from foldatlas.schemas.novelty_tables import TARGETS

_ROWS: Final = 1_024  # a row group: some 3 MB


@dataclass(frozen=True, eq=False)
class Target:
    """An entry of a reference as a run stored it. `c_alphas_L3` in angstrom, None in a search of sequences."""

    name: str
    title: str
    sequence: str
    licence: str
    version: int
    c_alphas_L3: npt.NDArray[np.float32] | None


def target_names(run: SearchRun) -> set[str]:
    """Return the names of all targets in the run's rows. Raise DamagedAtlasError, OSError."""
    found: set[str] = set()
    for path in run.hit_files():
        with open_parquet(run.run.folder.storage, path) as file:
            for number in range(file.num_row_groups):
                names = file.read_row_group(number, columns=["target"]).column("target")
                found.update(pc.unique(names.drop_null()).to_pylist())
    return found


def write_targets(run: SearchRun, reference: Reference) -> FileEntry:
    """Write the targets of the run's rows, which `reference` holds, in the order of their names."""
    path = run.run.data_path(TARGETS_TABLE, "all", attempt_name())
    with ParquetFile(run.run.folder.storage, path, "novelty", schema=TARGETS) as file:
        for table in _tables(sorted(target_names(run)), reference):
            file.write(table)
    assert file.entry is not None, "set when the with block ends"
    return file.entry


def _tables(names: list[str], reference: Reference) -> Iterator[pa.Table]:
    columns = ["name", "title", "sequence", "length", "licence", "version"]
    entries = reference.entries(columns)
    rows = pc.index_in(pa.array(names, pa.string()), value_set=entries.column("name")).to_numpy(zero_copy_only=False)
    for begin in range(0, len(names), _ROWS):
        some = np.asarray(rows[begin : begin + _ROWS], np.int64)
        table = entries.take(pa.array(some))
        axes: list[Any] = [pa.nulls(len(some), TARGETS.field(axis).type) for axis in "xyz"]
        if reference.kind == "structures":
            chains = [reference.chain(int(row))[1] for row in some]
            axes = [pa.array([chain[:, axis] for chain in chains], TARGETS.field("x").type) for axis in range(3)]
        yield pa.Table.from_arrays(
            [*(table.column(name).combine_chunks() for name in TARGETS.names if name in columns), *axes], schema=TARGETS
        )


def read_targets(storage: Storage, paths: Iterable[str], names: set[str]) -> dict[str, Target]:
    """Return the targets called `names` that stand in the files `paths`. Raise OSError, ArrowException."""
    found = {}
    wanted = pa.array(sorted(names), pa.string())
    for path in paths:
        with open_parquet(storage, path) as file:
            for number in range(file.num_row_groups):
                table = file.read_row_group(number)
                for row in table.filter(pc.is_in(table.column("name"), value_set=wanted)).to_pylist():
                    found[row["name"]] = _target(row)
    return found


def _target(row: dict[str, Any]) -> Target:
    planes = [row.pop(axis) for axis in "xyz"]
    row.pop("length")
    c_alphas = None if planes[0] is None else np.stack([np.array(plane, np.float32) for plane in planes], axis=-1)
    return Target(**row, c_alphas_L3=c_alphas)
