"""The names that users import and call, pinned: none is added or removed without notice.

Names given in README or docs/ are in PUBLIC, and names in PUBLIC are in README or docs/. To add one, document it and
list it here; one that is removed keeps an alias for a release (test_old_names.py).
"""

import importlib
import re
from pathlib import Path

import pytest

PUBLIC = {  # module -> what users import from it
    "atlas.writers.structure_files": "cif_text pdb_text",
    "atlas.client": "Client",
    "atlas.novelty.hits": "Query StructureHit",
    "atlas.novelty.settings": "SearchSettings",
    "atlas.novelty.structure_search": "search_structures",
    "atlas.parquet.matrices": "decode_pae decode_residue_embeddings",
    "atlas.reader": "Atlas",
    "atlas.reference.reader": "Reference",
    "folding.compare": "gdt_ts rmsd tm_score",
    "folding.compare.atom_layouts": "atom14 atom37",
    "folding.compare.experimental": "read_chains",
    "folding.compare.lddt": "lddt_all_atom lddt_ca",
    "folding.models": "load load_language_model",
    "jobs.embed": "embed",
    "jobs.evaluate": "evaluate",
    "jobs.export": "export",
    "jobs.fold": "fold",
    "jobs.import_": "import_structures",
    "jobs.index": "index",
    "jobs.merge": "merge",
    "jobs.plan": "plan",
    "jobs.query": "query",
    "jobs.serve": "serve",
    "jobs.reference": "reference",
    "jobs.status": "status",
    "jobs.train_fold": "train_fold",
    "jobs.train_lm": "train_lm",
    "jobs.diff": "diff",
    "jobs.verify": "repair verify",
    "jobs.weights": "weights",
    "schemas.errors": "FoldAtlasError",
    "schemas.records": "ATOMS",
}
MEMBERS = {  # class that users get hold of -> its public attributes
    "atlas.client.Client": "batch confidence download find health proteins search sequence sql structure",
    "atlas.reader.Atlas": "close condition cursor folder header is_stale open query schema sql structure structures",
    "atlas.reference.reader.Reference": "c_alphas chain data database database_of digest document entries "
    "entry_versions faults is_demo kind memory_bytes names new_rows offsets open root row secondary sequence states "
    "table version",
    "atlas.sql.query.Result": "arrow batches df pl rows",
    "folding.language_predictor.LanguagePredictor": "contacts device embed has_masked_head masked_logits num_layers "
    "perplexity",
    "folding.prediction.Embedding": "mean residues sequence",
    "folding.prediction.Prediction": "chain_lengths distogram_logits iptm mean_embedding mean_plddt pae passes plddt "
    "positions ptm residue_embedding sequence",
    "folding.predictor.Predictor": "batches contacts embed fold fold_batch language masked_logits perplexity stages",
}
TYPED = ("jobs.cli", "pipeline.engines.dask.keys", "pipeline.engines.dask.preload")  # modules named on command lines


def named(text: str) -> set[str]:
    """Dotted names below foldatlas in a document, without `foldatlas.`; imported names are below their module."""
    found = set()
    for module, names in re.findall(r"from foldatlas\.([\w.]+) import ([\w, ]+)", text):
        found |= {f"{module}.{name.strip()}" for name in names.split(",")}
    return found | set(re.findall(r"\bfoldatlas\.(\w+(?:\.\w+)*\.\w+)", text))


def members(kind: type) -> set[str]:
    """Public attributes of a class of ours: methods, properties and annotated fields, inherited ones included."""
    ours = [base for base in kind.__mro__ if base.__module__.startswith("foldatlas.")]
    names = {name for base in ours for name in (*vars(base), *vars(base).get("__annotations__", ()))}
    return {name for name in names if not name.startswith("_")}


@pytest.fixture(scope="module")
def documents(root: Path) -> str:
    paths = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths if path.name != "log.md")


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_exist(module: str) -> None:
    found = vars(importlib.import_module(f"foldatlas.{module}"))
    assert [name for name in PUBLIC[module].split() if name not in found] == []


@pytest.mark.parametrize("name", MEMBERS)
def test_members_of_public_classes_are_listed(name: str) -> None:
    module, _, kind = name.rpartition(".")
    found = members(getattr(importlib.import_module(f"foldatlas.{module}"), kind))
    assert " ".join(sorted(found)) == MEMBERS[name]


def test_documented_names_are_public(documents: str) -> None:
    public = {f"{module}.{name}" for module, names in PUBLIC.items() for name in names.split()}
    assert len(named(documents)) > 10
    assert sorted(named(documents) - public - PUBLIC.keys() - set(TYPED)) == []


def test_public_names_are_documented(documents: str) -> None:
    code = re.findall(r"```.*?```|`[^`]+`", documents, re.DOTALL)
    in_code = set(re.findall(r"\w+", " ".join(code)))
    assert [name for names in PUBLIC.values() for name in names.split() if name not in in_code] == []
    modules = [module for module in (*PUBLIC, *TYPED) if not module.startswith("jobs.")]
    assert [module for module in modules if f"foldatlas.{module}" not in documents] == []


def test_names_in_documents_are_found() -> None:
    text = "from foldatlas.a.b import c, d\n`foldatlas.a.e.F` and foldatlas.jobs; foldatlas.sif"
    assert named(text) == {"a.b.c", "a.b.d", "a.b", "a.e.F"}
