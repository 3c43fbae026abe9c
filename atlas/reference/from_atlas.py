"""The structures of an atlas as chains of a reference, for example to search a new atlas against an older one.

Each structures file is a file of the database; entries are named by their structure_id.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.parquet.coordinates import StoredStructure, atoms_per_residue, decode_structures
from foldatlas.atlas.parquet.files import open_parquet
from foldatlas.atlas.reference.chains import Chain, chain_with_outcome
from foldatlas.atlas.reference.encode import Floats
from foldatlas.atlas.reference.read import Found, Member
from foldatlas.schemas.errors import FoldAtlasError
from foldatlas.schemas.formats import PROVENANCE
from foldatlas.schemas.records import ATOMS, format_structure_id

UNKNOWN_LICENCE: Final = "unknown"
_BETA: Final = ATOMS["A"].index("CB")


def structures_of(uri: str) -> list[Found]:
    """Return the structures files of the atlas at `uri`, of the newest generation of each shard."""
    folder = AtlasFolder.existing(uri).resolved()
    entries = folder.entries().values()
    files = [entry.files["structures"] for entry in entries if "structures" in entry.files]
    return [
        Found(f"{folder.uri}/{file.path}", f"{folder.uri}\n{file.path}", file.bytes, 0, file.sha256)
        for file in sorted(files, key=lambda file: file.path)
    ]


def licence_of(uris: Sequence[str]) -> str:
    """Return the licences of the imported structures of atlases, separated by commas; "unknown" if any states none."""
    found: set[str | None] = set()
    for uri in uris:
        folder = AtlasFolder.existing(uri)
        for entry in folder.entries().values():
            if entry.folded:
                stated = PROVENANCE in entry.files
                table = folder.read_table(entry.files[PROVENANCE].path, ["licence"]) if stated else None
                found |= {None} if table is None else set(table["licence"].to_pylist())
    licences = {licence for licence in found if licence}
    return ", ".join(sorted(licences)) if licences and None not in found else UNKNOWN_LICENCE


def open_structures_file(found: Found) -> Iterator[Member]:
    """Yield the chains of a structures file, one member per row group."""
    uri, _, name = found.path.partition("\n")
    try:
        with open_parquet(AtlasFolder(uri).storage, name) as file:
            for group in range(file.num_row_groups):
                structures = decode_structures(file.read_row_group(group))
                yield Member(f"{group:06d}", [chain_of(structure) for structure in structures])
    except (OSError, ValueError, FoldAtlasError) as error:
        yield Member("", None, "unreadable", " ".join(str(error).split())[:200])


def backbone_of(structure: StoredStructure) -> Floats:
    """Return N, C-alpha, C and C-beta of each residue of a stored structure, float32 [L, 4, 3] in angstrom, NaN for a
    missing atom."""
    atoms = atoms_per_residue([structure.sequence])
    begin = np.cumsum(atoms) - atoms
    backbone = np.full((len(atoms), 4, 3), np.nan, np.float32)
    for atom in range(3):
        backbone[:, atom] = structure.positions[begin + atom]
    has_beta = np.array([len(ATOMS[letter]) > _BETA for letter in structure.sequence])
    backbone[has_beta, 3] = structure.positions[begin[has_beta] + _BETA]
    return backbone


def chain_of(structure: StoredStructure) -> Chain:
    """Return the chain of a stored structure."""
    name = format_structure_id(structure.structure_id)
    return chain_with_outcome("", name, "", structure.sequence, backbone_of(structure).transpose(1, 0, 2), 0)
