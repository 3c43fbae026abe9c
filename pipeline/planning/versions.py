"""Versions of sources as planning sees them: what a file that changed supersedes, and what is warned of or refused."""

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import msgspec

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.changes import Change, change_of
from foldatlas.atlas.index.lineage import Head, Lineage
from foldatlas.atlas.planning.planned_tables import PlannedTables
from foldatlas.pipeline.sources.find import SourceFile, SourceWarning
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.manifest import Source


def renamed(sources: list[SourceFile], name: str | None) -> list[SourceFile]:
    """`sources` with the identity `name`, if there is one. Raises UsageError unless there is one source, and for a name
    that is no line of text or that another kind of source has."""
    if name is None:
        return sources
    if not name.strip() or not name.isprintable() or name.startswith("pipe:"):
        raise UsageError(f"--as {name!r} is no name of a source: give it a line of text that does not begin with pipe:")
    if len(sources) != 1:
        raise UsageError(f"--as {name} names one source, and {len(sources)} files are named: name one file a run")
    return [sources[0]._replace(uri=name)]


def readings(lineage: Lineage) -> list[Head]:
    return [head for heads in lineage.heads.values() for head in heads]


def with_lineage(source: Source, lineage: Lineage, *, chosen: bool) -> Source:
    """`source` with what it supersedes: every current version, or where it is one of them what that one supersedes."""
    is_new = chosen or source.sha256 not in lineage.contents(source.uri)
    old = lineage.next_version(source, replace=chosen) if is_new else lineage.same_version(source)
    return msgspec.structs.replace(source, supersedes=old)


def changes_of(
    folder: AtlasFolder,
    work: Path,
    sources: Sequence[Source],
    lineage: Lineage,
    tables: PlannedTables,
    files: Sequence[SourceFile],
) -> tuple[Change, ...]:
    """What the new versions among `sources` change. `files` are those that were named."""
    short = {file.uri: PurePosixPath(file.path).name if file.uri.startswith("file:") else file.name for file in files}
    twice = {name for name, count in Counter(short.values()).items() if count > 1}
    long = {file.uri: file.name for file in files}
    found = []
    for source in sources:
        heads = lineage.superseded_by(source)
        if heads:
            name = long[source.uri] if short[source.uri] in twice else short[source.uri]
            staged = [work / file.path for file in tables.records]
            found.append(change_of(folder, work, heads, staged, name, source.records))
    return tuple(found)


def refuse_losses(changes: Sequence[Change]) -> None:
    """Raises UsageError for new versions that lack more than half of the earlier ids: another file, perhaps."""
    lost = [change for change in changes if not change.keeps_half]
    if lost:
        which = "; ".join(f"{one.name} keeps {one.earlier - one.gone:,} of {one.earlier:,} earlier ids" for one in lost)
        raise UsageError(
            f"{which}: pass --replace if it is a new version, whose earlier records are then superseded, or --as NAME "
            "if it is another source; nothing was changed"
        )


def warn_of_several(sources: Sequence[SourceFile]) -> None:
    for source in sources:
        warn(
            f"{source.name} has several current versions in the atlas, and nothing records which is the newest: the "
            "records of all count; pass --replace to keep only the file as it is now"
        )


def warn_of_copies(sources: Sequence[Source], lineage: Lineage) -> None:
    """Warns of bytes that another source has."""
    first = {head.source.sha256: uri for uri, heads in reversed([*lineage.heads.items()]) for head in heads}
    for source in sources:
        other = first.setdefault(source.sha256, source.uri)
        if other != source.uri:
            warn(f"{source.uri} has the same bytes as {other}: they are two sources, and the records of both count")


def warn(message: str) -> None:
    warnings.warn(message, SourceWarning, stacklevel=2)
