"""Checks of derived stages: documents that agree with each other, and the files that they list."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

import msgspec
import pyarrow as pa

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.parquet.files import open_parquet
from foldatlas.atlas.stages.run import COMPLETE, RUN, StageRun
from foldatlas.atlas.stages.runs import is_stage_document, run_names
from foldatlas.atlas.verify.digests import DigestCount
from foldatlas.atlas.verify.fault import Fault, FaultKind, Step, restore_or_run
from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.manifest import FileEntry, decode
from foldatlas.schemas.stages import KINDS, StageCompletion, StageEntry, stage_name, stage_settings_digest
from foldatlas.schemas.wording import counted


class ReadRun(NamedTuple):
    """A run as far as its documents can be read. `mark` is None where it is not complete."""

    run: StageRun
    entries: dict[str, StageEntry]
    mark: StageCompletion | None

    def files(self) -> Iterator[FileEntry]:
        """Yield every data file that the readable documents list."""
        for listed in (self.run.document.inputs, self.mark.files if self.mark is not None else {}):
            for files in listed.values():
                yield from files
        for entry in self.entries.values():
            yield from entry.files.values()

    @property
    def next_step(self) -> Step:
        """What to do about a damaged file of the run."""
        return restore_or_run(self.run.kind, self.run.name)


def read_runs(folder: AtlasFolder, faults: list[Fault], digests: DigestCount) -> list[ReadRun]:
    """Return the runs whose `run.json` can be read, add faults of documents to `faults`, and count digests."""
    found = []
    for kind in KINDS:
        for name in run_names(folder, kind):
            where = f"{kind}/{name}/{RUN}"
            again = restore_or_run(kind, name)
            try:
                run = StageRun.open(folder, kind, name)
            except (OSError, DamagedAtlasError) as error:
                faults.append(Fault(FaultKind.DOCUMENT, where, str(error), again))
                faults += _damaged_documents(folder, kind, name, again)
                continue
            read = ReadRun(run, _read_entries(run, faults, again, digests), _read_mark(run, faults, again))
            for path in (where, *([run.path(COMPLETE)] if read.mark is not None else [])):
                digests.add(folder.storage.read(path))
            faults += [Fault(FaultKind.DOCUMENT, where, what, again) for what in _wrong_run(read)]
            found.append(read)
    return found


def _damaged_documents(folder: AtlasFolder, kind: str, name: str, again: Step) -> Iterator[Fault]:
    """Yield faults of the other documents of a run whose `run.json` cannot be read."""
    for file in folder.storage.files(f"{kind}/{name}"):
        if not is_stage_document(file.name) or file.name == f"{kind}/{name}/{RUN}":
            continue
        try:
            is_mark = file.name == f"{kind}/{name}/{COMPLETE}"
            decode(folder.storage.read(file.name), StageCompletion if is_mark else StageEntry, file.name)
        except (OSError, DamagedAtlasError) as error:
            yield Fault(FaultKind.DOCUMENT, file.name, str(error), again)


def _read_entries(run: StageRun, faults: list[Fault], again: Step, digests: DigestCount) -> dict[str, StageEntry]:
    shards = {shard.name: shard for shard in run.document.shards}
    entries: dict[str, StageEntry] = {}
    for where, content in run.entry_documents():
        digests.add(content)
        try:
            if isinstance(content, OSError):
                raise content
            entry = decode(content, StageEntry, where)
        except (OSError, DamagedAtlasError) as error:
            faults.append(Fault(FaultKind.DOCUMENT, where, str(error), again))
            continue
        shard = shards.get(entry.shard)
        if PurePosixPath(where).stem != entry.shard or shard is None:
            faults.append(Fault(FaultKind.DOCUMENT, where, f"the run has no shard {entry.shard!r} there", again))
        elif (entry.kind, entry.name, entry.shard_digest) != (run.kind, run.name, shard.digest):
            faults.append(Fault(FaultKind.DOCUMENT, where, "it is of another run or input", again))
        else:
            entries[entry.shard] = entry
    return entries


def _read_mark(run: StageRun, faults: list[Fault], again: Step) -> StageCompletion | None:
    try:
        return run.completion()
    except (OSError, DamagedAtlasError) as error:
        faults.append(Fault(FaultKind.DOCUMENT, run.path(COMPLETE), str(error), again))
        return None


def _wrong_run(read: ReadRun) -> Iterator[str]:
    document = read.run.document
    if document.settings_digest != stage_settings_digest(msgspec.to_builtins(document.settings)):
        yield "its settings_digest is not that of its settings"
    name = stage_name(document.kind, document.settings_digest, document.base, document.shards)
    if document.name != name:
        yield f"the name {document.name!r} is not its content's digest {name!r}"
    if len({shard.name for shard in document.shards}) < len(document.shards):
        yield "two of its shards have one name"
    inputs = {file.path for files in document.inputs.values() for file in files}
    if any(shard.path and shard.path not in inputs for shard in document.shards):
        yield "a shard's input is not among its inputs"
    missing = [shard.name for shard in document.shards if shard.name not in read.entries]
    if read.mark is not None and missing:
        yield f"it is marked as complete, and {counted(len(missing), 'shard')} have no entry, first {missing[0]}"


def check_rows(folder: AtlasFolder, read: ReadRun, bad: set[str]) -> Iterator[Fault]:
    """Yield faults of Parquet files that cannot be read or hold another number of rows than was committed."""
    for file in read.files():
        if file.path in bad:
            continue
        try:
            rows = open_parquet(folder.storage, file.path).metadata.num_rows
        except (OSError, pa.ArrowException) as error:
            yield Fault(FaultKind.DAMAGED, file.path, f"it cannot be read: {error}", read.next_step)
            continue
        if rows != file.rows:
            what = f"it has {counted(rows, 'row')}, the manifest says {file.rows:,}"
            yield Fault(FaultKind.ROWS, file.path, what, read.next_step)
