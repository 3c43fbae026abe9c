"""Structures in SQL: each macro beside numpy, in this DuckDB, and (long) in DuckDB 1.4 and in its command line."""

import json
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import gemmi
import numpy as np
import pyarrow as pa
import pytest

from foldatlas.atlas.macros.install import create_structure_sql
from foldatlas.atlas.parquet.coordinates import StoredStructure, decode_structures, encode_structures
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.writers.pdb_files import pdb_text
from foldatlas.folding.compare.shape import radius_of_gyration
from foldatlas.folding.compare.superposition import rmsd
from foldatlas.schemas.errors import QueryError
from foldatlas.schemas.records import ATOMS, RESIDUES, UNKNOWN_RESIDUES, num_atoms, structure_id
from foldatlas.schemas.sql_functions import MACROS, SCALAR_MACROS

FEW, MANY = 25, 200
FIRST, LAST, THRESHOLD, CUTOFF = 2, 40, 60.0, 9.5

# One column for each macro: what the command line and other versions compute too. `s` is a row of `structures`.
COLUMNS = {
    "residue_plddt": "residue_plddt(s)",
    "residues_below": f"residues_below(s, {THRESHOLD})",
    "c_alphas": "c_alphas(s)",
    "atom_positions": "atom_positions(s)",
    "atom_names": "atom_names(s)",
    "atom_residues": "atom_residues(s)",
    "atom_position": "[atom_position(s, r, a) for r in [0, 1, length(s.sequence), 9999] for a in ['CA', 'CB']]",
    "structure_slice": f"structure_slice(s, {FIRST}, {LAST})",
    "distance": "distance(c_alphas(s)[1], atom_positions(s)[1])",
    "contact_map": f"contact_map(c_alphas(s), cutoff := {CUTOFF})",
    "radius_of_gyration": "radius_of_gyration(c_alphas(s))",
    "end_to_end": "end_to_end(c_alphas(s))",
    "pdb_text": "pdb_text(s)",
    "pdb_slice": f"pdb_text(structure_slice(s, {FIRST}, {LAST}), first := {FIRST})",
}
COLUMNS["atom_position"] = (
    "[atom_position(s, 0, 'CA'), atom_position(s, 1, 'CA'), atom_position(s, length(s.sequence), 'CB'), "
    "atom_position(s, length(s.sequence) + 1, 'N'), atom_position(s, 1, 'no such atom')]"
)


def made_structures(number: int) -> list[StoredStructure]:
    """Random walks of 1 to 300 residues of all letters; in every third one some atoms and pLDDT are missing."""
    generator = np.random.default_rng(16)
    made = []
    for index in range(number):
        length = (1, 2, 3, 300)[index] if index < 4 else int(generator.integers(4, 120))
        sequence = "".join(generator.choice(sorted(RESIDUES), length))
        counts = [num_atoms(letter) for letter in sequence]
        walk = np.cumsum(generator.normal(0, 2.2, (length, 3)), axis=0)
        positions = np.repeat(walk, counts, axis=0) + generator.normal(0, 1, (sum(counts), 3))
        plddt = generator.uniform(0, 100, length)
        if index % 3 == 2:
            positions[generator.random(sum(counts)) < 0.1] = np.nan
            plddt[generator.random(length) < 0.1] = np.nan
        made.append(
            StoredStructure(structure_id(sequence), sequence, positions.astype(np.float32), plddt.astype(np.float32))
        )
    stored = encode_structures(
        [s.structure_id for s in made], [s.sequence for s in made], [s.positions for s in made], [s.plddt for s in made]
    )
    return decode_structures(stored)


