"""The header of a protein: id, description, MGnify's number, and whether the protein is a fragment.

The id is the first word, unchanged, whatever database it is from: other tools write the same word into their tables, so
that tables can be joined (docs/decisions/0014-sources.md). The Ctrl-A before the next title in NCBI's nr ends it too.
The description is the rest. Further fields are

    Prodigal   `partial=XY`: 1 for each end of the gene that lies outside its contig
    MGnify     the number of an id MGYP...; `PL=XY`, the same as Prodigal's; in newer releases `FL=1` or `FL=0`, full
               length or not. `UP=`, `CR=`, `BIOMES=` and `LEN=` stay in the description
    UniProt    `(Fragment)` or `(Fragments)` at the end of the protein's name
    NCBI       `, partial [species]`

A header of UniProt or NCBI without such a mark leaves it unknown whether the protein is complete.
"""

import re
from typing import Final, NamedTuple

from foldatlas.schemas.records import NEXT_TITLE

_MGNIFY: Final = re.compile(r"MGYP(\d{1,18})$")
_PRODIGAL: Final = re.compile(r"(?:^|[;\s])partial=([01]{2})(?=;|\s|$)")
# the result of the pattern for nearly all headers of Prodigal, looked up without it
_PRODIGAL_FLAGS: Final = {f";partial={left}{right};": left + right != "00" for left in "01" for right in "01"}
_MGNIFY_FLAG: Final = re.compile(r"(?:^|\s)(PL=[01]{2}|FL=[01])(?=\s|$)")
_WHOLE: Final = ("PL=00", "FL=1")
_UNIPROT_FRAGMENT: Final = re.compile(r"\(Fragments?\)(?: (?:OS|n)=|$)")
_NCBI_PARTIAL: Final = re.compile(r", partial \[[^\]]")


class Header(NamedTuple):
    """The fields of a header. `mgyp` and `is_fragment` are None where the header does not give them."""

    id: str
    description: str
    mgyp: int | None
    is_fragment: bool | None


def read_header(header: bytes) -> Header:
    """Read what follows '>' on its line. Bytes that are not UTF-8, and NUL, are written as \\xNN."""
    return Header(*read_text(header_text(header).replace("\0", "\\x00")))


def header_text(header: bytes) -> str:
    """Return one header or several lines of them as text; bytes that are not UTF-8 are written as \\xNN."""
    return header.decode("utf-8", errors="backslashreplace")


def read_text(text: str) -> tuple[str, str, int | None, bool | None]:
    """Read a header that is text without NUL bytes. Return id, description, mgyp and is_fragment."""
    words = text.split(None, 1)
    if not words:
        return "", "", None, None
    name = words[0]
    if NEXT_TITLE in name:
        name = name.partition(NEXT_TITLE)[0]
        words = [name, text.lstrip()[len(name) :]]
    number = _MGNIFY.match(name) if name.startswith("MGYP") else None
    if len(words) == 1:
        return name, "", int(number[1]) if number else None, None
    description = words[1].rstrip()
    start = description.find("partial=")
    is_fragment = _PRODIGAL_FLAGS.get(description[start - 1 : start + 11])
    if is_fragment is None:
        is_fragment = _is_fragment(description, number is not None)
    return name, description, int(number[1]) if number else None, is_fragment


def _is_fragment(description: str, is_mgnify: bool) -> bool | None:
    """Return whether a description marks a fragment. Plain searches come first, because patterns on every description
    would cost more than the rest of reading."""
    if "partial" in description:
        start = max(0, description.find("partial=") - 1)
        if found := _PRODIGAL.match(description, start) or _PRODIGAL.search(description, start):
            return found[1] != "00"
        if _NCBI_PARTIAL.search(description.partition(NEXT_TITLE)[0]):
            return True
    if is_mgnify and (flag := _MGNIFY_FLAG.search(description)):
        return flag[1] not in _WHOLE
    if "(Fragment" in description and _UNIPROT_FRAGMENT.search(description):
        return True
    return None
