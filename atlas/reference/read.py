"""Read files of structures into staged chains, by several processes, in batches that are read once.

A batch is a Parquet file of chains (`STAGED_CHAINS`) and one of files (`FILES`), written under temporary names and
renamed, that of files last, which commits the batch. A file that crashes the process that reads it gets a row with the
outcome "crashed"; the other files of its batch are read again without it.
"""

import hashlib
import multiprocessing
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from foldatlas.atlas.reference.chains import CANDIDATE, Chain, StructureFault, read_structure
from foldatlas.atlas.reference.encode import secondary_structure, structural_states
from foldatlas.atlas.reference.folder import ReferenceFolder
from foldatlas.atlas.reference.reader import Reference
from foldatlas.atlas.storage.commit import attempt_name, replacing
from foldatlas.schemas.reference_tables import FILES, STAGED_CHAINS

FILES_PER_BATCH: Final = 64
BYTES_PER_BATCH: Final = 64 << 20  # of members of archives, which are sent to the process
BATCHES_PER_PROCESS: Final = 3  # in flight, which limits the memory of the driver for members of archives


class Found(NamedTuple):
    """A file as it was found. `path` opens it; the other fields are as in `reference_tables.FILES`."""

    source: str
    path: str
    size: int
    mtime_ns: int
    etag: str = ""

    @property
    def version(self) -> tuple[str, int, int, str]:
        """A value that is equal for an unchanged file."""
        return self.source, self.size, self.mtime_ns, self.etag


class Member(NamedTuple):
    """A file (name ""), or a member of an archive.

    `content` is its text, its chains, or None if it cannot be read, for the reason in `outcome` and `detail`.
    """

    name: str
    content: bytes | list[Chain] | None
    outcome: str = "read"
    detail: str = ""


Open = Callable[[Found], Iterable[Member]]  # yields the members of a file; picklable
Key = tuple[str, int, int, str]


class Item(NamedTuple):
    """The input of a process: a whole file, or members that the driver unpacked."""

    found: Found
    members: tuple[Member, ...] | None


@dataclass
class Staged:
    """The staged batches of unfinished runs and of this one."""

    folder: Path
    licence: str
    done: set[tuple[Key, str]] = field(default_factory=set)  # (file, member)
    whole: set[Key] = field(default_factory=set)  # files of which one batch has all members

    @classmethod
    def opened(cls, folder: Path, licence: str) -> "Staged":
        """Return the staged batches of `folder`, which is created if necessary."""
        folder.mkdir(parents=True, exist_ok=True)
        staged = cls(folder, licence)
        for path in staged.file_tables():
            table = pq.read_table(path)
            staged._remember(table, path.name.startswith("whole"))
        return staged

    def file_tables(self) -> list[Path]:
        return sorted(self.folder.glob("*.files.parquet"))

    def chains_of(self, files: Path) -> Path:
        return files.with_name(files.name.replace(".files.", ".chains."))

    def add(self, files: pa.Table, chains: pa.Table, whole: bool) -> None:
        """Commit a batch. `whole`: it has all members of each of its files."""
        name = f"{'whole' if whole else 'part'}-{attempt_name()}"
        for table, suffix in ((chains, "chains"), (files, "files")):
            with replacing(self.folder / f"{name}.{suffix}.parquet") as path:
                pq.write_table(table, path, compression="zstd", compression_level=1)
        self._remember(files, whole)

    def discard(self) -> None:
        """Delete the staged batches, which a version now has."""
        shutil.rmtree(self.folder)

    def _remember(self, files: pa.Table, whole: bool) -> None:
        columns = [files.column(name).to_pylist() for name in ("source", "size", "mtime_ns", "etag", "member")]
        for source, size, mtime_ns, etag, member in zip(*columns, strict=True):
            key = (source, size, mtime_ns, etag)
            self.done.add((key, member))
            if whole:
                self.whole.add(key)


def unread(folder: ReferenceFolder, found: Sequence[Found]) -> list[Found]:
    """Return the files that the newest version lacks, has in another version, or could not read."""
    if not folder.versions():
        return list(found)
    table = Reference.open(folder.root).table("files", ["source", "size", "mtime_ns", "etag", "outcome"])
    columns = [table.column(name).to_pylist() for name in table.column_names]
    known: set[Key] = set()
    failed: set[Key] = set()
    for source, size, mtime_ns, etag, outcome in zip(*columns, strict=True):
        known.add((source, size, mtime_ns, etag))
        if outcome in ("unreadable", "crashed"):
            failed.add((source, size, mtime_ns, etag))
    return [file for file in found if file.version not in known - failed]


