"""The version of this program."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache  # reading the metadata of a package takes 0.3 ms
def program_version() -> str:
    """Return the installed version, "not installed" for a source tree without installation."""
    try:
        return version("foldatlas")
    except PackageNotFoundError:
        return "not installed"
