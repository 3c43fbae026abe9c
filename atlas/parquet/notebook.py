"""A structure in a notebook: a drawing of its C-alphas, and a 3D view where 3Dmol.js is installed.

The drawing is SVG, which is shown where scripts do not run. The 3D view replaces it when its script runs. 3Dmol.js
(`atlas/web/assets.py`) is written into the first structure that a process shows; nothing is fetched from the network.

Colours are those of the AlphaFold Database: pLDDT above 90, 70, 50, and below. Shapes: A atoms, L residues.
"""

import html
import json
import uuid
from typing import Final

import numpy as np
import numpy.typing as npt

from foldatlas.atlas.web.assets import inline_script, viewer_library
from foldatlas.schemas.records import ATOMS, BACKBONE, THREE_LETTER

Floats = npt.NDArray[np.float32]

_COLOURS: Final = ((90.0, "#0053d6"), (70.0, "#65cbf3"), (50.0, "#ffdb13"), (-1.0, "#ff7d45"))
_SIZE: Final = 360  # pixels
_MARGIN: Final = 12

_shown_libraries: set[int] = set()  # hashes of the code that is in the notebook


def structure_html(name: str, sequence: str, positions_A3: Floats, plddt_L: Floats) -> str:
    """Return HTML of a structure, with coordinates in angstrom, NaN where missing, and pLDDT 0 to 100."""
    starts = np.cumsum([0, *(len(ATOMS[letter]) for letter in sequence)])[:-1]
    drawing = trace_svg(positions_A3[starts + BACKBONE.index("CA")], plddt_L)
    mean = np.nanmean(plddt_L) if np.isfinite(plddt_L).any() else float("nan")
    caption = html.escape(f"{name}: {len(sequence):,} residues, mean pLDDT {mean:.1f}")
    element = f"foldatlas-{uuid.uuid4().hex}"
    view = _view(element, _backbone_pdb(sequence, starts, positions_A3, plddt_L))
    return f'<figure><div id="{element}">{drawing}</div><figcaption>{caption}</figcaption></figure>{view}'


def _colour(plddt: float) -> str:
    return next((colour for limit, colour in _COLOURS if plddt > limit), "#888888")  # grey without pLDDT


def trace_svg(c_alphas_L3: Floats, plddt_L: Floats) -> str:
    """Return SVG of the trace of the C-alphas, seen along the axis of their least extent."""
    present = np.isfinite(c_alphas_L3).all(axis=1)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_SIZE}" height="{_SIZE}" viewBox="0 0 {_SIZE} {_SIZE}">'
    if not present.any():
        return f"{head}</svg>"
    points = c_alphas_L3[present].astype(np.float64)
    points -= points.mean(axis=0)
    _, _, axes = np.linalg.svd(points, full_matrices=False)
    flat = points @ axes[:2].T if len(axes) > 1 else points[:, :2]
    spread = max(float(np.ptp(flat, axis=0).max()), 1.0)
    middle = (flat.min(axis=0) + flat.max(axis=0)) / 2
    flat = (flat - middle) * ((_SIZE - 2 * _MARGIN) / spread) + _SIZE / 2
    colours = [_colour(value) for value in plddt_L[present]]
    if len(flat) == 1:
        return f'{head}<circle cx="{_SIZE // 2}" cy="{_SIZE // 2}" r="4" fill="{colours[0]}"/></svg>'
    lines = "".join(
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'
        for (x1, y1), (x2, y2), colour in zip(flat[:-1], flat[1:], colours[1:], strict=True)
    )
    return f'{head}<g stroke-width="2.5" stroke-linecap="round">{lines}</g></svg>'


def _backbone_pdb(sequence: str, starts: npt.NDArray[np.int64], positions_A3: Floats, plddt_L: Floats) -> str:
    """Return ATOM records of the backbone, for the viewer, which draws a cartoon of them."""
    lines: list[str] = []
    for residue, (letter, start) in enumerate(zip(sequence, starts, strict=True)):
        for offset, atom in enumerate(BACKBONE):
            x, y, z = positions_A3[start + offset]
            if np.isfinite(x + y + z):
                b = float(np.nan_to_num(plddt_L[residue]))
                lines.append(
                    f"ATOM  {len(lines) + 1:5d}  {atom:<3} {THREE_LETTER[letter]} A{residue + 1:4d}    "
                    f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00{b:6.2f}           {atom[0]}  "
                )
    return "\n".join(lines)


def _view(element: str, pdb: str) -> str:
    """Return a script that replaces the drawing by a 3D view, or an empty text without the library."""
    code = viewer_library()
    if code is None:
        return ""
    library = "" if hash(code) in _shown_libraries else f"<script>{inline_script(code)}</script>"
    _shown_libraries.add(hash(code))
    limits = [[limit, colour] for limit, colour in _COLOURS]
    return (
        f"{library}<script>(function () {{ if (typeof $3Dmol === 'undefined') return; "
        f"var box = document.getElementById('{element}'); box.innerHTML = ''; "
        f"box.style.width = box.style.height = '{_SIZE}px'; box.style.position = 'relative'; "
        f"var view = $3Dmol.createViewer(box), limits = {json.dumps(limits)}; "
        f"view.addModel({json.dumps(pdb)}, 'pdb'); "
        "view.setStyle({}, {cartoon: {colorfunc: function (atom) { "
        "return limits.find(function (l) { return atom.b > l[0]; })[1]; }}}); "
        "view.zoomTo(); view.render(); })();</script>"
    )
