"""Finding the files of a model by name or path. Does not import torch, so that planning is fast.

Published names are looked up in the folder of `--weights`, then in the cache of Hugging Face's hub. Nothing here uses a
network: hub.py downloads.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from foldatlas.folding.weights import hub, nano
from foldatlas.folding.weights.published import CONFIG, MODEL, PUBLISHED, WEIGHTS, by_hand
from foldatlas.schemas.errors import MissingWeights, ModelError

_CONTACTS: Final = "-contact-regression"  # end of the name of fair-esm's second file of a language model


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model. `name` is shown to users; `files` are the weights in this `layout`:

    transformers   tensors in one or several files, and `config`
    fair           ESMFold: the folding network, then the language model. A language model: its weights, then its
                   contact regression if that is beside it
    ours           one file written by fitting.save
    """

    name: str
    layout: str
    files: tuple[Path, ...]
    config: Path | None = None

    def stamp(self) -> tuple[tuple[str, int, int], ...]:
        """Return path, size in bytes and modification time of each file: equal stamps mean unchanged weights."""
        status = [(path, path.stat()) for path in (*self.files, *filter(None, [self.config]))]
        return tuple((str(path), found.st_size, found.st_mtime_ns) for path, found in status)


def absolute(model: str) -> str:
    """Return `model` in a form for other processes: a name unchanged, a path as an absolute path."""
    return model if model == nano.NAME or model in PUBLISHED else str(Path(model).absolute())


def find(model: str, folder: str | None = None) -> ModelFiles:
    """Return the files of `model`: `nano`, a published name, or the path of a file, a folder or a training run.

    Published names are looked up in `folder`, then in the Hugging Face cache. Raise ModelError for an unknown model,
    and MissingWeights, with the files that are needed, if a published model is not on this machine.
    """
    if model == nano.NAME:
        return ModelFiles(nano.NAME, "ours", (nano.WEIGHTS,))
    if model in PUBLISHED:
        return _find_published(model, folder)
    path = Path(model)
    if path.is_dir():
        if (found := _in_folder(path, _name_of(path))) is not None:
            return found
        # Not in _in_folder, where a file of this name is a published model with an incomplete download.
        if (path / MODEL).is_file():
            return ModelFiles(_name_of(path), "ours", (path / MODEL,))
        raise ModelError(
            f"{path} has no model: it needs {CONFIG} and {WEIGHTS[0]} or {WEIGHTS[2]} (transformers), the {MODEL} "
            "that a training run writes at its end, or the .pt files of fair-esm (for ESMFold those of the folding "
            "network and of the language model)"
        )
    if path.is_file():
        if path.suffix == ".safetensors":
            return ModelFiles(_name_of_file(path), "ours", (path,))
        if path.suffix == ".pt":
            return _fair(path, path.stem)
        raise ModelError(f"{path} is neither .safetensors nor .pt: give the folder of a model or one of these")
    names = ", ".join(repr(name) for name in (nano.NAME, *PUBLISHED))
    raise ModelError(
        f"unknown model {model!r}, and no folder or file has that name: give the path of a model, or one of {names} "
        f"({nano.NAME!r} is a small network included in FoldAtlas)"
    )


def is_missing(model: str, folder: str | None = None) -> bool:
    """Return whether `model` is a published name whose files, or some of them, are not on this machine."""
    if model in PUBLISHED:
        try:
            find(model, folder)
        except MissingWeights:
            return True
    return False


def _find_published(name: str, folder: str | None) -> ModelFiles:
    published = PUBLISHED[name]
    searched = []
    if folder is not None:
        root = Path(folder)
        fair = [root / file for file in published.fair]
        if (found := _in_folder(root / name, name)) is not None:
            return found
        if (root / f"{name}.safetensors").is_file():
            return ModelFiles(name, "ours", (root / f"{name}.safetensors",))
        if all(path.is_file() for path in fair):
            return _fair(fair[0], name)
        searched += [
            f"{root / name} with {CONFIG} and {WEIGHTS[0]} or {WEIGHTS[2]}",
            " with ".join(map(str, fair)),
        ]
    snapshot = hub.cached(published.repository)
    if snapshot is not None and (found := _in_folder(snapshot, name)) is not None:
        return found
    searched.append(f"the Hugging Face cache, {hub.cache_folder(published.repository)}")
    where = f" {folder}" if folder is not None else ""
    raise MissingWeights(
        f"the weights of {name} are not on this machine (searched: {'; '.join(searched)}): run "
        f"`foldatlas weights {name}{where}` with a network connection, or put {by_hand(name, folder)}"
    )


def _in_folder(folder: Path, name: str) -> ModelFiles | None:
    """Return the model in `folder`, not in its subfolders; None if there is none."""
    config = folder / CONFIG
    if config.is_file():
        for file in WEIGHTS:
            if (folder / file).is_file():
                files = tuple(_shards(folder / file)) if file.endswith(".index.json") else (folder / file,)
                return ModelFiles(name, "transformers", files, config)
        fetch = f", or run `foldatlas weights {name}` again" if name in PUBLISHED else ""
        raise MissingWeights(f"{folder} has {CONFIG} but no weights: put {WEIGHTS[0]} or {WEIGHTS[2]} there{fetch}")
    networks = sorted(path for path in folder.glob("*.pt") if not path.stem.endswith(_CONTACTS))
    folding = [path for path in networks if path.stem.startswith("esmfold")]
    first = folding or networks
    if len(first) == 1:
        return _fair(first[0], name)
    if first:
        raise ModelError(f"{folder} has several models ({', '.join(path.name for path in first)}): give one of them")
    return None


def _shards(index: Path) -> Iterator[Path]:
    """Yield the files that an index lists. Raise ModelError for an invalid index, MissingWeights for a missing file."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ModelError(f"{index} is not an index of weights ({error!r}): fetch it again") from error
    for name in names:
        path = index.parent / str(name)
        if Path(str(name)).name != name:
            raise ModelError(f"{index} lists {name!r}, which is outside its folder: fetch the model again")
        if not path.is_file():
            raise MissingWeights(f"{index} lists {name}, which is not beside it: fetch that file too")
        yield path


def _fair(path: Path, name: str) -> ModelFiles:
    """Return fair-esm's file of a network together with its second file."""
    if path.stem.startswith("esmfold"):
        others = sorted(other for other in path.parent.glob("esm2_*.pt") if not other.stem.endswith(_CONTACTS))
        released = path.parent / PUBLISHED["esmfold_v1"].fair[1]
        if released in others:  # the folder may have language models of several sizes
            others = [released]
        if len(others) != 1:
            raise ModelError(f"{path} is the folding network alone: put its language model, {released.name}, beside it")
        return ModelFiles(name, "fair", (path, others[0]))
    contacts = path.with_name(f"{path.stem}{_CONTACTS}{path.suffix}")
    return ModelFiles(name, "fair", (path, contacts) if contacts.is_file() else (path,))


def _name_of_file(path: Path) -> str:
    """Return the name of a model in a file of ours: the file's name, or the run's for the file of a training run."""
    return _name_of(path.parent) if path.name == MODEL else path.stem


def _name_of(folder: Path) -> str:
    """Return the name of the model in `folder`: the folder's name, or in the Hugging Face cache the repository's.

    The name in its configuration is not used: it is that of the model it was fine-tuned from.
    """
    resolved = folder.resolve()
    repository = resolved.parent.parent.name
    if resolved.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.rpartition("--")[2]
    return resolved.name
