"""Routes of the AlphaFold Protein Structure Database with the fields that its clients read.

https://alphafold.ebi.ac.uk/api-docs: `prediction`, `sequence/summary` and `uniprot/summary`, and the files that they
name. `uniprot/summary` is also what a provider of 3D-Beacons has.
"""

import re
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from foldatlas.atlas.serve.catalogue import NotFoundError, Protein, find_proteins, one_protein
from foldatlas.atlas.serve.contents import plddt_values
from foldatlas.atlas.serve.current import Served
from foldatlas.atlas.serve.http import beacons
from foldatlas.atlas.serve.http.access import needs
from foldatlas.atlas.serve.http.models import JSON
from foldatlas.atlas.serve.http.problems import Problem
from foldatlas.atlas.serve.http.proteins import ERRORS, Name, structure_response
from foldatlas.atlas.serve.http.state import public_url, read, state_of
from foldatlas.atlas.serve.settings import READ
from foldatlas.atlas.writers.pae_files import pae_document
from foldatlas.schemas.formats import IMPORTED_FORMAT
from foldatlas.schemas.records import structure_id

router = APIRouter(prefix="", tags=["AlphaFold Database"], dependencies=[Depends(needs(READ))])

_FILE: Final = re.compile(
    r"AF-([0-9a-f]{32})-F1-(model_v1\.pdb|model_v1\.cif|confidence_v1\.json|predicted_aligned_error_v1\.json)"
)
_CATEGORIES: Final = ((90, "H"), (70, "M"), (50, "L"))  # pLDDT above -> letter; others are D
_SEQUENCE: Final = "^[A-Za-z]+$"


@router.get("/api/prediction/{name:path}", responses=ERRORS)
def prediction(request: Request, name: Name) -> list[dict[str, Any]]:
    """Return all predictions of a name. Links to files that the atlas does not have are null."""

    def found(served: Served) -> list[dict[str, Any]]:
        proteins = find_proteins(served, name)
        if not proteins:
            one_protein(served, name)  # raises, with the reason
        return [_prediction(request, served, one) for one in proteins]

    return JSON(read(request, found))  # type: ignore[return-value]


@router.get("/api/sequence/summary", responses=ERRORS)
def summary(
    request: Request,
    id: Annotated[
        str,
        Query(
            min_length=1,
            max_length=10_000,
            pattern=_SEQUENCE,
            description="the sequence",
            examples=["MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ"],
        ),
    ],
    type: Literal["sequence"] = "sequence",
    rows: Annotated[int, Query(ge=1, le=100)] = 10,
) -> dict[str, Any]:
    """Return the predictions of exactly this sequence."""
    identity = structure_id(id.upper())

    def found(served: Served) -> dict[str, Any]:
        proteins = [one for one in find_proteins(served, identity.hex()) if one.structure_id.bytes == identity]
        if not proteins:
            raise NotFoundError("no structure of this sequence")
        return {
            "entry": {"sequence": id.upper(), "checksum": identity.hex(), "checksum_type": "MD5"},
            "structures": [{"summary": _summary(request, served, one)} for one in proteins[:rows]],
        }

    return JSON(read(request, found))  # type: ignore[return-value]


@router.get("/api/uniprot/summary/{name:path}", responses=ERRORS, response_model=beacons.Summary)
@router.get("/3dbeacons/uniprot/summary/{name:path}", responses=ERRORS, response_model=beacons.Summary)
def beacons_summary(request: Request, name: Name) -> Response:
    """Return the structures of a name, with the suffix .json or without, as 3D-Beacons describes them."""

    def found(served: Served) -> dict[str, Any]:
        proteins = find_proteins(served, name.removesuffix(".json")) or find_proteins(served, name)
        if not proteins:
            one_protein(served, name.removesuffix(".json"))  # raises, with the reason
        one = proteins[0]
        [row] = served.rows(
            "SELECT sequence_crc64 FROM records WHERE id = ? AND source = ? AND structure_id = ? LIMIT 1",
            [one.id, one.source, one.structure_id],
        )
        return {
            "uniprot_entry": {
                "ac": one.id,
                "id": None,
                "uniprot_checksum": row["sequence_crc64"],
                "sequence_length": one.length,
                "segment_start": 1,
                "segment_end": one.length,
            },
            "structures": [{"summary": _summary(request, served, each)} for each in proteins],
        }

    return JSON(read(request, found))


@router.get("/files/{file}", response_class=Response, responses=ERRORS)
def files(request: Request, file: Annotated[str, Path(max_length=200)]) -> Response:
    """Return a file that `prediction` names: structure, pLDDT or predicted aligned errors."""
    parts = _FILE.fullmatch(file)
    if parts is None:
        raise Problem(404, "no file of a prediction has this name")
    if parts[2].startswith("model"):
        return structure_response(request, parts[1], parts[2][-3:])
    document = _confidence if parts[2].startswith("confidence") else _aligned_errors
    return JSON(read(request, lambda served: document(request, served, one_protein(served, parts[1]))))


