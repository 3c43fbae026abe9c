"""The `foldatlas` command itself: its help, and errors of usage in one line."""

import pytest

from foldatlas.jobs.cli import COMMANDS, main


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    listed = [line.split()[0] for line in shown.err.splitlines() if line.startswith("  ")]
    assert [name for name in listed if name in {name for group in COMMANDS.values() for name in group}] == [
        name for group in COMMANDS.values() for name in group
    ]
    assert max(map(len, shown.err.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "message"),
    [
        # the unknown option is reported before arguments that are missing
        (["fold", "x.fasta", "atlas", "--modle", "nano"], "unknown option --modle: did you mean --model?"),
        (["fold", "--model=nano", "--rnner=R", "x.fasta", "atlas"], "unknown option --rnner: did you mean --runner?"),
        (["train", "lm", "x.fasta", "run", "--foo"], "unknown option --foo"),
        (["fold", "--model", "nano"], "the following arguments are required: ATLAS"),
        (["query", "atlas", "select 1", "--memory-limit", "lots"], "'lots' is not a size such as 500MB or 4GB"),
        (["export", "atlas", "new", "--format", "pdb", "--limit", "0"], "0 must be 1 or more"),
    ],
)
def test_wrong_usage_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    command = " ".join(words[: 2 if words[0] == "train" else 1])
    assert line.endswith(f"(see `foldatlas {command} --help`)")


def test_sql_may_begin_with_a_comment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", "no-such-atlas", "--format", "csv", "-- a comment\nselect 1"]) == 2
    assert "no such folder" in capsys.readouterr().err
