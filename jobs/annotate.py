"""`foldatlas annotate`: join tables (biome, taxonomy, domains, cross-references) to an atlas."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.jobs.arguments import ATLAS_HELP, path, say
from foldatlas.schemas.annotations import KEYS
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.wording import counted

if TYPE_CHECKING:
    from foldatlas.schemas.annotations import Annotation

EXAMPLES: Final = """examples:
  foldatlas annotate atlas biome.tsv --key id
  foldatlas annotate atlas pfam.parquet --key structure_id --column md5 --name pfam
  foldatlas annotate atlas biome.tsv --key id --replace
  foldatlas annotate atlas --drop biome
  foldatlas annotate atlas
  foldatlas query atlas "select biome, count(*) from biome group by all"

TABLE is CSV, TSV (text also compressed) or Parquet, with a row that names the columns. In SQL the annotation is a view
with id, source and structure_id of each protein that has a row, and the columns of the table. Without TABLE the
annotations are listed.
"""


def annotate(
    atlas: str | Path,
    table: str | Path,
    *,
    key: str,
    name: str | None = None,
    column: str | None = None,
    replace: bool = False,
) -> "Annotation":
    """Join the file `table` to `atlas` by `key`, and update the index.

    `key` is id, structure_id, mgyp or accession; `column` the table's column that has it (default: the one called
    `key`); `name` that of the view (default: from the file's name). `replace`: replace an annotation of this name.

    Raise UsageError, with nothing changed, for a table that cannot be used.
    """
    from foldatlas.atlas.annotations.annotate import add_annotation
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.index.build import build_index

    folder = AtlasFolder.existing(atlas)
    chosen = name or default_name(Path(table))
    _refuse_taken(folder.uri, chosen)
    annotation = add_annotation(folder, Path(table), name=chosen, key=key, column=column, replace=replace)
    build_index(folder)
    return annotation


def default_name(table: Path) -> str:
    """Return a name of an annotation after that of a file: `Biomes 2026.tsv.gz` -> `biomes_2026`."""
    name = re.sub(r"[^a-z0-9]+", "_", table.name.partition(".")[0].lower()).strip("_")
    return name if name[:1].isalpha() else f"table_{name}".rstrip("_")


def drop(atlas: str | Path, name: str) -> "Annotation":
    """Drop the annotation `name` of `atlas`, and update the index. Raise UsageError if there is none."""
    from foldatlas.atlas.annotations.annotate import drop_annotation
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.index.build import build_index

    folder = AtlasFolder.existing(atlas)
    annotation = drop_annotation(folder, name)
    build_index(folder)
    return annotation


def annotations(atlas: str | Path) -> "list[Annotation]":
    """Return the annotations of `atlas`, by name."""
    from foldatlas.atlas.annotations.documents import annotations_of
    from foldatlas.atlas.folder import AtlasFolder

    return annotations_of(AtlasFolder.existing(atlas))


def _refuse_taken(uri: str, name: str) -> None:
    """Raise UsageError for a name that a table or view of the atlas has."""
    from foldatlas.atlas.reader import Atlas
    from foldatlas.schemas.errors import FoldAtlasError
    from foldatlas.schemas.formats import PROVENANCE
    from foldatlas.schemas.tables import TABLES

    taken = {*TABLES, PROVENANCE}
    try:
        with Atlas.open(uri) as opened:
            rows = opened.query(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = 'main' "
                "AND table_name NOT IN (SELECT name FROM annotations)"
            ).rows()
            taken |= {str(row[0]) for row in rows}
    except FoldAtlasError:
        pass  # without an index, or with one of an older program, what this program will make is not known
    if name in taken:
        raise UsageError(f"the atlas has a table {name} of its own: choose another name by --name")


def matched(atlas: str | Path, annotation: "Annotation") -> tuple[int, int]:
    """Return how many distinct keys an annotation has, and how many of them match a protein."""
    from foldatlas.atlas.reader import Atlas

    key = annotation.key
    with Atlas.open(atlas) as opened:
        [(keys, found)] = opened.query(
            f'SELECT (SELECT count(DISTINCT {key}) FROM annotation."{annotation.name}"), '
            f'(SELECT count(DISTINCT {key}) FROM "{annotation.name}")'
        ).rows()
    return keys, found


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("atlas", type=path, metavar="ATLAS", help=ATLAS_HELP)
    parser.add_argument("table", type=path, metavar="TABLE", nargs="?", help="CSV, TSV or Parquet, with named columns")
    parser.add_argument("--key", choices=list(KEYS), help="what the table is joined by")
    parser.add_argument("--column", metavar="C", help="the table's column with the key (default: the one called KEY)")
    parser.add_argument("--name", metavar="NAME", help="name of the annotation in SQL (default: from the file's name)")
    parser.add_argument("--replace", action="store_true", help="replace the annotation of this name")
    parser.add_argument("--drop", metavar="NAME", help="drop an annotation")


def _line(annotation: "Annotation") -> str:
    columns = ", ".join(column.name for column in annotation.columns if column.name != annotation.key)
    return f"{annotation.name}  {counted(annotation.rows, 'row')} by {annotation.key}, of {annotation.table}: {columns}"


def run(arguments: argparse.Namespace) -> int:
    if arguments.drop is not None:
        if arguments.table is not None:
            raise UsageError("--drop takes no TABLE")
        drop(arguments.atlas, arguments.drop)
        print(f"dropped {arguments.drop}")
        return 0
    if arguments.table is None:
        found = annotations(arguments.atlas)
        print("\n".join(map(_line, found)) if found else "no annotations")
        return 0
    if arguments.key is None:
        raise UsageError(f"give --key: what the table is joined by ({', '.join(KEYS)})")
    annotation = annotate(
        arguments.atlas,
        arguments.table,
        key=arguments.key,
        name=arguments.name,
        column=arguments.column,
        replace=arguments.replace,
    )
    left_out = {
        "another number of fields than the header": annotation.malformed,
        "no key": annotation.null_keys,
        f"a key that is no {annotation.key}": annotation.invalid_keys,
    }
    for reason, number in left_out.items():
        if number:
            say(f"left out {counted(number, 'row')} with {reason}")
    if annotation.repeated_keys:
        say(f"{counted(annotation.repeated_keys, 'key')} in several rows: the view has all of them")
    for column in annotation.columns:
        if column.name not in (column.given, annotation.key):
            say(f"column {column.given!r} is called {column.name!r}")
    keys, found_keys = matched(arguments.atlas, annotation)
    print(f"{_line(annotation)}\n{found_keys:,} of {counted(keys, 'key')} match a protein")
    if not found_keys:
        say(f"no key matches: {annotation.key} is {KEYS[annotation.key]}; --column chooses another column")
    return 0
