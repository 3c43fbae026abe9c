"""The pages of the explorer and their assets, which scripts/build-web makes. They hold no data, so they need no token.

Names of assets have a hash of their content, so browsers may keep them for ever; pages are asked for each time.
"""

import hashlib
import html
import re
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Request
from fastapi import Path as PathParameter
from starlette.responses import Response

from foldatlas.atlas.serve.http.conditional import conditional
from foldatlas.atlas.serve.http.problems import Problem
from foldatlas.atlas.serve.http.state import state_of
from foldatlas.atlas.web.assets import VENDOR

# Nothing inline and nothing from elsewhere runs. Images may be made by the page: figures and their downloads.
CONTENT_SECURITY_POLICY: Final = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "base-uri 'self'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
MEDIA_TYPES: Final = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
_ASSET: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}", re.ASCII)
_BASE: Final = '<base href="/">'
_HTML: Final = "text/html; charset=utf-8"
_NOT_BUILT: Final = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>FoldAtlas</title><h1>The explorer is not built</h1>"
    "<p>Run <code>scripts/build-web</code> in the source tree and restart the server; packages have it built. "
    "The same data can be read through the HTTP API, which <a href={openapi}>openapi.json</a> describes.</html>"
)

router = APIRouter(include_in_schema=False)


def explorer_folder() -> Path:
    """Return the folder of index.html and assets."""
    return VENDOR / "explorer"


@router.get("/")
@router.get("/protein/{name:path}")
def page(request: Request) -> Response:
    """Return the page, which shows what its URL says."""
    prefix = state_of(request).settings.prefix
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY}
    try:
        text = (explorer_folder() / "index.html").read_text(encoding="utf-8")
    except OSError:
        return Response(_NOT_BUILT.format(openapi=f'"{html.escape(prefix)}/openapi.json"'), 404, headers, _HTML)
    data = text.replace(_BASE, f'<base href="{html.escape(prefix)}/">').encode()
    return conditional(request, hashlib.sha256(data).hexdigest()[:32], lambda: data, _HTML, headers)


@router.get("/assets/{file}")
def asset(request: Request, file: Annotated[str, PathParameter(max_length=200)]) -> Response:
    """Return an asset of the page."""
    kind = MEDIA_TYPES.get(Path(file).suffix)
    path = explorer_folder() / "assets" / file
    if kind is None or not _ASSET.fullmatch(file) or not path.is_file():
        raise Problem(404, "no asset has this name")
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return conditional(request, file, path.read_bytes, kind, headers)
