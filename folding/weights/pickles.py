"""Reading of files written by torch.save (.pt, .bin) without running any code in them.

torch's restricted reader (`weights_only`) makes tensors and plain containers. The configuration objects that fair-esm's
files have beside the weights become inert objects, with the stored fields and without methods. A file that refers to
any other class or function is refused before anything is read.
"""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from foldatlas.schemas.errors import ModelError

# Classes of the configurations in fair-esm's files (argparse for language models, omegaconf for ESMFold).
_INERT_NAMES: Final = frozenset(
    {"argparse.Namespace", "collections.defaultdict"}
    | {f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("dict", "list", "int", "long")}
    | {"typing.Any", "typing.Dict", "typing.List", "typing.Optional", "typing.Union"}
)
_INERT_MODULES: Final = ("omegaconf.", "esm.esmfold.")


class Inert:
    """Replacement for an object whose class is not loaded: its fields only, without code."""

    def __new__(cls, *arguments: Any) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *arguments: Any) -> None:
        self.items: dict[Any, Any] = {}  # of dictionaries

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.__dict__.setdefault("items", {})[key] = value


def read(path: Path) -> Any:
    """Return the content of a torch.save file: containers, numbers, memory-mapped tensors, `Inert` configurations.

    Raise ModelError for a file that refers to any other code, and for one that torch.save did not write.
    """
    try:
        if not zipfile.is_zipfile(path):
            raise ModelError(
                f"{path} was not written by torch.save of torch 1.6 or later, or is incomplete: fetch it again"
            )
        inert: list[tuple[Callable[..., Any], str] | Callable[..., Any]] = []
        for name in sorted(get_unsafe_globals_in_checkpoint(str(path))):
            if name not in _INERT_NAMES and not name.startswith(_INERT_MODULES):
                raise ModelError(
                    f"{path} refers to {name}, which weights do not need, and was not read, because it could run code "
                    "on this machine: get the file from its publisher, or as safetensors"
                )
            inert.append((type("Inert", (Inert,), {}), name))
        with safe_globals(inert):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except ModelError:
        raise
    except (pickle.UnpicklingError, OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"{path} cannot be read as weights ({reason}): fetch it again") from error


def plain(value: Any) -> Any:
    """Return a configuration as plain dictionaries, lists and values.

    omegaconf stores the content of a node in `_content` and of a leaf in `_val`; a Namespace has its fields.
    """
    if isinstance(value, Inert):
        fields = vars(value)
        for name in ("_content", "_val"):
            if name in fields:
                return plain(fields[name])
        return plain({**fields.get("items", {}), **{k: v for k, v in fields.items() if k != "items"}})
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
