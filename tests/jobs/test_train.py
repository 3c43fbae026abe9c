"""`foldatlas train`: the command is the function, and mistakes are one line."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foldatlas.folding.planning.cost import NUMBER_BYTES
from foldatlas.folding.training import folding_training, recipes
from foldatlas.folding.training.losses import structure_loss
from foldatlas.folding.training.optimisers import AdamW
from foldatlas.folding.training.precision import PRODUCTS
from foldatlas.folding.training.presets import CROP, PRESETS
from foldatlas.jobs import train_fold, train_lm
from foldatlas.jobs.arguments import PRECISIONS, TRAINING_PRECISIONS
from foldatlas.jobs.cli import build_parser, main


@pytest.mark.parametrize(("recipe", "function"), [("lm", train_lm.train_lm), ("fold", train_fold.train_fold)])
def test_the_command_has_the_functions_options_and_defaults(recipe: str, function: Callable[..., Any]) -> None:
    parsed = vars(build_parser().parse_args(["train", recipe, "proteins", "run", "--preset", "nano"]))
    assert parsed["run_folder"] == "run"
    for name, parameter in inspect.signature(function).parameters.items():
        if name in ("fasta", "chains", "run", "preset"):
            continue
        expected = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        assert parsed[name] == expected, name


def test_command_accepts_every_name() -> None:
    assert tuple(PRESETS) == train_lm.PRESET_NAMES
    assert set(recipes.PRESETS) == set(train_fold.PRESET_NAMES)
    assert folding_training.PARTS == train_fold.PARTS
    assert tuple(structure_loss.PRESETS) == train_fold.LOSSES
    assert tuple(PRODUCTS) == TRAINING_PRECISIONS
    assert tuple(NUMBER_BYTES) == PRECISIONS


def test_presets_for_folding_train_every_head() -> None:
    """A head without a loss would keep its first weights, and pTM would be the same number for every protein."""
    for preset in recipes.PRESETS.values():
        assert all(getattr(preset.recipe.loss, name) > 0 for name in ("distogram", "plddt", "aligned_error"))


def test_presets_are_esm2s() -> None:
    sizes = {name: (p.config.num_layers, p.config.width, p.config.num_heads, p.steps) for name, p in PRESETS.items()}
    assert sizes["8M"] == (6, 320, 20, 500_000)
    assert sizes["35M"] == (12, 480, 20, 500_000)
    assert sizes["150M"] == (30, 640, 20, 500_000)
    assert sizes["650M"] == (33, 1280, 20, 500_000)
    assert sizes["3B"] == (36, 2560, 40, 500_000)
    assert sizes["15B"] == (48, 5120, 40, 270_000)
    assert all(preset.config.transition_width == 4 * preset.config.width for preset in PRESETS.values())
    released = [preset for name, preset in PRESETS.items() if name != "nano"]
    of_each = {(p.tokens_per_batch, p.learning_rate, p.weight_decay, p.warm_up_steps) for p in released}
    assert of_each == {(2_000_000, 4e-4, 0.01, 2_000), (3_200_000, 1.6e-4, 0.1, 2_000)}
    assert CROP == 1_024
    adam = AdamW(4e-4)
    assert (adam.betas, adam.eps, adam.weight_decay) == ((0.9, 0.98), 1e-8, 0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.fasta", "RUN", "--preset", "nano"], "none.fasta"),
        (["FASTA", "RUN", "--preset", "nano", "--crop", "3"], "a crop of 3 tokens"),
        (["FASTA", "FASTA/x", "--preset", "nano", "--steps", "20", "--device", "cpu"], "is a file"),
        (["FASTA", "RUN", "--preset", "nano", "--clusters", "FASTA"], "line 1: 1 column in"),
        (["EMPTY", "RUN", "--preset", "nano"], "EMPTY is empty: give a file with sequences"),
        (["REFUSED", "RUN", "--preset", "nano"], "no record was accepted, so there is nothing to train on"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("FASTA").write_text(">a\nMKVLAAGIVGLC\n>b\nMKVLAAGIVGLA\n")
    Path("EMPTY").write_text("")
    Path("REFUSED").write_text(">a\nMKV1LA\n>b\n\n")
    assert main(["train", "lm", *arguments]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1]
    assert said[-1].startswith("foldatlas train: ")
    assert not any("Traceback" in line for line in said)
    assert ("refused 2 records (1 digit, 1 empty_sequence)" in said) == ("REFUSED" in arguments)
    assert not Path("RUN", "checkpoints").exists()


def test_a_recipe_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train"])
    assert stop.value.code == 2
    assert "PART" in capsys.readouterr().err
