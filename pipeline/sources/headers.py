"""What the header of a protein says: id, description, MGnify's number, and whether the protein is cut.

The id is the first word as it stands, whatever database it is of: it is what other tools write into their tables, so
tables join (docs/decisions/0014-sources.md). The description is the rest. Read besides are

    Prodigal   `partial=XY`: 1 for each end of the gene that lies off its contig
    MGnify     the number of an id MGYP...; `PL=XY`, the same as Prodigal's; in newer releases `FL=1` or `FL=0`, full
               length or not. `UP=`, `CR=`, `BIOMES=` and `LEN=` stay in the description
    UniProt    `(Fragment)` or `(Fragments)` at the end of the protein's name
    NCBI       `, partial [species]`

A header of UniProt or NCBI that does not say so leaves open whether the protein is whole.
"""

import re
from typing import Final, NamedTuple

_MGNIFY: Final = re.compile(r"MGYP(\d{1,18})$")
_PRODIGAL: Final = re.compile(r"(?:^|[;\s])partial=([01]{2})(?=;|\s|$)")
# what the pattern says of nearly all headers of Prodigal, found without it
_PRODIGAL_FLAGS: Final = {f";partial={left}{right};": left + right != "00" for left in "01" for right in "01"}
_MGNIFY_FLAG: Final = re.compile(r"(?:^|\s)(PL=[01]{2}|FL=[01])(?=\s|$)")
_WHOLE: Final = ("PL=00", "FL=1")
_UNIPROT_FRAGMENT: Final = re.compile(r"\(Fragments?\)(?: (?:OS|n)=|$)")
_NCBI_PARTIAL: Final = re.compile(r", partial \[[^\]]")
_NEXT_TITLE: Final = "\x01"  # NCBI's nr puts the titles of identical proteins behind each other


class Header(NamedTuple):
    """What a header says. `mgyp` and `is_fragment` are None where it does not; `is_text` is False for bytes that are
    no UTF-8, which are kept as \\xNN, so that they can be shown."""

    id: str
    description: str
    mgyp: int | None
    is_fragment: bool | None
    is_text: bool


def read_header(header: bytes) -> Header:
    """Reads what follows '>' on its line."""
    try:
        text, is_text = header.decode("utf-8"), True
    except UnicodeDecodeError:
        text, is_text = header.decode("utf-8", errors="backslashreplace"), False
    if "\0" in text:
        text = text.replace("\0", "\\x00")
    return Header(*read_text(text), is_text)


def read_text(text: str) -> tuple[str, str, int | None, bool | None]:
    """`read_header` of text without a NUL: id, description, mgyp and is_fragment."""
    words = text.split(None, 1)
    if not words:
        return "", "", None, None
    name = words[0]
    number = _MGNIFY.match(name) if name.startswith("MGYP") else None
    if len(words) == 1:
        return name, "", int(number[1]) if number else None, None
    description = words[1].rstrip()
    place = description.find("partial=")
    is_fragment = _PRODIGAL_FLAGS.get(description[place - 1 : place + 11])
    if is_fragment is None:
        is_fragment = _is_fragment(description, number is not None)
    return name, description, int(number[1]) if number else None, is_fragment


def _is_fragment(description: str, is_mgnify: bool) -> bool | None:
    """Plain searches first: a pattern that looks through all descriptions costs more than all else that is done."""
    if "partial" in description:
        place = max(0, description.find("partial=") - 1)
        if found := _PRODIGAL.match(description, place) or _PRODIGAL.search(description, place):
            return found[1] != "00"
        if _NCBI_PARTIAL.search(description.partition(_NEXT_TITLE)[0]):
            return True
    if is_mgnify and (flag := _MGNIFY_FLAG.search(description)):
        return flag[1] not in _WHOLE
    if "(Fragment" in description and _UNIPROT_FRAGMENT.search(description):
        return True
    return None
