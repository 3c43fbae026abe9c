"""Examples in the OpenAPI document, by name of a parameter or field, which means the same wherever it occurs.

They are of one protein, so that the example of an answer fits together. A field or parameter that has examples of its
own keeps them (`id` of a job); names that mean something else in each place (`items`, `state`) are not here.
"""

from typing import Any, Final

ID: Final = "938293.PRJEB85.HG003686_6"
STRUCTURE_ID: Final = "e4eb56da-b095-8911-088b-9947c97c794e"
_OTHER: Final = "0c0ff2a1-5d0e-96bd-5e0a-b3a7b3a2d4f1"
# A tuple has one for each type that a name is used with.
EXAMPLES: Final[dict[str, Any]] = {
    # filters and pages
    "max_length": 400, "max_plddt": 90, "max_ptm": 0.95, "min_fraction_confident": 0.8, "min_tm": 0.5, "max_tm": 0.5,
    "min_identity": 0.3, "max_identity": 0.3, "high_confidence": True, "novel": True, "representative": (True, _OTHER),
    "fragment": False, "size": 10, "limit": 100, "min_size": 2, "side": 512,
    # a record and its structure
    "id": ID, "structure_id": STRUCTURE_ID, "source": "file:///data/gut.fasta", "description": "# 5020 # 5412 # 1",
    "sequence_crc64": "5D6A1F0B7E3C9A28", "mgyp": 3_886_216, "is_fragment": False, "length": 130, "mean_plddt": 86.4,
    "plddt_std": 9.1, "num_confident": 121, "fraction_confident": 0.931, "fraction_very_high": 0.462,
    "fraction_low": 0.054, "fraction_very_low": 0.015, "ptm": 0.81, "num_unknown": 0, "radius_of_gyration": 14.7,
    "helix_fraction": 0.38, "strand_fraction": 0.21, "tm_query": 0.43, "tm_target": 0.31, "nearest_structure": "1ubq_A",
    "novelty_source": STRUCTURE_ID, "identity_max": 0.24, "nearest_sequence": "P0CG48", "cluster90": STRUCTURE_ID,
    "cluster30": _OTHER, "cluster_structure": _OTHER, "is_representative30": False, "model": "esmfold_v1",
    "run_id": "20261101T100000Z-3f2a", "sequence": "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ", "plddt": [71.5, 88.2, 93.0],
    # clusters and hits
    "cluster": _OTHER, "centre": _OTHER, "level": "identity30", "num_structures": 12, "num_proteins": 15,
    "members_mean_plddt": 82.7, "identity": 0.35, "coverage": 0.92, "target_coverage": 0.88, "tm": 0.71, "rmsd": 2.4,
    "aligned_length": 104, "evalue": 1e-12, "bits": 71.0, "target": "1ubq_A", "title": "UBIQUITIN",
    "licence": "CC0-1.0", "reference": "pdb", "version": 3, "similarity": 0.87, "rank": 1, "num_records": 2,
    # the explorer
    "indexed": "2026-11-29T10:00:00+00:00", "proteins": 125_000, "matching": 8_214, "structures": 118_402,
    "x0": 60, "x1": 400, "y0": 70, "y1": 100, "width": 256, "height": 256, "points": 20_000,
}  # fmt: skip


def add_examples(document: dict[str, Any]) -> None:
    """Add examples to the parameters and fields of an OpenAPI document that have none, where they fit their type."""
    for methods in document["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", []):
                _add(parameter["name"], parameter["schema"])
    for schema in document["components"]["schemas"].values():
        for name, field in schema.get("properties", {}).items():
            _add(name, field)


def _add(name: str, schema: dict[str, Any]) -> None:
    value = EXAMPLES.get(name)
    fitting = [each for each in (value if isinstance(value, tuple) else (value,)) if _fits(each, schema)]
    if fitting and "examples" not in schema:
        schema["examples"] = fitting


def _fits(value: Any, schema: dict[str, Any]) -> bool:
    """Return whether a value (None: there is none) has a type of a schema, and is one of its values if it lists any."""
    kind = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}.get(type(value))
    parts = schema.get("anyOf", [schema])
    return kind is not None and any(
        (part.get("type") == kind or (kind, part.get("type")) == ("integer", "number"))
        and (part.get("format") != "uuid" or value in (STRUCTURE_ID, _OTHER))
        and value in part.get("enum", [value])
        for part in parts
    )
