"""Tables of clusters, as text and Parquet; what is wrong with one is said with its line."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foldatlas.pipeline.sources.cluster_table import read_clusters
from foldatlas.schemas.errors import SourceError

WANTED = {"a": "x", "b": "x", "c d": "y"}


@pytest.mark.parametrize(
    "text",
    [
        "a\tx\nb\tx\nc d\ty\n",
        "a\tx\r\nb\tx\r\nc d\ty",
        "member\tcluster\na\tx\nb\tx\nc d\ty\n",
        "cluster\tmember\nx\ta\nx\tb\ny\tc d\n",
        "a\tx\na\tx\nb\tx\nc d\ty\n",
    ],
)
def test_text(tmp_path: Path, text: str) -> None:
    (tmp_path / "table.tsv").write_text(text)
    assert read_clusters(tmp_path / "table.tsv") == WANTED


def test_parquet(tmp_path: Path) -> None:
    table = pa.table({"more": [1, 2, 3], "cluster": list(WANTED.values()), "member": list(WANTED)})
    pq.write_table(table, tmp_path / "table.parquet")
    assert read_clusters(tmp_path / "table.parquet") == WANTED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rows"),
        ("a\tx\nb x\n", "line 2: 1 column in"),
        ("a\tx\tz\n", "line 1: 3 columns"),
        ("a\t\n", "line 1: 2 columns"),
        ("a\tx\nb\tx\na\ty\n", "row 3: 'a' is in 'y', and in 'x' above"),
        (b"a\t\xff\n", "cannot be read"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "table.tsv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SourceError, match=message):
        read_clusters(path)


def test_parquet_of_something_else(tmp_path: Path) -> None:
    pq.write_table(pa.table({"member": ["a"]}), tmp_path / "table.parquet")
    with pytest.raises(SourceError, match="lacks the column 'cluster'"):
        read_clusters(tmp_path / "table.parquet")
    (tmp_path / "other.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(SourceError, match="cannot be read"):
        read_clusters(tmp_path / "other.parquet")
