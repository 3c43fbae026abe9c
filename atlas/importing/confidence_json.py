"""Read PAE, pLDDT and pTM from the JSON file beside a structure, as AlphaFold DB and ColabFold write it.

AlphaFold DB    AF-P12345-F1-model_v4.cif, AF-P12345-F1-predicted_aligned_error_v4.json:
                [{"predicted_aligned_error": [[...], ...]}], before version 3 [{"distance": [...]}], row by row
ColabFold       x_unrelaxed_rank_001_MODEL.pdb, x_scores_rank_001_MODEL.json: {"pae": [[...], ...], "plddt": [...],
                "ptm": 0.8}
FoldAtlas       x.pdb, x.pae.json, in the first layout

Axis 0 of PAE is the residue on whose frame the structures are aligned, axis 1 the residue whose error it is, in all of
them and in an atlas.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

MAX_CONFIDENCE_BYTES: Final = 64 << 20  # about 3,000 residues with two decimals
MAX_PAE: Final = 31.75  # angstrom: the centre of the last bin of AlphaFold
MAX_ROUNDED_PAE: Final = 32.0  # AlphaFold DB rounds to whole numbers
_MAX_PLDDT: Final = 100.0
# Values of a file of L residues: PAE and, before version 3 of AlphaFold DB, two numbers of residues for each pair. More
# are refused before they are decoded, since a number in memory needs ten times its text.
_VALUES_PER_PAIR: Final = 4
_VALUES_PER_RESIDUE: Final = 100
_VALUES_BESIDE: Final = 1_000

_STRUCTURE: Final = re.compile(r"(\.(?:pdb|ent|cif|mmcif|pdbx|fcz))?(\.(?:gz|zst|bz2|xz))*$", re.IGNORECASE)
_ALPHAFOLD_DB: Final = re.compile(r"(.+)-model_(v\d+)")
_COLABFOLD: Final = re.compile(r"(.+)_(?:un)?relaxed_(rank_.+)")


@dataclass(frozen=True, slots=True, eq=False)
class Confidence:
    """Confidence of a structure of L residues, None for what the file does not have.

    pae     float32 [L, L] angstrom, 0 to 31.75
    plddt   float32 [L], 0 to 100; the ESM Atlas's API has 0 to 1, which is multiplied by 100
    ptm     0 to 1
    """

    pae: Floats | None = None
    plddt: Floats | None = None
    ptm: float | None = None


class NoConfidence(ValueError):
    """A JSON file of another kind."""


class _Content(msgspec.Struct):
    """The keys that are read, of all layouts."""

    predicted_aligned_error: list[list[float]] | None = None
    distance: list[float] | None = None
    pae: list[list[float]] | None = None
    plddt: list[float] | None = None
    ptm: float | None = None


_DECODER: Final = msgspec.json.Decoder(_Content | list[_Content])


def confidence_names(path: str) -> tuple[str, ...]:
    """Return the names that the JSON file beside a structure file can have, in the same folder, the likeliest first.

    >>> confidence_names("proteome/AF-P12345-F1-model_v4.cif.gz")
    ('AF-P12345-F1-predicted_aligned_error_v4.json', 'AF-P12345-F1-predicted_aligned_error_v4.json.gz',
    'AF-P12345-F1-model_v4.pae.json', 'AF-P12345-F1-model_v4.pae.json.gz',
    'AF-P12345-F1-model_v4.json', 'AF-P12345-F1-model_v4.json.gz')
    """
    stem = _STRUCTURE.sub("", path.rpartition("/")[2], count=1)
    names = [f"{stem}.pae.json", f"{stem}.json"]
    if found := _ALPHAFOLD_DB.fullmatch(stem):
        names.insert(0, f"{found[1]}-predicted_aligned_error_{found[2]}.json")
    elif found := _COLABFOLD.fullmatch(stem):
        names = [f"{found[1]}_scores_{found[2]}.json", f"{stem}_scores.json", *names]
    return tuple(f"{name}{ending}" for name in names for ending in ("", ".gz"))


def is_confidence_name(path: str) -> bool:
    """Return whether a file can be the JSON file beside a structure, by its ending."""
    return path.lower().endswith((".json", ".json.gz"))


def read_confidence(content: bytes, length: int) -> Confidence:
    """Return the confidence of a structure of `length` residues from the JSON text `content`.

    Raise NoConfidence for JSON of another layout, and ValueError, with the reason, for text that is too large or not
    JSON, another number of residues, and values that are out of range.
    """
    if len(content) > MAX_CONFIDENCE_BYTES:
        raise ValueError(f"{len(content):,} bytes are more than {MAX_CONFIDENCE_BYTES:,}")
    most = _VALUES_PER_PAIR * length**2 + _VALUES_PER_RESIDUE * length + _VALUES_BESIDE
    if (values := content.count(b",")) > most:
        raise ValueError(f"it has {values:,} values, more than a structure of {length:,} residues has")
    try:
        found = _DECODER.decode(content)
    except msgspec.ValidationError as error:
        raise NoConfidence(f"it is not JSON of AlphaFold DB or ColabFold: {error}") from error
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise ValueError(f"it is not JSON of AlphaFold DB or ColabFold: {error}") from error
    if isinstance(found, list):
        if len(found) != 1:
            raise ValueError(f"it is of {len(found):,} structures")
        [found] = found
    rows = found.predicted_aligned_error if found.predicted_aligned_error is not None else found.pae
    if rows is None and found.distance is None and found.plddt is None and found.ptm is None:
        raise NoConfidence("it has no predicted_aligned_error, distance, pae, plddt or ptm")
    pae = None
    if rows is not None:
        if len(rows) != length or any(len(row) != length for row in rows):
            raise ValueError(f"its PAE has {len(rows):,} rows, the structure {length:,} residues")
        pae = _in_range(rows, MAX_ROUNDED_PAE, "PAE")
    elif found.distance is not None:
        if len(found.distance) != length**2:
            raise ValueError(f"its PAE has {len(found.distance):,} values, the structure {length:,} residues")
        pae = _in_range(found.distance, MAX_ROUNDED_PAE, "PAE").reshape(length, length)
    plddt = None
    if found.plddt is not None:
        if len(found.plddt) != length:
            raise ValueError(f"its pLDDT has {len(found.plddt):,} values, the structure {length:,} residues")
        plddt = _in_range(found.plddt, _MAX_PLDDT, "pLDDT")
        plddt = plddt * np.float32(_MAX_PLDDT) if plddt.max(initial=0) <= 1 else plddt
    if found.ptm is not None and not 0 <= found.ptm <= 1:
        raise ValueError(f"its pTM is {found.ptm:g}, not 0 to 1")
    return Confidence(None if pae is None else np.minimum(pae, np.float32(MAX_PAE)), plddt, found.ptm)


def _in_range(values: Any, most: float, name: str) -> Floats:
    with np.errstate(over="ignore"):
        array = np.array(values, np.float32)
    if not ((array >= 0) & (array <= most)).all():
        raise ValueError(f"its {name} is {array.min():g} to {array.max():g}, not 0 to {most:g}")
    return array
