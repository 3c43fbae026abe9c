"""Parameters of a statement: `$name` and `$1` are replaced by literals before DuckDB sees the statement.

DuckDB materialises the result of a prepared statement and does not give its types without running it. A text becomes
an SQL literal, which DuckDB casts to the type that it is compared with, so `-p min=70` and `-p id=70` both work. A
quote in a text is doubled, which is the only escape in a literal of DuckDB, so a text cannot end it.
"""

import datetime
import decimal
import math
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

import duckdb

from foldatlas.atlas.sql.text import literal, quoted
from foldatlas.schemas.errors import QueryError

Parameters = Mapping[str, Any] | Sequence[Any]

_NAMES: Final = (duckdb.token_type.identifier, duckdb.token_type.numeric_const, duckdb.token_type.keyword)


def with_parameters(sql: str, parameters: Parameters | None) -> str:
    """Return `sql` with its parameters replaced.

    `parameters` are values by name, or a sequence for `$1`, `$2` and so on, or for `?`. Raise QueryError for a
    parameter without a value, a value without a parameter, and a value of a type that SQL does not have.
    """
    text = sql.encode()  # tokens have byte offsets
    tokens = duckdb.tokenize(sql)
    ends = [offset for offset, _ in tokens[1:]] + [len(text)] * bool(tokens)
    values = _by_name(parameters)
    pieces: list[bytes] = []
    used: set[str] = set()
    done = questions = 0
    for index, ((offset, kind), end) in enumerate(zip(tokens, ends, strict=True)):
        token = text[offset:end]
        if kind != duckdb.token_type.operator or token.rstrip() not in (b"$", b"?"):
            continue
        if token.rstrip() == b"?":
            questions += 1
            name, end = str(questions), offset + 1
        else:
            if token != b"$" or index + 1 == len(tokens) or tokens[index + 1][1] not in _NAMES:
                continue
            name, end = _name(text[end : ends[index + 1]]), 0
            end = offset + 1 + len(name.encode())
        if name not in values:
            shown = "?" if questions else f"${name}"
            raise QueryError(f"the parameter {shown} has no value: give it with -p {name}=VALUE, or in `params`")
        pieces += [text[done:offset], _sql_of(name, values[name]).encode()]
        used.add(name)
        done = end
    if unused := sorted(values.keys() - used):
        raise QueryError(f"the SQL has no parameter ${unused[0]}: write $name where its value belongs, without quotes")
    return b"".join([*pieces, text[done:]]).decode()


def _by_name(parameters: Parameters | None) -> dict[str, Any]:
    if parameters is None:
        return {}
    if isinstance(parameters, Mapping):
        return {str(name): value for name, value in parameters.items()}
    if isinstance(parameters, str | bytes):
        raise QueryError(f"params must be a mapping or a list, not {parameters!r}")
    return {str(number): value for number, value in enumerate(parameters, 1)}


def _name(token: bytes) -> str:
    """Return the parameter's name at the beginning of a token, which may have white space after it."""
    name = ""
    for character in token.decode():
        if not (character.isalnum() or character == "_"):
            break
        name += character
    return name


def _sql_of(name: str, value: Any) -> str:
    """Return a value as SQL. Raise QueryError."""
    if isinstance(value, str):
        if "\0" in value:
            raise QueryError(f"the parameter ${name} holds a NUL byte, which SQL cannot express")
        return literal(value)
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if hasattr(value, "item") and not isinstance(value, list | tuple):  # a scalar of numpy
        return _sql_of(name, value.item())
    if isinstance(value, int):
        return f"({value})"
    if isinstance(value, float):
        return f"({value!r}::DOUBLE)" if math.isfinite(value) else f"'{value}'::DOUBLE"
    for kind, sql_type in (
        (uuid.UUID, "UUID"),
        (datetime.datetime, "TIMESTAMP" if getattr(value, "tzinfo", None) is None else "TIMESTAMPTZ"),
        (datetime.date, "DATE"),
        (datetime.time, "TIME"),
        (decimal.Decimal, "DECIMAL(38,10)"),
    ):
        if isinstance(value, kind):
            return f"{literal(str(value))}::{sql_type}"
    if isinstance(value, bytes):
        return f"from_hex('{value.hex()}')"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{quoted(str(key))}: {_sql_of(name, part)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        return f"[{', '.join(_sql_of(name, part) for part in value)}]"
    raise QueryError(f"the parameter ${name} is a {type(value).__name__}, which has no type in SQL")
