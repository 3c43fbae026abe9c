"""Versions of sources, and which of them are current, from the lineage that plans record.

A source (a URI) is read again if its bytes changed. The plan that reads the new bytes records which versions, of which
plans, it supersedes. A version is identified by its content and its ancestors (URI, sha256, superseded versions), as a
commit in git: bytes A before B and the same bytes after B are two versions, and the same bytes that two plans read as a
first version are one. Versions that no other version supersedes are the heads of the source. Times and the order of
plans have no effect. The reasons are in docs/decisions/0024-versions-of-a-source.md.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.manifest import Plan, Source, Superseded

_Node = tuple[str, str]  # the name of a plan, and the URI of one of its sources


class Head(NamedTuple):
    """A current version of a source, as one plan read it."""

    plan: Plan
    source: Source


@dataclass(frozen=True)
class Lineage:
    """The versions of an atlas's sources.

    versions: the identity of the version that a plan read, by name of the plan and URI.
    heads: the current versions by URI, in the order of the plans.
    """

    versions: Mapping[_Node, str] = field(default_factory=dict)
    heads: Mapping[str, tuple[Head, ...]] = field(default_factory=dict)

    @property
    def is_trivial(self) -> bool:
        """Whether no version is superseded, so that every record is present."""
        return len(self.versions) == sum(map(len, self.heads.values()))

    @property
    def present(self) -> frozenset[_Node]:
        """The sources whose records are present, as (name of the plan, URI)."""
        return frozenset((head.plan.name, uri) for uri, heads in self.heads.items() for head in heads)

    def is_current(self, plan: Plan) -> bool:
        """Return whether all versions that a plan read are current."""
        present = self.present
        return all((plan.name, source.uri) in present for source in plan.sources)

    def contents(self, uri: str) -> list[str]:
        """Return the distinct sha256 of a source's heads. With more than one, the newest is not known."""
        return list(dict.fromkeys(head.source.sha256 for head in self.heads.get(uri, ())))

    def superseded_by(self, source: Source) -> tuple[Head, ...]:
        """Return the heads that `source`, a new version, supersedes."""
        old = set(source.supersedes or ())
        return tuple(head for head in self.heads.get(source.uri, ()) if _reference(head) in old)

    def next_version(self, source: Source, *, replace: bool = False) -> tuple[Superseded, ...]:
        """Return what `source`, read now with other content than its heads, supersedes: all of its heads.

        If several heads were read by a program that recorded no lineage, they are superseded only with `replace`: the
        user may want to keep any of them.
        """
        heads = self.heads.get(source.uri, ())
        unrecorded = {head.source.sha256 for head in heads if head.source.supersedes is None}
        kept = unrecorded if len(unrecorded) > 1 and not replace else set()
        return tuple(sorted({_reference(head) for head in heads if head.source.sha256 not in kept}))

    def same_version(self, source: Source) -> tuple[Superseded, ...]:
        """Return what `source`, with the bytes of a head that is read again with another maximal length, supersedes.

        It supersedes what the head does, so it is the same version.
        """
        same = (head.source for head in self.heads.get(source.uri, ()) if head.source.sha256 == source.sha256)
        return tuple(sorted({old for earlier in same for old in earlier.supersedes or ()}))


def lineage_of(plans: Sequence[Plan]) -> Lineage:
    """Return the versions that `plans` read.

    Raise DamagedAtlasError for a cycle of versions, which no program writes: the name of a plan is a digest of what it
    supersedes.
    """
    nodes = {(plan.name, source.uri): Head(plan, source) for plan in plans for source in plan.sources}
    versions: dict[_Node, str] = {}
    superseded: set[tuple[str, str]] = set()  # by URI and version
    for node in _parents_first(nodes):
        uri, source = node[1], nodes[node].source
        parents = {_version(old, uri, versions) for old in source.supersedes or ()}
        superseded |= {(uri, parent) for parent in parents}
        versions[node] = _digest([uri, source.sha256, *sorted(parents)])
    heads: dict[str, list[Head]] = {}
    for node, head in nodes.items():
        if (node[1], versions[node]) not in superseded:
            heads.setdefault(node[1], []).append(head)
    return Lineage(versions, {uri: tuple(found) for uri, found in heads.items()})


def _reference(head: Head) -> Superseded:
    return Superseded(head.plan.name, head.source.sha256)


def _version(old: Superseded, uri: str, versions: Mapping[_Node, str]) -> str:
    """Return the identity of a superseded version. If its plan is missing, its ancestors are not known."""
    return versions.get((old.plan, uri)) or _digest([uri, old.plan, old.sha256, "absent"])


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _parents_first(nodes: Mapping[_Node, Head]) -> list[_Node]:
    """Return the nodes in topological order: each after all that it supersedes.

    Not recursive, because a source may have thousands of versions.
    """
    waiting: dict[_Node, int] = {}
    children: dict[_Node, list[_Node]] = {}
    for node, head in nodes.items():
        parents = {(old.plan, node[1]) for old in head.source.supersedes or ()} & nodes.keys()
        waiting[node] = len(parents)
        for parent in parents:
            children.setdefault(parent, []).append(node)
    ready = [node for node, count in waiting.items() if not count]
    for node in ready:  # grows in the loop
        for child in children.get(node, ()):
            waiting[child] -= 1
            if not waiting[child]:
                ready.append(child)
    if len(ready) < len(nodes):
        plan, uri = min(node for node, count in waiting.items() if count)
        raise DamagedAtlasError(f"plans/{plan}.json: versions of {uri} supersede each other: restore it from a copy")
    return ready
