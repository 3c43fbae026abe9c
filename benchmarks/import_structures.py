"""Import of PDB and mmCIF files of 300 residues: a whole import, and reading beside gemmi's and Biopython's parsers.

python benchmarks/import_structures.py --files 400
python benchmarks/import_structures.py --files 400 --note "machine shared with other work"

Files are made up: chains of 300 residues with all heavy atoms and pLDDT, written by the project's own writers. Figures
are of processor time of this process and its children, in structures a second of one core. "import" is the whole
command, less what an import of one file takes; "read" what becomes of one file in it, from its bytes to its row and
its structure. gemmi and Biopython parse the same bytes, without anything else.
"""

import argparse
import datetime
import io
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import gemmi
import numpy as np
from Bio.PDB import MMCIFParser, PDBParser
from machine import add_output, hardware, write_results

from foldatlas.atlas.parquet.coordinates import StoredStructure
from foldatlas.atlas.reference.read import Member
from foldatlas.atlas.writers.cif_files import cif_text
from foldatlas.atlas.writers.pdb_files import pdb_text
from foldatlas.jobs.import_ import import_structures
from foldatlas.pipeline.importing.options import ImportOptions
from foldatlas.pipeline.importing.rows import file_row
from foldatlas.schemas.records import STANDARD_RESIDUES, num_atoms, structure_id

RESIDUES: Final = 300
WANTED: Final = 20  # structures a second a core


def texts(count: int, text: Callable[..., str]) -> list[bytes]:
    rng = np.random.default_rng(1)
    found = []
    for number in range(count):
        sequence = "".join(rng.choice(list(STANDARD_RESIDUES), RESIDUES))
        atoms = num_atoms(sequence)
        positions = np.cumsum(rng.normal(0, 0.8, (atoms, 3)), axis=0).astype(np.float32)
        plddt = rng.uniform(30, 98, RESIDUES).astype(np.float32)
        stored = StoredStructure(structure_id(sequence), sequence, positions, plddt)
        mean = float(plddt.mean())
        found.append(text(stored, name=f"p{number}", model="made", mean_plddt=mean, ptm=0.5).encode())
    return found


def processor_time() -> float:
    """Processor time of this process and of its children that have ended, in seconds."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def rate(contents: list[bytes], work: Callable[[bytes], object]) -> float:
    """Return items a second of processor time."""
    work(contents[0])
    started = time.process_time()
    for content in contents:
        work(content)
    return len(contents) / (time.process_time() - started)


def whole_import(contents: list[bytes], ending: str) -> float:
    """Return structures a second of a whole import, less that of one file."""
    seconds = []
    for some in (contents[:1], contents[:1], contents):  # the first one imports modules
        with tempfile.TemporaryDirectory() as folder:
            files = Path(folder, "files")
            files.mkdir()
            for number, content in enumerate(some):
                (files / f"p{number}{ending}").write_bytes(content)
            before = processor_time()
            import_structures([str(files)], Path(folder, "atlas"))
            seconds.append(processor_time() - before)
    return (len(contents) - 1) / (seconds[2] - seconds[1])


def parsers(ending: str) -> dict[str, Callable[[bytes], object]]:
    options = ImportOptions()

    def ours(content: bytes) -> object:
        row, structure = file_row(0, f"x{ending}", Member(f"x{ending}", content), options)
        assert structure is not None, row
        return row

    def with_gemmi(content: bytes) -> Any:
        text = content.decode()
        if ending == ".pdb":
            return gemmi.read_pdb_string(text)
        return gemmi.make_structure_from_block(gemmi.cif.read_string(text).sole_block())

    def with_biopython(content: bytes) -> object:
        parser = (PDBParser if ending == ".pdb" else MMCIFParser)(QUIET=True)
        return parser.get_structure("x", io.StringIO(content.decode()))

    return {"read": ours, "gemmi, parsing alone": with_gemmi, "Biopython, parsing alone": with_biopython}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--note", default="")
    add_output(parser)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    figures: dict[str, dict[str, float]] = {}
    for ending, text in ((".pdb", pdb_text), (".cif", cif_text)):
        contents = texts(arguments.files, text)
        found = {"import": whole_import(contents, ending)}
        found |= {name: rate(contents[:100], work) for name, work in parsers(ending).items()}
        figures[ending] = found
        print(ending, {name: round(value, 1) for name, value in found.items()}, flush=True)
    ratios = [f"{one['import'] / one['Biopython, parsing alone']:.1f} ({ending})" for ending, one in figures.items()]
    lines = [
        "# Import of structures of 300 residues",
        "",
        f"{datetime.date.today()}, {hardware()}, {arguments.files} files of each format. Structures a second of "
        f"processor time of one core; at least {WANTED} are wanted. {arguments.note}".rstrip(),
        "",
        "| | PDB | mmCIF |",
        "|---|---|---|",
        *(f"| {name} | {figures['.pdb'][name]:,.0f} | {figures['.cif'][name]:,.0f} |" for name in figures[".pdb"]),
        "",
        f"import / Biopython's parser: {', '.join(ratios)}",
    ]
    write_results(arguments.output, "import_structures", figures, lines)


if __name__ == "__main__":
    main()
