"""Make the training data of `nano`: run MMseqs2, and write the selection of `nano_data.py`.

    python -m foldatlas.folding.training.data.make_nano_data CHAINS.parquet OUT --fasta SOURCE=FILE ... [--without F]

`scripts/nano-data` runs it. The files are described in docs/training.md, "nano's data". Runs with the same version of
MMseqs2 write equal files for any number of threads.
"""

import argparse
import gzip
import hashlib
import json
import os
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from foldatlas.folding.training.data import nano_data
from foldatlas.folding.training.data.nano_data import Chain, Sequence
from foldatlas.folding.training.data.sequence_search import Hit, MMseqs, find_program
from foldatlas.schemas.errors import FoldAtlasError, SourceError

MAX_ROUNDS: Final = 10
LARGEST_EVALUE: Final = 10.0  # compared with the valid split: long chance similarities are excluded too
MAX_FAMILIAR: Final = 20
FAMILIAR_CHAIN_LENGTH: Final = 150  # residues of the longest chain that a familiar sequence resembles

LENGTH_BINS: Final = (100, 150, 250)  # upper limits of the summary's length bins; the last bin has none


def read_chains(path: Path) -> dict[str, list[Chain]]:
    """Return split -> chains sorted by name. Raise SourceError for a file that is not a table of chains."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = ["chain_id", "cluster30", "split", "sequence"]
    try:
        rows = pq.read_table(path, columns=columns).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{path} cannot be read as Parquet with the columns {', '.join(columns)}: {error}") from error
    splits: dict[str, list[Chain]] = {}
    for row in sorted(rows, key=lambda row: str(row["chain_id"])):
        if not all(isinstance(value, str) and value.split() == [value] for value in row.values()):
            raise SourceError(f"{path}: in the row of {row['chain_id']!r} a value is missing or has white space")
        splits.setdefault(row["split"], []).append(Chain(row["chain_id"], row["cluster30"], row["sequence"]))
    for needed in ("train", "valid"):
        if needed not in splits:
            raise SourceError(f"{path} has no chain of the split {needed!r}: its splits are {sorted(splits)}")
    return splits


def read_fasta(path: Path) -> list[tuple[str, str]]:
    """Return the records of a FASTA file, plain or gz."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        return list(nano_data.read_fasta(content.decode("utf-8"), str(path)))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error


def drop_near(
    mmseqs: MMseqs, held_out: Mapping[str, str], sequences: Collection[Sequence]
) -> tuple[list[Sequence], dict[str, str]]:
    """Return the sequences that are not near any of `held_out`, and the reasons of the others: `identity`, `evalue` or
    `both`.

    Every pair is aligned, because the k-mer prefilter missed one homologue in ten. E-values depend on the size of the
    database, so the remaining sequences are searched again until nothing is found.
    """
    remaining, dropped = list(sequences), dict[str, str]()
    for _ in range(MAX_ROUNDS):
        targets = {sequence.name: sequence.residues for sequence in remaining}
        found = nano_data.near(mmseqs.align_all(held_out, targets, LARGEST_EVALUE))
        if not found:
            return remaining, dropped
        dropped |= found
        remaining = [sequence for sequence in remaining if sequence.name not in found]
    raise FoldAtlasError(f"after {MAX_ROUNDS} searches there are still sequences near the valid split: report this")


def find_familiar(
    mmseqs: MMseqs, sequences: Collection[Sequence], found: Collection[list[Chain]], roles: Mapping[str, str]
) -> list[Hit]:
    """Return the best hits of training sequences that resemble short chains of role `trunk`."""
    family_of = {
        chain.name: family[0].name
        for family in found
        for chain in family
        if roles[chain.name] == nano_data.TRUNK and len(chain.residues) <= FAMILIAR_CHAIN_LENGTH
    }
    targets = {chain.name: chain.residues for family in found for chain in family if chain.name in family_of}
    shortest, longest = nano_data.FAMILIAR_LENGTHS
    queries = {
        sequence.name: sequence.residues
        for sequence in sequences
        if sequence.source != nano_data.CHAINS and shortest <= len(sequence.residues) <= longest
    }
    hits = mmseqs.search(queries, targets, nano_data.HOMOLOGOUS)
    return nano_data.familiar(hits, family_of, MAX_FAMILIAR)


