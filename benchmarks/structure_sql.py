"""Structures in SQL on one core: C-alphas of 2,000 structures, a contact map of 250 residues, and a look-up by id.

python benchmarks/structure_sql.py [--python OTHER_PYTHON] [--note "machine shared with ..."]

Structures are random walks of 250 residues: 2,000 in 8 files, and a short one in each of 1,992 small files. DuckDB has
one thread. Beside it, numpy does the same on the same files, read by pyarrow. `--python` is the interpreter of an
environment with another DuckDB, which runs the macros on the same index.
"""

import argparse
import datetime
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).with_name("results")
STRUCTURES: Final = 2_000
LENGTH: Final = 250
FILES: Final = 2_000
BIG_FILES: Final = 8
REPEATS: Final = 5
LIMITS: Final = {"C-alphas of 2,000 structures": 2.0, "contact map of 250 residues": 0.02}  # seconds, one core

QUESTIONS: Final = {
    "C-alphas of 2,000 structures": "SELECT sum(len(c_alphas(s))) FROM structures AS s WHERE length(sequence) = 250",
    "contact map of 250 residues": "SELECT contact_map(c_alphas(s)) FROM (SELECT * FROM one) AS s",
    "radius of gyration of 2,000": (
        "SELECT sum(radius_of_gyration(c_alphas(s))) FROM structures AS s WHERE length(sequence) = 250"
    ),
    "structure by id, among 2,000 files": "SELECT len(x) FROM structure('id77')",
    "PDB text of a structure": "SELECT pdb_text(s) FROM (SELECT * FROM one) AS s",
}


def seconds(call: Callable[[], Any]) -> float:
    """Return the median processor time of REPEATS, after a first call: other processes of the machine do not count."""
    times = []
    for _ in range(REPEATS + 1):
        begin = time.process_time()
        call()
        times.append(time.process_time() - begin)
    return statistics.median(times[1:])


def measure(index: str, folder: str) -> dict[str, Any]:
    """Return seconds of each of QUESTIONS in this interpreter's DuckDB, which need not have this program."""
    import duckdb

    connection = duckdb.connect(index, read_only=True, config={"threads": 1})
    connection.execute("SET VARIABLE atlas = files_at(?)", [folder])
    connection.execute("CREATE TEMP TABLE one AS FROM structure('id77')")
    taken = {name: seconds(lambda sql=sql: connection.execute(sql).fetchall()) for name, sql in QUESTIONS.items()}
    return {"duckdb": duckdb.__version__, "seconds": taken}


