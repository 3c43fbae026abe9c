"""Checks of search runs: every row against itself, and a sample of hits computed again from the stored transform.

A hit's TM-score, RMSD, identity and aligned length follow from its alignment, its transform and the coordinates of
structure and target, which are all stored, so they are computed again without the reference.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.novelty.rows import aligned_pairs
from foldatlas.atlas.novelty.search_run import HITS_TABLE, KEPT_TABLE, KIND, TARGETS_TABLE, SearchRun
from foldatlas.atlas.novelty.targets import Target, read_targets
from foldatlas.atlas.parquet.coordinates import StoredStructure, structure_ids_of
from foldatlas.atlas.parquet.files import open_parquet
from foldatlas.atlas.parquet.structures import StructureLocation, read_structures
from foldatlas.atlas.reference.from_atlas import backbone_of
from foldatlas.atlas.verify.fault import Fault, FaultKind
from foldatlas.atlas.verify.stages import ReadRun
from foldatlas.folding.compare.superposition import tm_d0
from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.manifest import ShardEntry
from foldatlas.schemas.novelty_tables import HIT, HITS, NO_HIT, NOT_SEARCHED, REASONS
from foldatlas.schemas.records import format_structure_id

SAMPLE: Final = 100  # hits of a run that are computed again, spread evenly over its rows
TM_TOLERANCE: Final = 1e-3
RMSD_TOLERANCE: Final = 1e-2  # angstrom

_SCORES: Final = {"structures": ("tm_query", "tm_target"), "sequences": ("identity_max",)}


class _Hit(NamedTuple):
    path: str
    structure_id: bytes
    row: dict[str, Any]


def check_novelty(folder: AtlasFolder, read: ReadRun, entries: Sequence[ShardEntry], bad: set[str]) -> Iterator[Fault]:
    """Yield faults of a complete search run. `entries` are those of the folded shards; `bad` files are not opened."""
    if read.run.kind != KIND or read.mark is None:
        return
    try:
        run = SearchRun.of(read.run)
    except DamagedAtlasError as error:
        yield Fault(FaultKind.DOCUMENT, read.run.path("run.json"), str(error), read.next_step)
        return
    paths = [file.path for file in read.run.document.inputs.get(KEPT_TABLE, ())]
    paths += [entry.files[HITS_TABLE].path for entry in read.entries.values() if HITS_TABLE in entry.files]
    hits: list[_Hit] = []
    names: set[str] = set()
    for path in paths:
        if path in bad:
            continue
        try:
            with open_parquet(folder.storage, path) as file:
                table = file.read()
        except (OSError, pa.ArrowException):
            continue  # a fault of its own
        schema = HITS[run.settings.search]
        if not table.schema.equals(schema, check_metadata=False):
            yield Fault(FaultKind.SCHEMA, path, "its columns are not those of hits", read.next_step)
            continue
        for what in _wrong_rows(table, run.settings.search):
            yield Fault(FaultKind.CONTENT, path, what, read.next_step)
        names.update(pc.unique(table.column("target").drop_null()).to_pylist())
        hits += _hits_in(table, path)
    step = max(1, len(hits) // SAMPLE)
    targets = [file.path for file in read.mark.files.get(TARGETS_TABLE, ()) if file.path not in bad]
    yield from _check_targets(folder, run, read, targets, names)
    if run.settings.search == "structures":
        yield from _check_hits(folder, read, hits[::step], targets, entries)


def _wrong_rows(table: pa.Table, search: str) -> Iterator[str]:
    """Yield what is wrong with rows by themselves, with how many."""
    state = table.column("state")
    is_hit, no_hit, not_searched = (pc.equal(state, name) for name in (HIT, NO_HIT, NOT_SEARCHED))
    has_target = pc.is_valid(table.column("target"))
    known_reason = pc.is_in(table.column("reason"), value_set=pa.array([*REASONS, None], pa.string()))
    wrong = {
        "an unknown state": pc.invert(pc.or_(pc.or_(is_hit, no_hit), not_searched)),
        "an unknown reason": pc.invert(known_reason),
        "a state that its reason contradicts": pc.not_equal(not_searched, pc.is_valid(table.column("reason"))),
        "a state that its target contradicts": pc.not_equal(is_hit, has_target),
    }
    for name in _SCORES[search]:
        score = table.column(name)
        inside = pc.fill_null(pc.and_(pc.greater_equal(score, 0), pc.less_equal(score, 1 + TM_TOLERANCE)), True)
        wrong[f"a {name} that is not within 0 to 1"] = pc.invert(inside)
        wrong[f"a state that its {name} contradicts"] = pc.or_(
            pc.not_equal(not_searched, pc.is_null(score)),
            pc.fill_null(pc.and_(no_hit, pc.not_equal(score, 0)), False),
        )
    for what, rows in wrong.items():
        count = pc.sum(rows).as_py() or 0
        if count:
            first = format_structure_id(structure_ids_of(table.filter(rows))[0])
            yield f"{what}: {count:,} of {table.num_rows:,} rows, first {first}"


def _hits_in(table: pa.Table, path: str) -> list[_Hit]:
    found = table.filter(pc.equal(table.column("state"), HIT))
    identities = structure_ids_of(found)
    rows = found.drop_columns(["structure_id"]).to_pylist()
    return [_Hit(path, identity, row) for identity, row in zip(identities, rows, strict=True)]


def _check_targets(
    folder: AtlasFolder, run: SearchRun, read: ReadRun, paths: Sequence[str], names: set[str]
) -> Iterator[Fault]:
    there: set[str] = set()
    for path in paths:
        try:
            with open_parquet(folder.storage, path) as file:
                there.update(file.read(columns=["name"]).column("name").to_pylist())
        except (OSError, ValueError) as error:
            yield Fault(FaultKind.DAMAGED, path, f"it cannot be read: {error}", read.next_step)
    lost = sorted(names - there)
    if lost and paths:
        what = f"it lacks {len(lost):,} of {len(names):,} targets that hits name, first {lost[0]!r}"
        yield Fault(FaultKind.ROWS, paths[0], what, read.next_step)


def _check_hits(
    folder: AtlasFolder, read: ReadRun, hits: Sequence[_Hit], paths: Sequence[str], entries: Sequence[ShardEntry]
) -> Iterator[Fault]:
    """Compute hits again."""
    locations = _locate(folder, {hit.structure_id for hit in hits}, entries)
    try:
        targets = read_targets(folder.storage, paths, {hit.row["target"] for hit in hits})
        stored = {one.structure_id: one for one in read_structures(folder.storage, locations)}
    except (OSError, ValueError, DamagedAtlasError):
        return  # faults of their own
    for hit in hits:
        structure, target = stored.get(hit.structure_id), targets.get(hit.row["target"])
        if structure is None or target is None:
            continue
        for what in wrong_hit(hit.row, structure, target):
            text = f"structure {format_structure_id(hit.structure_id)}: {what}"
            yield Fault(FaultKind.SCORES, hit.path, text, read.next_step)


def _locate(folder: AtlasFolder, wanted: set[bytes], entries: Sequence[ShardEntry]) -> list[StructureLocation]:
    """Return where structures are, in the order of files and rows."""
    found: dict[bytes, StructureLocation] = {}
    for entry in sorted(entries, key=lambda entry: entry.files["structures"].path):
        path = entry.files["structures"].path
        try:
            with open_parquet(folder.storage, path) as file:
                identities = structure_ids_of(file.read(columns=["structure_id"]))
        except (OSError, pa.ArrowException):
            continue
        for row, identity in enumerate(identities):
            if identity in wanted:
                found.setdefault(identity, StructureLocation(identity, path, row))
    return sorted(found.values(), key=lambda one: (one.file, one.row))


def wrong_hit(row: Mapping[str, Any], structure: StoredStructure, target: Target) -> Iterator[str]:
    """Yield what in a hit of structures does not follow from its alignment and transform, a line each."""
    points = backbone_of(structure)[:, 1].astype(np.float64)
    length = int(np.isfinite(points).all(axis=1).sum())
    assert target.c_alphas_L3 is not None, "a target of a search of structures"
    try:
        own, theirs = aligned_pairs(row["alignment"])
        rotation = np.array(row["rotation"], np.float64).reshape(3, 3)
        moved = points[own] @ rotation.T + np.array(row["translation"], np.float64)
        squares = ((moved - target.c_alphas_L3[theirs]) ** 2).sum(axis=1)
    except (ValueError, IndexError, TypeError) as error:
        yield f"its alignment or transform does not fit structure and target ({error})"
        return
    if (
        abs(np.linalg.det(rotation) - 1) > TM_TOLERANCE
        or np.abs(rotation @ rotation.T - np.eye(3)).max() > TM_TOLERANCE
    ):
        yield "its rotation is not a rotation"
    same = [structure.sequence[one] == target.sequence[other] for one, other in zip(own, theirs, strict=True)]
    found = {
        "aligned_length": (float(len(own)), 0.0),
        "identity": (float(np.mean(same)), TM_TOLERANCE),
        "rmsd": (float(np.sqrt(squares.mean())), RMSD_TOLERANCE),
        "tm_query": (_tm(squares, length), TM_TOLERANCE),
    }
    for name, (value, tolerance) in found.items():
        if not abs(row[name] - value) <= tolerance:
            yield f"its {name} is {row[name]:.4g}, {value:.4g} follows from its alignment and transform"
    # superposed separately: this superposition is a lower bound, the number of aligned residues an upper one
    least, most = _tm(squares, len(target.sequence)), len(own) / len(target.sequence)
    if not least - TM_TOLERANCE <= row["tm_target"] <= most + TM_TOLERANCE:
        yield f"its tm_target is {row['tm_target']:.4g}, which is not within {least:.4g} to {most:.4g}"


def _tm(squares: "np.ndarray[Any, np.dtype[np.float64]]", length: int) -> float:
    return float((1 / (1 + squares / tm_d0(length) ** 2)).sum() / length)
