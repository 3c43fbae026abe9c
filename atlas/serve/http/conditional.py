"""Responses with an entity tag and ranges of bytes (RFC 9110, sections 13 and 14)."""

import re
from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from foldatlas.atlas.serve.http.problems import Problem

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


def conditional(
    request: Request, etag: str, body: Callable[[], bytes], media_type: str, headers: dict[str, str] | None = None
) -> Response:
    """Return the response of a body that is made only if the client does not have it yet: 200, 206 or 304.

    `etag` identifies the bytes. A request of several ranges, or of a malformed one, gets the whole body, as the
    standard allows. Raise Problem(416) for a range beyond the end.
    """
    tag = f'"{etag}"'
    common = {"ETag": tag, "Accept-Ranges": "bytes", "Cache-Control": "no-cache", **(headers or {})}
    if _matches(request.headers.get("if-none-match"), tag):
        return Response(status_code=304, headers=common)
    data = body()
    wanted = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if wanted is None or wanted.groups() == ("", "") or request.headers.get("if-range", tag).strip() != tag:
        return Response(data, 200, common, media_type)
    if not wanted[1]:  # the last bytes
        begin, end = max(0, len(data) - int(wanted[2])), len(data)
    else:
        begin, end = int(wanted[1]), min(len(data), int(wanted[2]) + 1) if wanted[2] else len(data)
        if wanted[2] and int(wanted[2]) < int(wanted[1]):
            return Response(data, 200, common, media_type)
    if begin >= end:
        raise Problem(416, f"the body has {len(data):,} bytes", {"Content-Range": f"bytes */{len(data)}"})
    common["Content-Range"] = f"bytes {begin}-{end - 1}/{len(data)}"
    return Response(data[begin:end], 206, common, media_type)


def _matches(header: str | None, tag: str) -> bool:
    """Return whether If-None-Match lists a tag, by weak comparison."""
    if header is None:
        return False
    return header.strip() == "*" or tag in [each.strip().removeprefix("W/") for each in header.split(",")]
