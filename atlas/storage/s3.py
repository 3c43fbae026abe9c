"""An atlas at s3://bucket/prefix: each name is an object, and commits are conditional writes.

commit      PutObject with If-None-Match: *     succeeds for one of several writers
swap        PutObject with If-Match             replaces the index's pointer, see index/published.py
files       written to the local disk, then uploaded, large ones in parts; readers request byte ranges
"""

import contextlib
import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

from foldatlas.atlas.storage.addresses import holds_keys
from foldatlas.atlas.storage.protocol import ABANDONED_SECONDS, STAGING, Storage, Stored, never
from foldatlas.atlas.storage.s3_client import Answered, client, with_s3_retries
from foldatlas.atlas.storage.scratch import sweep_work_folders, work_folder
from foldatlas.schemas.errors import FoldAtlasError, ForeignFolderError, Interrupted, StoreError, UsageError

PART_BYTES: int = 64 << 20  # of an upload; S3 accepts 10,000 parts
RANGE_BYTES: Final = 16 << 20  # of a download
THREADS: Final = 16  # concurrent requests for many documents or files


@dataclass(frozen=True)
class S3Storage:
    """The objects of `bucket` whose keys begin with `prefix` and a slash."""

    bucket: str
    prefix: str

    @classmethod
    def named(cls, rest: str) -> "S3Storage":
        """Return the storage that the text after `s3://` names. Raise UsageError if no atlas can have this address."""
        bucket, _, prefix = rest.partition("/")
        if holds_keys(rest):
            raise UsageError(
                "s3://...@: credentials in an address would appear in messages and files: set AWS_PROFILE, or "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        prefix = prefix.strip("/")
        if not bucket or not prefix:
            raise UsageError(f"s3://{rest}: give a prefix in a bucket, as in s3://bucket/atlas")
        if any(part in ("", ".", "..") for part in prefix.split("/")) or not rest.isprintable():
            raise UsageError(f"{'s3://' + rest!r} has an empty, dotted or unprintable part: give another prefix")
        return cls(bucket, prefix)

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def root(self) -> Path | None:
        return None

    def resolved(self) -> "S3Storage":
        return self

    def contains(self, other: Storage) -> bool:
        return f"{other.uri}/".startswith(f"{self.uri}/")

    def refuse_foreign(self, document: str) -> None:
        begin = f"{self.prefix}/"
        page = next(self._pages(begin))
        names = {item["Key"].removeprefix(begin).partition("/")[0] for item in page.get("Contents", [])}
        others = names - {STAGING}
        if others and not self.exists(document):
            raise ForeignFolderError(
                f"{self.uri} is not an atlas and is not empty (it contains {min(others)!r}): give a new prefix"
            )

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": f"{self.prefix}/{name}"}

    def _address(self, name: str) -> str:
        return f"{self.uri}/{name}"

    def _missing(self, name: str) -> FileNotFoundError:
        return FileNotFoundError(2, "No such file or directory", self._address(name))

    def read(self, name: str) -> bytes:
        return self.read_version(name)[0]

    def read_version(self, name: str) -> tuple[bytes, str]:
        def get() -> tuple[bytes, str]:
            answer = client().get_object(**self._at(name))
            return answer["Body"].read(), answer["ETag"]

        try:
            return with_s3_retries(get, self._address(name))
        except Answered as answer:
            raise self._missing(name) from answer

    def read_versions(self, names: Sequence[str]) -> list[tuple[bytes, str] | FileNotFoundError]:
        def read(name: str) -> tuple[bytes, str] | FileNotFoundError:
            try:
                return self.read_version(name)
            except FileNotFoundError as error:
                return error

        return self._in_threads(read, names)

    def read_many(self, files: Sequence[Stored]) -> list[bytes | OSError]:
        found = self.read_versions([file.name for file in files])
        return [version if isinstance(version, OSError) else version[0] for version in found]

    def _in_threads(self, work: Any, items: Iterable[Any]) -> list[Any]:
        """Return `work(item)` of each item, in order, computed in threads that have ended when this returns."""
        stop = threading.Event()

        def unless_stopped(item: Any) -> Any:
            return None if stop.is_set() else work(item)

        with ThreadPoolExecutor(THREADS) as pool:
            try:
                return list(pool.map(unless_stopped, items))
            except BaseException:
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def exists(self, name: str) -> bool:
        try:
            self._head(name)
        except FileNotFoundError:
            return False
        return True

    def size(self, name: str) -> int:
        return int(self._head(name)["ContentLength"])

    def _head(self, name: str) -> Any:
        try:
            return with_s3_retries(lambda: client().head_object(**self._at(name)), self._address(name))
        except Answered as answer:
            raise self._missing(name) from answer

    def files(self, folder: str = "", *, hidden: bool = False) -> list[Stored]:
        begin = f"{self.prefix}/{folder}/" if folder else f"{self.prefix}/"
        found: list[Stored] = []
        for page in self._pages(begin):
            now = parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"])
            for item in page.get("Contents", []):
                below = item["Key"].removeprefix(begin)
                if below and (hidden or not any(part.startswith(".") for part in below.split("/"))):
                    name = item["Key"].removeprefix(f"{self.prefix}/")
                    age = (now - item["LastModified"]).total_seconds()
                    found.append(Stored(name, item["Size"], max(0.0, age), item["ETag"]))
        return sorted(found)

    def _pages(self, begin: str) -> Iterator[dict[str, Any]]:
        after: dict[str, str] = {}
        while True:
            request = {"Bucket": self.bucket, "Prefix": begin, **after}
            page: dict[str, Any] = with_s3_retries(partial(client().list_objects_v2, **request), self.uri)
            yield page
            if not page.get("IsTruncated"):
                return
            after = {"ContinuationToken": page["NextContinuationToken"]}

    def open(self, name: str, size: int | None = None) -> IO[bytes]:
        return _StoredFile(self, name, self.size(name) if size is None else size)  # type: ignore[return-value]

    def range(self, name: str, start: int, end: int, stop: Callable[[], bool] = never) -> bytes:
        """Return bytes [start, end) of an object. Raise OSError if the object is shorter."""

        def get() -> bytes:
            answer = client().get_object(**self._at(name), Range=f"bytes={start}-{end - 1}")
            content: bytes = answer["Body"].read()
            return content

        try:
            content = with_s3_retries(get, self._address(name), stop)
        except Answered as answer:
            if answer.status == 404:
                raise self._missing(name) from answer
            content = b""
        if len(content) != end - start:
            raise OSError(f"{self._address(name)} has no bytes {start:,} to {end:,}: it is shorter than it was")
        return content

    def _blocks(self, name: str, stop: Callable[[], bool] = never) -> Iterator[bytes]:
        size = self.size(name)
        for start in range(0, size, RANGE_BYTES):
            if stop():
                raise Interrupted
            yield self.range(name, start, min(start + RANGE_BYTES, size), stop)

    def sha256(self, name: str) -> str:
        digest = hashlib.sha256()
        for block in self._blocks(name):
            digest.update(block)
        return digest.hexdigest()

    def fetch(self, names: Iterable[str], folder: Path, stop: Callable[[], bool] = never) -> None:
        failures: list[BaseException] = []

        def copy(name: str) -> None:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"{path.name}.part")
            try:
                self.copy(name, part, lambda: stop() or bool(failures))
            except BaseException as error:
                failures.append(error)  # interrupts the other copies
                raise
            os.replace(part, path)

        try:
            self._in_threads(copy, names)
        except Interrupted:
            raise failures[0] from None  # the failure that interrupted this copy

    def copy(self, name: str, path: Path, stop: Callable[[], bool] = never) -> None:
        with path.open("wb") as file:
            for block in self._blocks(name, stop):
                file.write(block)

    def work_folder(self, prefix: str) -> contextlib.AbstractContextManager[Path]:
        return work_folder()

    @contextlib.contextmanager
    def building(self, name: str) -> Iterator[Path]:
        with work_folder() as work:
            path = work / name.rpartition("/")[2]
            yield path
            self.put(path, name)

    def put(self, path: Path, name: str) -> None:
        size = path.stat().st_size
        with path.open("rb") as file:
            if size <= PART_BYTES:
                self.write(name, file.read())
            else:
                self._put_parts(file, size, name)

    def _put_parts(self, file: IO[bytes], size: int, name: str) -> None:
        at, address = self._at(name), self._address(name)
        upload = {
            **at,
            "UploadId": with_s3_retries(lambda: client().create_multipart_upload(**at), address)["UploadId"],
        }
        try:
            parts = []
            for number in range(1, -(-size // PART_BYTES) + 1):
                body = file.read(PART_BYTES)
                part = with_s3_retries(
                    partial(client().upload_part, **upload, Body=body, PartNumber=number),
                    address,
                )
                parts.append({"PartNumber": number, "ETag": part["ETag"]})
            try:
                with_s3_retries(
                    lambda: client().complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}), address
                )
            except Answered:  # the upload was completed by an earlier try whose response was lost, or failed
                if self.size(name) != size:
                    raise
        except BaseException as error:
            with contextlib.suppress(Exception):
                client().abort_multipart_upload(**upload)
            if isinstance(error, Answered):
                raise StoreError(f"{address} cannot be written (HTTP {error.status}): run again") from error
            raise

    def write(self, name: str, content: bytes) -> None:
        with_s3_retries(lambda: client().put_object(**self._at(name), Body=content), self._address(name))

    def commit_once(self, name: str, content: bytes) -> bool:
        return self.swap(name, content, None)

    def swap(self, name: str, content: bytes, expected: str | None) -> bool:
        condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected}
        try:
            with_s3_retries(
                lambda: client().put_object(**self._at(name), Body=content, **condition), self._address(name)
            )
        except Answered:  # the response to a successful write may have been lost, and its repetition refused
            try:
                return self.read(name) == content
            except FileNotFoundError:
                return False
        return True

    def check_commits(self, name: str) -> None:
        content = self.read(name)
        try:
            with_s3_retries(
                lambda: client().put_object(**self._at(name), Body=content, IfNoneMatch="*"), self._address(name)
            )
        except Answered:
            return
        raise FoldAtlasError(
            f"the store of {self.uri} ignores If-None-Match, so two workers could commit the same shard: use a store "
            "with conditional writes, or a folder"
        )

    def delete(self, name: str) -> None:
        with_s3_retries(lambda: client().delete_object(**self._at(name)), self._address(name))

    def leftovers(self, tables: Iterable[str]) -> list[str]:
        listed = (file for table in tables for file in self.files(table))
        return [file.name for file in listed if file.age > ABANDONED_SECONDS]

    def sweep_work(self) -> None:
        sweep_work_folders()
        attempts: dict[str, list[Stored]] = {}
        for file in self.files(STAGING):
            attempts.setdefault(file.name.split("/")[1], []).append(file)
        for files in attempts.values():
            # planning may take longer than a day: what counts is the age of its newest file
            if min(file.age for file in files) > ABANDONED_SECONDS:
                for file in files:
                    self.delete(file.name)


class _StoredFile(io.RawIOBase):
    """An object as a seekable file; each read is one request."""

    def __init__(self, storage: S3Storage, name: str, size: int):
        self._storage = storage
        self._name = name
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, begin + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        end = self._size if size < 0 else min(self._position + size, self._size)
        if end <= self._position:
            return b""
        content = self._storage.range(self._name, self._position, end)
        self._position = end
        return content

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)
