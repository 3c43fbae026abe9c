"""SQL of the macros over structures: what each returns is in `schemas.sql_functions`.

Rules that DuckDB 1.4 to 2.0 impose:
- A macro's argument is pasted wherever it is used, also into a lambda, which would compute it for each element. An
  argument that is used in a lambda or more than once is therefore bound first, as the parameter of a lambda over a list
  of one element (`_bound`).
- A lambda's parameter hides columns of the same name in pasted arguments, so parameters begin with an underscore.
- A row `s` is a struct; the optimiser of DuckDB 2.0 reads only the columns of it that are used.

The sequence determines the atoms (`schemas.records.ATOMS`). `_atom_codes` replaces each residue's letter by one
character per atom; positions in the text are then positions in the lists of coordinates. Nested `replace` is the
fastest way that was found: 2,000 structures of 250 residues take 26 ms, their C-alphas 0.25 s, and the running sum of
atom counts alone, by `list_reduce`, 0.2 s.
"""

import string
from typing import Final

from foldatlas.atlas.macros.parquet_views import place_sql
from foldatlas.atlas.sql.text import literal
from foldatlas.schemas.records import ATOMS, THREE_LETTER
from foldatlas.schemas.tables import COORDINATE_SCALE, PLDDT_SCALE

DEFAULT_CUTOFF: Final = 8.0  # angstrom between C-alphas
MIN_PDB_RESIDUE: Final = -999  # residue numbers have 4 columns
MAX_PDB_RESIDUES: Final = 9_999
MAX_PDB_ATOMS: Final = 99_998  # TER takes a serial number too
MAX_PDB_COORDINATE: Final = 999_999  # in stored units: 8 columns
MIN_PDB_COORDINATE: Final = -99_999
_PDB_HEADER: Final = (
    "EXPDTA    THEORETICAL MODEL",
    "REMARK 999 B-FACTOR: PLDDT OF THE RESIDUE, 0 TO 100, HIGHER IS BETTER",
)
_PDB_HEADER_WITHOUT_PLDDT: Final = ("REMARK 999 B-FACTOR: 0, BECAUSE THE STRUCTURE HAS NO PLDDT",)

_NAMES: Final = tuple(dict.fromkeys(atom for atoms in ATOMS.values() for atom in atoms))
_CODES: Final = dict(zip(_NAMES, string.ascii_lowercase + string.digits + "+-*/", strict=False))  # no upper case
_ALPHABET: Final = "".join(_CODES.values())


def _field(row: str, name: str) -> str:
    return f"struct_extract({row}, {literal(name)})"


def _bound(value: str, parameter: str, body: str) -> str:
    """Return SQL of `body`, in which `parameter` is the `value`, computed once."""
    return f"list_transform([{value}], lambda {parameter}: {body})[1]"


def _replaced(text: str) -> str:
    for letter, atoms in ATOMS.items():
        text = f"replace({text}, '{letter}', '{''.join(_CODES[atom] for atom in atoms)}')"
    return text


def _texts(values: "list[str] | tuple[str, ...]") -> str:
    return f"[{', '.join(map(literal, values))}]"


def _point(x: str, y: str, z: str) -> str:
    """Return SQL of a position in angstrom, NULL if a coordinate is."""
    scaled = ", ".join(f"{value} / {COORDINATE_SCALE}" for value in (x, y, z))
    return f"(CASE WHEN {x} + {y} + {z} IS NOT NULL THEN [{scaled}] END)::DOUBLE[3]"  # 1.4 has no CASE of arrays


def _points(x: str, y: str, z: str) -> str:
    return f"list_transform(list_zip({x}, {y}, {z}), lambda _p: {_point('_p[1]::BIGINT', '_p[2]', '_p[3]')})"


def _axes(form: str) -> tuple[str, ...]:
    return tuple(form.format(_field("s", axis)) for axis in "xyz")


_SEQUENCE: Final = _field("s", "sequence")
_LETTERS: Final = f"string_split({_SEQUENCE}, '')"
_SCALED_PLDDT: Final = f"list_transform({_field('s', 'plddt')}, lambda _v: _v / {PLDDT_SCALE})"
_IS_C_ALPHA: Final = f"list_transform(string_split(_atom_codes({_SEQUENCE}), ''), lambda _c: _c = '{_CODES['CA']}')"


def _centred(points: str) -> str:
    """Return SQL of the root mean square distance of `points`, none of them NULL, from their centroid."""
    mean = "[" + ", ".join(f"list_avg(list_transform(_q, lambda _p: _p[{axis}]))" for axis in (1, 2, 3)) + "]"
    square = " + ".join(f"(_p[{axis}] - _m[{axis}]) ** 2" for axis in (1, 2, 3))
    return _bound(points, "_q", _bound(mean, "_m", f"sqrt(list_avg(list_transform(_q, lambda _p: {square})))"))


