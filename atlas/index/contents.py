"""What an index holds, as digests of the names of committed documents: an index with other digests is stale."""

import hashlib
from dataclasses import dataclass, field
from typing import Any, Final

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.stages.runs import completion_names
from foldatlas.atlas.storage.protocol import is_document

LAYOUT: Final = 1  # of the tables of an index: one of another layout is built from nothing, not continued


@dataclass(frozen=True)
class Contents:
    """Digests of the names of plans and manifest entries, and of the marks of complete runs of derived stages (""
    without any), and the number of all these documents. Programs from before stages compare the first digest alone.

    `names` are those of the plans and manifest entries, where they are known.
    """

    digest: str
    stages: str
    documents: int = 0
    names: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def matches(self, other: "Contents") -> bool:
        """Whether an index of the one holds what one of the other does."""
        return (self.digest, self.stages) == (other.digest, other.stages)


def contents_of(folder: AtlasFolder) -> Contents:
    """Return what an index of the atlas as it is now would hold."""
    names = [
        file.name for kind in ("plans", "manifest") for file in folder.storage.files(kind) if is_document(file.name)
    ]
    stages = completion_names(folder)
    return Contents(_digest(names), _digest(stages) if stages else "", len(names) + len(stages), tuple(names))


def indexed_contents(connection: Any, schema: str = "main") -> Contents:
    """Return what an open index holds, but for the number of documents. One from before stages holds none."""
    found = connection.execute(f"SELECT * FROM {schema}.settings")
    [row] = found.fetchall()
    settings = dict(zip((column[0] for column in found.description), row, strict=True))
    return Contents(settings["contents"], settings.get("stages", ""))


def _digest(names: list[str]) -> str:
    return hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()
