"""The documents say what the program does: every command line parses, every command and every column is described.

Fenced blocks hold commands that can be typed; one marked `text` is a synopsis or output and is not checked.
"""

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from foldatlas.schemas import (
    cluster_tables,
    formats,
    manifest,
    novelty_tables,
    projection_tables,
    records,
    reference_tables,
    stages,
)

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
UNCHECKED = {"text", "python", "sql", "json", "fasta", "yaml", "toml", "dockerfile", "mermaid"}
SHELL_CONTROL = re.compile(r"[();<>|&]+")


def commands(text: str) -> Iterator[list[str]]:
    """The words after `foldatlas` of every command line in the fenced blocks of a Markdown text.

    In a `console` block, and in any block with prompts, only lines after a `$ ` are typed. A pipe, a redirection or
    `&&` ends a command; what follows `--` is Beam's.
    """
    for language, block in FENCE.findall(text):
        if language.lower() in UNCHECKED:
            continue
        lines = block.replace("\\\n", " ").splitlines()
        if language == "console" or any(line.startswith("$ ") for line in lines):
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        for line in lines:
            if "foldatlas" not in line:
                continue
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            part: list[str] = []
            for word in [*lexer, ";"]:
                if not SHELL_CONTROL.fullmatch(word):
                    part.append(word)
                    continue
                if part and part[0] == "foldatlas":
                    yield part[1 : part.index("--") if "--" in part else None]
                part = []


@pytest.fixture(scope="module")
def documents(root: Path) -> dict[str, str]:
    paths = [root / "README.md", *sorted((root / "docs").rglob("*.md")), *sorted((root / "examples").glob("*.md"))]
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}


@pytest.fixture(scope="module")
def parser() -> argparse.ArgumentParser:
    from foldatlas.jobs.cli import build_parser

    built = build_parser()
    assert isinstance(built, argparse.ArgumentParser)
    return built


