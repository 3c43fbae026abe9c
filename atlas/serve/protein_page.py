"""Everything that a page about one protein begins with, as one result: a structure with all that the index has on it.

Ids, descriptions and annotations are untrusted texts of the atlas, given as they are: pages write them as text.
"""

import datetime
import math
import uuid
from collections.abc import Mapping
from typing import Any, Final

from foldatlas.atlas.export.credits import UNKNOWN, citation_text, reference_licences
from foldatlas.atlas.serve.catalogue import COLUMNS, LEVELS, Protein, one_protein, protein_rows
from foldatlas.atlas.serve.contents import Contents, plddt_values
from foldatlas.atlas.serve.current import Served
from foldatlas.atlas.serve.verdicts import DARK_SQL, verdict
from foldatlas.atlas.sql.text import escape_controls, quoted
from foldatlas.schemas.formats import IMPORTED
from foldatlas.schemas.version import program_version

MAX_RECORDS: Final = 100
MAX_ANNOTATED: Final = 20  # rows of an annotation
NUM_NEIGHBOURS: Final = 12

_OF_RECORD: Final = ("id", "source", "description", "sequence_crc64", "mgyp", "is_fragment")
_OF_STRUCTURE: Final = tuple(
    name for name in COLUMNS if name not in _OF_RECORD and name not in ("structure_id", "model", "run_id")
)
_OF_NEIGHBOUR: Final = "structure_id, length, mean_plddt, ptm, tm_query, nearest_structure"
_CLUSTER_COLUMNS: Final = dict(zip(LEVELS, ("cluster90", "cluster30", "cluster_structure"), strict=True))
_KEYS_OF_ANNOTATIONS: Final = ("id", "source", "structure_id", "accession", "mgyp")


def protein_page(served: Served, contents: Contents, name: str) -> dict[str, Any]:
    """Return what a page about the structure that `name` means begins with. Raise NotFoundError, AmbiguousError,
    DamagedAtlasError."""
    protein = one_protein(served, name)
    structure = contents.structure(served, protein)
    [row] = protein_rows(served, [protein])
    records = served.rows(
        f"SELECT {', '.join(_OF_RECORD)} FROM {served.folded_records} WHERE structure_id = ? "
        f"ORDER BY id, source LIMIT {MAX_RECORDS}",
        [protein.structure_id],
    )
    [count] = served.rows(
        f"SELECT count(*) AS records FROM {served.folded_records} WHERE structure_id = ?", [protein.structure_id]
    )
    hits = _hits(served, protein.structure_id)
    provenance = _provenance(served, row)
    word, reason = _verdict(served, row, hits)
    return {
        "id": protein.id,
        "description": protein.description,
        "structure_id": protein.structure_id,
        "records": records,
        "num_records": count["records"],
        **{name: row[name] for name in _OF_STRUCTURE},
        "sequence": structure.sequence,
        "plddt": plddt_values(structure),
        "verdict": word,
        "verdict_reason": reason,
        "hits": hits,
        "clusters": _clusters(served, row),
        "provenance": provenance,
        "annotations": _annotations(served, protein.structure_id),
        "neighbours": _neighbours(served, protein.structure_id),
        "has_pae": _has_pae(served, protein),
        "citation": _citation(served, protein, provenance),
    }


def _hits(served: Served, identity: uuid.UUID) -> list[dict[str, Any]]:
    """Return the results of all complete searches, of the latest first: best hits, `searched` (no hit), and what was
    not searched."""
    found = []
    for search, table, own in (
        ("structures", "novelty", "tm_query, tm_target, tm_confident, rmsd, aligned_length, hits.identity, method"),
        ("sequences", "sequence_novelty", "identity_max AS identity, coverage, target_coverage, bits, evalue"),
    ):
        found += served.rows(
            f"SELECT runs.search, runs.run, runs.completed, runs.reference, runs.version, runs.demo AS "
            f"is_demonstration, runs.is_latest, state, reason, target, novelty_source, {own}, targets.title, "
            f"targets.licence, targets.length FROM {table} AS hits JOIN novelty_runs AS runs USING (run) "
            "LEFT JOIN (SELECT DISTINCT ON (search, name) * FROM targets ORDER BY search, name, run DESC) AS targets "
            "ON targets.search = runs.search AND targets.name = hits.target "
            "WHERE runs.search = ? AND hits.structure_id = ? ORDER BY runs.completed DESC",
            [search, identity],
        )
    return found