def make(folder: Path) -> Path:
    """Write the files and an index with the tables that the macros use."""
    import duckdb
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from foldatlas.atlas.macros.install import create_structure_sql
    from foldatlas.atlas.parquet.coordinates import encode_structures
    from foldatlas.schemas.records import STANDARD_RESIDUES, num_atoms, structure_id
    from foldatlas.schemas.tables import STRUCTURES_PER_ROW_GROUP, write_options

    generator = np.random.default_rng(16)
    (folder / "structures").mkdir()

    def write(name: str, number: int, length: int) -> list[bytes]:
        sequences = ["".join(generator.choice(list(STANDARD_RESIDUES), length)) for _ in range(number)]
        ids = [structure_id(sequence) for sequence in sequences]
        positions = [
            np.repeat(np.cumsum(generator.normal(0, 2.2, (length, 3)), axis=0), list(map(num_atoms, sequence)), axis=0)
            for sequence in sequences
        ]
        plddt = list(generator.uniform(30, 100, (number, length)))
        table = encode_structures(ids, sequences, positions, plddt)  # type: ignore[arg-type]
        options = write_options("structures")
        pq.write_table(table, folder / name, row_group_size=STRUCTURES_PER_ROW_GROUP, **options)
        return ids

    sizes = [(STRUCTURES // BIG_FILES, LENGTH)] * BIG_FILES + [(1, 20)] * (FILES - BIG_FILES)
    rows = []
    for number, (structures, length) in enumerate(sizes):
        name = f"structures/{number:05}.parquet"
        rows += [(identity, name) for identity in write(name, structures, length)]
    with duckdb.connect(str(folder / "atlas.duckdb"), config={"storage_compatibility_version": "v1.4.0"}) as connection:
        given = pa.table(
            {
                "structure_id": pa.ExtensionArray.from_storage(
                    pa.uuid(), pa.array([r[0] for r in rows], pa.binary(16))
                ),
                "structure_file": [r[1] for r in rows],
                "id": [f"id{number}" for number in range(len(rows))],
            }
        )
        connection.register("given", given)
        connection.execute(
            "CREATE TABLE scores AS SELECT structure_id, structure_file FROM given ORDER BY structure_id"
        )
        connection.execute(
            "CREATE TABLE records AS SELECT id, structure_id, 'folded' AS state, false AS superseded FROM given "
            "ORDER BY id"
        )
        connection.execute(
            "CREATE TABLE files AS SELECT DISTINCT 'structures' AS table_name, structure_file AS path FROM given"
        )
        connection.execute("CREATE TABLE copies (structure_id UUID, path VARCHAR)")
        create_structure_sql(connection, folder)
    return folder / "atlas.duckdb"


def numpy_seconds(folder: Path) -> dict[str, float]:
    """The same by pyarrow and numpy, on one thread."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from foldatlas.atlas.parquet.coordinates import StoredStructure, atoms_per_residue, decode_structures

    pa.set_cpu_count(1)
    files = [folder / f"structures/{number:05}.parquet" for number in range(BIG_FILES)]

    def alphas(structure: StoredStructure) -> Any:
        starts = np.cumsum([0, *atoms_per_residue([structure.sequence])[:-1]])
        return structure.positions[starts + 1]

    def all_alphas() -> int:
        tables = (pq.read_table(file, use_threads=False) for file in files)
        return sum(len(alphas(structure)) for table in tables for structure in decode_structures(table))

    one = decode_structures(pq.read_table(files[0], use_threads=False))[77]

    def contacts() -> Any:
        points = alphas(one)
        return np.linalg.norm(points[:, None] - points[None], axis=-1) < 8

    names = list(QUESTIONS)
    return {names[0]: seconds(all_alphas), names[1]: seconds(contacts)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", default=[], help="interpreter with another DuckDB")
    parser.add_argument("--note", default="")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
        return
    from machine import hardware

    with tempfile.TemporaryDirectory() as name:
        index = make(Path(name))
        found = []
        for python in [sys.executable, *arguments.python]:
            command = [python, __file__, "--measure", str(index), name]
            found.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        by_numpy = numpy_seconds(Path(name))
    lines = [
        "# Structures in SQL",
        "",
        f"{datetime.date.today()}, {hardware()}, one thread. {arguments.note}".strip(),
        f"Median processor times of {REPEATS} runs after a first one, in milliseconds, from Parquet files; contact map",
        "and PDB text are of a row in memory.",
        "",
        "| | " + " | ".join(f"DuckDB {one['duckdb']}" for one in found) + " | numpy | limit |",
        "|---|" + "---|" * (len(found) + 2),
    ]
    for question in QUESTIONS:
        cells = [f"{one['seconds'][question] * 1000:,.1f}" for one in found]
        numpy_cell = f"{by_numpy[question] * 1000:,.1f}" if question in by_numpy else ""
        limit = f"{LIMITS[question] * 1000:,.0f}" if question in LIMITS else ""
        lines.append(f"| {question} | {' | '.join(cells)} | {numpy_cell} | {limit} |")
    for question in by_numpy:
        print(f"{question}: {found[0]['seconds'][question] / by_numpy[question]:.1f} times numpy's time")
    (RESULTS / "structure_sql.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
