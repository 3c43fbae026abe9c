"""A structure on the page: its facts, a drawing for where there is no 3D view, and the numbers that a 3D view needs."""

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from foldatlas.atlas.parquet.notebook import trace_svg
from foldatlas.atlas.report.png import pae_image
from foldatlas.atlas.report.structures import Shown
from foldatlas.atlas.report.summary import source_name
from foldatlas.atlas.sql.text import escape_controls
from foldatlas.schemas.records import BACKBONE, THREE_LETTER
from foldatlas.schemas.tables import COORDINATE_SCALE

MAX_TEXT: Final = 300  # characters of an id, description or message
_PAE_SIDE: Final = 240  # pixels on the page


def shown_text(text: str) -> str:
    """Return a text of an atlas as it is shown: control characters as escapes, and not longer than MAX_TEXT."""
    escaped = escape_controls(text)
    return escaped if len(escaped) <= MAX_TEXT else escaped[: MAX_TEXT - 1] + "…"


def card(shown: Shown) -> dict[str, Any]:
    """Return what the template needs of a structure."""
    row, known = shown.row, shown.known
    ptm = "not stored" if row["ptm"] is None else f"{row['ptm']:.2f}"
    facts = [
        ("Source", shown_text(source_name(row["source"]))),
        ("Length", f"{row['length']:,} residues"),
        ("Mean pLDDT", "not stored" if row["mean_plddt"] is None else f"{row['mean_plddt']:.1f} of 100"),
        ("pTM", ptm),
    ]
    if row["tm_query"] is None:
        facts.append(("Nearest known", "not searched"))
    elif row["nearest_structure"] is None:
        facts.append(("Nearest known", "none found"))
    else:
        facts.append(("Nearest known", shown_text(row["nearest_structure"])))
        facts.append(("TM-score", f"{row['tm_query']:.2f}"))
    if known is not None:
        if known.title:
            facts.append(("Its title", shown_text(known.title)))
        facts.append(("Superposed", f"{known.aligned_length:,} residues, RMSD {known.rmsd:.1f} Å"))
        facts.append(("Identical of these", f"{known.identity:.0%}"))
        facts.append(("Its licence", shown_text(known.licence)))
    elif row["nearest_structure"] is not None:
        facts.append(("Superposed", "no: the hit is that of the representative of its cluster"))
    pae = shown.pae_LL
    return {
        "id": shown_text(row["id"]),
        "description": shown_text(row["description"] or ""),
        "drawing": Markup(trace_svg(shown.backbone_L43[:, BACKBONE.index("CA")], shown.structure.plddt)),
        "facts": facts,
        "pae": None if pae is None else pae_image(pae),
        "pae_text": "" if pae is None else f"{float(pae.mean()):.1f} Å in the mean, {float(pae.max()):.1f} Å at most",
        "pae_side": _PAE_SIDE,
    }


def view_data(shown: Sequence[Shown]) -> Markup:
    """Return what the 3D views need as JSON for a script element.

    Coordinates are integers of 0.01 angstrom about the centre of each structure, None for a missing atom.
    """
    structures = []
    for one in shown:
        backbone = one.backbone_L43.reshape(-1, 3)
        centre = np.nan_to_num(np.nanmean(backbone, axis=0)) if np.isfinite(backbone).any() else np.zeros(3)
        plddt = one.structure.plddt
        structures.append(
            {
                "sequence": one.structure.sequence,
                "backbone": _integers(backbone - centre),
                "plddt": _rounded(plddt) if np.isfinite(plddt).any() else None,
                "known": None if one.known is None else _integers(one.known.c_alphas_M3 - centre),
            }
        )
    return script_json({"structures": structures, "residueNames": THREE_LETTER})


def script_json(value: Any) -> Markup:
    """Return JSON that cannot end the script element that it is in: `<`, `>` and `&` are escapes."""
    text = json.dumps(value, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _integers(points_N3: npt.NDArray[Any]) -> list[list[int] | None]:
    present = np.isfinite(points_N3).all(axis=1)
    values = np.rint(np.where(present[:, None], points_N3, 0) * COORDINATE_SCALE).astype(int).tolist()
    return [value if here else None for value, here in zip(values, present, strict=True)]


def _rounded(plddt_L: npt.NDArray[Any]) -> list[float | None]:
    return [round(float(value), 1) if np.isfinite(value) else None for value in plddt_L]
