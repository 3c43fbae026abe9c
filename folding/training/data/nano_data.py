"""What `nano` learns from: which sequences are taken, which are held out, and which are left out.

Everything here is a function of its arguments: the searches (MMseqs2, Steinegger and Soeding 2017) are run by
`sequence_search.py`, and their hits come in as values. Nothing is drawn at random: where a choice is needed, names are
ordered by their SHA-256, so that the same input gives the same split on every machine.
"""

import hashlib
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from foldatlas.folding.training.data.sequence_search import Hit
from foldatlas.schemas.errors import SourceError
from foldatlas.schemas.records import STANDARD_RESIDUES

SHORTEST: Final = 30  # residues
CHAINS: Final = "chains"  # the source of a structure's own sequence

# A sequence this like a chain that is held out for evaluation is not learnt from. Either rule is enough.
NEAR_IDENTITY: Final = 0.30  # of the aligned residues
NEAR_COVERAGE: Final = 0.50  # of the shorter sequence
HOMOLOGOUS: Final = 1e-3  # of a hit: below it is a relative

# Families are told apart as the chains' own splits are: a hit below this E-value joins, whatever it covers.
SAME_FAMILY: Final = 0.01

HELD_OUT_SHARE: Final = 0.025  # of the language model's clusters

# The longest median length of a stratum, in residues -> the share of its clusters that fits the confidence heads. The
# short ones give more: chains of up to 150 residues are what `nano` folds.
CONFIDENCE_SHARES: Final = {100.0: 0.18, 150.0: 0.18, 250.0: 0.11, float("inf"): 0.09}
LARGEST_FAMILY: Final = 10  # chains: a larger family is what the trunk learns best, so it stays with the trunk

FAMILIAR_LENGTHS: Final = (40, 150)  # residues, both included
FAMILIAR_IDENTITIES: Final = (0.40, 0.95)  # lower: folds badly; higher: no test of anything
FAMILIAR_COVERAGE: Final = 0.80  # of both sequences

TRUNK: Final = "trunk"
CONFIDENCE: Final = "confidence"


@dataclass(frozen=True)
class Sequence:
    """A protein of the language model's. `residues`: standard ones, upper case."""

    name: str
    source: str
    residues: str


@dataclass(frozen=True)
class Chain:
    """An experimental structure's sequence. `cluster`: 30 % identity, as the file of chains has it."""

    name: str
    cluster: str
    residues: str


def order(name: str, purpose: str) -> bytes:
    """Where `name` stands in an order that looks random and is the same everywhere; one order for each purpose."""
    return hashlib.sha256(f"nano {purpose} {name}".encode()).digest()


def read_fasta(text: str, origin: str) -> Iterator[tuple[str, str]]:
    """Name and residues of each record, in order. The name of `>sp|P12345|ABC_DEF ...` is the accession P12345.

    Residues are in upper case, without a stop (`*`) at the end. Raises SourceError where text stands before the first
    record, or a record has no name; `origin` says whose text it is.
    """
    before, *records = ("\n" + text).split("\n>")
    if before.strip():
        raise SourceError(f"{origin} begins with {before.strip()[:30]!r}, not with '>': is it FASTA?")
    for number, record in enumerate(records, start=1):
        header, _, body = record.partition("\n")
        if not header.strip():
            raise SourceError(f"{origin}: record {number} has no name: write one after '>'")
        word = header.split()[0]
        parts = word.split("|")
        name = parts[1] if len(parts) == 3 and parts[0] in ("sp", "tr") and parts[1] else word
        yield name, "".join(body.split()).upper().removesuffix("*")


def collect(sources: Mapping[str, Iterable[tuple[str, str]]]) -> tuple[list[Sequence], dict[str, Counter[str]]]:
    """Every usable sequence once, in the order of the sources; and a count of outcomes for each source.

    Outcomes: `kept`, or `nonstandard` (a letter that is no standard residue), `short` (under 30 residues) or
    `duplicate` (these residues came before). Raises SourceError if two different sequences have one name.
    """
    kept: dict[str, Sequence] = {}
    outcomes: dict[str, Counter[str]] = {}
    names: set[str] = set()
    standard = set(STANDARD_RESIDUES)
    for source, records in sources.items():
        count = outcomes.setdefault(source, Counter())
        for name, residues in records:
            if not set(residues) <= standard:
                count["nonstandard"] += 1
            elif len(residues) < SHORTEST:
                count["short"] += 1
            elif residues in kept:
                count["duplicate"] += 1
            else:
                if name in names:
                    raise SourceError(f"{source}: {name} is the name of two different sequences: give them two names")
                names.add(name)
                kept[residues] = Sequence(name, source, residues)
                count["kept"] += 1
    return list(kept.values()), outcomes


def is_near(hit: Hit) -> bool:
    """At least 30 % identity over at least half of the shorter sequence."""
    shorter = min(hit.query_length, hit.target_length)
    return hit.identity >= NEAR_IDENTITY and hit.aligned >= NEAR_COVERAGE * shorter


