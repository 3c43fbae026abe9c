"""The structures that a report shows: coordinates for 3D views, the nearest known structure laid on them, and PAE.

The nearest structure and the transform onto it are those that the search stored (schemas/novelty_tables.py), so no
reference is needed. Shapes: L residues, M residues of the target.
"""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.novelty.search_run import TARGETS_TABLE, SearchRun, search_runs
from foldatlas.atlas.novelty.stored_hits import in_frame
from foldatlas.atlas.novelty.targets import read_targets
from foldatlas.atlas.parquet.coordinates import StoredStructure, structure_ids_of
from foldatlas.atlas.parquet.files import open_parquet
from foldatlas.atlas.parquet.stored_pae import PaeReader
from foldatlas.atlas.parquet.structures import StructureLocation
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.stages.runs import Completed
from foldatlas.atlas.storage.protocol import Storage
from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.records import ATOMS

NUM_SHOWN: Final = 6
MAX_SHOWN_LENGTH: Final = 2_000  # residues; longer ones would make the file too large
MAX_HIT_FILES: Final = 2_000  # files of hits that are looked through, some milliseconds each

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Known:
    """The nearest known structure: its C-alphas in the frame of the protein, and how well they agree."""

    name: str
    title: str
    licence: str
    c_alphas_M3: Floats
    rmsd: float
    aligned_length: int
    identity: float


@dataclass(frozen=True, eq=False)
class Shown:
    """A protein that is shown: its row of the list, its structure, and what is stored with it."""

    row: dict[str, Any]
    structure: StoredStructure
    known: Known | None = None
    pae_LL: Floats | None = None

    @property
    def backbone_L43(self) -> Floats:
        """N, CA, C and O of each residue in angstrom, NaN where missing."""
        sizes = [len(ATOMS[letter]) for letter in self.structure.sequence]
        starts = np.cumsum([0, *sizes])[:-1]
        backbone: Floats = self.structure.positions[starts[:, None] + np.arange(4)]
        return backbone


def shown_structures(atlas: Atlas, connection: Any, rows: Iterable[dict[str, Any]]) -> list[Shown]:
    """Return the first structures of `rows`, which are of a list of proteins, each structure once.

    `connection` is one of the atlas's index. What cannot be read is left out, since `foldatlas verify` reports it.
    """
    chosen: dict[bytes, dict[str, Any]] = {}
    for row in rows:
        if row["length"] <= MAX_SHOWN_LENGTH and len(chosen) < NUM_SHOWN:
            chosen.setdefault(row["structure_id"].bytes, row)
    shown = []
    for identity, row in chosen.items():
        location = StructureLocation(identity, row["structure_file"], row["structure_row"])
        try:
            shown.append(Shown(row, next(atlas.structures([location]))))
        except DamagedAtlasError:
            continue
    storage = atlas.folder.storage
    known = _known_structures(atlas.folder, [one.structure for one in shown if one.row["nearest_structure"]])
    errors = _aligned_errors(connection, storage, shown)
    return [
        replace(one, known=known.get(one.structure.structure_id), pae_LL=errors.get(one.structure.structure_id))
        for one in shown
    ]


def _known_structures(folder: AtlasFolder, structures: Sequence[StoredStructure]) -> dict[bytes, Known]:
    """Return the nearest known structure of each of `structures` that was searched itself, by structure id.

    A structure that inherits its hit from its cluster's representative has no transform and is left out.
    """
    wanted = {structure.structure_id for structure in structures}
    runs = [(run, done) for run, done in search_runs(folder) if run.settings.search == "structures"]
    if not runs or not wanted:
        return {}
    run, done = runs[-1]
    try:
        hits = _hits(folder.storage, run, wanted)
        return _laid_on(folder.storage, done, hits)
    except (OSError, ValueError, DamagedAtlasError):
        return {}


def _hits(storage: Storage, run: SearchRun, wanted: set[bytes]) -> dict[bytes, dict[str, Any]]:
    found: dict[bytes, dict[str, Any]] = {}
    for path in run.hit_files()[:MAX_HIT_FILES]:
        if len(found) == len(wanted):
            break
        with open_parquet(storage, path) as file:
            identities = structure_ids_of(file.read(columns=["structure_id"]))
            numbers = [number for number, identity in enumerate(identities) if identity in wanted]
            if numbers:
                rows = file.read().take(pa.array(numbers)).drop_columns(["structure_id"]).to_pylist()
                for number, row in zip(numbers, rows, strict=True):
                    if row["rotation"] is not None:
                        found.setdefault(identities[number], row)
    return found


def _laid_on(storage: Storage, done: Completed, hits: dict[bytes, dict[str, Any]]) -> dict[bytes, Known]:
    paths = [file.path for file in done.mark.files.get(TARGETS_TABLE, ())]
    targets = read_targets(storage, paths, {hit["target"] for hit in hits.values()})
    found = {}
    for identity, hit in hits.items():
        target = targets.get(hit["target"])
        if target is None or target.c_alphas_L3 is None:
            continue
        moved = in_frame(target.c_alphas_L3, hit["rotation"], hit["translation"])
        found[identity] = Known(
            target.name,
            target.title,
            target.licence,
            moved.astype(np.float32),
            hit["rmsd"],
            hit["aligned_length"],
            hit["identity"],
        )
    return found


def _aligned_errors(connection: Any, storage: Storage, shown: Sequence[Shown]) -> dict[bytes, Floats]:
    """Return the predicted aligned errors of structures whose shard has them, by structure id."""
    found = {}
    for one in shown:
        files = connection.execute(
            "SELECT path FROM files WHERE table_name = 'pae' AND shard = "
            "(SELECT shard FROM files WHERE table_name = 'structures' AND path = ?)",
            [one.row["structure_file"]],
        ).fetchall()
        file, identity = one.row["structure_file"], one.structure.structure_id
        for (path,) in files:
            with contextlib.closing(PaeReader(storage, {file: path})) as reader:
                try:
                    errors = reader.matrix(file, identity)
                except (OSError, pa.ArrowException, DamagedAtlasError):
                    continue
            if errors is not None:
                found[identity] = errors
    return found
