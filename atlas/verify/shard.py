"""Check the contents of a shard's files against the plan, against each other, and each row by itself.

Scores are computed again from the stored integers: counts must be equal, other scores must agree within float32. Only
the ranges of pTM and of the fractions of secondary structure can be checked. Files are read by row group.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from foldatlas.atlas.parquet.coordinates import atoms_per_protein, atoms_per_residue, stored_values, structure_ids_of
from foldatlas.atlas.parquet.files import open_parquet
from foldatlas.atlas.storage.opening import open_storage
from foldatlas.atlas.storage.protocol import Storage
from foldatlas.atlas.verify.fault import Fault, FaultKind, restore_or_fold, restore_or_plan
from foldatlas.schemas.formats import NO_PLDDT, PROVENANCE, table_schema
from foldatlas.schemas.manifest import AtlasHeader, Plan, Shard, ShardEntry, plan_of_shard, shard_digest
from foldatlas.schemas.records import UNKNOWN_RESIDUES, format_structure_id
from foldatlas.schemas.tables import COORDINATE_SCALE, OPTIONAL_TABLES, PAE_SCALE, PLDDT_SCALE, SCORES
from foldatlas.schemas.wording import counted

TOLERANCE: Final = 1e-4  # of float32 scores, in their unit, plus 1e-7 of their value
CONFIDENT_PLDDT: Final = 70  # as in the meanings of `schemas.tables.SCORES`
VERY_HIGH_PLDDT: Final = 90
GREATEST_PAE: Final = 31.75  # angstrom: the centre of the last bin
MAX_COORDINATE: Final = 9_999.99  # angstrom, the limit of PDB files

_Floats = npt.NDArray[np.float64]
_Mask = npt.NDArray[np.bool_]


def check_shard(
    atlas: Path | Storage, plan: Plan, shard: Shard, entry: ShardEntry | None, header: AtlasHeader, bad: set[str]
) -> Iterator[Fault]:
    """Yield faults of a shard's sequences and, if it is committed, of its files. Files in `bad` are not opened."""
    storage = open_storage(atlas)
    sequences_path = plan.sequences[shard.file].path
    sequences: dict[bytes, str] | None = None
    if sequences_path not in bad:
        try:
            group = open_parquet(storage, sequences_path).read_row_group(shard.row_group)
            sequences = dict(zip(structure_ids_of(group), group.column("sequence").to_pylist(), strict=True))
        except (OSError, pa.ArrowException, IndexError) as error:
            yield _fault(
                FaultKind.DAMAGED, sequences_path, f"row group {shard.row_group} cannot be read: {error}", shard
            )
        else:
            yield from _check_sequences(group, sequences_path, shard)
    if entry is None:
        return
    tables: dict[str, pq.ParquetFile] = {}
    for name, file in entry.files.items():
        if file.path in bad:
            continue
        try:
            opened = open_parquet(storage, file.path)
        except (OSError, pa.ArrowException) as error:
            yield _fault(FaultKind.DAMAGED, file.path, f"it cannot be read: {error}", shard)
            continue
        faults = list(_check_file(opened, name, file.path, file.rows, header, shard))
        yield from faults
        if not any(fault.kind == FaultKind.SCHEMA for fault in faults):
            tables[name] = opened
    try:
        yield from _check_contents(tables, entry, sequences, shard)
    except (OSError, pa.ArrowException) as error:
        path = entry.files["structures"].path
        yield _fault(FaultKind.DAMAGED, path, f"the shard's files cannot be read: {error}", shard)


def _check_sequences(group: pa.Table, path: str, shard: Shard) -> Iterator[Fault]:
    identities = structure_ids_of(group)
    sequences: list[str] = group.column("sequence").to_pylist()
    yield from _wrong_letters(identities, sequences, path, shard)
    lengths = np.array([len(sequence) for sequence in sequences])
    stated = group.column("length").to_numpy()
    yield from _some(lengths != stated, identities, "a length is not that of its sequence", path, shard)
    where = f"row group {shard.row_group}, shard {shard.name},"
    if shard_digest(identities) != shard.digest:
        yield _fault(FaultKind.ROWS, path, f"{where} has other structure ids than those of the plan's digest", shard)
    extremes = (int(lengths.min()), int(lengths.max())) if len(lengths) else (0, 0)
    found = (len(identities), int(lengths.sum()), *extremes)
    planned = (shard.proteins, shard.residues, shard.min_length, shard.max_length)
    if found != planned:
        what = f"{where} has (proteins, residues, min_length, max_length) {found}, the plan says {planned}"
        yield _fault(FaultKind.ROWS, path, what, shard)


