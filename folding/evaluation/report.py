"""The report of an evaluation: one self-contained HTML page with tables, plots and explanations."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from foldatlas.folding.evaluation.summary import order_of_models
from foldatlas.schemas.wording import counted

_COLUMNS: Final = {
    "tm_score": "TM-score",
    "gdt_ts": "GDT-TS",
    "gdt_ha": "GDT-HA",
    "rmsd": "RMSD, Å",
    "lddt_ca": "lDDT, C-alpha",
    "lddt": "lDDT, all atoms",
    "contact_precision": "contacts, by distance",
    "contact_precision_distogram": "contacts, by distogram",
    "mean_plddt": "pLDDT",
    "ptm": "pTM",
}
_DECIMALS: Final = {"rmsd": 1, "mean_plddt": 1}
_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2329; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #d5dadf; }
h3 { font-size: 1rem; margin-bottom: .3rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #e6eaed; }
th:first-child, td:first-child { text-align: left; }
tr.baseline { color: #66707a; } .scroll { overflow-x: auto; } svg { max-width: 100%; height: auto; }
.note { color: #444d55; }
"""
_NOTES: Final = (
    "TM-score, GDT and RMSD compare residue i with residue i, without sequence alignment.",
    "lDDT is 0 to 1, without stereochemistry checks; ambiguous atom names of ASP, GLU, PHE and TYR are chosen to fit "
    "better. Baselines other than the untrained network have no side chains, so no all-atom lDDT.",
    "Boxes show the quartiles and the median of the chains, whiskers the 5th and 95th percentile, diamonds the mean.",
    "Contacts: precision of the L/5 long-range pairs (24 or more residues apart, C-betas within 8 Å) that are closest "
    "in the structure, or most probable in the distogram.",
    "The sequence of a chain is that of its observed residues. Residues before and after a gap are predicted as "
    "neighbours, which makes the prediction harder.",
    "Perplexity is that of all residues together, with about 15 % of them masked at a time unless exact values were "
    "requested. The unigram model has the residue frequencies of the training chains only.",
)


def report(
    figures: Mapping[str, Any],
    models: Sequence[Mapping[str, Any]],
    plots: Mapping[str, str],
    notes: Sequence[str],
    title: str,
) -> str:
    """Return the HTML page.

    `figures` are the statistics of summary.py, `models` the settings of each model, `plots` title -> SVG, `notes`
    further sentences. All text except the plots is escaped.
    """
    parts = [
        f"<h1>{escape(title)}</h1>",
        _models(models),
        *(f"<p class=note>{escape(note)}</p>" for note in notes),
        *(_scores(label, part, order_of_models(figures)) for label, part in figures.items()),
        "<h2>Confidence</h2>",
        _confidence(figures),
        _perplexity(figures),
        *(f"<h3>{escape(name)}</h3><div class=scroll>{svg}</div>" for name, svg in plots.items()),
    ]
    parts += ["<h2>Definitions</h2><ul>", *(f"<li>{escape(note)}</li>" for note in _NOTES), "</ul>"]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], classes: Sequence[str] | None = None) -> str:
    classes = classes or [""] * len(rows)
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "\n".join(
        f'<tr class="{escape(css_class)}">' + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for css_class, row in zip(classes, rows, strict=True)
    )
    return f"<div class=scroll><table><tr>{head}</tr>\n{body}</table></div>"


def _number(value: float | int | None, decimals: int = 3) -> str:
    return "" if value is None else f"{value:,.{decimals}f}" if isinstance(value, float) else f"{value:,}"


def _models(models: Sequence[Mapping[str, Any]]) -> str:
    header = ("model", "recycles", "precision", "weights")
    rows = [(str(m["model"]), str(m["recycles"]), str(m["precision"]), str(m["weights"])[:16]) for m in models]
    return _table(header, rows)


def _scores(label: str, part: Mapping[str, Any], order: Sequence[str]) -> str:
    rows, kinds = [], []
    for name in order:
        found = part["models"].get(name)
        if found is None:
            continue
        means = (_number(found["measures"][key]["mean"], _DECIMALS.get(key, 3)) for key in _COLUMNS)
        rows.append((name, f"{found['folded']:,}", f"{found['failed']:,}", *means))
        kinds.append(found["kind"])
    description = (
        f"{counted(part['chains'], 'chain')} of {part['shortest']:,} to {part['longest']:,} residues; "
        f"{part['with_gaps']:,} have gaps in their numbering. Means over chains."
    )
    table = _table(("", "chains", "failed", *_COLUMNS.values()), rows, kinds)
    return f"<h2>{escape(label)}</h2><p class=note>{escape(description)}</p>{table}"


def _confidence(figures: Mapping[str, Any]) -> str:
    header = ("", "of", "split", "count", "predicted", "true", "difference", "rank correlation", "calibration error")
    names = {"plddt_of_residues": "pLDDT, residues", "plddt_of_chains": "pLDDT, chains", "ptm": "pTM, chains"}
    rows = []
    for model in order_of_models(figures):
        for label, part in figures.items():
            for key, name in names.items():
                found = part["models"].get(model, {}).get(key)
                if found and part["models"][model]["kind"] == "model":
                    numbers = (
                        "mean_claimed",
                        "mean_true",
                        "mean_difference",
                        "rank_correlation",
                        "expected_calibration_error",
                    )
                    rows.append((model, name, label, _number(found["count"]), *(_number(found[n]) for n in numbers)))
    if not rows:
        return "<p>No confidence scores.</p>"
    return _table(header, rows)


def _perplexity(figures: Mapping[str, Any]) -> str:
    rows = [
        (model, label, _number(found["model"], 2), _number(found["unigram"], 2), _number(found["residues"]))
        for model in order_of_models(figures)
        for label, part in figures.items()
        if (found := part["models"].get(model, {}).get("perplexity"))
    ]
    if not rows:
        return "<p>No perplexity: no model has a masked-token head.</p>"
    return "<h2>Perplexity</h2>" + _table(("", "split", "perplexity", "unigram", "residues"), rows)
