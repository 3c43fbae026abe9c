"""Folding on demand: the route of the ESM Metagenomic Atlas, which waits, and jobs of our own."""

import asyncio
import contextlib
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from foldatlas.atlas.serve.catalogue import find_proteins
from foldatlas.atlas.serve.contents import FORMATS
from foldatlas.atlas.serve.folds import CannotFold, FoldJob, Folds, QueueFull
from foldatlas.atlas.serve.http import models
from foldatlas.atlas.serve.http.access import needs
from foldatlas.atlas.serve.http.problems import Problem, documented
from foldatlas.atlas.serve.http.proteins import structure_response
from foldatlas.atlas.serve.http.state import public_url, read, state_of
from foldatlas.atlas.serve.letters import sequence_of
from foldatlas.atlas.serve.settings import FOLD, READ
from foldatlas.schemas.records import format_structure_id, structure_id

WAIT_SECONDS: Final = 300.0  # of the route that waits; afterwards the result is kept, so that another request gets it

JobName = Annotated[str, Path(pattern="^[A-Za-z0-9_-]{20,64}$", description="`id` of a job")]

router = APIRouter(dependencies=[Depends(needs(FOLD))])
_ERRORS: Final = documented(400, 401, 403, 408, 413, 421, 422, 429, 503)
_JOB_ERRORS: Final = documented(401, 403, 404, 421, 422, 429, 503)
_BUSY: Final = {"Retry-After": "30"}


class FoldRequest(BaseModel):
    """A sequence to fold: letters, or one record of FASTA."""

    model_config = ConfigDict(extra="forbid")

    sequence: str = Field(min_length=1, max_length=20_000, examples=["MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRV"])


class FoldState(BaseModel):
    """A job. Its structure is at `/v1/folds/{id}/structure` when it is `done`."""

    id: str = Field(examples=["kq3PDqVyl3S4VxXbTt0m0P2fXUXDJy2I"])
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    position: int | None = Field(description="sequences that are folded before this one, while it waits")
    structure_id: str = Field(description="md5 of the sequence")
    is_in_atlas: bool = Field(description="the structure is in the atlas, and was not folded again")
    length: int = Field(description="residues")
    model: str | None = Field(description="the model that folds; null for a structure of the atlas")
    mean_plddt: float | None
    ptm: float | None
    detail: str | None = Field(description="why it failed")


def folds_of(request: Request) -> Folds:
    """Return the folds of the application. Raise Problem if they are off."""
    folds = state_of(request).folds
    if folds is None:
        raise Problem(503, "folding is off: the operator can start the server with --fold-model")
    return folds


