"""Errors as problem details (RFC 9457): JSON with type, title, status and detail."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from foldatlas.atlas.serve.catalogue import AmbiguousError, NotFoundError
from foldatlas.atlas.serve.explore.tables import PreparingError
from foldatlas.schemas.errors import DamagedAtlasError, UsageError

MEDIA_TYPE: Final = "application/problem+json"

_LOG: Final = logging.getLogger("foldatlas.serve")


class Problem(Exception):
    """An error with its status, and further members of its problem details."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None, **members: Any):
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    def response(self) -> Response:
        """Return the response of this error."""
        title = HTTPStatus(self.status).phrase
        body = {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail, **self.members}
        return Response(msgspec.json.encode(body), self.status, self.headers, MEDIA_TYPE)

    async def send(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response from within ASGI middleware."""
        await self.response()(scope, receive, send)


def problem_of(error: Exception) -> Problem:
    """Return what a client is told of an error: nothing about the machine, and no input."""
    match error:
        case Problem():
            return error
        case NotFoundError():
            return Problem(404, str(error))
        case AmbiguousError():
            return Problem(409, str(error), structure_ids=[str(each) for each in error.structure_ids])
        case UsageError():
            return Problem(400, str(error))
        case PreparingError():
            return Problem(503, str(error), {"Retry-After": str(error.seconds)})
        case RequestValidationError():
            faults = [
                {"where": ".".join(map(str, fault["loc"])), "detail": fault["msg"]} for fault in error.errors()[:20]
            ]
            return Problem(422, "the request has wrong parameters", errors=faults)
        case HTTPException():
            return Problem(error.status_code, str(error.detail), error.headers)
        case DamagedAtlasError():
            _LOG.error("%s", error)
            return Problem(
                503, "a file of the atlas cannot be read; the operator's log names it", {"Retry-After": "60"}
            )
    _LOG.error("unexpected %s in a request", type(error).__name__, exc_info=error)
    return Problem(500, "an unexpected error; the operator's log has the traceback")


def add_handlers(app: FastAPI) -> None:
    """Let `app` answer all errors with problem details."""

    async def answer(request: Request, error: Exception) -> Response:
        return problem_of(error).response()

    for kind in (Problem, NotFoundError, AmbiguousError, UsageError, PreparingError, RequestValidationError,
                 HTTPException, DamagedAtlasError, Exception):  # fmt: skip
        app.add_exception_handler(kind, answer)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of errors with these statuses."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
        }
        for status in statuses
    }