def _wrong_letters(identities: list[bytes], sequences: list[str], path: str, shard: Shard) -> Iterator[Fault]:
    digests = [hashlib.md5(sequence.encode(), usedforsecurity=False).digest() for sequence in sequences]
    differ = np.array([digest != identity for digest, identity in zip(digests, identities, strict=True)], dtype=bool)
    yield from _some(differ, identities, "a structure_id is not the md5 of its sequence", path, shard)
    odd = np.array([bool((atoms_per_residue([sequence]) == 0).any()) for sequence in sequences], dtype=bool)
    yield from _some(odd, identities, "a sequence has a letter that is not a residue code", path, shard)


def _check_file(
    opened: pq.ParquetFile, name: str, path: str, rows: int, header: AtlasHeader, shard: Shard
) -> Iterator[Fault]:
    schema, model = opened.schema_arrow, header.settings.model
    if not schema.equals(table_schema(name, header.format), check_metadata=False):
        yield _fault(FaultKind.SCHEMA, path, f"its columns are not those of a {name} file", shard)
    said = (schema.metadata or {}).get(b"model", b"").decode()
    if said != model:
        yield _fault(FaultKind.CONTENT, path, f"its metadata names the model {said!r}, the atlas has {model!r}", shard)
    if opened.metadata.num_rows != rows:
        what = f"it has {counted(opened.metadata.num_rows, 'row')}, the manifest says {rows:,}"
        yield _fault(FaultKind.ROWS, path, what, shard)


def _check_contents(
    tables: dict[str, pq.ParquetFile], entry: ShardEntry, sequences: dict[bytes, str] | None, shard: Shard
) -> Iterator[Fault]:
    """Check the readable tables of a shard against the plan's `sequences` and each other."""
    scores = tables["scores"].read() if "scores" in tables else None
    identities = _identities(tables["structures"]) if "structures" in tables else None
    failed = _identities(tables["failures"]) if "failures" in tables else None
    if identities is not None and failed is not None and sequences is not None:
        done = [*identities, *failed]
        path = entry.files["structures"].path
        if len(set(done)) < len(done):
            yield _fault(FaultKind.ROWS, path, "a structure_id occurs twice in the shard's files", shard)
        absent, foreign = set(sequences) - set(done), set(done) - set(sequences)
        if len(absent) != entry.skipped or foreign:
            first = format_structure_id(min(absent or foreign or sequences))
            what = (
                f"structures and failures lack {len(absent)} of the shard's sequences, of which {entry.skipped} were "
                f"not needed, and hold {len(foreign)} others (first: {first})"
            )
            yield _fault(FaultKind.ROWS, path, what, shard)
    if identities is not None:
        for name in OPTIONAL_TABLES:
            if name in tables:
                of_some = name == "pae" and PROVENANCE in entry.files
                path = entry.files[name].path
                yield from _check_optional(tables[name], identities, sequences, path, shard, of_some=of_some)
    if scores is not None:
        yield from _check_score_ranges(scores, entry.files["scores"].path, shard)
    by_row: dict[str, npt.NDArray[Any]] | None = None
    if scores is not None and identities is not None:
        path = entry.files["scores"].path
        rows = scores.column("structure_row").to_numpy()
        order = np.argsort(rows, kind="stable")
        if not np.array_equal(rows[order], np.arange(len(identities))):
            yield _fault(FaultKind.ROWS, path, "structure_row does not name each structure once", shard)
        else:
            named = structure_ids_of(scores)
            differ = np.array([named[row] != identity for row, identity in zip(order, identities, strict=True)], bool)
            yield from _some(differ, identities, "structure_row is another structure's row", path, shard)
            if not differ.any():
                by_row = {n: scores.column(n).to_numpy()[order] for n in SCORES.names if n != "structure_id"}
    provenance = tables[PROVENANCE].read() if PROVENANCE in tables else None
    if provenance is not None and identities is not None and structure_ids_of(provenance) != identities:
        what = "its structure ids are not those of the structures, in their order"
        yield _fault(FaultKind.ROWS, entry.files[PROVENANCE].path, what, shard)
        provenance = None
    if "structures" in tables:
        begin = 0
        for number in range(tables["structures"].num_row_groups):
            group = tables["structures"].read_row_group(number)
            here = None if by_row is None else {n: v[begin : begin + group.num_rows] for n, v in by_row.items()}
            origins = None if provenance is None else provenance.slice(begin, group.num_rows)
            yield from _check_structures(group, here, origins, entry, shard)
            begin += group.num_rows


def _identities(file: pq.ParquetFile) -> list[bytes]:
    return structure_ids_of(file.read(columns=["structure_id"]))


