"""Functions of the program in SQL: TM-align, superposition, mmCIF (`schemas.sql_functions.PROGRAM_FUNCTIONS`).

Python functions over Arrow arrays, with temporary macros that take rows of structures apart. TM-align is compiled by
numba, which is imported at the first call.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from foldatlas.atlas.parquet.coordinates import StoredStructure, atoms_per_residue
from foldatlas.atlas.sql.text import literal
from foldatlas.atlas.writers.cif_files import cif_text
from foldatlas.folding.compare.superposition import rmsd
from foldatlas.schemas.formats import IMPORTED
from foldatlas.schemas.records import ATOMS, structure_id
from foldatlas.schemas.tables import COORDINATE_SCALE, PLDDT_SCALE

Floats = npt.NDArray[np.float32]

_ROW: Final = ("sequence", "x", "y", "z")
_ROW_TYPES: Final = ("VARCHAR", "INTEGER[]", "INTEGER[]", "INTEGER[]")
_ALIGNED: Final = "STRUCT(tm_query DOUBLE, tm_target DOUBLE, aligned INTEGER, rmsd DOUBLE)"
_ALIGNED_ARROW: Final = pa.struct(
    [("tm_query", pa.float64()), ("tm_target", pa.float64()), ("aligned", pa.int32()), ("rmsd", pa.float64())]
)


class _Function:
    """A function of Python values of one row, None for NULL, with the types of its parameters and of its result."""

    def __init__(self, call: Callable[..., Any], parameters: tuple[str, ...], returns: str, arrow: pa.DataType):
        def of_rows(arguments: Any) -> Any:
            return pa.chunked_array([pa.array([call(*row.values()) for row in arguments.to_pylist()], arrow)])

        self.of_rows: Final = of_rows  # what DuckDB calls, with an Arrow array of structs
        self.parameters: Final = parameters
        self.returns: Final = returns


@dataclass(frozen=True, slots=True, eq=False)
class _Backbone:
    """The C-alphas, float32 [L, 3] in angstrom, NaN where missing, and 3Di states, uint8 [L], of a structure."""

    c_alphas: Floats
    states: npt.NDArray[np.uint8]


def add_functions(cursor: Any, model: str) -> None:
    """Make the functions known to `cursor`. `model` is the model that predicted the structures (IMPORTED: several)."""
    for name, function in _FUNCTIONS.items():
        _register(cursor, name, function)
    first, second, row = ([f"struct_extract({s}, '{name}')" for name in _ROW] for s in "abs")
    stated = "NULL::VARCHAR" if model == IMPORTED else literal(model)
    macros = {
        "tm_align(a, b)": _called("_tm_align", *first, *second),
        "tm_score(a, b)": "struct_extract(tm_align(a, b), 'tm_query')",
        "superposed_rmsd(positions_a, positions_b)": _called(
            "_superposed_rmsd", "positions_a::DOUBLE[][]", "positions_b::DOUBLE[][]"
        ),
        "mmcif(s, id, ptm)": _called(
            "_mmcif", *row, "struct_extract(s, 'plddt')", "id::VARCHAR", "ptm::DOUBLE", stated
        ),
    }
    for signature, sql in macros.items():
        cursor.execute(f"CREATE OR REPLACE TEMP MACRO {signature} AS {sql}")


def _called(name: str, *arguments: str) -> str:
    """Return SQL of a call. A function has one argument, a struct, because DuckDB counts a function's parameters."""
    return f"{name}(struct_pack({', '.join(f'p{number} := {value}' for number, value in enumerate(arguments))}))"


def _register(cursor: Any, name: str, function: _Function) -> None:
    """Register a function in the database, which the connections of a process share, if it is not yet there."""
    known = cursor.execute("SELECT count(*) FROM duckdb_functions() WHERE function_name = ?", [name]).fetchall()
    if known[0][0]:
        return
    parameters = ", ".join(f"p{number} {sql_type}" for number, sql_type in enumerate(function.parameters))
    cursor.create_function(
        name,
        function.of_rows,
        [duckdb.sqltype(f"STRUCT({parameters})")],
        duckdb.sqltype(function.returns),
        type="arrow",
        null_handling="special",
    )


