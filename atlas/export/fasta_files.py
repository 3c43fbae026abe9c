"""FASTA text of a record."""

from typing import Final

from foldatlas.schemas.records import NEXT_TITLE

FASTA_WIDTH: Final = 60  # letters per line


def fasta_text(name: str, description: str, sequence: str) -> str:
    """Return a FASTA record. Control characters in its header become spaces, except Ctrl-A between titles of nr."""
    joint = "" if description.startswith(NEXT_TITLE) else " "
    header = "".join(c if c.isprintable() or c == NEXT_TITLE else " " for c in f"{name}{joint}{description}".rstrip())
    lines = (sequence[begin : begin + FASTA_WIDTH] for begin in range(0, len(sequence), FASTA_WIDTH))
    return ">" + "\n".join([header, *lines]) + "\n"
