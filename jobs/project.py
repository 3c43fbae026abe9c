"""`foldatlas project`: a map of the proteins of an atlas in two dimensions."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.jobs.arguments import ATLAS_HELP, not_negative, path, positive, say, statement
from foldatlas.jobs.progress import progress_bar
from foldatlas.schemas.errors import Interrupted, UsageError
from foldatlas.schemas.wording import counted, readable_time

if TYPE_CHECKING:
    from foldatlas.atlas.projection.run import Mapped

EXAMPLES: Final = """examples:
  foldatlas project atlas
  foldatlas query atlas "select id, x, y from proteins join projection using (structure_id)"
  foldatlas project atlas --features composition --seed 1
  foldatlas project atlas --protspace atlas.parquetbundle && protspace serve atlas.parquetbundle
  foldatlas project atlas --embedding-atlas map.parquet --where "length > 60"
  embedding-atlas map.parquet --x x --y y --text identifier

The map is from embeddings where the atlas has them (fold --embeddings mean), else from composition, length, pLDDT and
shape. It is made once: the command is needed again after more proteins were folded. It needs openTSNE:
pip install 'foldatlas[map]'. docs/project.md describes the method.
"""

FEATURES: Final = ("embeddings", "composition")
BUNDLE: Final = ".parquetbundle"


def project(
    atlas: str | Path,
    *,
    features: str | None = None,
    seed: int = 0,
    threads: int | None = None,
    protspace: str | Path | None = None,
    embedding_atlas: str | Path | None = None,
    where: str | None = None,
    show_progress: bool = False,
    on_phase: Callable[[str], None] = lambda name: None,
) -> "Mapped":
    """Map the proteins of `atlas` in two dimensions and update its index, unless the map is up to date.

    `features`: embeddings or composition (None: embeddings if the atlas has them). `seed`: of the draw of at most
    100,000 structures that the layout is fitted on, and of the layout. `threads`: None for all processors; positions do
    not depend on it. `protspace`: write the map to this file, a .parquetbundle for ProtSpace; `embedding_atlas`: to
    this one, Parquet for Embedding Atlas; `where`: only proteins that meet this SQL condition, in these files.

    Raise UsageError for an atlas without structures, missing embeddings or libraries, QueryError for a wrong condition.
    """
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.index.build import up_to_date
    from foldatlas.atlas.projection.run import project_atlas
    from foldatlas.atlas.reader import Atlas
    from foldatlas.pipeline.workers.devices import own_cores

    if where is not None and protspace is None and embedding_atlas is None:
        raise UsageError("--where is for the files of --protspace and --embedding-atlas: give one of them")
    if protspace is not None and Path(protspace).suffix != BUNDLE:
        raise UsageError(f"ProtSpace opens files that end in {BUNDLE}: give such a name, not {protspace}")
    for file in (protspace, embedding_atlas):
        if file is not None and not Path(file).absolute().parent.is_dir():
            raise UsageError(f"{Path(file).parent} does not exist or is not a folder: {file} cannot be written")
    folder = AtlasFolder.existing(atlas)
    up_to_date(folder, on_phase)
    if where is not None:
        with Atlas.open(atlas) as opened:
            opened.condition(where)  # before the map is made
    with progress_bar("structures", is_shown=show_progress) as progress:
        report = project_atlas(
            folder, features=features, seed=seed, threads=threads or own_cores(), progress=progress, on_phase=on_phase
        )
    up_to_date(folder, on_phase)
    if protspace is not None or embedding_atlas is not None:
        _write_files(atlas, protspace, embedding_atlas, where)
    return report


def _write_files(
    atlas: str | Path, protspace: str | Path | None, embedding_atlas: str | Path | None, where: str | None
) -> None:
    from foldatlas.atlas.projection.embedding_atlas import write_embedding_atlas
    from foldatlas.atlas.projection.points import points
    from foldatlas.atlas.projection.protspace import write_protspace
    from foldatlas.atlas.reader import Atlas

    with Atlas.open(atlas) as opened:
        if protspace is not None:
            [row] = opened.query(
                "SELECT run, method, features, seed, structures, fitted FROM projection_runs WHERE is_latest"
            ).rows()
            names = ("run", "method", "features", "seed", "structures", "fitted")
            write_protspace(Path(protspace), *points(opened, where), dict(zip(names, row, strict=True)))
        if embedding_atlas is not None:
            write_embedding_atlas(Path(embedding_atlas), *points(opened, where))


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("atlas", type=path, metavar="ATLAS", help=ATLAS_HELP)
    parser.add_argument(
        "--features", choices=FEATURES, help="what the map is from (default: embeddings if the atlas has them)"
    )
    parser.add_argument(
        "--seed", type=not_negative, default=0, metavar="N", help="seed of draw and layout (default: %(default)s)"
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="threads (default: one per core)")
    parser.add_argument(
        "--protspace", type=path, metavar="FILE", help=f"write the map for ProtSpace to FILE, which ends in {BUNDLE}"
    )
    parser.add_argument(
        "--embedding-atlas", type=path, metavar="FILE", help="write the map for Embedding Atlas to FILE, Parquet"
    )
    parser.add_argument(
        "--where", type=statement, metavar="SQL", help="condition on the columns of proteins, for these files"
    )


def run(arguments: argparse.Namespace) -> int:
    try:
        report = project(
            arguments.atlas,
            features=arguments.features,
            seed=arguments.seed,
            threads=arguments.threads,
            protspace=arguments.protspace,
            embedding_atlas=arguments.embedding_atlas,
            where=arguments.where,
            show_progress=True,
            on_phase=say,
        )
    except KeyboardInterrupt:
        raise Interrupted("stopped on request: the map was not made") from None
    structures = counted(report.structures, "structure")
    print(f"{structures} mapped by {report.features}, {report.fitted:,} of them in the layout")
    if report.dropped:
        say(f"features without values, or with the same value everywhere: {', '.join(report.dropped)}")
    if report.imputed:
        say(f"{counted(report.imputed, 'missing value')} taken to be the mean")
    say("the map was up to date" if not report.is_new else f"done in {readable_time(report.seconds)}")
    for file in (arguments.protspace, arguments.embedding_atlas):
        if file is not None:
            say(f"wrote {file}")
    return 0
