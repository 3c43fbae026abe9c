"""`foldatlas train fold`: train a folding head on experimental structures."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.jobs.arguments import TRAINING_PRECISIONS, add_training, add_weights, not_negative, path, positive, say
from foldatlas.jobs.weights import provide
from foldatlas.schemas.errors import Interrupted, UsageError
from foldatlas.schemas.wording import counted

if TYPE_CHECKING:
    from foldatlas.folding.compare.experimental import Chain
    from foldatlas.folding.config import ESMFoldConfig
    from foldatlas.folding.training.folding_training import Recipe, RunSettings
    from foldatlas.folding.training.processes import Processes
    from foldatlas.folding.training.starting_model import StartingModel

PRESET_NAMES: Final = ("nano", "esmfold")
PARTS: Final = ("folding", "all", "confidence")
LOSSES: Final = ("alphafold2", "alphafold2-fine-tuning", "small")

EXAMPLES: Final = """examples:
  foldatlas train fold chains.parquet run --preset nano --language-model lm/model.safetensors
  foldatlas train fold chains.parquet run2 --preset nano --init run/model.safetensors --train confidence
  torchrun --nproc-per-node 8 -m foldatlas.jobs.cli train fold chains.parquet run --preset esmfold \\
      --language-model esm2_t36_3B_UR50D --precision bf16 --recompute

