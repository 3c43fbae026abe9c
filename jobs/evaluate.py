"""`foldatlas evaluate`: comparison of models and baselines with experiment, as tables and a report with plots."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from foldatlas.jobs.arguments import PRECISIONS, add_device, add_weights, not_negative, path, positive, say
from foldatlas.jobs.weights import provide
from foldatlas.schemas.wording import counted

EXAMPLES: Final = """examples:
  foldatlas evaluate chains.parquet evaluation --model nano
  foldatlas evaluate chains.parquet evaluation --model nano --split valid --split train:150
  foldatlas evaluate chains.parquet scaling --model models/small --model models/large --exact-perplexity

OUT is a new folder with chains.parquet (one row per chain and model), summary.json and report.html. A chain that cannot
be folded has a row with the reason. docs/training.md describes CHAINS and the measures.
"""
SECONDS_BETWEEN_LINES: Final = 10.0
TRAINING: Final = "train"  # the split that the random-chain and unigram baselines use


def evaluate(
    chains: str | Path,
    out: str | Path,
    *,
    models: Sequence[str],
    splits: Sequence[str] = ("valid",),
    roles: str | Path | None = None,
    max_length: int | None = None,
    limit: int | None = None,
    weights: str | Path | None = None,
    recycles: int | None = None,
    device: str = "auto",
    precision: str = "fp32",
    exact_perplexity: bool = False,
    show_progress: bool = False,
) -> dict[str, Any]:
    """Fold chains of `chains` with each of `models`, compare them with experiment, and write the new folder `out`.

    Return the content of its summary.json. `chains` is a Parquet file; `splits` are names of splits, optionally with a
    maximum length ("valid", "train:150"). `roles` is a table of chain names and roles that replace their splits;
    `max_length` the maximum length (residues) of splits without one; `limit` the maximum number of chains per split,
    sampled with a fixed seed; `weights` a folder that is searched for models first; `recycles` the trunk passes after
    the first (None: each model's default). Raise UsageError, with nothing written, for wrong arguments.
    """
    from foldatlas.folding.compare.experimental import read_chains
    from foldatlas.folding.evaluation import choice, files, run
    from foldatlas.folding.models import load, settings_of
    from foldatlas.pipeline.workers.devices import choose_device, hold_device
    from foldatlas.schemas.errors import UsageError
    from foldatlas.schemas.version import program_version

    out = Path(out)
    files.check_output_folder(out)
    weights_dir = None if weights is None else str(weights)
    choices = [choice.parse_choice(split, max_length) for split in splits]
    every = read_chains(chains)
    training = [chain for chain in every if chain.split == TRAINING]
    if roles is not None:
        every = choice.with_roles(every, choice.read_roles(roles))
    chosen = choice.choose(every, choices, limit)
    evaluated = choice.distinct(chosen)
    for model in models:
        provide(model, weights_dir)
    names = [settings_of(model, recycles, precision, weights_dir=weights_dir).model for model in models]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"two models are called {repeated[0]}: give each once, or rename the folder of one")
    device = choose_device(device)
    hold_device(device)  # held until this process ends
    progress = _Progress() if show_progress else None
    rows, settings = [], []
    for model in models:
        predictor = load(model, recycles=recycles, precision=precision, device=device, weights_dir=weights_dir)
        settings.append(predictor.settings)
        rows += run.evaluate_model(predictor, "model", evaluated, exact_perplexity, progress)
        del predictor  # one model's weights in memory at a time
    rows += run.evaluate_model(run.untrained_predictor(device, recycles), "baseline", evaluated, progress=progress)
    rows += run.evaluate_baselines(evaluated, training, progress)
    notes = (
        []
        if training
        else [f"{chains} has no chains of split {TRAINING}: the random-chain and unigram baselines are missing."]
    )
    if exact_perplexity:
        notes.append("Perplexity is exact: each residue is masked in turn.")
    return files.write(
        out,
        rows,
        chosen,
        training,
        settings,
        program=f"foldatlas {program_version()}",
        source=Path(chains).name,
        notes=notes,
    )


class _Progress:
    """Print progress, at most every ten seconds and at the end of each model."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, name: str, done: int, total: int) -> None:
        if done == total or time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            say(f"{name}: {done:,} of {counted(total, 'chain')}")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("chains", type=path, metavar="CHAINS", help="Parquet file of experimental chains")
    parser.add_argument("out", type=path, metavar="OUT", help="new folder")
    parser.add_argument(
        "--model",
        type=path,
        action="append",
        required=True,
        metavar="NAME",
        help="folding model: name or path; can be repeated",
    )
    parser.add_argument(
        "--split",
        action="append",
        metavar="SPLIT[:LENGTH]",
        help="split of chains to fold, with a maximum length in residues; can be repeated (default: valid)",
    )
    parser.add_argument(
        "--roles", type=path, metavar="TSV", help="table of chain names and roles, which replace the splits"
    )
    parser.add_argument(
        "--max-length",
        type=positive,
        metavar="N",
        help="maximum length for splits without one, in residues (default: none)",
    )
    parser.add_argument(
        "--limit", type=positive, metavar="N", help="at most N chains of each split, sampled with a fixed seed"
    )
    add_weights(parser)
    parser.add_argument(
        "--recycles", type=not_negative, metavar="N", help="trunk passes after the first (default: the model's)"
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="fp32", help="precision of the arithmetic (default: %(default)s)"
    )
    parser.add_argument(
        "--exact-perplexity",
        action="store_true",
        help="mask each residue in turn: one pass per residue instead of seven passes",
    )
    add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    summary = evaluate(
        arguments.chains,
        arguments.out,
        models=arguments.model,
        splits=arguments.split or ("valid",),
        roles=arguments.roles,
        max_length=arguments.max_length,
        limit=arguments.limit,
        weights=arguments.weights,
        recycles=arguments.recycles,
        device=arguments.device,
        precision=arguments.precision,
        exact_perplexity=arguments.exact_perplexity,
        show_progress=True,
    )
    for note in summary["notes"]:
        say(note)
    print("\n".join(_lines(summary)))
    failed = sum(found["failed"] for part in summary["splits"].values() for found in _models(part))
    return 3 if failed else 0


def _lines(summary: dict[str, Any]) -> list[str]:
    """Return the main results, one line per split and model."""
    width = max(len(name) for part in summary["splits"].values() for name in part["models"])
    lines = []
    for label, part in summary["splits"].items():
        lines.append(f"{label}: {counted(part['chains'], 'chain')}")
        for name, found in part["models"].items():
            means = (found["measures"][key]["mean"] for key in _SHOWN)
            shown = (
                f"{title} {'  -  ' if mean is None else format(mean, '.3f')}"
                for title, mean in zip(_SHOWN.values(), means, strict=True)
            )
            lines.append(f"  {name:{width}}  {'  '.join(shown)}")
    return lines


def _models(part: dict[str, Any]) -> list[dict[str, Any]]:
    return [found for found in part["models"].values() if found["kind"] == "model"]


_SHOWN: Final = {"tm_score": "TM", "gdt_ts": "GDT-TS", "lddt_ca": "lDDT-CA", "contact_precision": "contacts"}
