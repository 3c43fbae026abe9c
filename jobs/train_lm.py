"""`foldatlas train lm`: train a language model on masked residues, as ESM-2 was."""

import argparse
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.jobs.arguments import TRAINING_PRECISIONS, add_training, not_negative, path, positive, say
from foldatlas.schemas.errors import Interrupted, UsageError
from foldatlas.schemas.wording import counted

if TYPE_CHECKING:
    from foldatlas.folding.training.language_training import Trained

PRESET_NAMES: Final = ("nano", "8M", "35M", "150M", "650M", "3B", "15B")
_PASS_TOKENS: Final = {"cpu": 4_096, "cuda": 65_536}

EXAMPLES: Final = """examples:
  foldatlas train lm proteins.fasta run --preset nano
  foldatlas train lm uniref90.fasta run --preset 8M --clusters uniref50.tsv --precision bf16
  torchrun --nproc-per-node 8 -m foldatlas.jobs.cli train lm uniref90.fasta run --preset 650M --recompute

The same command resumes a stopped run. RUN has metrics.jsonl, checkpoints and, at the end,
model.safetensors: `foldatlas embed proteins.fasta embeddings.parquet --model RUN/model.safetensors`.
"""


def train_lm(
    fasta: Sequence[str],
    run: str | Path,
    *,
    preset: str,
    clusters: str | Path | None = None,
    valid: Sequence[str] = (),
    valid_fraction: float | None = None,
    steps: int | None = None,
    tokens_per_batch: int | None = None,
    learning_rate: float | None = None,
    warm_up_steps: int | None = None,
    weight_decay: float | None = None,
    crop: int | None = None,
    clip: float | None = None,
    precision: str = "fp32",
    seed: int = 0,
    device: str = "auto",
    tokens_per_pass: int | None = None,
    recompute: bool = False,
    log_every: int = 10,
    valid_every: int = 500,
    save_every: int = 500,
) -> "Trained":
    """Train a language model in the folder `run`, or resume the run there.

    None means the preset's value (folding/training/presets.py). `clusters` is a table of members and clusters, which
    are sampled evenly: text of `member<TAB>cluster` lines, or Parquet. The sequences of `valid` and their clusters are
    held out, or else `valid_fraction` (default 0.01) of the clusters. Raise UsageError or a subclass for wrong
    arguments, FoldAtlasError for a run that diverges, Interrupted after a stop whose state is saved.
    """
    from foldatlas.folding.training.data.corpus import build
    from foldatlas.folding.training.language_training import Recipe, RunSettings, train
    from foldatlas.folding.training.presets import CROP, PRESETS
    from foldatlas.folding.training.processes import process_group
    from foldatlas.folding.training.stopping import stop_on_signals
    from foldatlas.pipeline.sources.cluster_table import read_clusters
    from foldatlas.pipeline.sources.find import find_sources
    from foldatlas.pipeline.workers.devices import choose_device, hold_device

    if preset not in PRESETS:
        raise UsageError(f"unknown preset {preset!r}: use one of {', '.join(PRESETS)}")
    if valid and valid_fraction is not None:
        raise UsageError("--valid and --valid-fraction cannot be combined: give one of them")
    fraction = 0.0 if valid else 0.01 if valid_fraction is None else valid_fraction
    if not 0 <= fraction < 1:
        raise UsageError(f"--valid-fraction {fraction} must be at least 0 and less than 1")
    defaults = PRESETS[preset]
    steps = defaults.steps if steps is None else steps
    recipe = Recipe(
        config=defaults.config,
        steps=steps,
        tokens_per_batch=defaults.tokens_per_batch if tokens_per_batch is None else tokens_per_batch,
        learning_rate=defaults.learning_rate if learning_rate is None else learning_rate,
        # A short run would end before it is warm: a tenth of it then.
        warm_up_steps=min(defaults.warm_up_steps, steps // 10) if warm_up_steps is None else warm_up_steps,
        weight_decay=defaults.weight_decay if weight_decay is None else weight_decay,
        crop=CROP if crop is None else crop,
        precision=precision,
        seed=seed,
        clip=clip,
    )
    device = choose_device(device)
    if tokens_per_pass is None:
        tokens_per_pass = max(recipe.crop, min(recipe.tokens_per_batch, _PASS_TOKENS[device]))
    settings = RunSettings(tokens_per_pass, recompute, log_every, valid_every, save_every)
    find_sources([*fasta, *valid])  # check the names before anything slow
    with process_group(device) as processes, stop_on_signals() as stop:
        hold_device(str(processes.device))  # held until this process ends
        log = processes.only_first(say)
        refused: Counter[str] = Counter()
        try:
            corpus = build(
                _records(fasta, refused),
                cluster_of=None if clusters is None else read_clusters(Path(clusters)),
                valid_fraction=fraction,
                valid_records=_records(valid, refused) if valid else (),
            )
        finally:  # also if no record is left: then this is the reason
            if refused:
                reasons = ", ".join(f"{number:,} {reason}" for reason, number in sorted(refused.items()))
                log(f"refused {counted(refused.total(), 'record')} ({reasons})")
        if corpus.unlisted:
            log(f"{counted(corpus.unlisted, 'sequence')} not in {clusters}: equal sequences form a cluster")
        trained = train(Path(run), corpus, recipe, settings, processes, stop=stop, log=log)
    if not trained.is_done:  # this or another process of the run was asked to stop
        raise Interrupted(
            f"stopped after step {trained.step:,} of {recipe.steps:,}, saved in {run}: run the same command to resume",
            exit_code=stop.exit_code or 130,
        )
    return trained


def _records(fasta: Sequence[str], refused: Counter[str]) -> Iterator[tuple[str, str]]:
    """Yield id and sequence of each accepted record."""
    from foldatlas.pipeline.sources.accepted import accepted
    from foldatlas.pipeline.sources.find import find_sources

    for source in find_sources(fasta):
        for record in accepted(source, refused):
            yield record.id, record.sequence or ""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fasta", nargs="+", type=path, metavar="FASTA", help="protein FASTA, as for `foldatlas fold`")
    parser.add_argument("run_folder", type=path, metavar="RUN", help="folder of the run, new or to resume")
    parser.add_argument("--preset", required=True, choices=PRESET_NAMES, help="model size and defaults of the recipe")
    data = parser.add_argument_group("data")
    data.add_argument(
        "--clusters",
        type=path,
        metavar="FILE",
        help="table of member<TAB>cluster, text or Parquet; clusters are sampled evenly",
    )
    data.add_argument("--valid", type=path, nargs="+", default=[], metavar="FASTA", help="sequences to hold out")
    data.add_argument(
        "--valid-fraction", type=float, metavar="F", help="fraction of the clusters to hold out (default: 0.01)"
    )
    data.add_argument("--crop", type=positive, metavar="N", help="maximum tokens of a sequence (default: 1024)")
    data.add_argument("--seed", type=not_negative, default=0, metavar="N", help="random seed (default: %(default)s)")
    recipe = parser.add_argument_group("recipe", "the preset gives the defaults")
    recipe.add_argument("--steps", type=positive, metavar="N", help="number of steps, updates of the weights")
    recipe.add_argument("--tokens-per-batch", type=positive, metavar="N", help="tokens per step")
    recipe.add_argument("--learning-rate", type=float, metavar="X", help="peak, after the warm-up")
    recipe.add_argument("--warm-up-steps", type=not_negative, metavar="N", help="steps until the peak")
    recipe.add_argument("--weight-decay", type=float, metavar="X", help="for matrices, not for biases and LayerNorms")
    recipe.add_argument("--clip", type=float, metavar="X", help="maximum gradient norm (default: no clipping)")
    recipe.add_argument("--precision", choices=TRAINING_PRECISIONS, default="fp32", help="default: %(default)s")
    execution = parser.add_argument_group("execution", "options that do not change the result")
    add_training(execution, log_every=10)
    execution.add_argument(
        "--tokens-per-pass", type=positive, metavar="N", help="tokens per forward pass; more need more memory"
    )


def run(arguments: argparse.Namespace) -> int:
    from foldatlas.folding.weights.published import MODEL

    names = (
        "preset clusters valid valid_fraction steps tokens_per_batch learning_rate warm_up_steps weight_decay crop "
        "clip precision seed device tokens_per_pass recompute log_every valid_every save_every"
    )
    given = {name: getattr(arguments, name) for name in names.split()}
    trained = train_lm(arguments.fasta, arguments.run_folder, **given)
    held_out = "" if trained.valid_perplexity is None else f", held-out perplexity {trained.valid_perplexity:.2f}"
    if os.environ.get("RANK", "0") == "0":  # one line for all processes
        print(f"{counted(trained.step, 'step')} done{held_out}: {Path(arguments.run_folder) / MODEL}")
    return 0
