"""What a PDB or mmCIF file declares beside its atoms: that B-factors are pLDDT, pTM, an id, model and licence.

pLDDT is declared by a local metric pLDDT of ModelCIF, by a PDB title of AlphaFold or ESMFold ("ALPHAFOLD MONOMER V2.0
PREDICTION FOR ..."), and by a remark of FoldAtlas. Titles of experiments mention such programs too, so only the whole
form of a title counts, and nothing does in a file that names an experimental method.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Final

from foldatlas.atlas.importing.record import Provenance
from foldatlas.atlas.reference.chains import safe_title

_TITLE: Final = re.compile(r"(ALPHAFOLD|ESMFOLD)\b(.*?)\s+PREDICTION\s+(?:FOR|OF)\s+(.*)", re.IGNORECASE)
_OWN: Final = re.compile(r"B-FACTOR: PLDDT OF THE RESIDUE, 0 TO 100")
_OWN_ITEMS: Final = {
    "model": re.compile(r"^MODEL: (.*)$", re.MULTILINE),
    "id": re.compile(r"^ID: (.*)$", re.MULTILINE),
    "ptm": re.compile(r"\bPTM: ([01]\.\d+) \(0 TO 1\)"),
}
_EXPERIMENT: Final = re.compile(r"DIFFRACTION|NMR|MICROSCOPY|SCATTERING|EPR|FLUORESCENCE|SPECTROSCOPY", re.IGNORECASE)
_LICENCE: Final = re.compile(r"\bCC[-\s]BY((?:[-\s](?:NC|SA|ND))*)[-\s]?(\d\.\d)\b", re.IGNORECASE)
_LICENCE_URL: Final = re.compile(r"creativecommons\.org/licenses/(by[a-z-]*)/(\d\.\d)", re.IGNORECASE)
_CC0: Final = re.compile(r"\bCC0\b|creativecommons\.org/publicdomain/zero", re.IGNORECASE)
_ACCESSION: Final = re.compile(r"\(([A-Za-z0-9_.-]+)\)\s*$")  # at the end of titles of AlphaFold DB

_HEAD_LINES: Final = re.compile(r"^(?:HEADER|TITLE |REMARK|EXPDTA)", re.MULTILINE)
_FIRST_ATOM: Final = re.compile(rb"^(?:ATOM  |HETATM|MODEL )", re.MULTILINE)
_MAX_HEAD: Final = 1 << 20  # bytes that are searched


@dataclass(frozen=True, slots=True)
class Declared:
    """What a file declares. `has_plddt`: its B-factors are pLDDT; `scale` is their maximum, 1 or 100, None if the file
    does not state it. `identifier` is "" and `ptm` None without one."""

    has_plddt: bool
    scale: int | None = None
    ptm: float | None = None
    identifier: str = ""
    provenance: Provenance = field(default_factory=Provenance)


def declared_in_pdb(content: bytes) -> Declared:
    """Return what the header of PDB text declares."""
    end = _FIRST_ATOM.search(content)
    head = content[: min(end.start() if end else _MAX_HEAD, _MAX_HEAD)].decode("latin-1")
    lines = [line.rstrip() for line in head.splitlines() if _HEAD_LINES.match(line)]
    title = " ".join(line[10:].strip() for line in lines if line.startswith("TITLE "))
    remarks = "\n".join(line[11:] for line in lines if line.startswith("REMARK"))
    method = " ".join(line[10:] for line in lines if line.startswith("EXPDTA"))
    licence = _licence(" ".join(remarks.split()))
    if _EXPERIMENT.search(method):
        return Declared(False, identifier=_entry(lines), provenance=Provenance(licence=licence))
    if _OWN.search(remarks):
        return _own(remarks, licence)
    if found := _TITLE.match(title):
        return _known(found, _entry(lines), remarks, licence)
    return Declared(False, identifier=_entry(lines), provenance=Provenance(licence=licence))


def _own(remarks: str, licence: str) -> Declared:
    """Return what a PDB file of FoldAtlas declares (atlas/writers/pdb_files.py)."""
    items = {name: found[1] if (found := pattern.search(remarks)) else "" for name, pattern in _OWN_ITEMS.items()}
    return Declared(
        True,
        scale=100,
        ptm=float(items["ptm"]) if items["ptm"] else None,
        identifier=safe_title(items["id"]),
        provenance=Provenance(model=safe_title(items["model"]), licence=licence, origin="FoldAtlas"),
    )


def _known(title: re.Match[str], entry: str, remarks: str, licence: str) -> Declared:
    """Return what a PDB file of AlphaFold DB or of the ESM Atlas declares by its title."""
    is_alphafold = title[1].upper() == "ALPHAFOLD"
    name = "AlphaFold" if is_alphafold else "ESMFold"
    rest = re.sub(r"\bV(?=\d)", "v", safe_title(title[2]).title())
    accession = _ACCESSION.search(title[3])
    identifier = accession[1] if accession else (title[3].split() or [""])[0]
    origin = ""
    if is_alphafold and "ALPHAFOLD DATA" in remarks.upper():
        origin = "AlphaFold DB"
    elif not is_alphafold and "METAGENOMIC ATLAS" in " ".join(remarks.upper().split()):
        origin = "ESM Atlas"
    model = f"{name} {rest}".strip()
    return Declared(True, None, None, safe_title(identifier or entry), Provenance(model, "", licence, origin))


def _entry(lines: list[str]) -> str:
    """Return the id in columns 63 to 66 of HEADER."""
    for line in lines:
        if line.startswith("HEADER"):
            return safe_title(line[62:66])
    return ""


def declared_in_cif(block: Any) -> Declared:
    """Return what a data block declares."""
    metrics = _metrics(block)
    methods = " ".join(row.str(0) for row in block.find(["_exptl.method"]))
    local = [metric for metric in metrics if metric.mode == "local" and "plddt" in metric.name]
    has_plddt = bool(local) and not _EXPERIMENT.search(methods)
    usage = " ".join(_text(block, f"_pdbx_data_usage.{item}") for item in ("name", "url", "details"))
    ptm = None
    for metric in metrics:
        if metric.mode == "global" and metric.name == "ptm":
            ptm = _global_value(block, metric.number)
    software = _software(block)
    is_own = software[0] == "FoldAtlas"
    names = [row.str(0) for row in block.find(["_entity.pdbx_description"])]
    entry = _text(block, "_entry.id")
    origin = "FoldAtlas" if is_own else "AlphaFold DB" if _is_alphafold_db(block, entry) else ""
    model = _text(block, "_ma_model_list.model_name") if is_own else " ".join(software).strip()
    return Declared(
        has_plddt,
        1 if any("[0,1]" in metric.kind for metric in local) else None,
        ptm,
        safe_title(names[0] if is_own and names else entry),
        Provenance(safe_title(model), _revision(block), _licence(usage), origin),
    )


@dataclass(frozen=True, slots=True)
class _Metric:
    number: str
    name: str
    mode: str
    kind: str


def _metrics(block: Any) -> list[_Metric]:
    rows = block.find("_ma_qa_metric.", ["id", "name", "mode", "?type"])
    return [
        _Metric(row.str(0), row.str(1).lower(), row.str(2).lower(), row.str(3).lower() if row.has(3) else "")
        for row in rows
    ]


def _global_value(block: Any, metric: str) -> float | None:
    for row in block.find("_ma_qa_metric_global.", ["metric_id", "metric_value"]):
        if row.str(0) == metric:
            try:
                value = float(row.str(1))
            except ValueError:
                return None
            return value if 0 <= value <= 1 else None
    return None


def _text(block: Any, item: str) -> str:
    """Return the values of an item, joined; "" for none."""
    return " ".join(" ".join(row.str(0).split()) for row in block.find([item]))


def _software(block: Any) -> tuple[str, str]:
    """Return name and version of the program that predicted the structure."""
    for row in block.find("_software.", ["name", "?version", "?description", "?classification"]):
        about = f"{row.str(2) if row.has(2) else ''} {row.str(3) if row.has(3) else ''}".lower()
        if row.str(0) == "FoldAtlas" or "prediction" in about or row.str(0).lower().startswith("alphafold"):
            return row.str(0), row.str(1) if row.has(1) else ""
    return "", ""


def _is_alphafold_db(block: Any, entry: str) -> bool:
    return entry.startswith("AF-") and "ALPHAFOLD DATA" in _text(block, "_pdbx_data_usage.details").upper()


def _revision(block: Any) -> str:
    """Return the newest major revision of the entry, as AlphaFold DB counts its versions; "" for none."""
    majors = [row.str(0) for row in block.find(["_pdbx_audit_revision_history.major_revision"])]
    numbers = [int(major) for major in majors if major.isdigit() and len(major) < 6]
    return str(max(numbers)) if numbers else ""


def _licence(text: str) -> str:
    """Return the licence that `text` names, as SPDX writes it; "" for none."""
    if found := _LICENCE_URL.search(text):
        return f"CC-{found[1].upper()}-{found[2]}"
    if found := _LICENCE.search(text):
        parts = re.split(r"[-\s]+", found[1].strip("- \t").upper())
        return "-".join(["CC", "BY", *[part for part in parts if part], found[2]])
    return "CC0-1.0" if _CC0.search(text) else ""