def reference(structure: StoredStructure) -> dict[str, Any]:
    """What each of COLUMNS should be, by numpy and loops over atoms; NaN for a missing value."""
    atoms = [(r, letter, name) for r, letter in enumerate(structure.sequence, 1) for name in ATOMS[letter]]
    at = {(r, name): p for (r, _, name), p in zip(atoms, structure.positions.astype(float), strict=True)}
    alphas = np.array([at[r, "CA"] for r in range(1, len(structure.sequence) + 1)])
    present = alphas[np.isfinite(alphas).all(axis=1)]
    length = len(structure.sequence)
    inside = [FIRST <= r <= LAST for r, _, _ in atoms]
    nothing = np.full(3, np.nan)
    part = StoredStructure(
        b"", structure.sequence[FIRST - 1 : LAST], structure.positions[inside], structure.plddt[FIRST - 1 : LAST]
    )
    return {
        "residue_plddt": structure.plddt,
        "residues_below": [r for r, value in enumerate(structure.plddt, 1) if value < THRESHOLD],
        "c_alphas": alphas,
        "atom_positions": structure.positions,
        "atom_names": [name for _, _, name in atoms],
        "atom_residues": [r for r, _, _ in atoms],
        "atom_position": [nothing, at[1, "CA"], at.get((length, "CB"), nothing), nothing, nothing],
        "structure_slice": part,
        "distance": float(np.linalg.norm(alphas[0] - structure.positions[0])),
        "contact_map": np.linalg.norm(alphas[:, None] - alphas[None], axis=-1),
        "radius_of_gyration": radius_of_gyration(present) if len(present) else np.nan,
        "end_to_end": float(np.linalg.norm(alphas[0] - alphas[-1])),
        "pdb_text": records_of(structure, 1),
        "pdb_slice": records_of(part, FIRST) if part.sequence else None,
    }


def records_of(structure: StoredStructure, first: int) -> list[str]:
    """ATOM, TER and END records as the exporter writes them, with residues numbered from `first`."""
    text = pdb_text(structure, name="x", model="x", mean_plddt=0, ptm=0)
    lines = [line for line in text.splitlines() if line.startswith(("ATOM", "TER", "END "))]
    return [
        line[:22] + f"{int(line[22:26]) + first - 1:4d}" + line[26:] if line[22:26].strip() else line for line in lines
    ]


def check(structure: StoredStructure, row: dict[str, Any]) -> None:
    """Compare the columns of COLUMNS for one structure with `reference`, whose coordinates are float32: to 1e-4 A."""
    expected = reference(structure)
    assert row.keys() == COLUMNS.keys() == expected.keys()
    for name in ("residue_plddt", "distance", "radius_of_gyration", "end_to_end"):
        value = np.array(row[name], dtype=float)
        np.testing.assert_allclose(value, np.array(expected[name], float), atol=1e-4, err_msg=name)
    for name in ("residues_below", "atom_names", "atom_residues"):
        assert list(row[name]) == list(expected[name]), name
    for name in ("c_alphas", "atom_positions", "atom_position"):
        points = [[np.nan] * 3 if p is None else p for p in row[name]]
        whole = np.array(expected[name], float)
        whole[~np.isfinite(whole).all(axis=1)] = np.nan
        np.testing.assert_allclose(np.array(points, float), whole, atol=1e-4, err_msg=name)
    far = expected["contact_map"]
    for line, distances in zip(row["contact_map"], far, strict=True):
        assert [bool(c) if c is not None else None for c in line] == [
            None if np.isnan(d) else bool(d < CUTOFF) for d in distances if abs(d - CUTOFF) > 1e-4 or True
        ]
    part, sliced = expected["structure_slice"], row["structure_slice"]
    assert sliced["sequence"] == part.sequence
    for axis, letter in enumerate("xyz"):
        stored = [np.nan if v is None else v / 100 for v in sliced[letter]]
        np.testing.assert_allclose(stored, part.positions[:, axis], atol=1e-4)
    np.testing.assert_allclose([np.nan if v is None else v / 100 for v in sliced["plddt"]], part.plddt, atol=1e-4)
    for name in ("pdb_text", "pdb_slice"):
        if expected[name] is not None:
            lines = row[name].splitlines()
            assert [line for line in lines if not line.startswith(("EXPDTA", "REMARK"))] == expected[name], name
            assert {len(line) for line in lines} == {80} and row[name].endswith("\n")


