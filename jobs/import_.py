"""`foldatlas import`: build an atlas from structures that exist already, or add structures to it."""

import argparse
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.jobs import report as report_job
from foldatlas.jobs.arguments import ATLAS_HELP, add_engine, add_no_report, path, positive, say, say_refused
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.wording import counted, readable_time

if TYPE_CHECKING:
    from foldatlas.atlas.accounting import Accounting
    from foldatlas.pipeline.importing.run import ImportReport

EXAMPLES: Final = """examples:
  foldatlas import UP000005640_9606_HUMAN_v4.tar human
  foldatlas import colabfold_results/ designs --plddt-scale 100 --model 'ColabFold 1.5' --licence CC-BY-4.0
  foldatlas import tm_.60_.70_plddt_.80_.90.tar.gz metagenome --plddt-scale 1 --licence CC-BY-4.0
  foldatlas import pdb_files/ known --experimental --chain A
  foldatlas import proteome.tar human --id-from 'AF-([A-Z0-9]+)-F'
  foldatlas import 's3://bucket/models/' models --workers 4
  foldatlas import esm_atlas.lance mine --lance-ids my_proteins.fasta

STRUCTURES are PDB, mmCIF or Foldcomp files (plain, gz, zst), folders, tar and zip archives of them, or quoted patterns.
A folder or an archive is one source; running the command again imports what changed.
"""


@dataclass(frozen=True)
class ImportSummary:
    """What `import_structures` did in this run (`report`), and the `accounting` of all records of the atlas."""

    report: "ImportReport"
    accounting: "Accounting"


def import_structures(
    structures: Sequence[str],
    atlas: str | Path,
    *,
    chain: str | None = None,
    plddt_scale: int | None = None,
    experimental: bool = False,
    id_from: str | None = None,
    model: str | None = None,
    licence: str | None = None,
    max_length: int | None = None,
    pae: bool = True,
    name: str | None = None,
    replace: bool = False,
    lance_ids: str | Path | None = None,
    runner: str | None = None,
    workers: int | None = None,
    beam_options: Sequence[str] = (),
    log: str | None = None,
    show_progress: bool = False,
    on_phase: Callable[[str], None] = lambda phase: None,
) -> ImportSummary:
    """Import `structures` (files, folders, archives, patterns, addresses) into `atlas`, and build its index.

    `chain`: the author's name of the chain to read (None: the only one). `plddt_scale`: 1 or 100 if B-factors are pLDDT
    up to this value, which files of known producers state themselves. `experimental`: B-factors are not pLDDT.
    `id_from`: "header" or a pattern that finds the id in the file's name (None: the name without its endings). `model`,
    `licence`: recorded where a file states none. `max_length`: in residues. `pae`: read PAE, and the JSON files beside
    structures. `name`: the identity of the one source, in place of its URI. `replace`: accept a version of a source
    that has fewer than half of the earlier ids. `lance_ids`: `structures` is one table of ESM Atlas v1 (Lance), of
    which the proteins that this file names, FASTA or a list of ids, are imported. `runner`, `workers`, `beam_options`:
    the engine. `log`: file to append events to, as JSON lines.

    Raise UsageError with the atlas unchanged, and Interrupted with everything kept that was read or committed.
    """
    from foldatlas.atlas.folder import AtlasFolder
    from foldatlas.atlas.index.build import up_to_date
    from foldatlas.pipeline import events
    from foldatlas.pipeline.engines.choose import choose_engine
    from foldatlas.pipeline.importing.esm_table import files_of_table
    from foldatlas.pipeline.importing.options import HEADER, ImportOptions
    from foldatlas.pipeline.importing.run import import_structures as run_import

    defaults = ImportOptions()
    options = ImportOptions(
        chain, plddt_scale, experimental, id_from, model, licence, max_length or defaults.max_length, pae
    )
    folder = AtlasFolder(atlas)
    engine = choose_engine(runner, workers, beam_options)
    with contextlib.ExitStack() as stack:
        if lance_ids is not None:
            if len(structures) != 1:
                raise UsageError(f"--lance-ids reads one Lance table, but {len(structures)} were given: give one")
            on_phase("look up")
            files = stack.enter_context(files_of_table(structures[0], lance_ids, pae=pae))
            say(f"{files.found:,} of {counted(files.wanted, 'protein')} of {lance_ids} are in {structures[0]}")
            structures, name = [str(files.folder)], name or files.identity
            options = replace_field(options, id_from=HEADER)
        report = run_import(
            structures,
            folder,
            options,
            name=name,
            replace_losses=replace,
            engine=engine,
            log=events.absolute(log),
            show_progress=show_progress,
            on_phase=on_phase,
        )
    on_phase("index")
    return ImportSummary(report, up_to_date(folder))


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "structures",
        nargs="+",
        type=path,
        metavar="STRUCTURES",
        help="PDB, mmCIF or Foldcomp files, folders or archives of them, or addresses",
    )
    parser.add_argument("atlas", type=path, metavar="ATLAS", help=f"{ATLAS_HELP}; created if it does not exist")
    parser.add_argument("--strict", action="store_true", help="exit with code 3 if any structure file is refused")
    add_no_report(parser)
    content = parser.add_argument_group("what the structures are")
    content.add_argument(
        "--plddt-scale",
        type=int,
        choices=(1, 100),
        help="B-factors are pLDDT from 0 to this value (default: only where the file states it)",
    )
    content.add_argument("--experimental", action="store_true", help="B-factors are not pLDDT: record none")
    content.add_argument("--model", metavar="NAME", help="model of structures whose file states none")
    content.add_argument("--licence", metavar="NAME", help="licence of structures whose file states none")
    content.add_argument(
        "--id-from",
        metavar="PATTERN",
        help="regular expression that finds the id in the file's name, by its group or as a whole; or header, the id "
        "that the file states (default: the file's name without its endings)",
    )
    files = parser.add_argument_group("input")
    files.add_argument(
        "--chain", metavar="NAME", help="read this chain, by the author's name (default: the only protein chain)"
    )
    files.add_argument(
        "--max-length",
        type=positive,
        metavar="N",
        help="refuse chains longer than this, in residues (default: 65,534)",
    )
    files.add_argument(
        "--no-pae", dest="pae", action="store_false", help="do not read PAE, nor JSON files beside structures"
    )
    files.add_argument(
        "--as",
        dest="name",
        metavar="NAME",
        help="name of the source instead of its path or address; repeat it in later runs",
    )
    files.add_argument(
        "--replace",
        action="store_true",
        help="accept a changed source as the only current version, even if fewer than half of its ids remain",
    )
    files.add_argument(
        "--lance-ids",
        type=path,
        metavar="FILE",
        help="STRUCTURES is a Lance table of ESM Atlas v1: import the proteins in FILE, FASTA or a list of ids",
    )
    add_engine(parser.add_argument_group("execution"))


