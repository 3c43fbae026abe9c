"""`foldatlas export`: write a subset of an atlas as PDB, mmCIF, Foldcomp, FASTA or Parquet files."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.atlas.export.formats import FORMATS
from foldatlas.jobs.arguments import ATLAS_HELP, path, say, statement
from foldatlas.schemas.wording import counted

if TYPE_CHECKING:
    from foldatlas.atlas.export.subset import Exported

EXAMPLES: Final = """examples:
  foldatlas export atlas confident --where "mean_plddt > 70 and ptm > 0.7" --format pdb
  foldatlas export atlas wanted --ids ids.txt --format fasta
  foldatlas export atlas wanted --ids answer.csv --format pdb
  foldatlas export atlas best --order-by mean_plddt desc --limit 1000 --format pdb
  foldatlas export atlas models --format cif
  cd confident && sha256sum -c SHA256SUMS

The folder also has manifest.json (the request), files.jsonl (each file with bytes and sha256) and SHA256SUMS. Ids
without a structure, and structures that the format cannot represent, are listed in missing.tsv with the reason. The
exit code is 3 if no protein was exported.
"""


def export(
    atlas: str | Path,
    dest: str | Path,
    *,
    format: str,
    where: str | None = None,
    ids: str | Path | None = None,
    order_by: str | None = None,
    limit: int | None = None,
) -> "Exported":
    """Write the proteins of `atlas` that meet `where` (SQL on `proteins`) and are listed in the file `ids` to `dest`.

    Without `where` and `ids` all proteins are exported. `limit` keeps the first in the order of `order_by`
    ("mean_plddt DESC"). Raise UsageError, ForeignFolderError if `dest` is not empty, QueryError for a wrong condition.
    """
    from foldatlas.atlas.export.subset import export as write

    return write(atlas, dest, format=format, where=where, ids=ids, order_by=order_by, limit=limit)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("atlas", type=path, metavar="ATLAS", help=ATLAS_HELP)
    parser.add_argument("dest", type=path, metavar="DEST", help="new folder")
    parser.add_argument(
        "--format", choices=FORMATS, required=True, help="; ".join(f"{name}: {what}" for name, what in FORMATS.items())
    )
    parser.add_argument("--where", type=statement, metavar="SQL", help="condition on the columns of proteins")
    parser.add_argument(
        "--ids",
        metavar="FILE",
        help="file of ids, source:id or structure_id: a list, or output of query as csv, tsv, json or jsonl",
    )
    parser.add_argument(
        "--order-by",
        nargs="+",
        metavar=("COLUMN", "ASC|DESC"),
        help="with --limit: column of proteins to sort by, ASC (default) or DESC",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="export only the first N proteins")


def run(arguments: argparse.Namespace) -> int:
    done = export(
        arguments.atlas,
        arguments.dest,
        format=arguments.format,
        where=arguments.where,
        ids=arguments.ids,
        order_by=None if arguments.order_by is None else " ".join(arguments.order_by),
        limit=arguments.limit,
    )
    if done.ids_read_as is not None:
        say(f"read {arguments.ids} as {done.ids_read_as}")
    print(f"{counted(done.proteins, 'protein')} in {counted(done.files, 'file')}, {done.bytes:,} bytes: {done.folder}")
    if done.missing:
        reasons = ", ".join(f"{count:,} {why}" for why, count in sorted(done.missing.items()))
        say(f"not exported: {reasons}; see {done.folder / 'missing.tsv'}")
    if not done.proteins:
        say("no protein was exported")
        return 3
    return 0