def macro_database(path: Path, structures: list[StoredStructure]) -> None:
    """A database with the macros of an index, and the structures as a table, as a view of Parquet gives them."""
    table = encode_structures(
        [s.structure_id for s in structures],
        [s.sequence for s in structures],
        [s.positions for s in structures],
        [s.plddt for s in structures],
    )
    with duckdb.connect(str(path), config={"storage_compatibility_version": "v1.4.0"}) as connection:
        connection.execute("CREATE TABLE files (table_name VARCHAR, path VARCHAR)")
        connection.execute("CREATE TABLE copies (structure_id UUID, path VARCHAR)")
        connection.execute("CREATE TABLE scores (structure_id UUID, structure_file VARCHAR)")
        connection.execute("CREATE TABLE records (structure_id UUID, id VARCHAR, state VARCHAR, superseded BOOLEAN)")
        create_structure_sql(connection, path.parent)
        connection.register("given", table.append_column("number", pa.array(range(len(structures)), pa.int64())))
        connection.execute("CREATE TABLE made AS FROM given ORDER BY number")


SQL = f"SELECT {', '.join(f'{sql} AS {name}' for name, sql in COLUMNS.items())} FROM made AS s ORDER BY number"


def test_every_scalar_macro_is_compared() -> None:
    assert {macro.name for macro in SCALAR_MACROS} - {"files_at"} == COLUMNS.keys() - {"pdb_slice"}


@pytest.mark.parametrize("number", [FEW, pytest.param(MANY, marks=pytest.mark.long)])
def test_macros_equal_numpy(tmp_path: Path, number: int) -> None:
    structures = made_structures(number)
    assert set("".join(s.sequence for s in structures)) >= set(UNKNOWN_RESIDUES)
    macro_database(tmp_path / "made.duckdb", structures)
    with duckdb.connect(str(tmp_path / "made.duckdb"), read_only=True) as connection:
        rows = connection.sql(SQL).to_arrow_table().to_pylist()
    for structure, row in zip(structures, rows, strict=True):
        check(structure, row)


@pytest.fixture(scope="session")
def other_duckdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with DuckDB 1.4 and the command line of PyPI's duckdb-cli; skips without them."""
    folder = tmp_path_factory.mktemp("duckdb") / "env"
    venv.create(folder, with_pip=True)
    installed = subprocess.run(
        [folder / "bin" / "pip", "install", "-q", "duckdb==1.4.*", "duckdb-cli", "pyarrow", "pytz"],
        capture_output=True,
        text=True,
    )
    if installed.returncode:
        pytest.skip(f"duckdb 1.4 and duckdb-cli cannot be installed: {installed.stderr.strip().splitlines()[-1:]}")
    return folder / "bin"


PROGRAM = """
import duckdb, sys
with duckdb.connect(sys.argv[1], read_only=True) as connection:
    assert duckdb.__version__.startswith("1.4"), duckdb.__version__
    connection.execute("SET enable_progress_bar = false")  # drawn on standard output after two seconds
    for statement in sys.argv[2:-1]:
        connection.execute(statement)
    print(connection.sql("SELECT to_json(r) FROM (" + sys.argv[-1] + ") AS r").fetchall().__len__())
    for (row,) in connection.sql("SELECT to_json(r) FROM (" + sys.argv[-1] + ") AS r").fetchall():
        print(row)
"""


def in_duckdb_1_4(programs: Path, database: Path, *statements: str) -> list[dict[str, Any]]:
    """Rows of the last of `statements` in DuckDB 1.4 for Python."""
    command = [programs / "python", "-c", PROGRAM, database, *statements]
    output = subprocess.run(command, capture_output=True, text=True)
    assert output.returncode == 0, output.stderr
    return [json.loads(line) for line in output.stdout.splitlines()[1:]]


def in_command_line(programs: Path, database: Path, *statements: str) -> list[dict[str, Any]]:
    """Rows of the last of `statements` in DuckDB's command line."""
    command = [programs / "duckdb", "-readonly", "-json", "-bail", database, "; ".join(statements)]
    output = subprocess.run(command, capture_output=True, text=True)
    assert output.returncode == 0, output.stderr
    rows: list[dict[str, Any]] = json.loads(output.stdout or "[]")
    return rows