def read_files(
    found: Sequence[Found],
    open_file: Open,
    staged: Staged,
    *,
    workers: int,
    is_archive: Callable[[Found], bool],
    on_progress: Callable[[int], None] = lambda files: None,
) -> None:
    """Stage the chains of every file of `found` that is not staged yet, by `workers` processes.

    `open_file` yields the members of a file, in a worker process; archives are unpacked in this process, so that their
    members are read in parallel. `on_progress` is called with the number of files or members of each finished batch.
    """
    batches = _batches(found, open_file, staged, is_archive)
    context = multiprocessing.get_context("spawn")  # threads of gemmi and Arrow do not survive a fork
    pending: dict[Future[Any], list[Item]] = {}
    suspects: list[list[Item]] = []
    pool = ProcessPoolExecutor(workers, mp_context=context)
    try:
        exhausted = False
        while pending or not exhausted:
            while not exhausted and len(pending) < workers * BATCHES_PER_PROCESS:
                batch = next(batches, None)
                if batch is None:
                    exhausted = True
                    break
                pending[pool.submit(read_batch, batch, open_file, staged.licence)] = batch
            finished, _ = wait(pending, return_when=FIRST_COMPLETED)
            broken = False
            for future in finished:
                batch = pending.pop(future)
                try:
                    files, chains = future.result()
                    _commit(staged, batch, files, chains, on_progress)
                except BrokenProcessPool:
                    suspects.append(batch)
                    broken = True
            if broken:
                suspects += pending.values()
                pending.clear()
                pool.shutdown(wait=False, cancel_futures=True)
                for item in [item for batch in suspects for item in _singly(batch)]:
                    _read_alone(item, open_file, staged, context, on_progress)
                suspects.clear()
                pool = ProcessPoolExecutor(workers, mp_context=context)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _commit(
    staged: Staged, batch: list[Item], files: pa.Table, chains: pa.Table, on_progress: Callable[[int], None]
) -> None:
    staged.add(files, chains, batch[0].members is None)
    on_progress(files.num_rows)


def _singly(batch: list[Item]) -> Iterator[Item]:
    for item in batch:
        if item.members is None:
            yield item
        else:
            yield from (Item(item.found, (member,)) for member in item.members)


def _read_alone(item: Item, open_file: Open, staged: Staged, context: Any, on_progress: Callable[[int], None]) -> None:
    """Read a file or member that may have crashed a process, in a separate process."""
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            result = pool.submit(read_batch, [item], open_file, staged.licence).result()
        except BrokenProcessPool:
            name = item.members[0].name if item.members else ""
            fault = Member(name, None, "crashed", "the process that read it crashed")
            result = _files_table([_file_row(item.found, fault, "", 0, staged.licence)]), _no_chains()
    files, chains = result
    _commit(staged, [item], files, chains, on_progress)


def _batches(
    found: Sequence[Found], open_file: Open, staged: Staged, is_archive: Callable[[Found], bool]
) -> Iterator[list[Item]]:
    whole: list[Item] = []
    for file in found:
        if file.version in staged.whole:
            continue
        if not is_archive(file):
            whole.append(Item(file, None))
            if len(whole) == FILES_PER_BATCH:
                yield whole
                whole = []
            continue
        members: list[Member] = []
        size = 0
        for member in open_file(file):
            if (file.version, member.name) in staged.done:
                continue
            members.append(member)
            size += len(member.content or b"")
            if len(members) == FILES_PER_BATCH or size > BYTES_PER_BATCH:
                yield [Item(file, tuple(members))]
                members, size = [], 0
        if members:
            yield [Item(file, tuple(members))]
    if whole:
        yield whole


def read_batch(batch: list[Item], open_file: Open, licence: str) -> tuple[pa.Table, pa.Table]:
    """Return the rows of files and of chains of a batch. The contents of files cause no exceptions."""
    files: list[dict[str, Any]] = []
    chains: list[dict[str, Any]] = []
    for item in batch:
        for member in item.members if item.members is not None else open_file(item.found):
            read, digest = member, ""
            found: list[Chain] = []
            if member.content is not None:
                try:
                    found = _chains_of(member, item.found)
                except StructureFault as fault:
                    read = Member(member.name, None, fault.outcome, str(fault))
                digest = _digest(member.content)
            files.append(_file_row(item.found, read, digest, len(found), licence))
            chains += [_chain_row(item.found, member.name, number, chain) for number, chain in enumerate(found)]
    return _files_table(files), pa.Table.from_pylist(chains, schema=STAGED_CHAINS)


def _chains_of(member: Member, found: Found) -> list[Chain]:
    if isinstance(member.content, list):
        return member.content
    assert member.content is not None
    return read_structure(member.content, member.name or found.source)


def _digest(content: bytes | list[Chain]) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256()
    for chain in content:
        digest.update(f"{chain.name}\n{chain.sequence}\n".encode())
        digest.update(chain.backbone.tobytes())
    return digest.hexdigest()


def _file_row(found: Found, member: Member, digest: str, num_chains: int, licence: str) -> dict[str, Any]:
    return {
        "source": found.source,
        "member": member.name,
        "size": found.size,
        "mtime_ns": found.mtime_ns,
        "etag": found.etag,
        "sha256": digest,
        "outcome": member.outcome,
        "detail": member.detail,
        "chains": num_chains,
        "licence": licence,
        "version": 0,
    }


def _chain_row(found: Found, member: str, number: int, chain: Chain) -> dict[str, Any]:
    is_candidate = chain.outcome == CANDIDATE
    n, ca, c, cb = chain.backbone
    return {
        "source": found.source,
        "member": member,
        "number": number,
        "chain": chain.chain,
        "name": chain.name,
        "title": chain.title,
        "outcome": chain.outcome,
        "length": len(chain.sequence),
        "dropped": chain.dropped,
        "sequence": chain.sequence,
        "c_alphas": ca.astype("<f4").tobytes() if is_candidate else b"",
        "states": structural_states(n, ca, c, cb).tobytes() if is_candidate else b"",
        "secondary": secondary_structure(ca).tobytes() if is_candidate else b"",
    }


def _files_table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=FILES)


def _no_chains() -> pa.Table:
    return STAGED_CHAINS.empty_table()
