"""Runs of the masked language model: killed and resumed bitwise, in two processes as in one, and they learn."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from foldatlas.folding.training import metrics
from foldatlas.folding.training.data import sampling
from foldatlas.folding.training.data.corpus import build
from foldatlas.jobs.train_lm import train_lm
from foldatlas.schemas.errors import (
    FoldAtlasError,
    ForeignFolderError,
    SettingsMismatchError,
    SourceError,
    UsageError,
)

Start = Callable[..., tuple[int, str]]

STEPS = 12
SHORT: dict[str, Any] = {
    "preset": "nano",
    "steps": STEPS,
    "tokens_per_batch": 600,
    "tokens_per_pass": 256,
    "crop": 64,
    "valid_fraction": 0.2,
    "save_every": 2,
    "valid_every": 5,
    "log_every": 1,
    "seed": 3,
    "device": "cpu",
}
OPTIONS = [word for name, value in SHORT.items() for word in (f"--{name.replace('_', '-')}", str(value))]
TIMINGS = {"tokens_per_second"}


def log(path: Path) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if name not in TIMINGS} for line in metrics.read(path)]


@pytest.fixture(scope="module")
def uninterrupted(fasta: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "uninterrupted"
    trained = train_lm([str(fasta)], path, **SHORT)
    assert trained.is_done and trained.step == STEPS and trained.valid_perplexity is not None
    return path


def same(one: Path, other: Path) -> bool:
    """Whether two runs ended with the same bits: weights, and parameters and optimiser in the last checkpoint."""
    files = ["model.safetensors", f"checkpoints/step-{STEPS:08d}/tensors.safetensors"]
    found = [[load_file(path / file) for file in files] for path in (one, other)]
    return all(
        a.keys() == b.keys() and all(a[name].numpy().tobytes() == b[name].numpy().tobytes() for name in a)
        for a, b in zip(*found, strict=True)
    )


def test_every_step_sees_a_batch_of_its_own(uninterrupted: Path, sequences: list[str]) -> None:
    corpus = build(((f"p{number}", sequence) for number, sequence in enumerate(sequences)), valid_fraction=0.2)
    expected = [
        sum(example.length for example in sampling.batch(corpus, seed=3, step=step, tokens=600, crop=64))
        for step in range(1, STEPS + 1)
    ]
    assert [line["tokens"] for line in log(uninterrupted)] == expected
    assert len(set(expected)) > STEPS // 2


def test_a_killed_run_goes_on_bitwise(
    uninterrupted: Path, fasta: Path, tmp_path: Path, start: Start, somewhere: tuple[str, int]
) -> None:
    run = tmp_path / "run"
    code, output = start("lm", fasta, run, *OPTIONS, signalled=("SIGKILL", *somewhere))
    assert code == -signal.SIGKILL, (somewhere, output)
    assert not (run / "model.safetensors").exists()
    trained = train_lm([str(fasta)], run, **SHORT)
    assert trained.is_done
    assert same(run, uninterrupted), somewhere
    assert log(run) == log(uninterrupted), somewhere


def test_interrupted_saves_and_says_how_to_go_on(
    uninterrupted: Path, fasta: Path, tmp_path: Path, start: Start
) -> None:
    run = tmp_path / "run"
    in_the_third_step = ("SIGINT", "foldatlas.folding.training.optimisers:Optimiser.step", 3)
    code, output = start("lm", fasta, run, *OPTIONS, "--save-every", 1000, signalled=in_the_third_step)
    assert code == 130, output
    assert "Traceback" not in output
    assert output.splitlines()[-1].endswith(
        f"stopped after step 3 of {STEPS}, saved in {run}: run the same command to resume"
    )
    assert [child.name for child in (run / "checkpoints").iterdir()] == ["step-00000003"]
    train_lm([str(fasta)], run, **SHORT)
    assert same(run, uninterrupted)


@pytest.mark.slow
def test_two_processes_have_the_curve_of_one(uninterrupted: Path, fasta: Path, tmp_path: Path, start: Start) -> None:
    run = tmp_path / "run"
    code, output = start("lm", fasta, run, *OPTIONS, "--recompute", processes=2)
    assert code == 0, output
    ours, theirs = log(run), log(uninterrupted)
    assert [line["step"] for line in ours] == list(range(1, STEPS + 1))
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for name in ("loss", "gradient_norm", "valid_perplexity"):
            if name in one:
                assert one[name] == pytest.approx(other[name], rel=1e-4), (name, one["step"])
    # what two processes saved, one goes on with, and it is done
    assert train_lm([str(fasta)], run, **SHORT).is_done
    first, second = (load_file(path / "model.safetensors") for path in (run, uninterrupted))
    assert all(float((first[name] - second[name]).abs().max()) < 1e-3 for name in second)


@pytest.mark.parametrize(
    ("changed", "tolerance"), [({"tokens_per_pass": 600, "recompute": True}, 1e-4), ({"precision": "bf16"}, 1e-2)]
)
def test_options_that_change_only_rounding_keep_the_curve(
    uninterrupted: Path, fasta: Path, tmp_path: Path, changed: dict[str, Any], tolerance: float
) -> None:
    train_lm([str(fasta)], tmp_path / "run", **{**SHORT, **changed})
    for one, other in zip(log(tmp_path / "run"), log(uninterrupted), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=tolerance)


def test_it_learns_eight_sequences(tmp_path: Path) -> None:
    """Each of two residues of its own, in turn, so that hidden residues follow from visible ones; the residues'
    frequencies alone give 16."""
    fasta = tmp_path / "eight.fasta"
    letters = "ACDEFGHIKLMNPQRS"
    fasta.write_text("".join(f">{number}\n{letters[2 * number : 2 * number + 2] * 10}\n" for number in range(8)))
    train_lm(
        [str(fasta)],
        tmp_path / "run",
        preset="nano",
        steps=25,
        log_every=1,
        tokens_per_batch=256,
        learning_rate=3e-3,
        warm_up_steps=5,
        valid_fraction=0.0,
        clip=1.0,
        device="cpu",
    )
    curve = [line["perplexity"] for line in metrics.read(tmp_path / "run")]
    assert curve[0] > 14
    assert curve[-1] < 3


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"seed": 4}, SettingsMismatchError, "seed = 3, now it is 4"),
        ({"steps": 13}, SettingsMismatchError, "steps = 12, now it is 13"),
        ({"valid_fraction": 0.3}, SettingsMismatchError, "data = "),
    ],
)
def test_a_run_goes_on_as_it_was_begun(
    uninterrupted: Path, fasta: Path, changed: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train_lm([str(fasta)], uninterrupted, **{**SHORT, **changed})


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"preset": "9M"}, UsageError, "unknown preset '9M'"),
        ({"crop": 8}, UsageError, "a crop of 8 tokens"),
        ({"tokens_per_pass": 50}, UsageError, "passes of 50 tokens cannot hold a crop of 64"),
        ({"learning_rate": 0.0}, UsageError, "must be above 0"),
        ({"learning_rate": float("nan")}, UsageError, "must be above 0"),
        ({"weight_decay": -1.0}, UsageError, "weight decay -1.0"),
        ({"weight_decay": float("inf")}, UsageError, "weight decay inf"),
        ({"clip": -1.0}, UsageError, "norm of -1.0"),
        ({"clip": float("nan")}, UsageError, "norm of nan"),
        ({"clip": 0.0}, UsageError, "norm of 0.0"),
        ({"warm_up_steps": 11}, UsageError, "warm-up of 11 steps does not fit before step 11"),
        ({"precision": "fp8"}, UsageError, "fp8"),
        ({"valid_fraction": 1.0}, UsageError, "valid-fraction 1.0 must be"),
        ({"valid": ["none.fasta"], "valid_fraction": None}, SourceError, "none.fasta does not exist"),
        ({"clusters": "none.tsv"}, SourceError, "none.tsv cannot be read"),
        ({"learning_rate": 1e30, "warm_up_steps": 0}, FoldAtlasError, "diverged"),
    ],
)
def test_mistakes_are_refused(
    fasta: Path, tmp_path: Path, changed: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train_lm([str(fasta)], tmp_path / "run", **{**SHORT, **changed})


def test_another_folder_is_left_alone(fasta: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ForeignFolderError):
        train_lm([str(fasta)], tmp_path, **SHORT)
    assert [child.name for child in tmp_path.iterdir()] == ["notes.txt"]
