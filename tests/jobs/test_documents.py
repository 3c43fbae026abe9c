"""The SQL of the documents runs on a real atlas, and gives rows where it should."""

import re
import shlex
from pathlib import Path

import pytest

from foldatlas.atlas.reader import Atlas

ROOT = Path(__file__).parents[2]
COOKBOOK = [
    statement.strip()
    for block in re.findall(
        r"^```sql\n(.*?)^```",
        (ROOT / "docs" / "sql.md").read_text().partition("## Fifteen questions")[0],  # these: test_questions.py
        re.MULTILINE | re.DOTALL,
    )
    for statement in block.split(";")
    if statement.strip()
]
# What an untrained model, a file without faults and an atlas that was not searched cannot answer.
EMPTY = (
    *("from clusters", "from members", "is_representative30", "from dark_clusters", "from novel "),  # test_cluster.py
    *("from novel", "novelty", "distant_sequences", "tm_query", "identity_max"),  # test_novelty.py
    "projection",  # test_projection.py
    "high_confidence",
    "fraction_confident",
    "helix_fraction > 0.5",
    "having count(*) > 1",
    "MKVLAAGIVGLC",
)
IN_TEXT = [
    words[3]
    for name in ("README.md", "docs/guide.md", "docs/operations.md")
    for line in re.findall(r"^\$? ?(foldatlas query .*?)(?:  +#.*)?$", (ROOT / name).read_text(), re.MULTILINE)
    for words in [shlex.split(line)]
]


def test_there_are_statements() -> None:
    assert len(COOKBOOK) >= 15 and len(IN_TEXT) >= 6


@pytest.mark.parametrize("sql", [*COOKBOOK, *IN_TEXT])
def test_a_statement_of_the_documents_runs(gut: Path, sql: str) -> None:
    with Atlas.open(gut) as atlas:
        rows = atlas.query(sql).rows()
    may_be_empty = any(part in sql for part in EMPTY) or "refused" in sql or "failures" in sql
    assert rows or may_be_empty


def test_the_cookbook_names_every_table(gut: Path) -> None:
    text = (ROOT / "docs" / "sql.md").read_text()
    with Atlas.open(gut) as atlas:
        names = {name for (name,) in atlas.query("select view_name from duckdb_views() where not internal").rows()}
        names |= {name for (name,) in atlas.query("select table_name from duckdb_tables()").rows()}
    # which rows of overlapping plans do not count, and the records of `proteins`, sorted
    internal = {"copies", "folded_records"}
    assert {name for name in names if f"`{name}`" not in text} == internal