@router.post("/foldSequence/v1/pdb", include_in_schema=False)
@router.post(
    "/foldSequence/v1/pdb/",
    tags=["ESM Metagenomic Atlas"],
    response_class=Response,
    responses={
        **_ERRORS,
        200: {"description": "the structure", "content": {FORMATS["pdb"]: {"schema": {"type": "string"}}}},
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"text/plain": {"schema": {"type": "string"}, "example": "MKTAYIAKQRQISFVKSHFSRQLEERL"}},
        }
    },
)
async def fold_sequence(request: Request) -> Response:
    """Fold the sequence in the body, of any content type, and return PDB. B-factors are pLDDT, 0 to 100.

    An answer 503 after five minutes means that it takes longer: the same request again returns the result.
    """
    folds = folds_of(request)
    sequence = sequence_of((await request.body()).decode("utf-8", "replace"), folds.limits.length)
    job = await run_in_threadpool(_submitted, request, folds, sequence)
    if job.work is None:
        return await run_in_threadpool(structure_response, request, job.structure_id.hex(), "pdb")
    gone = asyncio.ensure_future(_gone(request))
    result = asyncio.wrap_future(job.work.result)
    is_too_long = False
    try:
        either: set[asyncio.Future[Any]] = {result, gone}
        await asyncio.wait(either, timeout=WAIT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            return Response(status_code=204)  # to a client that has left
        if is_too_long := not result.done():
            raise Problem(503, f"folding takes longer than {WAIT_SECONDS:g} s: ask again later", _BUSY)
        structure = _result(result)
    finally:
        gone.cancel()
        if not is_too_long:
            await run_in_threadpool(folds.cancel, job)  # the result is kept, for others who ask
    return Response(await run_in_threadpool(folds.file, structure, "pdb"), 200, None, FORMATS["pdb"])


@router.post("/v1/folds", tags=["folding"], status_code=202, response_model=FoldState, responses=_ERRORS)
def submit(request: Request, wanted: FoldRequest) -> Response:
    """Begin to fold a sequence. `id` of the answer, which only its maker knows, leads to the structure."""
    folds = folds_of(request)
    job = _submitted(request, folds, sequence_of(wanted.sequence, folds.limits.length))
    headers = {"Location": public_url(request, f"/v1/folds/{job.name}")}
    return models.JSON(_shown(folds, job), 202, headers)


@router.get("/v1/folds/{job}", tags=["folding"], response_model=FoldState, responses=_JOB_ERRORS)
def state(request: Request, job: JobName) -> Response:
    """Return the state of a job."""
    folds = folds_of(request)
    return models.JSON(_shown(folds, _known(folds, job)))


@router.delete("/v1/folds/{job}", tags=["folding"], status_code=204, response_class=Response, responses=_JOB_ERRORS)
def cancel(request: Request, job: JobName) -> Response:
    """Delete a job. Its sequence is not folded if it still waits and no other job has it."""
    folds = folds_of(request)
    folds.cancel(_known(folds, job))
    return Response(status_code=204)


@router.get(
    "/v1/folds/{job}/structure",
    tags=["folding"],
    response_class=Response,
    responses={
        **_JOB_ERRORS,
        **documented(409),
        200: {
            "description": "the structure",
            "content": {each: {"schema": {"type": "string"}} for each in FORMATS.values()},
        },
    },
)
def structure(request: Request, job: JobName, format: models.Format = "pdb") -> Response:
    """Return the structure of a job that is done, as PDB or mmCIF. B-factors are pLDDT, 0 to 100."""
    folds = folds_of(request)
    known = _known(folds, job)
    if known.work is None:
        return structure_response(request, known.structure_id.hex(), format)
    if known.state != "done":
        raise Problem(409, f"the job is {known.state}")
    headers = {"Cache-Control": "private, no-store"}
    return Response(folds.file(known.work.result.result(), format), 200, headers, FORMATS[format])


def _submitted(request: Request, folds: Folds, sequence: str) -> FoldJob:
    """Return a new job. Raise Problem if too many sequences wait."""
    settings = state_of(request).settings
    # A client with a token may read the atlas too; one without only if the atlas is public.
    may_read = settings.access(READ) == "public" or settings.access(FOLD) == "token"
    name = structure_id(sequence).hex()
    is_in_atlas = may_read and bool(read(request, lambda served: find_proteins(served, name)))
    client = request.client.host if request.client is not None else ""
    try:
        return folds.submit(sequence, client, is_in_atlas)
    except QueueFull as error:
        raise Problem(503, str(error), _BUSY) from None


def _known(folds: Folds, name: str) -> FoldJob:
    job = folds.get(name)
    if job is None:
        raise Problem(404, "no job has this id, or its result has expired")
    return job


def _shown(folds: Folds, job: FoldJob) -> dict[str, Any]:
    state = job.state
    structure = job.work.result.result() if job.work is not None and state == "done" else None
    error = job.work.result.exception() if job.work is not None and state == "failed" else None
    return {
        "id": job.name,
        "state": state,
        "position": folds.position(job) if state == "waiting" else None,
        "structure_id": format_structure_id(job.structure_id),
        "is_in_atlas": job.work is None,
        "length": job.length,
        "model": folds.model if job.work is not None else None,
        "mean_plddt": round(structure.mean_plddt, 2) if structure is not None else None,
        "ptm": round(float(structure.ptm), 4) if structure is not None else None,
        "detail": _problem(error).detail if error is not None else None,
    }


def _result(result: "asyncio.Future[Any]") -> Any:
    try:
        return result.result()
    except asyncio.CancelledError:
        raise Problem(503, "the server ends", _BUSY) from None
    except Exception as error:
        raise _problem(error) from None


def _problem(error: BaseException) -> Problem:
    if isinstance(error, CannotFold):
        return Problem(422, str(error))
    return Problem(503, "the process that folds ended: try again", _BUSY)


async def _gone(request: Request) -> None:
    """Return when the client has left."""
    with contextlib.suppress(asyncio.CancelledError):
        while (await request.receive())["type"] != "http.disconnect":
            pass
