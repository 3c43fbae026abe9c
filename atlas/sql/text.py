"""Quoting of names, texts and paths in SQL for DuckDB, and texts of results as a terminal can show them."""

import unicodedata
from pathlib import Path


def quoted(name: str) -> str:
    """Return a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def escape_glob(path: Path | str) -> str:
    """Return a path for DuckDB's readers, with `*`, `?` and `[` escaped, which are not meant as patterns."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in str(path))


def first_line(error: Exception) -> str:
    """Return a message of DuckDB without its further lines, which quote the SQL."""
    return str(error).partition("\n")[0]


def escape_controls(text: str) -> str:
    """Return `text` with control and other unprintable characters as escapes such as `\\x1b`."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def clip(text: str, columns: int) -> str:
    """Return `text` in at most so many columns of a terminal; a text that is cut ends in `…`."""
    if display_width(text) <= columns:
        return text
    kept, width = [], 0
    for character in text:
        width += display_width(character)
        if width >= columns:
            break
        kept.append(character)
    return "".join(kept) + "…"


def display_width(text: str) -> int:
    """Return the width of a text in a terminal: East Asian characters take two columns, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )  # fmt: skip
