"""The version of this program."""

from importlib.metadata import PackageNotFoundError, version


def program_version() -> str:
    """Return the installed version, "not installed" for a source tree without installation."""
    try:
        return version("foldatlas")
    except PackageNotFoundError:
        return "not installed"
