"""`foldatlas reference`: build a reference database of known structures or sequences, to search for novelty."""

import argparse
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foldatlas.jobs.arguments import path, positive, say
from foldatlas.schemas.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from foldatlas.atlas.reference.folder import ReferenceFolder
    from foldatlas.pipeline.sources.find import SourceFile
    from foldatlas.schemas.reference_tables import ReferenceVersion

EXAMPLES: Final = """examples:
  foldatlas reference pdb_files/ extra/*.cif.gz domains.tgz structures --licence CC0-1.0
  foldatlas reference uniref50.fasta.gz known --licence CC-BY-4.0
  foldatlas reference last_years_atlas old_folds
  foldatlas reference --download cath domains

FILES are PDB or mmCIF (plain, gz, zst, in tar archives or folders), FASTA, or an atlas; local or s3://. Running the
command again with more files adds a version to the database; unchanged files are not read again.
"""


def reference(
    files: Sequence[str],
    database: str | Path,
    *,
    licence: str = "unknown",
    sync: bool = False,
    keep: int | None = None,
    workers: int | None = None,
    demo: bool = False,
) -> "ReferenceVersion | None":
    """Build the next version of the reference database `database` from `files`, and return its document.

    `licence`: of the files, stored with each entry; of imported structures by default what they state. Return None if
    nothing changed. With `sync`, entries of files that are not in `files` are removed. `keep`: delete
    all but this number of versions. An interrupted run resumes when it is called again. Raise UsageError, with nothing
    written, for files of another kind than the database's.
    """
    from foldatlas.atlas.folder import HEADER
    from foldatlas.atlas.reference.build import build_structures
    from foldatlas.atlas.reference.folder import ReferenceFolder
    from foldatlas.atlas.reference.from_atlas import UNKNOWN_LICENCE, licence_of, open_structures_file, structures_of
    from foldatlas.atlas.reference.read import Staged, read_files, unread
    from foldatlas.atlas.storage.opening import open_storage
    from foldatlas.pipeline.sources.structure_files import find_structures, first_bytes, is_archive, open_structures

    folder = ReferenceFolder.named(database)
    folder.refuse_foreign()
    atlases = [name for name in files if _may_be_folder(name) and open_storage(name).exists(HEADER)]
    others = [name for name in files if name not in atlases]
    from_atlases = [found for name in atlases for found in structures_of(name)]
    if licence == UNKNOWN_LICENCE and atlases and not others:
        licence = licence_of(atlases)
    from_files = find_structures(others) if others else []
    kind = "structures"
    if from_files and first_bytes(from_files[0]).lstrip().startswith((b">", b"LOCUS ")):
        kind = "sequences"
        if from_atlases:
            raise UsageError(
                "an atlas and FASTA cannot be in one database: build one of structures and one of sequences"
            )
    versions = folder.versions()
    if versions and (made := folder.document().kind) != kind:
        raise UsageError(f"{database} is a database of {made}, but these files have {kind}: use another folder")
    if kind == "sequences":
        document = _build_sequences(folder, others, licence, sync)
    else:
        with folder.locked():
            staged = Staged.opened(folder.staging, licence)
            processes = workers or os.cpu_count() or 1
            for found, opener, unpack in (
                (from_files, open_structures, is_archive),
                (from_atlases, open_structures_file, lambda found: False),
            ):
                if waiting := unread(folder, found):
                    read_files(waiting, opener, staged, workers=processes, is_archive=unpack)
            named = [found.source for found in (*from_files, *from_atlases)]
            document = build_structures(folder, staged, named, sync=sync, demo=demo)
            staged.discard()
    if keep is not None:
        folder.forget(keep)
    return document


def _may_be_folder(name: str) -> bool:
    return (name.startswith("s3") and "://" in name) or Path(name).is_dir()


def _build_sequences(
    folder: "ReferenceFolder", names: list[str], licence: str, sync: bool
) -> "ReferenceVersion | None":
    from foldatlas.atlas.reference.chains import MAX_RESIDUES
    from foldatlas.atlas.reference.sequences import SequenceFile, build_sequences
    from foldatlas.pipeline.sources.find import find_sources
    from foldatlas.pipeline.sources.record_stream import open_records

    def records(source: "SourceFile") -> "Iterator[pa.RecordBatch]":
        with open_records(source) as stream:
            yield from stream.batches(MAX_RESIDUES)
            if stream.error:
                say(f"warning: {source.name} is damaged ({stream.error}): records before the damage were read")

    sources = [
        SequenceFile(source.uri, source.size, source.mtime_ns, source.etag, partial(records, source))
        for source in find_sources(names)
    ]
    with folder.locked():
        return build_sequences(folder, sources, licence=licence, sync=sync)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", type=path, metavar="FILES", help="structures, FASTA, or an atlas")
    parser.add_argument(
        "database", type=path, metavar="DB", help="folder of the database, created if it does not exist"
    )
    parser.add_argument(
        "--licence", default="unknown", metavar="NAME", help="licence of these files, stored with each entry"
    )
    parser.add_argument(
        "--download",
        choices=("pdb", "cath"),
        help="first download a public archive to DB/downloads; resumes if interrupted",
    )
    parser.add_argument("--mirror", metavar="URL", help="server for --download instead of the archive's own")
    parser.add_argument("--sync", action="store_true", help="remove entries of files that are not given")
    parser.add_argument("--keep", type=positive, metavar="N", help="delete all but the newest N versions")
    parser.add_argument("--workers", type=positive, metavar="N", help="processes (default: one per core)")


def run(arguments: argparse.Namespace) -> int:
    files, licence = list(arguments.files), arguments.licence
    if arguments.download:
        from foldatlas.pipeline.sources.download import LICENCES, download

        folder = Path(arguments.database, "downloads", arguments.download)
        done = download(arguments.download, folder, mirror=arguments.mirror)
        say(f"downloaded: {done.fetched:,} files fetched, {done.unchanged:,} unchanged, {done.failed:,} failed")
        files.append(str(folder))
        licence = LICENCES[arguments.download] if licence == "unknown" else licence
    if not files:
        raise UsageError("no files were given: give structures, FASTA or an atlas, or --download pdb|cath")
    document = reference(
        files,
        arguments.database,
        licence=licence,
        sync=arguments.sync,
        keep=arguments.keep,
        workers=arguments.workers,
    )
    if document is None:
        print(f"{arguments.database}: no changes")
        return 0
    left = f", {document.left:,} removed" if document.left else ""
    print(
        f"{arguments.database}: version {document.version}, {document.entries:,} entries "
        f"({document.new:,} new{left}), licence {', '.join(document.licences) or 'unknown'}"
    )
    for what, outcomes in (("files", document.files), ("chains", document.chains)):
        what = "records" if what == "chains" and document.kind == "sequences" else what
        if outcomes:
            say(f"{what}: {', '.join(f'{count:,} {name}' for name, count in outcomes.items())}")
    if not document.entries:
        say("no entry could be made of these files: see the outcomes in docs/reference.md")
        return 3
    return 0
