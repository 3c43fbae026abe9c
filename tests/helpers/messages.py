"""Lists every text that a user can meet, with its place: errors, warnings, progress, results, help.

    scripts/messages [WORD]     prints `file:line  kind  text`; only texts with WORD

Texts are read from the syntax tree, so nothing is imported or run. In an f-string a value stands as `{expression}`.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

FOLDERS: Final = ("schemas", "folding", "atlas", "pipeline", "jobs")
MIN_WORDS: Final = 3  # of a text that is in no known call; shorter ones are keys and names
PRINTING: Final = {"say", "print", "warn", "emit", "info", "warning", "error", "debug", "log"}
HELP: Final = {"help", "description", "epilog", "title"}
_SQL_STATEMENT: Final = r"select .*|create (table|view|or|macro|temp|schema).*|insert into|copy .*\bto\b|with \w+ as \("
_SQL_CLAUSE: Final = r"from|join|left join|where|union|order by|group by|set|attach|detach|drop|delete|describe|on"
SQL: Final = re.compile(
    rf"^\W*({_SQL_STATEMENT}|({_SQL_CLAUSE}) [\w({{].*[=()_'].*)|read_parquet\(|COMMENT ON| EXCEPT | IN \(|WHERE ",
    re.IGNORECASE | re.DOTALL,
)


class Message(NamedTuple):
    """A text at `path:line`. `kind`: "error", "print", "help", "column" (its meaning), or "text" for all others."""

    path: str
    line: int
    kind: str
    text: str


def text_of(node: ast.AST) -> str | None:
    """Return the text of a string, an f-string, or a sum or conditional of these; None for any other expression."""
    match node:
        case ast.Constant(value=str(value)):
            return value
        case ast.JoinedStr(values=values):
            return "".join(text_of(value) or "" for value in values)
        case ast.FormattedValue(value=value):
            return "{" + ast.unparse(value) + "}"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            texts = [text_of(left), text_of(right)]
            return None if texts == [None, None] else "".join(text or "{...}" for text in texts)
        case _:
            return None


def kind_of_call(call: ast.Call) -> str:
    """Return what becomes of a text that is an argument of `call`."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name.endswith(("Error", "Mismatch", "Interrupted", "OutOfMemory", "WorkerDied", "WorkerTimeout")):
        return "error"
    if name in PRINTING:
        return "print"
    if name.startswith("describe_"):
        return "column"
    return "text"


def docstrings(tree: ast.Module) -> set[int]:
    """Return the `id` of the node of every docstring, and of every other string that is a statement."""
    statements = (node.value for node in ast.walk(tree) if isinstance(node, ast.Expr))
    return {id(value) for value in statements if isinstance(value, ast.Constant)}


def messages_of(path: str, source: str) -> Iterator[Message]:
    """Yield the messages of one file, in order."""
    tree = ast.parse(source)
    ignored = docstrings(tree)
    found: list[Message] = []

    def visit(node: ast.AST, kind: str) -> None:
        if id(node) in ignored or (isinstance(node, ast.Call) and takes_no_prose(node)):
            return
        text = text_of(node)
        if text is not None:
            if is_message(text, kind):
                assert isinstance(node, ast.expr)
                found.append(Message(path, node.lineno, kind, " ".join(text.split())))
            return
        if isinstance(node, ast.Call):
            kind = kind_of_call(node)
        for child in ast.iter_child_nodes(node):
            named = child.arg if isinstance(child, ast.keyword) else None
            visit(child, "help" if named in HELP else kind)

    visit(tree, "text")
    return iter(found)


def takes_no_prose(call: ast.Call) -> bool:
    """Whether `call` is `re.compile(...)` and the like, or `"names of columns".split()`."""
    if not isinstance(call.func, ast.Attribute):
        return False
    return getattr(call.func.value, "id", "") == "re" or (
        call.func.attr == "split" and text_of(call.func.value) is not None
    )


def is_message(text: str, kind: str) -> bool:
    """Whether a text is prose: words with spaces between them, and not SQL."""
    words = re.findall(r"[A-Za-z]{2,}", re.sub(r"\{.*?\}", " ", text))
    few = 1 if kind in ("error", "print", "help") else MIN_WORDS
    return len(words) >= few and not SQL.search(text) and (" " in text.strip() or kind != "text")


def messages_of_script(path: str, source: str) -> Iterator[Message]:
    """Yield what a shell script prints."""
    for number, line in enumerate(source.splitlines(), 1):
        if found := re.search(r"\b(?:echo|fail|printf) [\"'](.+?)[\"']( >&2)?(;|$| \|\|)", line):
            yield Message(path, number, "print", found[1])


def collect(root: Path) -> list[Message]:
    """Return all messages of the program under `root`, file by file."""
    found: list[Message] = []
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            found += messages_of(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8"))
    for path in sorted((root / "scripts").iterdir()):
        found += messages_of_script(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8"))
    return found


def main() -> None:
    wanted = " ".join(sys.argv[1:]).lower()
    for message in collect(Path(__file__).parents[2]):
        if wanted in message.text.lower():
            print(f"{message.path}:{message.line}  {message.kind}  {message.text}")


if __name__ == "__main__":
    main()