def _pdb_text() -> str:
    """Return SQL of a PDB file, whose ATOM, TER and END records equal those of `export.pdb_files`."""
    # Of each atom: what is left of its coordinates, from its name to its residue number, and its B-factor.
    three = f"{_texts(tuple(THREE_LETTER.values()))}[instr('{''.join(THREE_LETTER)}', _r)]"
    columns = f"printf('  %-3s %3s A%4d    ', {_texts(_NAMES)}[instr('{_ALPHABET}', _c)], {three}, _i + first - 1)"
    of_residue = f"list_transform(string_split(_atom_codes(_r), ''), lambda _c: {columns})"
    named = f"flatten(list_transform({_LETTERS}, lambda _r, _i: {of_residue}))"
    plddt = f"printf('%6.2f', coalesce(_p[2], 0) / {PLDDT_SCALE})"
    plddts = (
        f"flatten(list_transform(list_zip({_LETTERS}, {_field('s', 'plddt')}), "
        f"lambda _p: list_resize([{plddt}], length(_atom_codes(_p[1])), {plddt})))"
    )
    atoms = (
        f"list_filter(list_zip({named}, {', '.join(_axes('{}'))}, {plddts}), "
        "lambda _a: _a[2]::BIGINT + _a[3] + _a[4] IS NOT NULL)"
    )
    x, y, z = (f"_a[{number}] / {COORDINATE_SCALE}" for number in (2, 3, 4))
    line = f"printf('ATOM  %5d%s%8.3f%8.3f%8.3f  1.00%s           %s  ', _n, _a[1], {x}, {y}, {z}, _a[5], _a[1][3])"
    ter = "printf('TER   %5d      %s%54s', len(_l) + 1, _l[-1][18:26], '')"
    end = "rpad('END', 80, ' ') || chr(10)"
    body = _bound(
        f"list_transform({atoms}, lambda _a, _n: {line})",
        "_l",
        f"CASE WHEN len(_l) > 0 THEN array_to_string(_l, chr(10)) || chr(10) || {ter} || chr(10) ELSE '' END || {end}",
    )
    header, without = (
        " || ".join(f"rpad({literal(record)}, 80, ' ') || chr(10)" for record in records)
        for records in (_PDB_HEADER, _PDB_HEADER_WITHOUT_PLDDT)
    )
    header = f"CASE WHEN list_count({_field('s', 'plddt')}) > 0 THEN {header} ELSE {without} END"
    axes = _axes("{}")
    return (
        f"CASE WHEN length({_SEQUENCE}) + first - 1 > {MAX_PDB_RESIDUES} OR first < {MIN_PDB_RESIDUE} "
        f"OR length(_atom_codes({_SEQUENCE})) > {MAX_PDB_ATOMS} "
        f"THEN error('a PDB file has residue numbers from {MIN_PDB_RESIDUE} to {MAX_PDB_RESIDUES:,} and at most "
        f"{MAX_PDB_ATOMS:,} atoms: take a structure_slice, or export it as cif') "
        f"WHEN greatest({', '.join(f'list_max({axis})' for axis in axes)}) > {MAX_PDB_COORDINATE} "
        f"OR least({', '.join(f'list_min({axis})' for axis in axes)}) < {MIN_PDB_COORDINATE} "
        "THEN error('a coordinate does not fit into the columns of a PDB file: export it as cif') "
        f"ELSE ({header}) || {body} END"
    )


_FIRST: Final = "greatest(first, 1)"
_LAST: Final = f"least(last, length({_SEQUENCE}))"
_FIRST_ATOM: Final = f"(length(_atom_codes(left({_SEQUENCE}, {_FIRST} - 1))) + 1)"
_LAST_ATOM: Final = f"length(_atom_codes(left({_SEQUENCE}, greatest({_LAST}, 0))))"
_SLICED: Final = ", ".join(f"{axis} := {_field('s', axis)}[{_FIRST_ATOM}:{_LAST_ATOM}]" for axis in "xyz")
_OF_RESIDUE: Final = f"_atom_codes(substring({_SEQUENCE}, residue, 1))"
_PLACE: Final = (
    f"length(_atom_codes(left({_SEQUENCE}, residue - 1))) + "
    f"nullif(instr({_OF_RESIDUE}, '{_ALPHABET}'[list_position({_texts(_NAMES)}, atom)]), 0)"
)
_ATOM_AT: Final = tuple(f"{axis}[{_PLACE}]" for axis in _axes("{}"))

