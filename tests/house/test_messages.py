"""What users read is plain English, and the list of messages (scripts/messages) misses none of the known kinds."""

import re
from pathlib import Path

import pytest
from messages import Message, collect, messages_of

# Turns that a reader stumbles over. Each was in a message once; the plain form is beside it.
QUAINT = re.compile(
    r"\b(is|are|was) no (?!longer|more|index|such|chain)\w|"  # is not a ...
    r"\b(is|are) none\b|\bis not there\b|"  # does not exist
    r"\bnobody\b|\bwhoever\b|\bgoes on\b|\bgo on\b|"  # continues, resumes
    r"\banew\b|\bof use\b|\bsent away\b|\bkeeps? its word\b|\bsays so\b|\btold\b|\blest\b|\bmended\b|"
    r"\bstands? (in|twice)\b|\bleave \S+ out\b",  # omit
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def messages(root: Path) -> list[Message]:
    return collect(root)


def test_messages_are_collected_by_kind() -> None:
    source = '''"""Not a message."""
def f(path, parser):
    """Neither is this one."""
    parser.add_argument("--x", help="how many " "to take")
    say(f"{path}: read")
    raise UsageError(f"{path} does not exist" + ": check the path")
NAMES = "one two three".split()
SQL = "SELECT a FROM b"
REASON = "ends too early"
'''
    assert [message[2:] for message in messages_of("f.py", source)] == [
        ("help", "how many to take"),
        ("print", "{path}: read"),
        ("error", "{path} does not exist: check the path"),
        ("text", "ends too early"),
    ]


def test_every_folder_has_messages_of_every_kind(messages: list[Message]) -> None:
    assert len(messages) > 800
    assert {message.kind for message in messages} == {"error", "print", "help", "column", "text"}
    folders = {message.path.partition("/")[0] for message in messages}
    assert folders == {"schemas", "folding", "atlas", "pipeline", "jobs", "scripts"}


def test_messages_are_plain_english(messages: list[Message]) -> None:
    ours = [
        message
        for message in messages
        if message.path.startswith(("folding/", "jobs/", "pipeline/", "schemas/", "scripts/"))
    ]
    quaint = [message for message in ours if QUAINT.search(re.sub(r"\{.*?\}", "", message.text))]
    assert [f"{message.path}:{message.line} {message.text}" for message in quaint] == []