def _check_optional(
    file: pq.ParquetFile,
    identities: list[bytes],
    sequences: dict[bytes, str] | None,
    path: str,
    shard: Shard,
    *,
    of_some: bool,
) -> Iterator[Fault]:
    """Yield faults of a file of embeddings, residue_embeddings or pae.

    It has a row for each structure, in their order; if `of_some`, only for some of them.
    """
    column = file.schema_arrow.names[-1]
    listed = _identities(file)
    expected = identities
    if of_some:
        with_row = set(listed)
        expected = [identity for identity in identities if identity in with_row]
    if listed != expected:
        yield _fault(FaultKind.ROWS, path, "its structure ids are not those of the structures, in their order", shard)
    widths: set[float] = set()
    for number in range(file.num_row_groups):
        table = file.read_row_group(number)
        named = structure_ids_of(table)
        values, begins = stored_values(table, column)
        counts, lengths = np.diff(begins), np.ones(len(named), np.int64)
        if "length" in table.column_names:
            lengths = table.column("length").to_numpy().astype(np.int64)
        if column == "pae":
            what = "its aligned errors are not one a pair of residues"
            yield from _some(counts != lengths**2, named, what, path, shard)
            if sequences is not None:
                differ = np.array([len(sequences.get(one, "")) for one in named], np.int64) != lengths
                yield from _some(differ, named, "a length is not that of its sequence", path, shard)
        else:
            widths.update((counts / lengths).tolist())
        bad = values > GREATEST_PAE * PAE_SCALE if column == "pae" else ~np.isfinite(values)
        rows = np.zeros(len(named), dtype=bool)
        rows[np.searchsorted(begins, np.flatnonzero(bad), side="right") - 1] = True
        yield from _some(rows, named, f"{column} holds a value that is not finite, or too large", path, shard)
    if len(widths) > 1:
        yield _fault(FaultKind.CONTENT, path, "embeddings differ in width", shard)


def _check_score_ranges(scores: pa.Table, path: str, shard: Shard) -> Iterator[Fault]:
    """Check the ranges of the scores that cannot be computed from the stored structure."""
    identities = structure_ids_of(scores)
    for name in ("ptm", "helix_fraction", "strand_fraction"):
        values = scores.column(name).to_numpy()
        is_null = scores.column(name).is_null().to_numpy()
        yield from _some(
            ~((values >= 0) & (values <= 1) | is_null), identities, f"{name} is not within 0 to 1", path, shard
        )
    total = scores.column("helix_fraction").to_numpy() + scores.column("strand_fraction").to_numpy()
    yield from _some(total > 1 + TOLERANCE, identities, "helix and strand exceed the whole", path, shard)


def _check_structures(
    group: pa.Table,
    scores: dict[str, npt.NDArray[Any]] | None,
    provenance: pa.Table | None,
    entry: ShardEntry,
    shard: Shard,
) -> Iterator[Fault]:
    """Check one row group of structures, and scores and provenance of its rows if they are known."""
    path = entry.files["structures"].path
    identities = structure_ids_of(group)
    sequences: list[str] = group.column("sequence").to_pylist()
    yield from _wrong_letters(identities, sequences, path, shard)
    lengths = np.array([len(sequence) for sequence in sequences])
    atoms = atoms_per_protein(sequences)
    planes = [stored_values(group, axis) for axis in "xyz"]
    plddt, begins = stored_values(group, "plddt")
    wrong = np.diff(begins) != lengths
    for _, atom_begins in planes:
        wrong |= np.diff(atom_begins) != atoms
    yield from _some(
        wrong | (lengths == 0), identities, "another number of atoms or residues than its sequence has", path, shard
    )
    if wrong.any() or (lengths == 0).any():
        return  # the checks below need the right number of atoms
    atom_begins = planes[0][1][:-1]
    positions = np.stack([values for values, _ in planes], axis=-1) / COORDINATE_SCALE
    far = np.logical_or.reduceat(np.abs(np.nan_to_num(positions)).max(axis=1) > MAX_COORDINATE, atom_begins)
    yield from _some(far, identities, f"a coordinate beyond {MAX_COORDINATE:,} A", path, shard)
    plddt /= PLDDT_SCALE
    over = np.logical_or.reduceat(np.nan_to_num(plddt) > 100, begins[:-1])
    yield from _some(over, identities, "a pLDDT above 100", path, shard)
    if scores is not None:
        scores_path = entry.files["scores"].path
        for name, differs in _compare(scores, sequences, lengths, plddt, begins[:-1], positions).items():
            what = f"{name} does not follow from the stored structure"
            yield from _some(differs, identities, what, scores_path, shard, FaultKind.SCORES)
    if provenance is not None:
        for differs, what in _check_provenance(provenance, sequences, begins[:-1], plddt, positions):
            yield from _some(differs, identities, what, entry.files[PROVENANCE].path, shard)