def subcommands(parser: argparse.ArgumentParser) -> set[str]:
    (action,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return set(action.choices)


def test_every_command_line_in_the_documents_parses(
    documents: dict[str, str], parser: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [(name, words) for name, text in documents.items() for words in commands(text)]
    assert any(name == "README.md" for name, _ in found)
    refused = []
    for name, words in found:
        try:
            parser.parse_args(words)
        except SystemExit as stop:
            if stop.code:
                refused.append(f"{name}: foldatlas {shlex.join(words)}: {capsys.readouterr().err.splitlines()[-1]}")
    assert refused == []


def test_the_quickstart_parses(root: Path, parser: argparse.ArgumentParser) -> None:
    script = (root / "scripts" / "quickstart").read_text(encoding="utf-8")
    typed = re.findall(r"^show (.+)$", script, re.MULTILINE)
    suggested = re.findall(r"^  foldatlas (.+)$", script, re.MULTILINE)
    assert len(typed) == 6
    assert len(suggested) >= 2
    for line in typed + suggested:
        parser.parse_args(shlex.split(line, comments=True))


def test_readme_names_the_commands_that_there_are(documents: dict[str, str], parser: argparse.ArgumentParser) -> None:
    readme = documents["README.md"]
    named = set(re.findall(r"(?:`|^|\$ )foldatlas ([a-z][a-z-]+)", readme, re.MULTILINE))
    assert named == subcommands(parser)


def test_every_command_explains_itself(parser: argparse.ArgumentParser) -> None:
    listing = parser.format_help()
    for name in subcommands(parser):
        assert re.search(rf"^\s+{name}\b", listing, re.MULTILINE), f"{name} is not in --help"


def test_commands_in_documents_are_found() -> None:
    text = """
```sh
foldatlas plan a.fasta atlas --model nano   # a comment
cat ids | foldatlas query atlas "select 1 | 2" > out.csv && foldatlas status atlas
foldatlas fold a.fasta atlas \\
    --model nano --runner FlinkRunner -- --flink_master=here
```
```console
$ foldatlas status atlas
foldatlas: not a command, but output
```
```text
foldatlas fold FASTA... ATLAS
```
"""
    assert list(commands(text)) == [
        ["plan", "a.fasta", "atlas", "--model", "nano"],
        ["query", "atlas", "select 1 | 2"],
        ["status", "atlas"],
        ["fold", "a.fasta", "atlas", "--model", "nano", "--runner", "FlinkRunner"],
        ["status", "atlas"],
    ]


def type_name(kind: pa.DataType) -> str:
    """How docs/files.md writes a type."""
    if pa.types.is_list(kind):
        return f"list of {type_name(kind.value_type)}"
    names = {pa.uuid(): "uuid", pa.float32(): "float32", pa.float16(): "float16"}
    return names.get(kind, str(kind))


def section(text: str, title: str) -> str:
    """The text under a heading, up to the next heading."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"docs/files.md has no heading {title!r}"
    return found.group(1)


def rows(text: str) -> dict[str, str]:
    """First cell, without its back quotes, -> the whole line of every table row."""
    return {match.group(1): match.group() for match in re.finditer(r"^\| `(\w+)` \|.*$", text, re.MULTILINE)}


@pytest.mark.parametrize(
    ("name", "version"),
    [*((name, 1) for name in formats.tables_of(1)), ("records", 2), ("scores", 2), (formats.PROVENANCE, 2)],
)
def test_every_column_is_described(name: str, version: int, documents: dict[str, str]) -> None:
    title = f"`{name}` of format 2" if version == 2 and name in formats.tables_of(1) else f"`{name}`"
    described = rows(section(documents["docs/files.md"], title))
    schema = formats.table_schema(name, version)
    if title != f"`{name}`":  # only the columns that differ from format 1
        before = formats.table_schema(name, 1)
        schema = pa.schema(
            [field for field in schema if field.name not in before.names or before.field(field.name) != field]
        )
    assert list(described) == schema.names
    for field in schema:
        cells = [cell.strip() for cell in described[field.name].strip("|").split("|")]
        metadata = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        assert cells[1] == type_name(field.type) + (" or NULL" if field.nullable else "")
        assert cells[2] == metadata.get("unit", "")
        assert cells[3] == metadata.get("range", "")
        assert len(cells[4]) > 3, f"{name}.{field.name} has no meaning"


@pytest.mark.parametrize(
    "document",
    [
        manifest.AtlasHeader,
        manifest.Plan,
        manifest.Source,
        manifest.Shard,
        manifest.ShardEntry,
        manifest.FileEntry,
        manifest.Run,
        manifest.IndexPointer,
    ],
)
def test_every_field_of_a_document_is_described(document: type[msgspec.Struct], documents: dict[str, str]) -> None:
    described = rows(section(documents["docs/files.md"], f"{document.__name__}"))
    assert list(described) == list(document.__struct_fields__)


def test_every_setting_and_outcome_is_described(documents: dict[str, str]) -> None:
    text = documents["docs/files.md"]
    assert list(rows(section(text, "Settings"))) == list(records.Settings.__dataclass_fields__)
    outcomes = rows(section(text, "Outcomes"))
    assert list(outcomes) == [outcome.value for outcome in records.Outcome]
    for refusal, sentence in records.REFUSALS.items():
        assert outcomes[refusal.value] == f"| `{refusal.value}` | {sentence} |"


def test_tables_of_clusters_are_described(documents: dict[str, str]) -> None:
    for name, schema in cluster_tables.CLUSTER_TABLES.items():
        assert list(rows(section(documents["docs/clusters.md"], f"`{name}`"))) == schema.names


def test_tables_of_maps_are_described(documents: dict[str, str]) -> None:
    for name, schema in projection_tables.PROJECTION_TABLES.items():
        assert list(rows(section(documents["docs/project.md"], f"`{name}`"))) == schema.names


def test_reference_databases_are_described(documents: dict[str, str]) -> None:
    text = documents["docs/reference.md"]
    for name, schema in reference_tables.TABLES.items():
        assert list(rows(section(text, f"`{name}`"))) == schema.names
    assert list(rows(section(text, "Outcomes of chains"))) == list(reference_tables.CHAIN_OUTCOMES)
    assert list(rows(section(text, "Outcomes of files"))) == list(reference_tables.FILE_OUTCOMES)
    fields = list(rows(section(text, "ReferenceVersion")))
    assert fields == list(reference_tables.ReferenceVersion.__struct_fields__)
    assert set(reference_tables.ARRAYS) <= set(rows(section(text, "Files")))


def test_search_runs_are_described(documents: dict[str, str]) -> None:
    text = documents["docs/searches.md"]
    for name, schema in novelty_tables.TABLES.items():
        assert list(rows(section(text, f"`{name}`"))) == schema.names
    assert list(rows(section(text, "Reasons"))) == list(novelty_tables.REASONS)
    for kind in (stages.StageDocument, stages.StageShard, stages.StageEntry, stages.StageCompletion):
        assert list(rows(section(text, kind.__name__))) == list(kind.__struct_fields__)
