"""Tar bundles of structure files by bins of pTM and mean pLDDT, as the ESM Metagenomic Atlas is distributed.

`ptm_0.60-0.70_plddt_80-90.tar.gz` holds the structures with 0.6 <= pTM < 0.7 and 80 <= mean pLDDT < 90; the last bins
include 1 and 100. Each chunk of an export compresses its part of a bundle by itself: parts of gzip files one after
another are a gzip file (RFC 1952, 2.2).
"""

import gzip
import math
import tarfile
from typing import Final

ENDING: Final = ".tar.gz"
END: Final = gzip.compress(bytes(2 * tarfile.BLOCKSIZE), mtime=0)  # of an archive: two empty blocks

_BINS: Final = 10
_LEVEL: Final = 4  # of gzip: 6 takes twice as long for 3 % less


def bin_name(ptm: float | None, mean_plddt: float | None) -> str:
    """Return the name of a structure's bin; `unknown` stands for a score that is missing or not a number."""
    return f"ptm_{_bin(ptm, 0.1, '.2f')}_plddt_{_bin(mean_plddt, 10, '.0f')}"


def tar_member(name: str, content: bytes) -> bytes:
    """Return header and content of a file in a tar archive. Equal files have equal members."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    header = info.tobuf(tarfile.PAX_FORMAT)
    return header + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def compressed(members: bytes) -> bytes:
    """Return a part of a bundle."""
    return gzip.compress(members, _LEVEL, mtime=0)


def _bin(value: float | None, width: float, form: str) -> str:
    if value is None or not math.isfinite(value):
        return "unknown"
    # float32 scores: 0.7 is stored as 0.69999999
    number = min(_BINS - 1, max(0, math.floor(value / width + 1e-6)))
    return f"{number * width:{form}}-{(number + 1) * width:{form}}"