@pytest.mark.long
@pytest.mark.parametrize("run", [in_duckdb_1_4, in_command_line])
def test_macros_in_other_duckdbs(other_duckdb: Path, tmp_path: Path, run: Callable[..., list[dict[str, Any]]]) -> None:
    structures = made_structures(MANY)
    macro_database(tmp_path / "made.duckdb", structures)
    if run is in_command_line:  # its JSON has numbers of few digits for nested values otherwise
        wrapped = f"SELECT to_json(r)::VARCHAR AS row FROM ({SQL}) AS r"
        rows = [json.loads(row["row"]) for row in run(other_duckdb, tmp_path / "made.duckdb", wrapped)]
    else:
        rows = run(other_duckdb, tmp_path / "made.duckdb", SQL)
    for structure, row in zip(structures, rows, strict=True):
        check(structure, row)


@pytest.fixture
def atlas(indexed) -> Iterator[Atlas]:
    with Atlas.open(indexed.root) as opened:
        yield opened


def plain(indexed) -> Any:
    """The index, read by a DuckDB that has nothing of this program, after the documented prologue."""
    connection = duckdb.connect()
    connection.execute(f"ATTACH '{indexed.root / 'atlas.duckdb'}' AS atlas (READ_ONLY)")
    connection.execute("USE atlas")
    return connection


def test_prologue_is_one_statement(indexed) -> None:
    with plain(indexed) as connection:
        with pytest.raises(duckdb.Error, match=r"the variable atlas is not set: run SET VARIABLE atlas = files_at\('"):
            connection.execute("FROM structures").fetchall()
        connection.execute("SET VARIABLE atlas = files_at(?)", [str(indexed.root)])
        [(number,)] = connection.execute("SELECT count(*) FROM structures").fetchall()
        assert number == len(indexed.sequences)
        [(number,)] = connection.execute("SELECT count(*) FROM embeddings").fetchall()
        assert number > 0


def test_leftover_files_are_not_read(indexed, tmp_path: Path) -> None:
    """Files that no manifest lists, as an interrupted worker leaves them, are not rows."""
    import shutil

    shutil.copytree(indexed.root, tmp_path / "atlas")
    first = next((tmp_path / "atlas" / "structures").iterdir())
    shutil.copy(first, first.with_name("leftover.parquet"))
    with Atlas.open(tmp_path / "atlas") as opened:
        assert opened.sql("SELECT count(*) FROM structures").rows() == [(len(indexed.sequences),)]


def test_table_macros_of_a_record(indexed, atlas: Atlas) -> None:
    stored = atlas.structure("a20")
    starts = np.cumsum([0, *(num_atoms(letter) for letter in stored.sequence)])[:-1]
    alphas = stored.positions[starts + 1]
    rows = atlas.sql("SELECT * FROM residues($id)", {"id": "a20"}).rows()
    assert [row[1:3] for row in rows] == list(enumerate(stored.sequence, 1))
    np.testing.assert_allclose([row[3] for row in rows], stored.plddt, atol=1e-4)
    np.testing.assert_allclose([row[4:] for row in rows], alphas, atol=1e-4)
    rows = atlas.sql("SELECT * FROM atoms('a20')").rows()
    np.testing.assert_allclose([row[4:7] for row in rows], stored.positions, atol=1e-4)
    assert [row[3] for row in rows] == [name for letter in stored.sequence for name in ATOMS[letter]]
    far = np.linalg.norm(alphas[:, None] - alphas[None], axis=-1)
    expected = {(i + 1, j + 1) for i, j in np.argwhere(far < 12) if j >= i + 3}
    rows = atlas.sql("SELECT * FROM contacts('a20', cutoff := 12, separation := 3)").rows()
    assert {row[1:3] for row in rows} == expected and len(rows) == len(expected) > 0
    np.testing.assert_allclose([row[3] for row in rows], [far[a - 1, b - 1] for _, a, b, _ in rows], atol=1e-4)


def test_structure_by_any_name_and_without_one(built, atlas: Atlas) -> None:
    identity = atlas.structure("a20").structure_id
    by_id = atlas.sql("SELECT structure_id FROM structure('a20')").rows()
    assert by_id == atlas.sql("SELECT structure_id FROM structure($1)", [str(by_id[0][0])]).rows()
    assert by_id[0][0].bytes == identity
    assert len(atlas.sql("FROM structure('a0')").rows()) == 2  # two records of different sequences have this id
    assert atlas.sql("FROM structure('nothing')").rows() == []


