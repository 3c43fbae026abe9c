"""Public archives of experimental structures, downloaded file by file, with resume.

The addresses and layouts are those that the archives document; they were tested against a local server, not against the
archives. A partial file is continued if the server confirms that it is the same; a complete one is downloaded again
only if it changed.
"""

import gzip
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path, PurePosixPath
from typing import Any, Final

import requests

from foldatlas.schemas.errors import SourceError

MIRRORS: Final = {"pdb": "https://files.wwpdb.org", "cath": "https://download.cathdb.info"}
LICENCES: Final = {"pdb": "CC0-1.0", "cath": "CC-BY-4.0"}
HOLDINGS: Final = "/pub/pdb/holdings/current_file_holdings.json.gz"  # entry -> its files, by kind
CATH_DOMAINS: Final = "/cath/releases/latest-release/non-redundant-data-sets/cath-dataset-nonredundant-S40.pdb.tgz"
WAITS: Final = (1.0, 4.0, 15.0)  # seconds before each further try
_THREADS: Final = 4
_TIMEOUT: Final = 60.0
_BLOCK: Final = 1 << 20


@dataclass
class Downloaded:
    fetched: int = 0
    unchanged: int = 0
    failed: int = 0


def download(archive: str, folder: Path, *, mirror: str | None = None) -> Downloaded:
    """Download "pdb" (all entries as mmCIF) or "cath" (domains of at most 40 % identity) into `folder`.

    Files that fail after several tries are counted and left out; the next run tries them again. Raise SourceError if
    the list of files cannot be read.
    """
    server = (mirror or MIRRORS[archive]).rstrip("/")
    folder.mkdir(parents=True, exist_ok=True)
    done = Downloaded()
    with ThreadPoolExecutor(_THREADS) as pool:
        for outcome in pool.map(lambda name: _fetch(server, name, folder), _files(archive, server)):
            setattr(done, outcome, getattr(done, outcome) + 1)
    return done


def _files(archive: str, server: str) -> Iterator[str]:
    if archive == "cath":
        yield CATH_DOMAINS
        return
    try:
        answer = requests.get(server + HOLDINGS, timeout=_TIMEOUT)
        answer.raise_for_status()
        holdings: dict[str, dict[str, Any]] = json.loads(gzip.decompress(answer.content))
        names = [name for entry in sorted(holdings) for name in holdings[entry].get("mmcif", [])]
    except (requests.RequestException, OSError, ValueError, EOFError, AttributeError, TypeError) as error:
        raise SourceError(f"{server}{HOLDINGS} cannot be read ({type(error).__name__}): try again later") from error
    for name in names:
        path = PurePosixPath(str(name))
        if ".." in path.parts or not path.is_absolute() or not str(name).isprintable():
            raise SourceError(f"{server}{HOLDINGS} lists {name!r}, which is not a path of an archive: check --mirror")
        yield str(name)


def _fetch(server: str, name: str, folder: Path) -> str:
    """Download one file. Return "fetched", "unchanged" or "failed"."""
    path = folder / PurePosixPath(name).name
    for wait in (*WAITS, None):
        try:
            return _try(f"{server}{name}", path)
        except requests.HTTPError as error:
            if error.response is not None and error.response.status_code < 500:
                return "failed"
        except (requests.RequestException, ConnectionError):
            pass
        if wait is not None:
            time.sleep(wait)
    return "failed"


def _try(address: str, path: Path) -> str:
    part, note = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.etag")
    headers = {"Accept-Encoding": "identity"}
    begin = part.stat().st_size if part.exists() else 0
    if path.exists():
        headers["If-Modified-Since"] = formatdate(path.stat().st_mtime, usegmt=True)
        begin = 0
    elif begin and note.exists():
        headers |= {"Range": f"bytes={begin}-", "If-Range": note.read_text()}
    with requests.get(address, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
        if answer.status_code == 304:
            return "unchanged"
        if answer.status_code == 416:  # the partial file is not a beginning of this one
            part.unlink()
            raise ConnectionError("starting over")
        answer.raise_for_status()
        if answer.status_code != 206:
            begin = 0
        mark = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        note.write_text("" if mark.startswith("W/") else mark)
        expected = answer.headers.get("Content-Length")
        with part.open("ab" if begin else "wb") as file:
            for block in answer.iter_content(_BLOCK):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        if expected is not None and part.stat().st_size != begin + int(expected):
            raise ConnectionError("the connection dropped")
        changed = answer.headers.get("Last-Modified")
    if changed:
        stamp = parsedate_to_datetime(changed).timestamp()
        os.utime(part, (stamp, stamp))
    part.replace(path)
    note.unlink(missing_ok=True)
    return "fetched"
