"""Working folders of planning: where workers write what they read, and where the driver sorts it."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.storage.commit import attempt_name
from foldatlas.atlas.storage.local import LocalStorage
from foldatlas.atlas.storage.opening import open_storage
from foldatlas.atlas.storage.protocol import STAGING, Storage
from foldatlas.atlas.storage.scratch import work_folder
from foldatlas.schemas.errors import StoreError


@dataclass(frozen=True)
class Staging:
    """Where a plan is made. For an atlas in a folder both are the same folder.

    storage: where workers write, on any machine.
    work: a folder of the driver's machine.
    """

    storage: Storage
    work: Path
    _collected: dict[str, str] = field(default_factory=dict)  # entity tags, by name

    @property
    def uri(self) -> str:
        """A path or address that opens `storage` on any worker."""
        return self.storage.resolved().uri

    def collect(self) -> None:
        """Copy into `work` the files of workers that are new or have changed since the last call."""
        if self.storage.root is None:
            new = {file.name: file.etag for file in self.storage.files() if self._collected.get(file.name) != file.etag}
            self.storage.fetch(new, self.work)
            self._collected.update(new)


@contextlib.contextmanager
def staging_of(folder: AtlasFolder) -> Iterator[Staging]:
    """Give a staging area beside the atlas. After the block it is removed, and the atlas's folder too if it is
    empty."""
    folder.storage.sweep_work()
    if folder.is_local:
        with _in_folder(folder) as work:
            yield Staging(LocalStorage(work), work)
        return
    storage = open_storage(f"{folder.uri}/{STAGING}/{attempt_name()}")
    with work_folder() as work:
        try:
            yield Staging(storage, work)
        except StoreError:
            raise  # a request to clean up would wait just as long; a sweep removes the rest a day later
        except BaseException:
            _delete_all(storage)
            raise
        _delete_all(storage)


def _delete_all(storage: Storage) -> None:
    with contextlib.suppress(StoreError):
        for file in storage.files():
            storage.delete(file.name)


@contextlib.contextmanager
def _in_folder(folder: AtlasFolder) -> Iterator[Path]:
    """Give a folder on the atlas's file system."""
    made = [path for path in (folder.root, *folder.root.absolute().parents) if not path.exists()]
    work = folder.staging / attempt_name()
    for last_try in (False, False, False, True):
        try:
            work.mkdir(parents=True)
            break
        except FileNotFoundError:  # another driver has just removed the folder in which this one is made
            if last_try:
                raise
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        with contextlib.suppress(OSError):  # not empty: another driver is planning, or the atlas was made
            folder.staging.rmdir()
            for path in made:
                path.rmdir()
