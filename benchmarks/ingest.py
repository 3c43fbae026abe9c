"""MB/s from a plain FASTA file on disk to staging Parquet, checks and digests included, on one core; beside it bare
reading by pyfastx and Biopython, of the same file in the same run. And the peak of memory by the size of the file.

python benchmarks/ingest.py [--mb 200] [--folder DIR] [--times 3] [--out benchmarks/results]

Each figure is of a process of its own, which the system keeps on one core (Linux), with the file in the page cache: so
it is the work that is measured, not the disk. The proteins are made up: lengths of a metagenome (log-normal, median
160), residues with the frequencies of UniProt, Prodigal's headers, lines of 60.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from machine import hardware

SEED: Final = 7
LINE: Final = 60
MEDIAN_LENGTH: Final = 160
SPREAD: Final = 0.75  # of the logarithm of the length
# percent, of UniProtKB/TrEMBL
FREQUENCIES: Final = {
    **{"A": 9.1, "R": 5.8, "N": 3.8, "D": 5.5, "C": 1.3, "Q": 3.8, "E": 6.2, "G": 7.3, "H": 2.2, "I": 5.5},
    **{"L": 9.9, "K": 4.9, "M": 2.4, "F": 3.9, "P": 4.9, "S": 6.7, "T": 5.5, "W": 1.3, "Y": 2.9, "V": 6.9},
}
WAYS: Final = ("ours", "read", "pyfastx", "biopython", "simple")
NAMES: Final = {
    "ours": "foldatlas: read, check, digest, staging Parquet",
    "read": "the file's bytes alone",
    "pyfastx": "pyfastx.Fastx, name and sequence",
    "biopython": "Bio.SeqIO.parse",
    "simple": "Bio.SeqIO.FastaIO.SimpleFastaParser",
}


def write_fasta(path: Path, num_bytes: int) -> int:
    """Writes at least `num_bytes` of proteins and gives their number."""
    generator = random.Random(SEED)
    residues, weights = list(FREQUENCIES), list(FREQUENCIES.values())
    pool = "".join(generator.choices(residues, weights, k=1 << 22))  # sequences are pieces of it: fast to make
    written = number = 0
    with path.open("w", encoding="ascii") as file:
        while written < num_bytes:
            number += 1
            length = min(max(30, round(generator.lognormvariate(0, SPREAD) * MEDIAN_LENGTH)), 5_000)
            start = generator.randrange(len(pool) - length)
            sequence = "M" + pool[start + 1 : start + length] + "*"
            lines = "\n".join(sequence[at : at + LINE] for at in range(0, len(sequence), LINE))
            gene = number % 900 + 1
            header = f">contig_{number // 900}_{gene} # {gene * 1000} # {gene * 1000 + 3 * length} # 1 # "
            header += f"ID={number // 900}_{gene};partial=00;start_type=ATG;rbs_motif=GGAG/GAGG;rbs_spacer=5-10bp"
            written += file.write(f"{header};gc_cont=0.482\n{lines}\n")
    return number


def run_ours(path: Path) -> int:
    from foldatlas.pipeline.planning.ingest import IngestTask, ingest, read_note
    from foldatlas.pipeline.sources.find import cut_ranges, find_sources

    records = 0
    with tempfile.TemporaryDirectory(dir=path.parent) as staging:
        for range_ in cut_ranges(find_sources([str(path)])):
            ingest(IngestTask(range_, staging, 1280))
            note = read_note(Path(staging), range_.number)
            assert note is not None and not note.error
            records += note.counts.records
    return records


def run_read(path: Path) -> int:
    with path.open("rb") as file:
        while file.read(1 << 20):
            pass
    return 0


def run_pyfastx(path: Path) -> int:
    import pyfastx

    return sum(1 for _name, _sequence in pyfastx.Fastx(str(path)))


def run_biopython(path: Path) -> int:
    from Bio import SeqIO

    return sum(1 for _record in SeqIO.parse(path, "fasta"))


def run_simple(path: Path) -> int:
    from Bio.SeqIO.FastaIO import SimpleFastaParser

    with path.open() as file:
        return sum(1 for _record in SimpleFastaParser(file))


def measure(way: str, path: Path) -> dict[str, float]:
    """Seconds of the wall and of the processor, peak memory of the process in MiB, in this process."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if way == "ours":  # imports are not what is measured
        import foldatlas.pipeline.planning.ingest  # noqa: F401
    run_read(path)
    begun, processor = time.perf_counter(), time.process_time()
    records = globals()[f"run_{way}"](path)
    return {
        "seconds": time.perf_counter() - begun,
        "processor_seconds": time.process_time() - processor,
        "records": records,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def in_a_process(way: str, path: Path) -> dict[str, float]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--measure", way, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=200, help="size of the file in MB")
    parser.add_argument("--folder", type=Path, help="where to write it: a local disk")
    parser.add_argument("--times", type=int, default=3, help="runs of each; the best counts")
    parser.add_argument("--out", type=Path, help="folder for ingest.md and ingest.json")
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure[0], Path(arguments.measure[1]))))
        return
    facts = compare(arguments.mb * 10**6, arguments.folder, arguments.times)
    text = table(facts)
    print(text)
    if arguments.out:
        (arguments.out / "ingest.md").write_text(text, encoding="utf-8")
        (arguments.out / "ingest.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def compare(num_bytes: int, folder: Path | None, times: int) -> dict[str, Any]:
    """Runs every way `times` times; the run with the least processor time counts, as others may use the machine."""
    facts: dict[str, Any] = {"date": datetime.now(UTC).date().isoformat(), "hardware": hardware(), "ways": {}}
    with tempfile.TemporaryDirectory(dir=folder) as made:
        path = Path(made) / "proteins.fasta"
        facts["records"] = write_fasta(path, num_bytes)
        facts["bytes"] = size = path.stat().st_size
        facts["load_before"] = os.getloadavg()
        for way in WAYS:
            runs = [in_a_process(way, path) for _ in range(times)]
            assert way == "read" or all(run["records"] == facts["records"] for run in runs)
            best = min(runs, key=lambda run: run["processor_seconds"])
            facts["ways"][way] = {
                "mb_per_second": size / 1e6 / min(run["seconds"] for run in runs),
                "mb_per_processor_second": size / 1e6 / best["processor_seconds"],
                "peak_mib": best["peak_mib"],
            }
        with path.open("r+b") as file:
            file.truncate(size // 8)  # memory must not depend on the size
        facts["peak_mib_of_an_eighth"] = in_a_process("ours", path)["peak_mib"]
    return facts


def table(facts: dict[str, Any]) -> str:
    load = " ".join(f"{number:.1f}" for number in facts["load_before"])
    lines = [
        "# Reading FASTA on one core",
        "",
        f"`benchmarks/ingest.py`, {facts['date']}, {facts['hardware']}; load average before: {load}. "
        f"{facts['bytes'] / 1e6:,.0f} MB, {facts['records']:,} proteins.",
        "",
        "| | MB/s | MB/s of processor time | peak MiB |",
        "|---|---|---|---|",
    ]
    for way, found in facts["ways"].items():
        rates = f"{found['mb_per_second']:,.0f} | {found['mb_per_processor_second']:,.0f}"
        lines.append(f"| {NAMES[way]} | {rates} | {found['peak_mib']:,.0f} |")
    lines += ["", f"Of an eighth of the file ours takes {facts['peak_mib_of_an_eighth']:,.0f} MiB at most."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
