"""Numbers that describe each structure: its mean embedding, or composition, length, pLDDT and shape.

Rows are read in the order of the structures files, one file at a time, so memory does not grow with the atlas. Missing
values are NaN. Shapes: `N` structures of a batch, `D` features.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from foldatlas.atlas.parquet.files import open_parquet
from foldatlas.atlas.projection.settings import EMBEDDINGS
from foldatlas.atlas.reader import Atlas
from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.records import STANDARD_RESIDUES

Floats = npt.NDArray[np.float32]
Keys = npt.NDArray[np.uint64]
Ids = npt.NDArray[np.void]  # structure_ids, of dtype ID

ID: Final = np.dtype("V16")

_ROWS_PER_BATCH: Final = 4_096  # of embeddings of 2,560 channels 42 MB
_PRESENT: Final = "structure_id IN (SELECT structure_id FROM records WHERE state = 'folded' AND NOT superseded)"
_COMPACT: Final = (2.2, 0.38)  # radius of gyration of a globular protein: 2.2 A x length ** 0.38 (Skolnick et al. 1997)
_SCORES: Final = ("length", "mean_plddt", "radius_of_gyration", "helix_fraction", "strand_fraction")

# Names of the features of a map by composition, in their order.
NAMES: Final = (
    *(f"fraction of {letter}" for letter in STANDARD_RESIDUES),
    "log of length",
    "mean_plddt",
    "radius_of_gyration, relative to a globular protein",
    "helix_fraction",
    "strand_fraction",
)


class Batch(NamedTuple):
    """Structures of one file, in the order of its rows: their ids and features."""

    ids_N: Ids
    features_ND: Floats


def count_structures(atlas: Atlas) -> int:
    """Return the number of structures of present records."""
    [(number,)] = atlas.query(f"SELECT count(*) FROM scores WHERE {_PRESENT}").rows()
    return int(number)


def draw_limit(atlas: Atlas, seed: int, number: int) -> int:
    """Return the greatest key (`keys_of`) of the `number` structures with the least keys."""
    kept: Keys = np.empty(0, np.uint64)
    for batch in atlas.query(f"SELECT structure_id FROM scores WHERE {_PRESENT}").batches():
        kept = np.concatenate([kept, keys_of(_ids(batch.column(0)), seed)])
        if len(kept) > 2 * number:
            kept = np.partition(kept, number - 1)[:number]
    return int(np.partition(kept, number - 1)[number - 1])


def keys_of(ids_N: Ids, seed: int) -> Keys:
    """Return a hash of each id and the seed: ids are digests, so their bits only have to be mixed (splitmix64)."""
    halves = ids_N.view(np.uint64).reshape(len(ids_N), 2)
    return _mixed(halves[:, 0] ^ _mixed(halves[:, 1] ^ np.uint64(seed)))


def _mixed(values: Keys) -> Keys:
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def feature_batches(atlas: Atlas, kind: str) -> Iterator[Batch]:
    """Yield the features of all structures of present records, file by file.

    Raise DamagedAtlasError for a file that cannot be read, or that lacks structures that the index has.
    """
    table = "embeddings" if kind == EMBEDDINGS else "structures"
    listed = atlas.query(
        "SELECT structures.path, files.path FROM files AS structures JOIN files USING (shard) "
        "WHERE structures.table_name = 'structures' AND files.table_name = $table",
        {"table": table},
    ).rows()
    source = dict(listed)
    for file, wanted in _wanted_by_file(atlas):
        found = 0
        for batch in _read(atlas, source[file], "mean" if kind == EMBEDDINGS else "sequence", wanted):
            found += len(batch.ids_N)
            yield batch
        if found != wanted.num_rows:
            uri = atlas.folder.uri
            raise DamagedAtlasError(
                f"{uri}/{source[file]} lacks structures of the index: run `foldatlas index {uri}`, and "
                f"`foldatlas verify {uri}` if that does not help"
            )


def _wanted_by_file(atlas: Atlas) -> Iterator[tuple[str, pa.Table]]:
    """Yield each structures file with the rows of `scores` that the map has of it."""
    result = atlas.query(
        f"SELECT structure_file::VARCHAR AS structure_file, structure_id, {', '.join(_SCORES)} FROM scores "
        f"WHERE {_PRESENT} ORDER BY scores.structure_file, structure_row"
    )
    waiting: list[pa.Table] = []
    current: str | None = None
    for batch in result.batches():
        files: Any = batch.column("structure_file")
        ends = np.flatnonzero(np.asarray(pc.not_equal(files[1:], files[:-1]))) + 1
        for begin, end in zip([0, *ends], [*ends, len(files)], strict=True):
            file = files[int(begin)].as_py()
            if current is not None and file != current:
                yield current, pa.concat_tables(waiting)
                waiting = []
            current = file
            waiting.append(pa.table(batch.slice(int(begin), int(end - begin))))
    if current is not None:
        yield current, pa.concat_tables(waiting)


def _read(atlas: Atlas, path: str, column: str, wanted: pa.Table) -> Iterator[Batch]:
    """Yield batches of the rows of a file that are among `wanted`."""
    ids = _ids(wanted.column("structure_id"))
    order = np.argsort(ids, kind="stable")
    try:
        with open_parquet(atlas.folder.storage, path) as file:
            for batch in file.iter_batches(_ROWS_PER_BATCH, columns=["structure_id", column]):
                own = _ids(batch.column(0))
                place = order[np.minimum(np.searchsorted(ids, own, sorter=order), len(ids) - 1)]
                rows = np.flatnonzero(ids[place] == own)
                if len(rows):
                    values = batch.column(1).take(pa.array(rows))
                    scores = wanted.take(pa.array(place[rows]))
                    yield Batch(own[rows], _embeddings(values) if column == "mean" else _described(values, scores))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DamagedAtlasError(
            f"{atlas.folder.where(path)} cannot be read ({error}): restore it from a copy"
        ) from error


def _ids(column: Any) -> Ids:
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    storage = whole.storage if isinstance(whole, pa.ExtensionArray) else whole
    content = storage.buffers()[1].to_pybytes()
    return np.frombuffer(content, ID)[storage.offset : storage.offset + len(storage)]


def _embeddings(column: Any) -> Floats:
    """Return the lists of a column as a matrix. Raise ValueError if they differ in length."""
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False), np.float32).reshape(len(column), -1)


def _described(sequences: Any, scores: pa.Table) -> Floats:
    """Return the features NAMES of sequences and their rows of `scores`."""
    values = {name: scores.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False) for name in _SCORES}
    length = values["length"]
    factor, exponent = _COMPACT
    return np.column_stack(
        [
            composition(sequences.to_pylist()),
            np.log(length),
            values["mean_plddt"],
            values["radius_of_gyration"] / (factor * length**exponent),
            values["helix_fraction"],
            values["strand_fraction"],
        ]
    ).astype(np.float32)


def composition(sequences: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return the fraction of each standard residue in each sequence [N, 20]; unknown residues count in the length."""
    lengths = np.array([len(sequence) for sequence in sequences])
    letters = np.frombuffer("".join(sequences).encode("ascii"), np.uint8).astype(np.int64)
    rows = np.repeat(np.arange(len(sequences)), lengths)
    counts = np.bincount(rows * 128 + letters, minlength=128 * len(sequences)).reshape(len(sequences), 128)
    standard = np.frombuffer(STANDARD_RESIDUES.encode("ascii"), np.uint8)
    fractions: npt.NDArray[np.float64] = counts[:, standard] / lengths[:, None]
    return fractions
