"""Makes the demo reference, atlas/reference/demo, from experimental chains (docs/training.md has their layout).

    python benchmarks/make_demo_reference.py ../shared/data/chains.parquet atlas/reference/demo

Of the chains, those that MMseqs2 finds for examples/familiar.fasta come first, the best hits of each protein; the rest
are the shortest chains of other clusters. Coordinates of the PDB are CC0-1.0. The same input gives the same digest.
"""

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from foldatlas.atlas.reference import mmseqs2
from foldatlas.atlas.reference.build import build_structures
from foldatlas.atlas.reference.chains import Chain, chain_with_outcome
from foldatlas.atlas.reference.folder import ReferenceFolder
from foldatlas.atlas.reference.read import Found, Item, Member, Staged, read_batch
from foldatlas.folding.compare import experimental
from foldatlas.schemas.records import ATOMS

CHAINS = 100
MIN_OTHER, MAX_OTHER = 60, 300  # residues of chains that are no relatives
HITS = 3  # relatives of each protein
MAX_RESIDUES = 20_000  # some 21 bytes a residue
README = """# The demo reference

Experimental chains of the Protein Data Bank (wwPDB, wwpdb.org), whose coordinates are CC0-1.0: C-alphas, sequences,
names (PDB entry and chain) and 3Di states. It is for trying a search out: against so few chains nothing can be called
novel. benchmarks/make_demo_reference.py makes it.
"""
FAMILIAR = Path(__file__).parent.parent / "examples" / "familiar.fasta"


def chain_of(chain: experimental.Chain) -> Chain:
    """Return an experimental chain as one of a reference."""
    places = [
        [ATOMS[letter].index(name) if name in ATOMS[letter] else -1 for letter in chain.sequence]
        for name in ("N", "CA", "C", "CB")
    ]
    rows = np.arange(len(chain.sequence))
    backbone = np.stack([chain.positions_LA3[rows, place] for place in places])
    seen = np.stack([chain.observed_LA[rows, place] & (np.array(place) >= 0) for place in places])
    backbone[~seen] = np.nan
    return chain_with_outcome(chain.name.rpartition(":")[2], chain.name, "", chain.sequence, backbone, 0)


def relatives(chains: list[experimental.Chain]) -> list[str]:
    """Return the names of chains that MMseqs2 finds for familiar.fasta, the best of each protein."""
    with tempfile.TemporaryDirectory() as folder:
        fasta, found = Path(folder, "chains.fasta"), Path(folder, "hits.tsv")
        fasta.write_text("".join(f">{row}\n{chain.sequence}\n" for row, chain in enumerate(chains)))
        command = [mmseqs2.program(), "easy-search", FAMILIAR, fasta, found, Path(folder, "work"), "-v", "1"]
        subprocess.run([*map(str, command), "-s", "7.5", "--format-output", "query,target"], check=True)
        hits: dict[str, list[int]] = {}
        for line in found.read_text().splitlines():
            query, target = line.split("\t")
            hits.setdefault(query, []).append(int(target))
    print(f"{len(hits)} proteins of {FAMILIAR.name} have relatives")
    return [chains[row].name for rows in hits.values() for row in rows[:HITS]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chains", type=Path)
    parser.add_argument("demo", type=Path)
    arguments = parser.parse_args()
    chains = experimental.read_chains(arguments.chains)
    by_name = {chain.name: chain for chain in chains}
    chosen = dict.fromkeys(relatives(chains))
    clusters = {by_name[name].cluster for name in chosen}
    total = sum(len(by_name[name].sequence) for name in chosen)
    for chain in sorted(chains, key=lambda chain: (len(chain.sequence), chain.name)):
        length = len(chain.sequence)
        if len(chosen) >= CHAINS or total + length > MAX_RESIDUES:
            break
        if MIN_OTHER <= length <= MAX_OTHER and chain.split != "broken" and chain.cluster not in clusters:
            chosen[chain.name] = None
            clusters.add(chain.cluster)
            total += length
    shutil.rmtree(arguments.demo, ignore_errors=True)
    folder = ReferenceFolder(arguments.demo)
    with folder.locked():
        staged = Staged.opened(folder.staging, "CC0-1.0")
        content = [chain_of(by_name[name]) for name in sorted(chosen)]
        item = Item(Found("chains.parquet", "", -1, 0), (Member("", content),))
        staged.add(*read_batch([item], lambda found: [], "CC0-1.0"), True)
        document = build_structures(folder, staged, ["chains.parquet"], demo=True)
        staged.discard()
    (arguments.demo / ".lock").unlink()
    (arguments.demo / "README.md").write_text(README, encoding="utf-8")
    size = sum(path.stat().st_size for path in arguments.demo.rglob("*") if path.is_file())
    print(f"{document.entries if document else 0} chains, {total:,} residues, {size:,} bytes")


if __name__ == "__main__":
    main()
