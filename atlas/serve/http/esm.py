"""Routes of the ESM Metagenomic Atlas as its clients call them.

v0 and v2023_02 by MGnify accession or any other name, v1 by the md5 of the sequence. In `fetchConfidencePrediction`
pLDDT is 0 to 1, as its clients expect; B-factors of structures are 0 to 100, as everywhere here.
"""

import uuid
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Path, Request
from starlette.responses import Response

from foldatlas.atlas.serve.catalogue import NotFoundError, Protein, find_proteins, one_protein
from foldatlas.atlas.serve.contents import FORMATS, plddt_values
from foldatlas.atlas.serve.current import Served
from foldatlas.atlas.serve.http.access import needs
from foldatlas.atlas.serve.http.models import JSON
from foldatlas.atlas.serve.http.proteins import ERRORS, Name, structure_response
from foldatlas.atlas.serve.http.state import read, state_of
from foldatlas.atlas.serve.settings import READ

router = APIRouter(tags=["ESM Metagenomic Atlas"], dependencies=[Depends(needs(READ))])
Hash = Annotated[str, Path(pattern="^[0-9a-fA-F]{32}$", description="md5 of the sequence")]


@router.get(
    "/fetchPredictedStructure/{name:path}",
    response_class=Response,
    responses={
        **ERRORS,
        200: {
            "description": "the structure",
            "content": {each: {"schema": {"type": "string"}} for each in FORMATS.values()},
        },
        206: {"description": "a part of it"},
        304: {"description": "it did not change"},
    },
)
def predicted_structure(request: Request, name: Name) -> Response:
    """Return a structure: PDB, also with the suffix .pdb, or mmCIF with .cif."""
    stem, _, suffix = name.rpartition(".")
    if stem and suffix in FORMATS:
        try:
            return structure_response(request, stem, suffix)
        except NotFoundError:
            if not read(request, lambda served: find_proteins(served, name)):
                raise
    return structure_response(request, name, "pdb")


@router.get("/fetchConfidencePrediction/{name:path}", responses=ERRORS)
def confidence_prediction(request: Request, name: Name) -> dict[str, Any]:
    """Return pLDDT of each residue (0 to 1), pTM, and predicted aligned errors (angstrom) if the atlas has them."""
    contents = state_of(request).contents

    def found(served: Served) -> dict[str, Any]:
        one = one_protein(served, name)
        pae = contents.pae(served, one)
        return {
            "plddt": plddt_values(contents.structure(served, one), 100),
            "ptm": one.ptm,
            **({"pae": pae.tolist()} if pae is not None else {}),
        }

    return JSON(read(request, found))  # type: ignore[return-value]


@router.get("/fetchSequence/{name:path}", responses=ERRORS)
def fetch_sequence(request: Request, name: Name) -> dict[str, str]:
    """Return the sequence of a protein."""

    def found(served: Served) -> dict[str, str]:
        one = one_protein(served, name)
        return {"id": one.id, "sequence": state_of(request).contents.sequence(served, one)}

    return JSON(read(request, found))  # type: ignore[return-value]


@router.get(
    "/fetchEmbedding/ESM2/{name:path}",
    response_class=Response,
    responses={
        **ERRORS,
        200: {
            "description": "the embedding: float16, little-endian; or a JSON list of numbers",
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
                "application/json": {"schema": {"type": "array", "items": {"type": "number"}}},
            },
        },
    },
)
def fetch_embedding(request: Request, name: Name) -> Response:
    """Return the mean embedding: float16 with the suffix .bin or without one, a JSON list with .json."""
    stem, _, suffix = name.rpartition(".")
    stem, suffix = (stem, suffix) if stem and suffix in ("bin", "json") else (name, "bin")
    contents = state_of(request).contents
    values = read(request, lambda served: contents.embedding(served, one_protein(served, stem)))
    if suffix == "json":
        return JSON([float(str(value)) for value in values])
    with np.errstate(over="ignore"):
        return Response(values.astype("<f2").tobytes(), media_type="application/octet-stream")


@router.get("/esm/protein/api/v1alpha1/proteins/{protein_hash}", responses=ERRORS)
def protein_of_v1(request: Request, protein_hash: Hash) -> dict[str, Any]:
    """Return a protein as version 1 of the ESM Atlas does, with its structure; pLDDT is 0 to 100.

    Features of sparse autoencoders are not here, and what is not in the atlas is not folded: other parameters are
    ignored.
    """
    contents = state_of(request).contents

    def found(served: Served) -> dict[str, Any]:
        one: Protein = one_protein(served, str(uuid.UUID(protein_hash)))
        structure = contents.structure(served, one)
        [clusters] = served.rows("SELECT cluster30 FROM scores WHERE structure_id = ?", [one.structure_id])
        representative = clusters["cluster30"]
        return {
            "protein_hash": one.structure_id.hex,
            "accession": one.id,
            "source": one.source,
            "sequence": structure.sequence,
            "sequence_length": one.length,
            "ptm": one.ptm,
            "mean_plddt": one.mean_plddt,
            "residues_plddt": plddt_values(structure),
            "pdb": contents.structure_file(served, one, "pdb").decode("ascii"),
            "cluster_rep_protein_hash": representative.hex if representative is not None else None,
            "folded_on_demand": False,
        }

    return JSON(read(request, found))  # type: ignore[return-value]
