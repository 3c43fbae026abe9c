"""Where a plan is made: where workers leave what they read, and where the driver sorts it."""

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
    """`storage`: where workers write, on whatever machine they run; `work`: a folder of this machine. Of an atlas in a
    folder they are one."""

    storage: Storage
    work: Path
    _brought: dict[str, str] = field(default_factory=dict)  # entity tags, by name

    @property
    def place(self) -> str:
        """What opens `storage` on a worker, whatever its working folder is."""
        return self.storage.resolved().uri

    def collect(self) -> None:
        """Brings what workers wrote into `work`: what is new, or other than when it was brought."""
        if self.storage.root is None:
            new = {file.name: file.etag for file in self.storage.files() if self._brought.get(file.name) != file.etag}
            self.storage.fetch(new, self.work)
            self._brought.update(new)


@contextlib.contextmanager
def staging_of(folder: AtlasFolder) -> Iterator[Staging]:
    """A place to work in, beside the atlas. Leaves no trace, nor an atlas that did not come about."""
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
            raise  # asking again would only wait again: a sweep takes what is left, a day later
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
    """A folder on the atlas's file system."""
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
        with contextlib.suppress(OSError):  # another driver is planning, or there is an atlas now
            folder.staging.rmdir()
            for path in made:
                path.rmdir()
