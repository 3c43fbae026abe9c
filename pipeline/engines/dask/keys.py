"""TLS keys of a Dask cluster: only processes that have them can connect.

A Dask scheduler runs any code that it is sent, so a cluster that can be reached over a network must have keys.

    python -m foldatlas.pipeline.engines.dask.keys FOLDER      makes ca.pem, cert.pem and key.pem there, and prints
                                                               the variables to export
"""

import os
import sys
from pathlib import Path
from typing import Any, Final

from foldatlas.schemas.errors import FoldAtlasError, UsageError

PREFIX: Final = "DASK_DISTRIBUTED__COMM__"
ROLES: Final = ("SCHEDULER", "WORKER", "CLIENT")


def make_keys(folder: Path) -> dict[str, str]:
    """Write new ca.pem, cert.pem and key.pem into `folder`, readable by this user only.

    Return the environment variables that make Dask's programs find and require them. One pair serves all roles. Raise
    UsageError if a file exists.
    """
    try:
        from distributed.security import Security

        security: Any = Security.temporary()  # type: ignore[no-untyped-call, unused-ignore]
    except ImportError as error:
        raise UsageError(f"this needs Dask and cryptography ({error}): pip install 'foldatlas[dask]'") from error
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    files = {"ca.pem": security.tls_ca_file, "cert.pem": security.tls_client_cert, "key.pem": security.tls_client_key}
    for name, text in files.items():
        try:
            descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise UsageError(f"{folder / name} exists: give another folder, or delete the file") from None
        with open(descriptor, "w") as file:
            file.write(text)
    environment = {f"{PREFIX}REQUIRE_ENCRYPTION": "true", f"{PREFIX}TLS__CA_FILE": str(folder / "ca.pem")}
    for role in ROLES:
        environment[f"{PREFIX}TLS__{role}__CERT"] = str(folder / "cert.pem")
        environment[f"{PREFIX}TLS__{role}__KEY"] = str(folder / "key.pem")
    return environment


def use_keys(environment: dict[str, str]) -> Any:
    """Make this process and its children use the keys. Return Dask's `Security` of them."""
    import dask
    from distributed.security import Security

    os.environ.update(environment)
    dask.config.refresh()
    return Security()  # type: ignore[no-untyped-call, unused-ignore]


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("python -m foldatlas.pipeline.engines.dask.keys FOLDER", file=sys.stderr)
        return 2
    try:
        environment = make_keys(Path(arguments[0]))
    except FoldAtlasError as error:
        print(f"dask_keys: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(f"export {name}={value}" for name, value in environment.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