def _tm_align(*values: Any) -> dict[str, float] | None:
    from foldatlas.folding.compare.tm_align import tm_align

    if any(value is None for value in values):
        return None
    a, b = _backbone(*values[:4]), _backbone(*values[4:])
    if not (np.isfinite(a.c_alphas).all(axis=1).any() and np.isfinite(b.c_alphas).all(axis=1).any()):
        return None
    found = tm_align(a.c_alphas, a.states, b.c_alphas, b.states)
    return {
        "tm_query": float(found.tm_query_P[0]),
        "tm_target": float(found.tm_target_P[0]),
        "aligned": int(found.aligned_P[0]),
        "rmsd": float(found.rmsd_P[0]),
    }


def _superposed_rmsd(a: list[Any] | None, b: list[Any] | None) -> float | None:
    if a is None or b is None:
        return None
    if len(a) != len(b):
        raise ValueError(f"superposed_rmsd compares paired positions, and these are {len(a):,} and {len(b):,}")
    pairs = [(p, q) for p, q in zip(a, b, strict=True) if p is not None and q is not None]
    if not pairs:
        return None
    first, second = (np.array(points, dtype=np.float64) for points in zip(*pairs, strict=True))
    return rmsd(first, second)


def _mmcif(sequence: Any, x: Any, y: Any, z: Any, plddt: Any, name: Any, ptm: Any, model: Any) -> str | None:
    if any(value is None for value in (sequence, x, y, z, plddt, name)):
        return None
    residues = np.array([np.nan if value is None else value for value in plddt], np.float64) / PLDDT_SCALE
    mean = float(np.nanmean(residues)) if np.isfinite(residues).any() else None
    structure = StoredStructure(
        structure_id(sequence), sequence, _positions(sequence, x, y, z), residues.astype(np.float32)
    )
    return cif_text(structure, name=name, model=model, mean_plddt=mean, ptm=ptm)


def _positions(sequence: str, x: list[Any], y: list[Any], z: list[Any]) -> Floats:
    """Return float32 [A, 3] in angstrom, NaN for NULL. Raise ValueError if the sequence has other atoms."""
    num_atoms = int(atoms_per_residue([sequence]).sum())
    if not len(x) == len(y) == len(z) == num_atoms:
        raise ValueError(f"{len(x):,}, {len(y):,} and {len(z):,} coordinates for a sequence of {num_atoms:,} atoms")
    return (np.array([x, y, z], dtype=np.float64).T / COORDINATE_SCALE).astype(np.float32)


def _backbone(sequence: str, x: list[Any], y: list[Any], z: list[Any]) -> _Backbone:
    from foldatlas.folding.compare.three_di import three_di_states

    positions = _positions(sequence, x, y, z)
    starts = np.cumsum([0, *atoms_per_residue([sequence])[:-1]])
    beta = np.full((len(sequence), 3), np.nan, np.float32)
    has_beta = np.array(["CB" in ATOMS[letter] for letter in sequence], dtype=bool)
    beta[has_beta] = positions[starts[has_beta] + 4]
    n, c_alpha, c = (positions[starts + offset] for offset in range(3))
    return _Backbone(c_alpha, three_di_states(n, c_alpha, c, beta))


# DuckDB's database outlives the connection that a function was registered on, but does not keep the function alive: one
# that is freed leaves a dangling pointer, and another object is called. These live as long as the process.
_FUNCTIONS: Final = {
    "_tm_align": _Function(_tm_align, (*_ROW_TYPES, *_ROW_TYPES), _ALIGNED, _ALIGNED_ARROW),
    "_superposed_rmsd": _Function(_superposed_rmsd, ("DOUBLE[][]", "DOUBLE[][]"), "DOUBLE", pa.float64()),
    "_mmcif": _Function(_mmcif, (*_ROW_TYPES, "USMALLINT[]", "VARCHAR", "DOUBLE", "VARCHAR"), "VARCHAR", pa.string()),
}
