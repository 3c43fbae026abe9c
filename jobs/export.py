"""`foldatlas export`: write a subset of an atlas as structure files, tar bundles, FASTA or Parquet."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.atlas.export.formats import FORMATS, STRUCTURE_FORMATS
from foldatlas.jobs.arguments import ATLAS_HELP, path, positive, say, statement
from foldatlas.jobs.progress import progress_bar
from foldatlas.schemas.errors import Interrupted
from foldatlas.schemas.wording import counted

if TYPE_CHECKING:
    from foldatlas.atlas.export.subset import Exported

EXAMPLES: Final = """examples:
  foldatlas export atlas confident --where "mean_plddt > 70 and ptm > 0.7" --format pdb
  foldatlas export atlas wanted --ids ids.txt --format fasta
  foldatlas export atlas wanted --ids answer.csv --format pdb
  foldatlas export atlas new_folds --sql "select structure_id from novel" --format cif
  foldatlas export atlas best --order-by mean_plddt desc --limit 1000 --format pdb
  foldatlas export atlas bundles --format tar --base-url https://example.org/bundles
  foldatlas export atlas foldseek --format 3di
  foldatlas export atlas small --where "length < 100" --format parquet && foldatlas query small "from proteins"
  cd confident && sha256sum -c SHA256SUMS

If it is interrupted, the same command resumes. The folder also has manifest.json (the request), files.jsonl (each file
with bytes and sha256), SHA256SUMS, LICENCE and CITATION.bib. Ids without a structure, and structures that the format
cannot represent, are listed in missing.tsv with the reason. The exit code is 3 if no protein was exported.
"""


def export(
    atlas: str | Path,
    dest: str | Path,
    *,
    format: str,
    members: str | None = None,
    where: str | None = None,
    sql: str | None = None,
    ids: str | Path | None = None,
    order_by: str | None = None,
    limit: int | None = None,
    licence: str | None = None,
    base_url: str | None = None,
    pae: bool = False,
    workers: int = 1,
    show_progress: bool = False,
) -> "Exported":
    """Write the proteins of `atlas` that meet `where` (SQL on `proteins`), are in the result of the query `sql`, and
    are listed in the file `ids` to `dest`, a new folder or `s3://bucket/prefix`.

    Without `where`, `sql` and `ids` all proteins are exported. `limit` keeps the first in the order of `order_by`
    ("mean_plddt DESC"). `members` is the format of files in tar bundles; `licence` is written to LICENCE; `base_url`,
    the address at which the files will be, to aria2.txt; `pae` also writes predicted aligned errors. With `workers`
    above 1, a script must guard its main module. Raise UsageError, ForeignFolderError if `dest` is not empty,
    QueryError for a wrong condition.
    """
    from foldatlas.atlas.export.subset import export as write

    with progress_bar("proteins", is_shown=show_progress) as progress:
        return write(
            atlas, dest, format=format, members=members, where=where, sql=sql, ids=ids, order_by=order_by, limit=limit,
            licence=licence, base_url=base_url, pae=pae, workers=workers, progress=progress,
        )  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("atlas", type=path, metavar="ATLAS", help=ATLAS_HELP)
    parser.add_argument("dest", type=path, metavar="DEST", help="new folder, or s3://bucket/prefix")
    parser.add_argument(
        "--format", choices=FORMATS, required=True, help="; ".join(f"{name}: {what}" for name, what in FORMATS.items())
    )
    chosen = parser.add_argument_group("selection", "default: all proteins with a structure")
    chosen.add_argument("--where", type=statement, metavar="SQL", help="condition on the columns of proteins")
    chosen.add_argument(
        "--sql", type=statement, metavar="SQL", help="query that returns structure_id, or id with or without source"
    )
    chosen.add_argument(
        "--ids",
        type=path,
        metavar="FILE",
        help="file of ids, source:id or structure_id: a list, or output of query as csv, tsv, json or jsonl",
    )
    chosen.add_argument(
        "--order-by",
        nargs="+",
        metavar=("COLUMN", "ASC|DESC"),
        help="with --limit: column of proteins to sort by, ASC (default) or DESC",
    )
    chosen.add_argument("--limit", type=positive, metavar="N", help="export only the first N proteins")
    files = parser.add_argument_group("files")
    files.add_argument(
        "--members", choices=STRUCTURE_FORMATS, help="with --format tar: format of the files in bundles (default: pdb)"
    )
    files.add_argument(
        "--pae", action="store_true", help="with pdb, cif, fcz: also write predicted aligned errors, as NAME.pae.json"
    )
    files.add_argument("--licence", metavar="NAME", help="licence of the data, for LICENCE (default: unknown)")
    files.add_argument(
        "--base-url", metavar="URL", help="address at which the files will be: also write aria2.txt, for aria2c -i"
    )
    parser.add_argument("--workers", type=positive, metavar="N", help="processes (default: one per core)")


def run(arguments: argparse.Namespace) -> int:
    from foldatlas.pipeline.workers.devices import own_cores

    try:
        done = export(
            arguments.atlas,
            arguments.dest,
            format=arguments.format,
            members=arguments.members,
            where=arguments.where,
            sql=arguments.sql,
            ids=arguments.ids,
            order_by=None if arguments.order_by is None else " ".join(arguments.order_by),
            limit=arguments.limit,
            licence=arguments.licence,
            base_url=arguments.base_url,
            pae=arguments.pae,
            workers=arguments.workers or own_cores(),
            show_progress=True,
        )
    except KeyboardInterrupt:
        raise Interrupted("stopped on request: run the same command again to resume") from None
    if done.ids_read_as is not None:
        say(f"read {arguments.ids} as {done.ids_read_as}")
    if done.resumed:
        say(f"resumed: {counted(done.resumed, 'chunk')} had been written before")
    print(f"{counted(done.proteins, 'protein')} in {counted(done.files, 'file')}, {done.bytes:,} bytes: {done.folder}")
    if done.missing:
        reasons = ", ".join(f"{count:,} {why}" for why, count in sorted(done.missing.items()))
        say(f"not exported: {reasons}; see {done.folder}/missing.tsv")
    if not done.proteins:
        say("no protein was exported")
        return 3
    return 0