def near(hits: Iterable[Hit]) -> dict[str, str]:
    """Target -> why it may not be learnt from: `identity`, `evalue`, or `both`. The queries are held-out chains."""
    rules: defaultdict[str, set[str]] = defaultdict(set)
    for hit in hits:
        if is_near(hit):
            rules[hit.target].add("identity")
        if hit.evalue < HOMOLOGOUS:
            rules[hit.target].add("evalue")
    return {target: "both" if len(found) == 2 else found.pop() for target, found in rules.items()}


def families(chains: Collection[Chain], hits: Iterable[Hit]) -> list[list[Chain]]:
    """Chains joined by a shared cluster or by a hit with E < 0.01, whatever its coverage: connected components.

    No chain of one family has such a hit in another, so a family can be withheld as a whole. Sorted by name, within a
    family and among them.
    """
    parents = {chain.name: chain.name for chain in chains}

    def root(name: str) -> str:
        while parents[name] != name:
            parents[name] = parents[parents[name]]
            name = parents[name]
        return name

    first_of_cluster: dict[str, str] = {}
    for chain in chains:
        parents[root(chain.name)] = root(first_of_cluster.setdefault(chain.cluster, chain.name))
    for hit in hits:
        if hit.evalue < SAME_FAMILY:
            parents[root(hit.query)] = root(hit.target)
    grouped: defaultdict[str, list[Chain]] = defaultdict(list)
    for chain in sorted(chains, key=lambda chain: chain.name):
        grouped[root(chain.name)].append(chain)
    return sorted(grouped.values(), key=lambda family: family[0].name)


def split_roles(found: Collection[list[Chain]]) -> dict[str, str]:
    """Chain -> `trunk` or `confidence`, whole families at a time.

    Families are put into strata by their median length. In each, families of at most 10 chains are taken in the order
    of their first name's hash, until the share of the stratum's clusters is reached.
    """
    strata: defaultdict[float, list[list[Chain]]] = defaultdict(list)
    for family in found:
        median = statistics.median(len(chain.residues) for chain in family)
        strata[min(limit for limit in CONFIDENCE_SHARES if median <= limit)].append(family)
    roles = {chain.name: TRUNK for family in found for chain in family}
    for limit, stratum in strata.items():
        wanted = round(CONFIDENCE_SHARES[limit] * sum(_num_clusters(family) for family in stratum))
        for family in sorted(stratum, key=lambda family: order(family[0].name, CONFIDENCE)):
            if len(family) <= LARGEST_FAMILY and _num_clusters(family) <= wanted:
                wanted -= _num_clusters(family)
                roles.update((chain.name, CONFIDENCE) for chain in family)
    return roles


def _num_clusters(family: list[Chain]) -> int:
    return len({chain.cluster for chain in family})


def hold_out(clusters: Mapping[str, str], roles: Mapping[str, str]) -> set[str]:
    """The clusters that measure the language model's perplexity: 2.5 % of all.

    Those that hold a chain of the confidence heads' come first: such a chain should be as new to the language model as
    a protein that a user brings. The rest, by hash, are clusters without any chain: those of the trunk's chains are
    learnt from. `clusters`: member -> cluster. `roles`: chain -> role.
    """
    held: set[str] = set()
    seen: set[str] = set()
    for member, cluster in clusters.items():
        if member in roles:
            (held if roles[member] == CONFIDENCE else seen).add(cluster)
    held -= seen
    everything = set(clusters.values())
    others = sorted(everything - held - seen, key=lambda cluster: order(cluster, "held out"))
    return held | set(others[: max(0, round(HELD_OUT_SHARE * len(everything)) - len(held))])


def familiar(hits: Iterable[Hit], family_of: Mapping[str, str], most: int) -> list[Hit]:
    """The best hits of proteins that resemble a chain of the trunk's, `most` at most, by identity: the best of each
    family, then the second best of each, and so on.

    A query of 40 to 150 residues, 40 to 95 % identity, over 80 % of both covered, and more than 95 % to no target.
    `family_of`: target -> family.
    """
    hits = list(hits)
    known = {hit.query for hit in hits if hit.identity > FAMILIAR_IDENTITIES[1]}
    good = [
        hit
        for hit in hits
        if hit.query not in known
        and FAMILIAR_LENGTHS[0] <= hit.query_length <= FAMILIAR_LENGTHS[1]
        and FAMILIAR_IDENTITIES[0] <= hit.identity <= FAMILIAR_IDENTITIES[1]
        and min(hit.query_coverage, hit.target_coverage) > FAMILIAR_COVERAGE
        and hit.evalue < HOMOLOGOUS
    ]
    good.sort(key=lambda hit: (-hit.identity, -min(hit.query_coverage, hit.target_coverage), hit.query, hit.target))
    queries: set[str] = set()
    ranks: Counter[str] = Counter()
    ranked: list[tuple[int, Hit]] = []
    for hit in good:
        if hit.query not in queries:
            queries.add(hit.query)
            ranked.append((ranks[family_of[hit.target]], hit))
            ranks[family_of[hit.target]] += 1
    ranked.sort(key=lambda item: item[0])  # of one rank they stay in order
    return [hit for _, hit in ranked[:most]]
