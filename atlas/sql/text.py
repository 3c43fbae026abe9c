"""Names, texts and paths as they are written in SQL for DuckDB, and its messages without ours."""

from pathlib import Path


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """A text as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def escape_glob(path: Path | str) -> str:
    """A path as DuckDB's readers take it: `*`, `?` and `[` in a folder's name are no patterns."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in str(path))


def first_line(error: Exception) -> str:
    """DuckDB's message without the SQL, which is ours."""
    return str(error).partition("\n")[0]