def _verdict(served: Served, row: Mapping[str, Any], hits: list[dict[str, Any]]) -> tuple[str, str]:
    latest = [hit for hit in hits if hit["search"] == "structures" and hit["is_latest"]]
    is_dark = row["cluster_structure"] is not None and bool(served.rows(DARK_SQL, [row["cluster_structure"]]))
    return verdict(row, latest[0] if latest else None, is_dark)


def _clusters(served: Served, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the cluster of a protein at each level that it is clustered at."""
    found = []
    for level, column in _CLUSTER_COLUMNS.items():
        if row[column] is not None:
            rows = served.rows(
                "SELECT level, cluster, id, num_structures, num_proteins, length, mean_plddt, ptm, members_mean_plddt "
                "FROM clusters WHERE level = ? AND cluster = ?",
                [level, row[column]],
            )
            found += [{**one, "is_representative": one["cluster"] == row["structure_id"]} for one in rows]
    return found


def _provenance(served: Served, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the structure came about: by a run of a model, or by an import, then with its licence."""
    settings = served.atlas.header.settings
    if settings.model == IMPORTED:
        [origin] = served.rows(
            "SELECT model, model_version, licence, origin, plddt_source, source, path, file_sha256, chain, unobserved, "
            "breaks FROM provenance WHERE structure_id = ?",
            [row["structure_id"]],
        )
        return {"kind": "imported", **origin}
    runs = served.rows("SELECT device_name, version, started FROM runs WHERE run_id = ?", [row["run_id"]])
    run = runs[0] if runs else dict.fromkeys(("device_name", "version", "started"))
    return {
        "kind": "folded",
        "model": settings.model,
        "weights": settings.weights,
        "recycles": settings.recycles,
        "precision": settings.precision,
        **({} if settings.recycle_tolerance is None else {"recycle_tolerance": settings.recycle_tolerance}),
        "run_id": row["run_id"],
        "device": run["device_name"],
        "program": run["version"],
        "started": run["started"],
        "licence": None,
    }


def _annotations(served: Served, identity: uuid.UUID) -> list[dict[str, Any]]:
    """Return the rows of users' tables on this structure, by table."""
    views = served.rows(
        "SELECT name, table_file, key FROM annotations WHERE name IN (SELECT view_name FROM duckdb_views() WHERE "
        "schema_name = 'main') ORDER BY name"
    )
    found = []
    for view in views:
        rows = served.rows(
            f"SELECT * FROM {quoted(view['name'])} WHERE structure_id = ? LIMIT {MAX_ANNOTATED + 1}", [identity]
        )
        if rows:
            columns = [name for name in rows[0] if name not in _KEYS_OF_ANNOTATIONS]
            values = [[None if row[name] is None else str(row[name]) for name in columns] for row in rows]
            found.append(
                {
                    "name": view["name"],
                    "file": view["table_file"],
                    "columns": columns,
                    "ids": [row["id"] for row in rows[:MAX_ANNOTATED]],
                    "rows": values[:MAX_ANNOTATED],
                    "is_cut": len(rows) > MAX_ANNOTATED,
                }
            )
    return found


def _neighbours(served: Served, identity: uuid.UUID) -> dict[str, Any] | None:
    """Return the proteins next to this one on the latest map, the nearest first; None where it is on no map."""
    runs = served.rows("SELECT method, features FROM projection_runs WHERE is_latest")
    here = served.rows("SELECT x, y FROM projection WHERE structure_id = ?", [identity])
    if not runs or not here:
        return None
    x, y = here[0]["x"], here[0]["y"]
    # All points are looked at, in single precision: 0.14 s for 9 million; with sqrt and a second key 1.5 s.
    near = served.rows(
        "SELECT structure_id, (x - ?::FLOAT) * (x - ?::FLOAT) + (y - ?::FLOAT) * (y - ?::FLOAT) AS square "
        f"FROM projection ORDER BY square LIMIT {2 * NUM_NEIGHBOURS}",
        [x, x, y, y],
    )
    items: list[dict[str, Any]] = []
    for one in sorted(near, key=lambda one: (one["square"], one["structure_id"])):
        if one["structure_id"] == identity or len(items) == NUM_NEIGHBOURS:
            continue
        names = served.rows(
            f"SELECT id FROM {served.folded_records} WHERE structure_id = ? ORDER BY id, source LIMIT 1",
            [one["structure_id"]],
        )
        if names:  # not only of records that were replaced
            [scores] = served.rows(f"SELECT {_OF_NEIGHBOUR} FROM scores WHERE structure_id = ?", [one["structure_id"]])
            items.append({**names[0], **scores, "distance": round(math.sqrt(one["square"]), 4)})
    return {**runs[0], "x": x, "y": y, "items": items}


def _has_pae(served: Served, protein: Protein) -> bool:
    """Whether the shard of a structure has a file of predicted aligned errors."""
    return bool(
        served.rows(
            "SELECT 1 AS one FROM files JOIN files AS others USING (plan, shard) "
            "WHERE files.path = ? AND others.table_name = 'pae' LIMIT 1",
            [protein.file],
        )
    )


def _citation(served: Served, protein: Protein, provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return how to cite the structure: a sentence, and BibTeX of the atlas and of the methods behind it.

    The atlas has no DOI unless its authors gave it one, so none is stated.
    """
    atlas = escape_controls(served.atlas.folder.uri.rstrip("/").rpartition("/")[2]) or "atlas"
    model = provenance["model"] or "an unknown model"
    imported = provenance["kind"] == "imported"
    date = datetime.date.fromisoformat(served.indexed[:10])
    origin = provenance["origin"] if imported else None
    how = ("imported, " if origin is None else f"imported from {escape_controls(origin)}, ") if imported else ""
    identity = f"{escape_controls(protein.id)}, md5 {protein.structure_id.hex}"
    text = (
        f"Structure of {identity}: {how}predicted by {escape_controls(model)}; in the atlas {atlas}, "
        f"indexed {date:%d %B %Y}, served by FoldAtlas {program_version()}."
    )
    origins = [dict(provenance)] if imported else []
    searches = reference_licences(served.cursor())
    clustered = bool(served.rows("SELECT 1 AS one FROM clusters LIMIT 1"))
    methods = citation_text("", served.atlas.header.settings.model, searches, origins, clustered=clustered)
    entry = (
        f"@misc{{foldatlas_{protein.structure_id.hex[:8]},\n"
        f"  title  = {{Structure of {_tex(identity)}}},\n"
        f"  note   = {{{_tex(how)}predicted by {_tex(model)}; atlas {_tex(atlas)}, served by FoldAtlas "
        f"{program_version()}; licence: {_tex(provenance['licence'] or UNKNOWN)}}},\n"
        f"  year   = {{{date.year}}}\n}}\n"
    )
    return {"text": text, "bibtex": f"{entry}\n{methods}"}


_TEX: Final = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "%": r"\%", "&": r"\&", "#": r"\#", "_": r"\_", "$": r"\$",
    "^": r"\^{}", "~": r"\~{}",
}  # fmt: skip


def _tex(text: str) -> str:
    """Return a text as TeX shows it."""
    return "".join(_TEX.get(character, character) for character in escape_controls(text))