# Signature -> SQL. The first are for the others, not for users.
HELPERS: Final = {"_atom_codes(sequence)": _replaced("sequence")}
SCALARS: Final = {
    "residue_plddt(s)": _SCALED_PLDDT,
    "residues_below(s, threshold)": (
        f"list_where(range(1, length({_SEQUENCE}) + 1), "
        f"list_transform({_field('s', 'plddt')}, lambda _v: coalesce(_v / {PLDDT_SCALE} < threshold, false)))"
    ),
    "c_alphas(s)": _bound(_IS_C_ALPHA, "_k", _points(*_axes("list_where({}, _k)"))),
    "atom_positions(s)": _points(*_axes("{}")),
    "atom_names(s)": (
        f"list_transform(string_split(_atom_codes({_SEQUENCE}), ''), "
        f"lambda _c: {_texts(_NAMES)}[instr('{_ALPHABET}', _c)])"
    ),
    "atom_residues(s)": (
        f"flatten(list_transform({_LETTERS}, lambda _r, _i: list_resize([_i], length(_atom_codes(_r)), _i)))"
    ),
    "atom_position(s, residue, atom)": (
        f"(CASE WHEN residue BETWEEN 1 AND length({_SEQUENCE}) AND {' + '.join(_ATOM_AT)} IS NOT NULL "
        f"THEN [{', '.join(f'{value} / {COORDINATE_SCALE}' for value in _ATOM_AT)}] END)::DOUBLE[3]"
    ),
    "structure_slice(s, first, last)": (
        f"struct_pack(sequence := substring({_SEQUENCE}, {_FIRST}, greatest({_LAST} - {_FIRST} + 1, 0)), {_SLICED}, "
        f"plddt := {_field('s', 'plddt')}[{_FIRST}:{_LAST}])"
    ),
    "distance(a, b)": "array_distance(a::DOUBLE[3], b::DOUBLE[3])",
    f"contact_map(positions, cutoff := {DEFAULT_CUTOFF})": _bound(
        "positions",
        "_q",
        "list_transform(_q, lambda _a: list_transform(_q, lambda _b: "
        "array_distance(_a::DOUBLE[3], _b::DOUBLE[3]) < cutoff))",
    ),
    "radius_of_gyration(positions)": _centred("list_filter(positions, lambda _p: _p IS NOT NULL)"),
    "end_to_end(positions)": _bound("positions", "_q", "array_distance(_q[1]::DOUBLE[3], _q[-1]::DOUBLE[3])"),
    "pdb_text(s, first := 1)": _pdb_text(),
}

_XYZ: Final = ", ".join(f"position[{number}] AS {axis}" for number, axis in enumerate("xyz", 1))

TABLES: Final = {
    "structure(name)": place_sql(
        "structure_id, sequence, x, y, z, plddt",
        "SELECT structure_id FROM records WHERE id = name AND state = 'folded' AND NOT superseded "
        "UNION ALL SELECT try_cast(name AS UUID) WHERE try_cast(name AS UUID) IS NOT NULL",
    ),
    "residues(name)": (
        f"SELECT structure_id, residue, letter, plddt, {_XYZ} FROM (SELECT structure_id, "
        "unnest(range(1, length(sequence) + 1)) AS residue, unnest(string_split(sequence, '')) AS letter, "
        "unnest(residue_plddt(s)) AS plddt, unnest(c_alphas(s)) AS position FROM structure(name) AS s)"
    ),
    "atoms(name)": (
        f"SELECT structure_id, residue, sequence[residue] AS letter, atom, {_XYZ}, plddts[residue] AS plddt FROM ("
        "SELECT structure_id, sequence, residue_plddt(s) AS plddts, unnest(atom_residues(s)) AS residue, "
        "unnest(atom_names(s)) AS atom, unnest(atom_positions(s)) AS position FROM structure(name) AS s)"
    ),
    f"contacts(name, cutoff := {DEFAULT_CUTOFF}, separation := 1)": (
        "SELECT structure_id, residue_a, residue_b, distance(positions[residue_a], positions[residue_b]) AS distance "
        "FROM (SELECT structure_id, positions, residue_a, "
        "unnest(range(residue_a + greatest(separation, 1), len(positions) + 1)) AS residue_b "
        "FROM (SELECT structure_id, c_alphas(s) AS positions, unnest(range(1, length(sequence) + 1)) AS residue_a "
        "FROM structure(name) AS s)) "
        "WHERE distance(positions[residue_a], positions[residue_b]) < cutoff"
    ),
}
