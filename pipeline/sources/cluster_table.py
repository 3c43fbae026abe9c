"""Tables with the cluster of each sequence: text with `member<TAB>cluster` lines, or Parquet."""

from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from foldatlas.schemas.errors import SourceError
from foldatlas.schemas.wording import counted

COLUMNS: Final = ("member", "cluster")


def read_clusters(path: Path) -> dict[str, str]:
    """Return the cluster of each member. Text may begin with a line of the two column names, in either order.

    Raise SourceError, with the line, for a table that cannot be read or puts a member into two clusters.
    """
    try:
        rows = _parquet_rows(path) if path.suffix == ".parquet" else _text_rows(path)
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SourceError(
            f"{path} cannot be read as a table of clusters ({reason}): give text of member<TAB>cluster, or .parquet "
            f"with the columns {' and '.join(COLUMNS)}"
        ) from error
    found: dict[str, str] = {}
    for number, (member, cluster) in enumerate(rows, start=1):
        before = found.setdefault(member, cluster)
        if before != cluster:
            raise SourceError(
                f"{path}, row {number}: {member!r} is in {cluster!r}, and in {before!r} above: a member has one cluster"
            )
    if not found:
        raise SourceError(f"{path} has no rows: it needs a line member<TAB>cluster for each sequence")
    return found


def _parquet_rows(path: Path) -> list[tuple[str, str]]:
    missing = [name for name in COLUMNS if name not in pq.read_schema(path).names]
    if missing:
        raise SourceError(f"{path} lacks the column {missing[0]!r}: it needs {' and '.join(COLUMNS)}")
    table = pq.read_table(path, columns=list(COLUMNS))
    columns = (map(str, table[name].to_pylist()) for name in COLUMNS)
    return list(zip(*columns, strict=True))


def _text_rows(path: Path) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    is_swapped = False
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            words = line.rstrip("\r\n").split("\t")
            if len(words) != 2 or not all(words):
                raise SourceError(
                    f"{path}, line {number}: {counted(len(words), 'column')} instead of two, member<TAB>cluster: "
                    f"{line[:60]!r}"
                )
            if number == 1 and sorted(words) == sorted(COLUMNS):
                is_swapped = words[0] != COLUMNS[0]
                continue
            rows.append((words[1], words[0]) if is_swapped else (words[0], words[1]))
    return rows
