"""`foldatlas embed`: embeddings of FASTA by the language model alone, without folding."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.jobs.arguments import FASTA_HELP, PRECISIONS, add_weights, path, say
from foldatlas.jobs.weights import provide

if TYPE_CHECKING:
    from foldatlas.pipeline.embedding import Embedded

EXAMPLES: Final = """examples:
  foldatlas embed proteins.fasta embeddings.parquet --model nano
  foldatlas embed proteins.fasta layer3.parquet --model nano --layer 3 --per-residue

A row a record: source, offset, id, structure_id, length, mean (float32) and, with --per-residue, residues (float16, all
channels of the first residue, then of the next; NULL without), and error: why a record has neither, NULL where it has.
The file names model, weights and layer in its metadata.
"""


def embed(
    fasta: Sequence[str],
    out: str | Path,
    *,
    model: str,
    layer: int = -1,
    per_residue: bool = False,
    device: str = "auto",
    weights: str | Path | None = None,
    precision: str = "fp32",
) -> "Embedded":
    """Writes a Parquet file of the hidden states of `layer` (0 the embedding of tokens, -1 the last) for `fasta`
    (paths or patterns): their mean over residues and, with `per_residue`, the states.

    `weights` is the folder in which a model's name is looked for first; `precision` "fp32", "bf16" or "fp16". Raises
    UsageError for a file that is no FASTA, an `out` that exists or a layer that the model does not have.
    """
    from foldatlas.folding.language_predictor import layer_numbers
    from foldatlas.folding.models import language_model_of, notes_of
    from foldatlas.folding.weights.model_files import absolute
    from foldatlas.pipeline.embedding import CHILD, embed_fasta, refuse_existing
    from foldatlas.pipeline.sources.find import find_sources
    from foldatlas.pipeline.workers.devices import choose_device
    from foldatlas.pipeline.workers.supervisor import WorkerSpec

    find_sources(fasta, skip_pipes=True)  # before anything slow
    refuse_existing(Path(out))
    device = choose_device(device)
    weights_dir = None if weights is None else str(Path(weights).absolute())
    provide(model, weights_dir, to_fold=False)
    config, settings = language_model_of(model, precision, weights_dir=weights_dir)
    say(*(f"{model}: {note}" for note in notes_of(model, language_model_only=True, weights_dir=weights_dir)))
    (layer,) = layer_numbers([layer], config.num_layers)
    worker = WorkerSpec(absolute(model), settings, device, weights_dir, CHILD)
    return embed_fasta(fasta, Path(out), worker, config, layer=layer, per_residue=per_residue)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "fasta",
        nargs="+",
        type=path,
        metavar="FASTA",
        help=FASTA_HELP,
    )
    parser.add_argument("out", type=path, metavar="OUT", help="Parquet file to write; must not exist")
    parser.add_argument(
        "--model", type=path, required=True, metavar="NAME", help="an ESM-2 or a folding model: name or path"
    )
    add_weights(parser)
    parser.add_argument(
        "--layer",
        type=int,
        default=-1,
        metavar="N",
        help="hidden layer: 0 the embedding of tokens, 1 the first, -1 the last (default: %(default)s)",
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="fp32", help="of the arithmetic (default: %(default)s)"
    )
    parser.add_argument("--per-residue", action="store_true", help="store each residue's states too")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to embed (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    done = embed(
        arguments.fasta,
        arguments.out,
        model=arguments.model,
        layer=arguments.layer,
        per_residue=arguments.per_residue,
        device=arguments.device,
        weights=arguments.weights,
        precision=arguments.precision,
    )
    if done.refused:
        say("refused records have no row")
    if done.first_error:
        say(f"failed records have the reason in the column error, the first is {done.first_error}")
    print(done.line())
    return 3 if done.failed else 0
