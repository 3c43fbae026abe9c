"""3Dmol.js (Rego & Koes 2015, BSD-3-Clause), as text to write into a page.

`scripts/build-web` puts it beside this module. The environment variable FOLDATLAS_3DMOL names another file to use
instead. Without either, pages have no 3D views.
"""

import os
import re
from pathlib import Path
from typing import Final

LIBRARY: Final = "FOLDATLAS_3DMOL"
VENDOR: Final = Path(__file__).with_name("vendor")
HOW_TO_INSTALL: Final = f"run scripts/build-web, or set {LIBRARY} to the path of 3Dmol-min.js"


def viewer_library() -> str | None:
    """Return the code of 3Dmol.js for a <script> element, or None if it is not installed or cannot be read."""
    return _read(Path(os.environ.get(LIBRARY) or VENDOR / "3Dmol-min.js"))


def viewer_licences() -> str:
    """Return the licences of 3Dmol.js and of what is bundled in it, or an empty text if they are not installed."""
    return _read(VENDOR / "3Dmol-LICENSES.txt") or ""


def inline_script(code: str) -> str:
    """Return `code` so that, in a <script> element, nothing in it ends the element.

    Such text occurs in strings and regular expressions alone, where the backslash changes nothing.
    """
    return re.sub(r"<(/script|!--)", r"<\\\1", code, flags=re.IGNORECASE)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError):
        return None
