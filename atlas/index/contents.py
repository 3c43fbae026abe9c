"""What an index holds, as digests of the names of committed documents: an index with other digests is stale."""

import hashlib
from dataclasses import dataclass, field
from typing import Any, Final

from foldatlas.atlas.annotations.documents import document_names
from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.stages.runs import completion_names
from foldatlas.atlas.storage.protocol import is_document

LAYOUT: Final = 2  # of the tables of an index: one of another layout is built from nothing, not continued


@dataclass(frozen=True)
class Contents:
    """Digests of the names of plans and manifest entries, of the marks of complete runs of derived stages ("" without
    any), and of the documents of annotations (likewise), and the number of all these documents. Programs from before
    stages compare the first digest alone, those from before annotations the first two.

    `names` are those of the plans and manifest entries, where they are known.
    """

    digest: str
    stages: str
    documents: int = 0
    annotations: str = ""
    names: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def matches(self, other: "Contents") -> bool:
        """Whether an index of the one holds what one of the other does."""
        mine = (self.digest, self.stages, self.annotations)
        return mine == (other.digest, other.stages, other.annotations)


def contents_of(folder: AtlasFolder) -> Contents:
    """Return what an index of the atlas as it is now would hold."""
    names = [
        file.name for kind in ("plans", "manifest") for file in folder.storage.files(kind) if is_document(file.name)
    ]
    stages = completion_names(folder)
    annotations = document_names(folder)
    return Contents(
        digest=_digest(names),
        stages=_digest(stages) if stages else "",
        documents=len(names) + len(stages) + len(annotations),
        annotations=_digest(annotations) if annotations else "",
        names=tuple(names),
    )


def indexed_contents(connection: Any, schema: str = "main") -> Contents:
    """Return what an open index holds, but for the number of documents. One from before stages holds none."""
    found = connection.execute(f"SELECT * FROM {schema}.settings")
    [row] = found.fetchall()
    settings = dict(zip((column[0] for column in found.description), row, strict=True))
    return Contents(settings["contents"], settings.get("stages", ""), annotations=settings.get("annotations", ""))


def _digest(names: list[str]) -> str:
    return hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()
