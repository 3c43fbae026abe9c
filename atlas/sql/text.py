"""Quoting of names, texts and paths in SQL for DuckDB, and the first line of its messages."""

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