def test_stored_score_equals_the_macro(atlas: Atlas) -> None:
    rows = atlas.sql(
        "SELECT scores.radius_of_gyration, radius_of_gyration(c_alphas(structures)) "
        "FROM structures JOIN scores USING (structure_id)"
    ).rows()
    stored, computed = np.array(rows).T
    np.testing.assert_allclose(computed, stored, rtol=1e-5)


def test_pdb_text_is_read_by_gemmi_and_has_limits(atlas: Atlas) -> None:
    [(text,)] = atlas.sql("SELECT pdb_text(s) FROM structure('a20') AS s").rows()
    chain = gemmi.read_pdb_string(text)[0]["A"]
    stored = atlas.structure("a20")
    assert gemmi.one_letter_code([residue.name for residue in chain]) == stored.sequence
    np.testing.assert_allclose([a.pos.tolist() for r in chain for a in r], stored.positions, atol=1e-3)
    np.testing.assert_allclose([r["CA"][0].b_iso for r in chain], stored.plddt, atol=1e-2)
    with pytest.raises(QueryError, match="residue numbers from -999 to 9,999"):
        atlas.sql("SELECT pdb_text(s, first := 9999) FROM structure('a20') AS s").rows()
    wide = "struct_pack(sequence := 'G', x := [1, 2, 3, 1000000], y := [1,2,3,4], z := [1,2,3,4], plddt := [1])"
    with pytest.raises(QueryError, match="a coordinate does not fit"):
        atlas.sql(f"SELECT pdb_text({wide})").rows()


def test_functions_of_the_program(atlas: Atlas) -> None:
    from foldatlas.atlas.macros.functions import _backbone
    from foldatlas.folding.compare.tm_align import tm_align

    [(aligned, score, itself)] = atlas.sql(
        "SELECT tm_align(a, b), tm_score(a, b), tm_score(a, a) FROM structure('a20') AS a, structure('a21') AS b"
    ).rows()
    first, second = (atlas.structure(name) for name in ("a20", "a21"))
    a, b = (
        _backbone(s.sequence, *(np.rint(s.positions.T.astype(float) * 100).astype(int).tolist()))
        for s in (first, second)
    )
    expected = tm_align(a.c_alphas, a.states, b.c_alphas, b.states)
    assert score == aligned["tm_query"] == pytest.approx(expected.tm_query_P[0])
    assert aligned["tm_target"] == pytest.approx(expected.tm_target_P[0])
    assert itself == pytest.approx(1, abs=1e-6)
    [(distance, none)] = atlas.sql(
        "SELECT superposed_rmsd(c_alphas(structure_slice(a, 1, 10)), c_alphas(structure_slice(b, 1, 10))), "
        "superposed_rmsd(NULL, c_alphas(a)) FROM structure('a20') AS a, structure('a21') AS b"
    ).rows()
    assert distance == pytest.approx(rmsd(a.c_alphas[:10], b.c_alphas[:10]), abs=1e-6) and none is None
    with pytest.raises(QueryError, match="compares paired positions, and these are 1 and 2"):
        atlas.sql("SELECT superposed_rmsd([[0,0,0]], [[0,0,0],[1,1,1]])").rows()
    [(text,)] = atlas.sql("SELECT mmcif(s, 'an \"id\"', 0.5) FROM structure('a20') AS s").rows()
    model = gemmi.make_structure_from_block(gemmi.cif.read_string(text).sole_block())[0]
    np.testing.assert_allclose([a.pos.tolist() for r in model[0] for a in r], first.positions, atol=1e-3)


def test_macros_have_comments_in_the_index(indexed) -> None:
    with plain(indexed) as connection:
        found = dict(
            connection.execute(
                "SELECT function_name, comment FROM duckdb_functions() WHERE database_name = 'atlas'"
            ).fetchall()
        )
    assert {macro.name: macro.comment for macro in MACROS}.items() <= found.items()
    sys.stdout.flush()
