"""Files that torch.save wrote (.pt, .bin), read without running any code that is in them.

torch's own restricted reader (`weights_only`) makes tensors and plain containers. The configuration objects that
fair-esm's files hold beside the weights become inert objects, which have the fields that were stored and no methods.
Whatever else a file refers to is refused by its name before anything is read.
"""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from foldatlas.schemas.errors import ModelError

# What configuration objects of fair-esm's files are made of (argparse for language models, omegaconf for ESMFold).
_INERT_NAMES: Final = frozenset(
    {"argparse.Namespace", "collections.defaultdict"}
    | {f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("dict", "list", "int", "long")}
    | {"typing.Any", "typing.Dict", "typing.List", "typing.Optional", "typing.Union"}
)
_INERT_MODULES: Final = ("omegaconf.", "esm.esmfold.")


class Inert:
    """Stands for an object of a class that is not loaded: its fields, and nothing that could run."""

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
    """What torch.save wrote to `path`: containers, numbers, tensors mapped from the file, `Inert` for configurations.

    Raises ModelError for a file that refers to any other code, and for one that is no such file.
    """
    try:
        if not zipfile.is_zipfile(path):
            raise ModelError(
                f"{path} is no file that torch.save wrote since torch 1.6, or is not whole: fetch it again"
            )
        inert: list[tuple[Callable[..., Any], str] | Callable[..., Any]] = []
        for name in sorted(get_unsafe_globals_in_checkpoint(str(path))):
            if name not in _INERT_NAMES and not name.startswith(_INERT_MODULES):
                raise ModelError(
                    f"{path} refers to {name}, which weights have no need of, and was not read: it may be made to run "
                    "code on this machine. Get the file from its publisher, or as safetensors"
                )
            inert.append((type("Inert", (Inert,), {}), name))
        with safe_globals(inert):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except ModelError:
        raise
    except (pickle.UnpicklingError, OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"{path} cannot be read as weights alone ({reason}): fetch it again") from error


def plain(value: Any) -> Any:
    """A configuration as plain dictionaries, lists and values. omegaconf keeps a node's content in `_content`, a
    leaf's in `_val`; a Namespace has its fields."""
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