CHAINS is a table of experimental chains (docs/training.md). The same command resumes a stopped run. RUN
has metrics.jsonl, checkpoints and, at the end, model.safetensors: `foldatlas fold ... --model RUN/model.safetensors`.
"""


def train_fold(
    chains: str | Path,
    run: str | Path,
    *,
    preset: str,
    language_model: str | None = None,
    init: str | None = None,
    weights: str | Path | None = None,
    train: str = "folding",
    splits: Sequence[str] = ("train",),
    only: str | Path | None = None,
    max_length: int | None = None,
    valid_split: str | None = None,
    phases: Sequence[str] = (),
    loss: str | None = None,
    recycles: int | None = None,
    learning_rate: float | None = None,
    muon_learning_rate: float | None = None,
    warm_up_steps: int | None = None,
    average_decay: float | None = None,
    precision: str = "fp32",
    seed: int = 0,
    device: str = "auto",
    recompute: bool = False,
    log_every: int = 50,
    valid_every: int = 500,
    save_every: int = 500,
) -> Path:
    """Train the folding head in the folder `run`, or resume the run there; return the path of the trained model.

    The run starts from `language_model` with a new head, or from the folding model `init`: names or paths as for
    `--model`. `train` selects the parameters: "folding" (all but the language model), "all", or "confidence" (the
    pLDDT and PAE heads, with the number of recycles that folding uses). `loss` names loss weights
    (structure_loss.PRESETS). `only` is a file with the names of chains to train on, one per line, alone or in the
    first column. `max_length` is in residues; `phases` are texts like "64x4x3000" (crop length, crops per step, steps);
    `log_every`, `valid_every` and `save_every` are in steps. None means the preset's value
    (folding/training/recipes.py).

    Raise UsageError or a subclass for invalid input, TrainingError for a run that diverges, Interrupted after a stop
    whose state was saved.
    """
    from foldatlas.folding.training.folding_training import RunSettings
    from foldatlas.folding.training.recipes import PRESETS

    if preset not in PRESETS:
        raise UsageError(f"unknown preset {preset!r}: use one of {', '.join(PRESETS)}")
    recipe = _recipe(
        PRESETS[preset].recipe,
        phases=phases,
        loss=loss,
        recycles=recycles,
        learning_rate=learning_rate,
        muon_learning_rate=muon_learning_rate,
        warm_up_steps=warm_up_steps,
        average_decay=average_decay,
        parts=train,
        precision=precision,
        seed=seed,
    )
    if (language_model is None) == (init is None):
        raise UsageError("give --language-model for a new folding head, or --init with a folding model to start from")
    origin = _Origin(PRESETS[preset].config, language_model, init, None if weights is None else str(weights))
    data = _read_data(chains, splits, max_length, only, valid_split)
    settings = RunSettings(recompute, log_every, valid_every, save_every)
    return _train(Path(run), recipe, settings, origin, data, device)


@dataclass(frozen=True)
class _Origin:
    """The model that a run starts from: a new head of the sizes `config` on `language_model`, or the model `init`."""

    config: "ESMFoldConfig"
    language_model: str | None
    init: str | None
    weights_dir: str | None


@dataclass(frozen=True)
class _Data:
    """Chains to train on, and chains to validate on."""

    training: "list[Chain]"
    valid: "list[Chain]"


def _train(run: Path, recipe: "Recipe", settings: "RunSettings", origin: _Origin, data: _Data, device: str) -> Path:
    """Train `recipe` in the folder `run`; return the path of the trained model. Raise as `train_fold`."""
    from foldatlas.folding.training.folding_training import FoldTrainer, digest_of_chains
    from foldatlas.folding.training.processes import process_group
    from foldatlas.folding.training.stopping import stop_on_signals
    from foldatlas.folding.weights.published import MODEL
    from foldatlas.pipeline.workers.devices import choose_device, hold_device

    with process_group(choose_device(device)) as processes, stop_on_signals() as stop:
        hold_device(str(processes.device))  # until this process ends
        start = _load_start(origin, recipe, processes)
        trainer = FoldTrainer(
            start.network,
            data.training,
            recipe,
            run,
            {"begins_with": start.digest, "chains": digest_of_chains(data.training)},
            processes,
            settings=settings,
            valid=data.valid,
            log=processes.only_first(say),
        )
        try:
            done = trainer.train(stop)
            if done and processes.is_first:
                start.save(run / MODEL)
        finally:
            trainer.close()
    if not done:  # this process, or another one of the run, was asked to stop
        raise Interrupted(
            f"stopped after step {trainer.step:,} of {recipe.num_steps:,}, which is saved in {run}: the same command "
            "resumes the run",
            exit_code=stop.exit_code or 130,
        )
    return run / MODEL


def _recipe(
    recipe: "Recipe",
    *,
    phases: Sequence[str],
    loss: str | None,
    learning_rate: float | None,
    muon_learning_rate: float | None,
    **settings: object,
) -> "Recipe":
    """Return the preset's recipe with the given settings replaced; None keeps the preset's value."""
    from dataclasses import replace

    from foldatlas.folding.training.data.crops import parse_phase
    from foldatlas.folding.training.losses import structure_loss

    changed = {name: value for name, value in settings.items() if value is not None}
    if phases:
        changed["phases"] = tuple(parse_phase(phase) for phase in phases)
        steps = sum(phase.steps for phase in changed["phases"])  # type: ignore[attr-defined]
        changed.setdefault("warm_up_steps", min(recipe.warm_up_steps, steps // 10))
    if loss is not None:
        if loss not in structure_loss.PRESETS:
            raise UsageError(f"unknown loss {loss!r}: use one of {', '.join(structure_loss.PRESETS)}")
        changed["loss"] = structure_loss.PRESETS[loss]
    if learning_rate is not None:
        changed["adamw"] = replace(recipe.adamw, learning_rate=learning_rate)
    if muon_learning_rate is not None:
        if recipe.muon is None:
            raise UsageError("--muon-learning-rate is for presets that train with Muon, such as nano")
        changed["muon"] = replace(recipe.muon, learning_rate=muon_learning_rate) if muon_learning_rate else None
    return replace(recipe, **changed)  # type: ignore[arg-type]


def _load_start(origin: _Origin, recipe: "Recipe", processes: "Processes") -> "StartingModel":
    """Load the model that the run starts from. The first process fetches missing files; the others wait for it."""
    from foldatlas.folding.training import starting_model

    recycles, device, weights_dir = recipe.recycles, str(processes.device), origin.weights_dir
    if origin.language_model is not None:
        processes.run_on_first(partial(provide, origin.language_model, weights_dir, to_fold=False))
        return starting_model.from_language_model(
            origin.config,
            origin.language_model,
            recipe.seed,
            recycles=recycles,
            weights_dir=weights_dir,
            device=device,
        )
    assert origin.init is not None
    processes.run_on_first(partial(provide, origin.init, weights_dir))
    return starting_model.from_model(origin.init, recycles=recycles, weights_dir=weights_dir, device=device)


def _read_data(
    chains: str | Path,
    splits: Sequence[str],
    max_length: int | None,
    only: str | Path | None,
    valid_split: str | None,
) -> _Data:
    """Read the chains of a run, as `train_fold` describes them."""
    from foldatlas.folding.compare.experimental import read_chains

    training = _only(read_chains(chains, splits, max_length), only)
    return _Data(training, read_chains(chains, [valid_split], max_length) if valid_split else [])


def _only(chains: "list[Chain]", path: str | Path | None) -> "list[Chain]":
    """Return those of `chains` that the file at `path` lists; all of them if `path` is None."""
    if path is None:
        return chains
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} cannot be read ({error}): give a text file with the name of a chain on each line"
        ) from error
    names = {line.split()[0] for line in lines if line.split()}
    chosen = [chain for chain in chains if chain.name in names]
    if not chosen:
        raise UsageError(
            f"{path} has {counted(len(names), 'name')}, none of which is a chain of the given splits and length: "
            "check --split and --max-length"
        )
    return chosen


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("chains", type=path, metavar="CHAINS", help="Parquet file of experimental chains")
    parser.add_argument("run_folder", type=path, metavar="RUN", help="folder of the run, new or to resume")
    parser.add_argument("--preset", required=True, choices=PRESET_NAMES, help="model size and defaults of the recipe")
    network = parser.add_argument_group("network")
    network.add_argument(
        "--language-model", type=path, metavar="NAME", help="language model of a new folding head: name or path"
    )
    network.add_argument("--init", type=path, metavar="NAME", help="folding model to start from: name or path")
    add_weights(network)
    network.add_argument("--train", choices=PARTS, default="folding", help="parameters to train (default: %(default)s)")
    data = parser.add_argument_group("data")
    data.add_argument(
        "--split",
        dest="splits",
        nargs="+",
        default=["train"],
        metavar="NAME",
        help="splits to train on (default: train)",
    )
    data.add_argument("--only", type=path, metavar="FILE", help="file of names of the chains to train on, one per line")
    data.add_argument(
        "--max-length", type=positive, metavar="N", help="maximum length of a chain, in residues (default: none)"
    )
    data.add_argument("--valid-split", metavar="NAME", help="split whose mean lDDT is logged (default: none)")
    data.add_argument("--seed", type=not_negative, default=0, metavar="N", help="random seed (default: %(default)s)")
    recipe = parser.add_argument_group("recipe", "the preset gives the defaults")
    recipe.add_argument(
        "--phases",
        nargs="+",
        default=[],
        metavar="CROPxBATCHxSTEPS",
        help="crop length, crops per step and steps of each phase: 64x4x3000 150x4x3000",
    )
    recipe.add_argument("--loss", choices=LOSSES, help="weights of the losses; fine-tuning includes violations")
    recipe.add_argument(
        "--recycles", type=not_negative, metavar="N", help="maximum number of recycles, sampled for each step"
    )
    recipe.add_argument("--learning-rate", type=float, metavar="X", help="peak learning rate of AdamW")
    recipe.add_argument(
        "--muon-learning-rate", type=float, metavar="X", help="peak learning rate of Muon; 0: AdamW trains everything"
    )
    recipe.add_argument("--warm-up-steps", type=not_negative, metavar="N", help="steps until the peak")
    recipe.add_argument("--average-decay", type=float, metavar="X", help="decay of the averaged weights, 0 to 1")
    recipe.add_argument("--precision", choices=TRAINING_PRECISIONS, default="fp32", help="default: %(default)s")
    execution = parser.add_argument_group("execution", "options that do not change the result")
    add_training(execution, log_every=50)


def run(arguments: argparse.Namespace) -> int:
    names = (
        "preset language_model init weights train splits only max_length valid_split phases loss recycles "
        "learning_rate muon_learning_rate warm_up_steps average_decay precision seed device recompute log_every "
        "valid_every save_every"
    )
    given = {name: getattr(arguments, name) for name in names.split()}
    made = train_fold(arguments.chains, arguments.run_folder, **given)
    if os.environ.get("RANK", "0") == "0":  # one line for all processes
        print(made)
    return 0