def _entry(one: Protein) -> str:
    return f"AF-{one.structure_id.hex}-F1"


def _prediction(request: Request, served: Served, one: Protein) -> dict[str, Any]:
    entry = _entry(one)
    sequence = state_of(request).contents.sequence(served, one)
    [scores] = served.rows(
        "SELECT fraction_very_low, fraction_low, fraction_confident, fraction_very_high FROM scores "
        "WHERE structure_id = ?",
        [one.structure_id],
    )
    [checksum] = served.rows(
        "SELECT sequence_crc64 FROM records WHERE id = ? AND source = ? AND structure_id = ? LIMIT 1",
        [one.id, one.source, one.structure_id],
    )
    confident, very_high = scores["fraction_confident"], scores["fraction_very_high"]
    has_pae = state_of(request).contents.has_pae(served, one)

    def link(ending: str) -> str:
        return public_url(request, f"/files/{entry}-{ending}")

    return {
        "entryId": entry,
        "modelEntityId": entry,
        "providerId": "FoldAtlas",
        "toolUsed": served.atlas.header.settings.model,
        "entityType": "protein",
        "isComplex": False,
        "uniprotAccession": one.id,
        "uniprotId": one.id,
        "uniprotDescription": one.description,
        "taxId": None,
        "organismScientificName": None,
        "gene": None,
        "isReviewed": False,
        "isReferenceProteome": False,
        "uniprotStart": 1,
        "uniprotEnd": one.length,
        "uniprotSequence": sequence,
        "sequenceStart": 1,
        "sequenceEnd": one.length,
        "sequence": sequence,
        "sequenceChecksum": checksum["sequence_crc64"],
        "modelCreatedDate": served.indexed,
        "latestVersion": 1,
        "allVersions": [1],
        "globalMetricValue": one.mean_plddt,
        "fractionPlddtVeryLow": scores["fraction_very_low"],
        "fractionPlddtLow": scores["fraction_low"],
        "fractionPlddtConfident": None if None in (confident, very_high) else round(confident - very_high, 6),
        "fractionPlddtVeryHigh": very_high,
        "pdbUrl": link("model_v1.pdb"),
        "cifUrl": link("model_v1.cif"),
        "bcifUrl": None,
        "plddtDocUrl": link("confidence_v1.json"),
        "paeDocUrl": link("predicted_aligned_error_v1.json") if has_pae else None,
        "paeImageUrl": None,
        "msaUrl": None,
        "amAnnotationsUrl": None,
    }


def _summary(request: Request, served: Served, one: Protein) -> dict[str, Any]:
    entry = _entry(one)
    return {
        "model_identifier": entry,
        "model_category": "AB-INITIO",
        "model_url": public_url(request, f"/files/{entry}-model_v1.cif"),
        "model_format": "MMCIF",
        "model_type": "ATOMIC",
        "model_page_url": public_url(request, f"/v1/proteins/{one.structure_id}"),
        "provider": "FoldAtlas",
        "number_of_conformers": 1,
        "created": served.indexed[:10],
        "sequence_identity": 1.0,
        "uniprot_start": 1,
        "uniprot_end": one.length,
        "coverage": 1.0,
        "confidence_type": "pLDDT",
        "confidence_version": served.atlas.header.settings.model,
        "confidence_avg_local_score": one.mean_plddt,
        "oligomeric_state": "MONOMER",
        "entities": [
            {
                "entity_type": "POLYMER",
                "entity_poly_type": "POLYPEPTIDE(L)",
                "identifier": one.id,
                "description": one.description or one.id,
                "chain_ids": ["A"],
            }
        ],
    }


def _confidence(request: Request, served: Served, one: Protein) -> dict[str, Any]:
    values = plddt_values(state_of(request).contents.structure(served, one))
    return {
        "residueNumber": list(range(1, len(values) + 1)),
        "confidenceScore": values,
        "confidenceCategory": [_category(value) for value in values],
    }


def _category(plddt: float | None) -> str | None:
    return None if plddt is None else next((letter for least, letter in _CATEGORIES if plddt > least), "D")


def _aligned_errors(request: Request, served: Served, one: Protein) -> list[dict[str, Any]]:
    errors = state_of(request).contents.pae(served, one)
    if errors is None:
        advice = "" if served.atlas.header.format >= IMPORTED_FORMAT else ": fold with --pae"
        raise NotFoundError(f"the atlas has no predicted aligned errors of {one.structure_id}{advice}")
    return pae_document(errors)
