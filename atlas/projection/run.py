"""Map an atlas: draw structures, fit the layout on them, place the others, and write a run of the derived stage.

    projections/<run>/run.json                  settings, features; committed first
    projections/<run>/map/all.<attempt>.parquet   schemas/projection_tables.py
    projections/<run>/complete.json             committed last: without it, no reader sees the run

The structures of the layout are those with the least hash of structure_id and seed. Two passes read the features: one
for the layout, one for the others. Memory is that of the layout and of a batch.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.projection import KIND, MAP
from foldatlas.atlas.parquet.files import ParquetFile
from foldatlas.atlas.projection.components import Components
from foldatlas.atlas.projection.features import (
    NAMES,
    Batch,
    Floats,
    Ids,
    count_structures,
    draw_limit,
    feature_batches,
    keys_of,
)
from foldatlas.atlas.projection.layout import Placing, layout
from foldatlas.atlas.projection.settings import (
    COMPOSITION,
    MAX_FITTED,
    NUM_COMPONENTS,
    choose_features,
    require_libraries,
    run_settings,
)
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.stages.run import StageRun
from foldatlas.atlas.stages.runs import Completed, completed_runs
from foldatlas.atlas.storage.commit import attempt_name
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.projection_tables import PROJECTION

MEMORY_LIMIT: Final = "2GB"  # of DuckDB, which sorts the index's rows by file

_ROWS_PER_GROUP: Final = 65_536
_INSTEAD_OF: Final = "instead_of"  # key of the settings: the later run that one with equal settings replaces
_WHOLE: Final = "all"  # in the name of the file, where shards of other stages have theirs

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Mapped:
    """A complete map. `features` are embeddings or composition, `fitted` the structures of the layout, `imputed` the
    values that were missing in them, `explained` the fraction of the variance of the principal components.

    `is_new`: this call made it; otherwise the map was up to date.
    """

    run: str
    features: str
    structures: int
    fitted: int
    dropped: list[str]
    imputed: int
    explained: float | None
    is_new: bool
    seconds: float = 0.0


def project_atlas(
    folder: AtlasFolder,
    *,
    features: str | None = None,
    seed: int = 0,
    threads: int = 1,
    progress: Progress = lambda done, total: None,
    on_phase: Callable[[str], None] = lambda name: None,
) -> Mapped:
    """Map the structures of present records, unless the latest map has the same settings and input.

    The index must be up to date. `progress(done, total)` counts structures. Raise UsageError for an atlas without
    structures or embeddings, or without the libraries.
    """
    require_libraries()
    from threadpoolctl import threadpool_limits

    begin = time.monotonic()
    with Atlas.open(folder.uri, memory_limit=MEMORY_LIMIT) as atlas:
        kind = choose_features(atlas, features)
        number = count_structures(atlas)
        if not number:
            raise UsageError(f"{folder.uri} has no structures to map: fold some first")
        settings = run_settings(atlas, kind, seed, number)
        done = completed_runs(folder, KIND)
        if done and _is_same(done[-1].run.document.settings, settings):
            return _report(done[-1], is_new=False)
        if any(run.document.settings == settings for run, _ in done):
            settings = {**settings, _INSTEAD_OF: done[-1].run.name}
        # One thread for linear algebra: sums over several threads differ with their number.
        with threadpool_limits(1, user_api="blas"):
            fitted = min(number, MAX_FITTED)
            limit = draw_limit(atlas, seed, fitted) if number > fitted else None
            total = number if limit is None else 2 * number
            on_phase(f"reading {kind}")
            counted = _Counted(progress, total)
            ids_M, features_MD = _drawn(counted.each(feature_batches(atlas, kind)), fitted, limit, seed)
            components = Components.of(features_MD, NUM_COMPONENTS, scaled=kind == COMPOSITION)
            components_MC = components.apply(features_MD)
            notes = _notes(kind, components, features_MD.shape[1])
            del features_MD
            on_phase(f"fitting the layout of {len(ids_M):,} structures")
            positions_M2 = layout(components_MC, seed, threads)
            run = StageRun.begin(folder, KIND, settings=settings, shards=(), notes=notes)
            path = run.data_path(MAP, _WHOLE, attempt_name())
            with ParquetFile(folder.storage, path, MAP, schema=PROJECTION) as file, _Rows(file) as rows:
                if limit is None:
                    rows.add(ids_M, positions_M2, np.ones(len(ids_M), np.bool_))
                else:
                    on_phase("placing the others")
                    placing = Placing(components_MC, positions_M2, threads)
                    first = 0
                    for batch in counted.each(feature_batches(atlas, kind)):
                        is_fitted_N = keys_of(batch.ids_N, seed) <= np.uint64(limit)
                        last = first + int(is_fitted_N.sum())
                        placed = placing.place(components.apply(batch.features_ND[~is_fitted_N]))
                        rows.add(batch.ids_N, _joined(is_fitted_N, positions_M2[first:last], placed), is_fitted_N)
                        first = last
    assert file.entry is not None, "set when the with block ends"
    mark = run.complete({MAP: [file.entry]}, {"structures": file.rows, "fitted": len(ids_M)})
    return _report(Completed(run, mark), is_new=True, seconds=time.monotonic() - begin)


def _joined(is_fitted_N: npt.NDArray[np.bool_], fitted_F2: Floats, placed_P2: Floats) -> Floats:
    """Return positions [N, 2] of structures of which some are in the layout and the others were placed, in order."""
    positions_N2 = np.empty((len(is_fitted_N), 2), np.float32)
    positions_N2[is_fitted_N], positions_N2[~is_fitted_N] = fitted_F2, placed_P2
    return positions_N2


def _is_same(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    return {**theirs, _INSTEAD_OF: ""} == {**ours, _INSTEAD_OF: ""}


def _report(done: Completed, *, is_new: bool, seconds: float = 0.0) -> Mapped:
    document, counts = done.run.document, done.mark.counts
    notes = document.notes
    return Mapped(
        run=document.name,
        features=document.settings["features"],
        structures=counts["structures"],
        fitted=counts["fitted"],
        dropped=list(notes["dropped"]),
        imputed=notes["imputed"],
        explained=notes["explained"],
        is_new=is_new,
        seconds=seconds,
    )


def _notes(kind: str, components: Components, number: int) -> dict[str, Any]:
    """Return what a run records of its features."""
    names = NAMES if kind == COMPOSITION else [f"channel {channel}" for channel in range(number)]
    used = set(components.used_U.tolist())
    return {
        "used": [name for place, name in enumerate(names) if place in used] if kind == COMPOSITION else [],
        "dropped": [name for place, name in enumerate(names) if place not in used],
        "imputed": components.imputed,
        "explained": None if math.isnan(components.explained) else components.explained,
        "components": components.axes_UC.shape[1],
    }


def _drawn(batches: Iterable[Batch], number: int, limit: int | None, seed: int) -> tuple[Ids, Floats]:
    """Return ids and features of the `number` structures with a key of at most `limit` (None: all of them)."""
    ids: list[Ids] = []
    features_MD: Floats | None = None
    filled = 0
    for batch in batches:
        rows = slice(None) if limit is None else keys_of(batch.ids_N, seed) <= np.uint64(limit)
        if features_MD is None:
            features_MD = np.empty((number, batch.features_ND.shape[1]), np.float32)
        own = batch.features_ND[rows]
        features_MD[filled : filled + len(own)] = own
        ids.append(batch.ids_N[rows])
        filled += len(own)
    assert features_MD is not None and filled == number, "the index counted them"
    return np.concatenate(ids), features_MD


class _Counted:
    """Counts structures of several passes."""

    def __init__(self, progress: Progress, total: int):
        self._progress = progress
        self._total = total
        self._done = 0

    def each(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        for batch in batches:
            yield batch
            self._done += len(batch.ids_N)
            self._progress(self._done, self._total)


class _Rows:
    """Writes rows of PROJECTION in row groups of equal size."""

    def __init__(self, file: ParquetFile):
        self._file = file
        self._waiting: list[pa.Table] = []
        self._number = 0

    def __enter__(self) -> "_Rows":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error is None and self._waiting:
            self._write()

    def add(self, ids_N: Ids, positions_N2: Floats, is_fitted_N: npt.NDArray[np.bool_]) -> None:
        identities = pa.Array.from_buffers(pa.binary(16), len(ids_N), [None, pa.py_buffer(ids_N.tobytes())])
        columns = [
            pa.ExtensionArray.from_storage(pa.uuid(), identities),
            *(pa.array(np.ascontiguousarray(column)) for column in positions_N2.T),
            pa.array(is_fitted_N),
        ]
        self._waiting.append(pa.table(columns, schema=PROJECTION))
        self._number += len(ids_N)
        if self._number >= _ROWS_PER_GROUP:
            self._write()

    def _write(self) -> None:
        self._file.write(pa.concat_tables(self._waiting).combine_chunks(), _ROWS_PER_GROUP)
        self._waiting, self._number = [], 0
