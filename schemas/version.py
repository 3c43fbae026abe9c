"""Which FoldAtlas this is."""

from importlib.metadata import PackageNotFoundError, version


def program_version() -> str:
    """The installed version; a source tree that is used without installation has none."""
    try:
        return version("foldatlas")
    except PackageNotFoundError:
        return "not installed"
