"""docs/glossary.md defines each term once, and the columns, options and tables that it names exist."""

import argparse
import re
from pathlib import Path

import pytest

from foldatlas.schemas.tables import TABLES

ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \| ([^|]*) ?\|$", re.MULTILINE)


@pytest.fixture(scope="module")
def rows(root: Path) -> list[tuple[str, ...]]:
    text = (root / "docs" / "glossary.md").read_text(encoding="utf-8")
    return [row for row in ROW.findall(text) if row[0] != "term" and not row[0].startswith("-")]


def test_each_term_is_defined_once(rows: list[tuple[str, ...]]) -> None:
    terms = [term.strip() for term, _, _ in rows]
    assert len(terms) > 60
    assert len(set(terms)) == len(terms)


def test_columns_and_tables_of_the_glossary_exist(rows: list[tuple[str, ...]]) -> None:
    columns = re.findall(r"`([a-z_]+)\.([a-z_]+)`", " ".join(meaning for _, meaning, _ in rows))
    named = [(table, column) for table, column in columns if column not in ("duckdb", "json", "safetensors")]
    assert len(named) >= 3
    assert [f"{table}.{column}" for table, column in named if column not in TABLES[table].names] == []
    tables = re.findall(r"the tables? `(\w+)`", " ".join(meaning for _, meaning, _ in rows))
    assert "failures" in tables and set(tables) <= set(TABLES)


def test_options_of_the_glossary_exist(rows: list[tuple[str, ...]]) -> None:
    from foldatlas.jobs.cli import build_parser

    options: set[str] = set()
    parsers: list[argparse.ArgumentParser] = [build_parser()]
    while parsers:
        for action in parsers.pop()._actions:
            options.update(action.option_strings)
            if isinstance(action, argparse._SubParsersAction):
                parsers.extend(action.choices.values())
    named = set(re.findall(r"--[a-z-]+", " ".join(meaning for _, meaning, _ in rows)))
    assert len(named) > 5 and named <= options
