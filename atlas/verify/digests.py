"""Documents without a digest of themselves, counted as they are read."""

from collections.abc import Iterator
from dataclasses import dataclass

from foldatlas.schemas.manifest import has_digest
from foldatlas.schemas.wording import counted


@dataclass
class DigestCount:
    """Numbers of documents that could be read, and of those among them that have no digest."""

    documents: int = 0
    unprotected: int = 0

    def add(self, text: bytes | OSError) -> None:
        """Count a document, unless it could not be read."""
        if isinstance(text, bytes):
            self.documents += 1
            self.unprotected += not has_digest(text)

    def notes(self) -> Iterator[str]:
        """Yield a note if there are documents without a digest: a changed value may go unnoticed."""
        if self.unprotected:
            yield (
                f"{counted(self.unprotected, 'document')} of {self.documents:,} have no digest of themselves (an "
                "earlier FoldAtlas wrote them): a value that was changed there may go unnoticed"
            )