def run(arguments: argparse.Namespace) -> int:
    names = (
        "chain",
        "plddt_scale",
        "experimental",
        "id_from",
        "model",
        "licence",
        "max_length",
        "pae",
        "name",
        "replace",
        "lance_ids",
    )
    summary = import_structures(
        arguments.structures,
        arguments.atlas,
        **{option: getattr(arguments, option) for option in names},
        runner=arguments.runner,
        workers=arguments.workers,
        beam_options=arguments.beam_options,
        log=arguments.log,
        show_progress=True,
    )
    say(*lines(summary.report))
    accounting = summary.accounting
    print(accounting.line())
    refused = _refused_structures(accounting)
    say_refused(refused, arguments.atlas)
    if arguments.report:
        report_job.attempt(arguments.atlas)
    return 3 if accounting.failed or (arguments.strict and refused) else 0


def lines(report: "ImportReport") -> list[str]:
    """Return what an import did, for messages."""
    found = [f"already imported: {name}" for name in report.known]
    found += [change.line() for change in report.changes]
    if report.shards:
        rate = report.structures / max(report.seconds, 1e-3)
        took = f"in {readable_time(report.seconds)} ({rate:,.0f} a second)"
        found.append(f"imported {counted(report.structures, 'structure')} of {counted(report.files, 'file')} {took}")
    choice = report.choice
    if choice is not None and choice.set_aside:
        found.append(
            f"{counted(choice.set_aside, 'file')} set aside: another file has the same sequence and a higher mean pLDDT"
        )
    if choice is not None and choice.known:
        found.append(
            f"{counted(choice.known, 'file')} set aside: the atlas has a structure of their sequences already, which "
            "later imports do not replace"
        )
    if report.unread:
        found.append(
            f"{counted(report.unread, 'structure')} without the confidence of its JSON file, which cannot be used: see "
            "description in records"
        )
    if report.lost:
        found.append(f"{counted(report.lost, 'structure')} lost: their files changed before they were imported")
    return found


def _refused_structures(accounting: "Accounting") -> int:
    """Return the number of refused files, without those that are not structure files by their names."""
    from foldatlas.schemas.records import Outcome

    return accounting.num_refused - accounting.refused.get(Outcome.OTHER_FILE, 0)