def make(
    chains: Path, out: Path, fastas: Collection[tuple[str, Path]], without: Collection[Path], mmseqs: MMseqs
) -> dict[str, Any]:
    """Write the files into the existing folder `out`; return the content of summary.json.

    `fastas`: source and file. `without`: FASTA files whose proteins are excluded from the familiar sequences.
    """
    (out / "summary.json").unlink(missing_ok=True)  # written last: if it exists, the other files are complete
    splits = read_chains(chains)
    records = {nano_data.CHAINS: [(chain.name, chain.residues) for chain in splits["train"]]}
    for source, path in fastas:
        records.setdefault(source, []).extend(read_fasta(path))
    sequences, outcomes = nano_data.collect(records)
    _log(f"{len(sequences)} distinct sequences; aligning all of them with {len(splits['valid'])} valid chains")
    learnable, dropped = drop_near(mmseqs, {chain.name: chain.residues for chain in splits["valid"]}, sequences)
    _log(f"{len(dropped)} excluded; clustering {len(learnable)}")
    clusters = mmseqs.cluster({sequence.name: sequence.residues for sequence in learnable})
    _log(f"{len(set(clusters.values()))} clusters; searching for families of {len(splits['train'])} training chains")
    residues = {chain.name: chain.residues for chain in splits["train"]}
    found = nano_data.families(splits["train"], mmseqs.search(residues, residues, nano_data.SAME_FAMILY))
    roles = nano_data.split_roles(found)
    held = nano_data.hold_out(clusters, roles)
    train = [sequence for sequence in learnable if clusters[sequence.name] not in held]
    valid = [sequence for sequence in learnable if clusters[sequence.name] in held]
    known = {residues for path in without for _, residues in read_fasta(path)}
    familiar = find_familiar(mmseqs, [item for item in train if item.residues not in known], found, roles)

    by_name = {sequence.name: sequence for sequence in learnable}
    files = {
        "language_train.fasta": _fasta(train),
        "language_valid.fasta": _fasta(valid),
        "language_clusters.tsv": _table((name, clusters[name]) for name in sorted(clusters)),
        "fold_split.tsv": _fold_split(splits["train"], roles),
        "familiar_candidates.tsv": _candidates(familiar, by_name),
        "familiar.fasta": _fasta(by_name[hit.query] for hit in familiar),
    }
    for name, text in files.items():
        (out / name).write_text(text, encoding="utf-8")
    summary = {
        "mmseqs": mmseqs.version(),
        "inputs": {path.name: _digest(path.read_bytes()) for path in (chains, *(path for _, path in fastas), *without)},
        "outcomes": {source: _by_outcome(source, count, sequences, dropped) for source, count in outcomes.items()},
        "near_valid": dict(sorted(Counter(dropped.values()).items())),
        "language": {
            name: {"clusters": len({clusters[item.name] for item in part}), "by_source": _by_source(part)}
            for name, part in (("train", train), ("valid", valid))
        },
        "fold": _by_length(splits["train"], roles) | {"families": len(found)},
        "familiar": len(familiar),
        "outputs": {name: _digest(text.encode()) for name, text in files.items()},
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return summary


def _fasta(sequences: Iterable[Sequence]) -> str:
    return "".join(f">{sequence.name} {sequence.source}\n{sequence.residues}\n" for sequence in sequences)


def _table(rows: Iterable[tuple[object, ...]]) -> str:
    return "".join("\t".join(map(str, row)) + "\n" for row in rows)


def _fold_split(chains: Iterable[Chain], roles: Mapping[str, str]) -> str:
    rows = ((chain.name, chain.cluster, len(chain.residues), roles[chain.name]) for chain in chains)
    return _table([("name", "cluster30", "length", "role"), *rows])


def _candidates(hits: Iterable[Hit], by_name: Mapping[str, Sequence]) -> str:
    rows: list[tuple[object, ...]] = [("query", "source", "target", "identity", "query_coverage", "target_coverage")]
    for hit in hits:
        source = by_name[hit.query].source
        rows.append((hit.query, source, hit.target, hit.identity, hit.query_coverage, hit.target_coverage))
    return _table(rows)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _by_outcome(
    source: str, outcomes: Counter[str], sequences: Collection[Sequence], dropped: Mapping[str, str]
) -> dict[str, int]:
    """Return counts of the records of one source by outcome; their sum is `records`."""
    near = sum(sequence.source == source and sequence.name in dropped for sequence in sequences)
    counts = {name: outcomes[name] for name in ("nonstandard", "short", "duplicate")}
    return {"records": outcomes.total(), **counts, "near_valid": near, "learnt_or_held_out": outcomes["kept"] - near}


def _by_source(sequences: Collection[Sequence]) -> dict[str, dict[str, int]]:
    lengths: dict[str, list[int]] = {}
    for sequence in sequences:
        lengths.setdefault(sequence.source, []).append(len(sequence.residues))
    return {source: {"sequences": len(found), "residues": sum(found)} for source, found in sorted(lengths.items())}


def _by_length(chains: Collection[Chain], roles: Mapping[str, str]) -> dict[str, Any]:
    """Return counts of chains and clusters of each role, by chain length."""
    counts: dict[str, Any] = {}
    for role in (nano_data.TRUNK, nano_data.CONFIDENCE):
        part = [chain for chain in chains if roles[chain.name] == role]
        counts[role] = {"chains": len(part), "clusters": len({chain.cluster for chain in part})}
        for shorter, longest in zip((0, *LENGTH_BINS), (*LENGTH_BINS, 10**9), strict=True):
            within = [chain for chain in part if shorter < len(chain.residues) <= longest]
            label = f"{shorter + 1}-{longest}" if longest in LENGTH_BINS else f"over {shorter}"
            counts[role][label] = {"chains": len(within), "clusters": len({chain.cluster for chain in within})}
    return counts


def _log(message: str) -> None:
    print(f"nano-data: {message}", file=sys.stderr)


def _source_and_file(text: str) -> tuple[str, Path]:
    source, separator, path = text.partition("=")
    if not (source and separator and path) or source == nano_data.CHAINS:
        raise argparse.ArgumentTypeError(f"{text!r} is not SOURCE=FILE, with a source other than {nano_data.CHAINS!r}")
    return source, Path(path)


def main(words: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="make_nano_data", description="Make the training data of nano.")
    parser.add_argument("chains", type=Path, metavar="CHAINS.parquet", help="experimental chains with a split")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder; its files are replaced")
    parser.add_argument("--fasta", type=_source_and_file, action="append", default=[], metavar="SOURCE=FILE")
    parser.add_argument("--without", type=Path, action="append", default=[], metavar="FASTA", help="not familiar ones")
    parser.add_argument("--mmseqs", default="mmseqs", metavar="PATH", help="the program MMseqs2")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, metavar="N")
    arguments = parser.parse_args(words)
    start = time.monotonic()
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".nano-data-", dir=arguments.out) as folder:
            mmseqs = MMseqs(find_program(arguments.mmseqs), arguments.threads, Path(folder))
            summary = make(arguments.chains, arguments.out, arguments.fasta, arguments.without, mmseqs)
    except (FoldAtlasError, OSError) as error:
        print(f"nano-data: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, FoldAtlasError) else 1
    print(json.dumps({name: part for name, part in summary.items() if name not in ("inputs", "outputs")}, indent=1))
    _log(f"done in {time.monotonic() - start:.0f} s: {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