def _check_provenance(
    provenance: pa.Table, sequences: list[str], begins: npt.NDArray[np.int64], plddt: _Floats, positions: _Floats
) -> Iterator[tuple[_Mask, str]]:
    """Yield in which proteins provenance contradicts the stored structure, and how. `begins` are their residues."""
    residues = np.cumsum([0, *atoms_per_residue(sequences)])[:-1]
    is_observed = np.logical_or.reduceat(~np.isnan(positions).any(axis=1), residues)
    unobserved = np.add.reduceat((~is_observed).astype(np.int64), begins)
    yield (
        provenance.column("unobserved").to_numpy() != unobserved,
        "unobserved is not the number of residues without atoms",
    )
    has_plddt = np.logical_or.reduceat(~np.isnan(plddt), begins)
    has_source = np.array([source != NO_PLDDT for source in provenance.column("plddt_source").to_pylist()])
    yield has_source != has_plddt, "plddt_source contradicts the stored pLDDT"


def _compare(
    scores: dict[str, npt.NDArray[Any]],
    sequences: list[str],
    lengths: npt.NDArray[np.int64],
    plddt: _Floats,
    begins: npt.NDArray[np.int64],
    positions: _Floats,
) -> dict[str, _Mask]:
    """Return, for each score, in which proteins it differs from the value computed from `plddt` and `positions`."""

    def total(values: npt.NDArray[Any]) -> _Floats:
        return np.add.reduceat(values.astype(np.float64), begins)

    def off(name: str, expected: _Floats) -> _Mask:
        # NaN in `expected`: there is no pLDDT, so that the score has to be NULL, which is NaN here
        allowed = TOLERANCE * (1 + 1e-3 * np.abs(expected))
        agree: _Mask = (np.abs(scores[name] - expected) <= allowed) | (np.isnan(expected) & np.isnan(scores[name]))
        return ~agree

    residues = np.concatenate([[0], np.cumsum(atoms_per_residue(sequences))])[:-1]
    alphas = positions[residues + 1]  # the second atom of every residue, UNK too
    with np.errstate(invalid="ignore", divide="ignore"):
        known = total(~np.isnan(plddt))
        mean = total(np.nan_to_num(plddt)) / known
        deviation = np.nan_to_num(plddt - np.repeat(mean, lengths))
        std = np.sqrt(total(deviation**2) / known)
        present = total(~np.isnan(alphas).any(axis=1))
        centre = np.stack([total(np.nan_to_num(alphas[:, axis])) for axis in range(3)], axis=-1) / present[:, None]
        from_centre = np.nan_to_num(alphas - np.repeat(centre, lengths, axis=0))
        radius = np.nan_to_num(np.sqrt(total((from_centre**2).sum(axis=1)) / present))  # 0 without a C-alpha
    without = np.where(known > 0, 0.0, np.nan)  # added to scores of pLDDT
    unknown = [sum(sequence.count(letter) for letter in UNKNOWN_RESIDUES) for sequence in sequences]
    return {
        "length": scores["length"] != lengths,
        "num_unknown": scores["num_unknown"] != np.array(unknown),
        "mean_plddt": off("mean_plddt", mean),
        "plddt_std": off("plddt_std", std),
        "num_confident": off("num_confident", total(plddt > CONFIDENT_PLDDT) + without),
        "fraction_confident": off("fraction_confident", total(plddt > CONFIDENT_PLDDT) / lengths + without),
        "fraction_very_high": off("fraction_very_high", total(plddt > VERY_HIGH_PLDDT) / lengths + without),
        "radius_of_gyration": off("radius_of_gyration", radius),
    }


def _some(
    wrong: _Mask, identities: Sequence[bytes], what: str, path: str, shard: Shard, kind: FaultKind = FaultKind.CONTENT
) -> Iterator[Fault]:
    """Yield one fault for all proteins that are `wrong`, with the id of the first."""
    rows = np.flatnonzero(wrong)
    if len(rows):
        first = format_structure_id(identities[rows[0]])
        yield _fault(kind, path, f"{what}: {len(rows):,} of {len(identities):,} rows, first {first}", shard)


def _fault(kind: FaultKind, path: str, what: str, shard: Shard) -> Fault:
    step = restore_or_plan(plan_of_shard(shard.name)) if path.startswith("sequences/") else restore_or_fold(shard.name)
    return Fault(kind, path, what, step)
