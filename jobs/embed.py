"""`foldatlas embed`: embeddings from the language model, without folding."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.jobs.arguments import EMBEDDING_PRECISIONS, FASTA_HELP, add_device, add_weights, path, say
from foldatlas.jobs.weights import provide

if TYPE_CHECKING:
    from foldatlas.pipeline.embedding import Embedded

EXAMPLES: Final = """examples:
  foldatlas embed proteins.fasta embeddings.parquet --model nano
  foldatlas embed proteins.fasta layer3.parquet --model nano --layer 3 --per-residue

The Parquet file has one row per record: source, offset, id, structure_id, length, mean (float32), residues (float16,
all channels of the first residue, then of the next; NULL without --per-residue) and error (the reason if a record could
not be embedded, else NULL). Its metadata has the model, the digest of the weights and the layer.
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
    """Write hidden states of `layer` (0: token embedding, -1: last layer) for `fasta` (paths or patterns) to Parquet.

    Mean over residues, and with `per_residue` also of each residue. `weights` is a folder that is searched for
    the model first; `precision` is "fp32", "bf16" or "fp16". Raise UsageError for a file that is not FASTA, an
    `out` that exists, or a layer that the model does not have.
    """
    from foldatlas.folding.language_predictor import layer_numbers
    from foldatlas.folding.models import language_model_of, notes_of
    from foldatlas.folding.weights.model_files import absolute
    from foldatlas.pipeline.embedding import CHILD, embed_fasta, refuse_existing
    from foldatlas.pipeline.sources.find import find_sources
    from foldatlas.pipeline.workers.devices import choose_device
    from foldatlas.pipeline.workers.supervisor import WorkerSpec

    find_sources(fasta, skip_pipes=True)  # check the names before anything slow
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
    parser.add_argument("out", type=path, metavar="OUT", help="new Parquet file")
    parser.add_argument(
        "--model", type=path, required=True, metavar="NAME", help="an ESM-2 or folding model: name or path"
    )
    add_weights(parser)
    parser.add_argument(
        "--layer",
        type=int,
        default=-1,
        metavar="N",
        help="hidden layer: 0 token embedding, 1 first layer, -1 last layer (default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        choices=EMBEDDING_PRECISIONS,
        default="fp32",
        help="precision of the arithmetic (default: %(default)s)",
    )
    parser.add_argument("--per-residue", action="store_true", help="also store the hidden state of each residue")
    add_device(parser)


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
        say("refused records have no row in the file")
    if done.first_error:
        say(f"some records failed; the column error has the reasons, the first is: {done.first_error}")
    print(done.line())
    return 3 if done.failed else 0
