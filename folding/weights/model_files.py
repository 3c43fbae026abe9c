"""Where a model's weights are: a name or a path becomes files. No torch, so that planning stays light.

Names are looked for in the folder that `--weights` names, then in the cache of Hugging Face's hub. Nothing here
reaches for a network: hub.py fetches.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from foldatlas.folding.weights import hub, nano
from foldatlas.folding.weights.published import CONFIG, MODEL, PUBLISHED, WEIGHTS, by_hand
from foldatlas.schemas.errors import MissingWeights, ModelError

_CONTACTS: Final = "-contact-regression"  # fair-esm's second file of a language model ends so


@dataclass(frozen=True)
class ModelFiles:
    """Where a model lies. `name` is what people will see; `files` hold the weights, in the layout of

    transformers   `config` and its tensors, in one file or several
    fair           of ESMFold: the folding network, then the language model; of a language model: it, then its
                   regression of contacts where that lies beside it
    ours           one file that folding.weights.save wrote
    """

    name: str
    layout: str
    files: tuple[Path, ...]
    config: Path | None = None

    def stamp(self) -> tuple[tuple[str, int, int], ...]:
        """Path, bytes and time of each file: equal stamps mean unchanged weights."""
        status = [(path, path.stat()) for path in (*self.files, *filter(None, [self.config]))]
        return tuple((str(path), found.st_size, found.st_mtime_ns) for path, found in status)


def absolute(model: str) -> str:
    """`model` as other processes must be told it: a name as it is, a path from the root."""
    return model if model == nano.NAME or model in PUBLISHED else str(Path(model).absolute())


def find(model: str, folder: str | None = None) -> ModelFiles:
    """The files of `model`: a published name, looked for in `folder` and the hub's cache, or the path of a file or
    folder, that of a training run too.

    Raises ModelError, and MissingWeights that says which files to put where.
    """
    if model == nano.NAME:
        return ModelFiles(nano.NAME, "ours", (nano.WEIGHTS,))
    if model in PUBLISHED:
        return _find_published(model, folder)
    path = Path(model)
    if path.is_dir():
        if (place := _in_folder(path, _name_of(path))) is not None:
            return place
        # Not in _in_folder: half a download of a published model is none of ours.
        if (path / MODEL).is_file():
            return ModelFiles(_name_of(path), "ours", (path / MODEL,))
        raise ModelError(
            f"{path} holds no model: it needs {CONFIG} and {WEIGHTS[0]} or {WEIGHTS[2]} (transformers), the {MODEL} "
            "that a training run makes at its end, or the .pt files of fair-esm (of ESMFold both the folding network's "
            "and the language model's)"
        )
    if path.is_file():
        if path.suffix == ".safetensors":
            return ModelFiles(_name_of_file(path), "ours", (path,))
        if path.suffix == ".pt":
            return _fair(path, path.stem)
        raise ModelError(f"{path} is neither .safetensors nor .pt: give the folder of a model or one of these")
    names = ", ".join(repr(name) for name in (nano.NAME, *PUBLISHED))
    raise ModelError(
        f"there is no model {model!r}, and no folder or file of that name: give the path of a model, or one of {names} "
        f"({nano.NAME!r} is a small network that comes with FoldAtlas)"
    )


def is_missing(model: str, folder: str | None = None) -> bool:
    """Whether `model` is a published name, and `find` lacks its files, or some of them."""
    if model in PUBLISHED:
        try:
            find(model, folder)
        except MissingWeights:
            return True
    return False


def _find_published(name: str, folder: str | None) -> ModelFiles:
    published = PUBLISHED[name]
    looked = []
    if folder is not None:
        root = Path(folder)
        fair = [root / file for file in published.fair]
        if (place := _in_folder(root / name, name)) is not None:
            return place
        if (root / f"{name}.safetensors").is_file():
            return ModelFiles(name, "ours", (root / f"{name}.safetensors",))
        if all(path.is_file() for path in fair):
            return _fair(fair[0], name)
        looked += [
            f"{root / name} with {CONFIG} and {WEIGHTS[0]} or {WEIGHTS[2]}",
            " with ".join(map(str, fair)),
        ]
    snapshot = hub.cached(published.repository)
    if snapshot is not None and (place := _in_folder(snapshot, name)) is not None:
        return place
    looked.append(f"the hub's cache, {hub.cache_folder(published.repository)}")
    where = f" {folder}" if folder is not None else ""
    raise MissingWeights(
        f"the weights of {name} are not on this machine (looked for {'; '.join(looked)}): run "
        f"`foldatlas weights {name}{where}` where there is a network, or put {by_hand(name, folder)}"
    )


def _in_folder(folder: Path, name: str) -> ModelFiles | None:
    """The model in `folder`, which is not searched further; None if there is none."""
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
        raise ModelError(f"{folder} holds several models ({', '.join(path.name for path in first)}): name one of them")
    return None


def _shards(index: Path) -> Iterator[Path]:
    """The files that an index lists, each there."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ModelError(f"{index} is no index of weights ({error!r}): fetch it again") from error
    for name in names:
        path = index.parent / str(name)
        if Path(str(name)).name != name:
            raise ModelError(f"{index} names {name!r}, which is not in its own folder: fetch the model again")
        if not path.is_file():
            raise MissingWeights(f"{index} lists {name}, which is not beside it: fetch that file too")
        yield path


def _fair(path: Path, name: str) -> ModelFiles:
    """fair-esm's file of a network, with its second file."""
    if path.stem.startswith("esmfold"):
        others = sorted(other for other in path.parent.glob("esm2_*.pt") if not other.stem.endswith(_CONTACTS))
        released = path.parent / PUBLISHED["esmfold_v1"].fair[1]
        if released in others:  # a folder may hold language models of every size
            others = [released]
        if len(others) != 1:
            raise ModelError(f"{path} is the folding network alone: put its language model, {released.name}, beside it")
        return ModelFiles(name, "fair", (path, others[0]))
    contacts = path.with_name(f"{path.stem}{_CONTACTS}{path.suffix}")
    return ModelFiles(name, "fair", (path, contacts) if contacts.is_file() else (path,))


def _name_of_file(path: Path) -> str:
    """A file of ours is called as it is, but for what every training run calls its own: that has the run's name."""
    return _name_of(path.parent) if path.name == MODEL else path.stem


def _name_of(folder: Path) -> str:
    """What people call the model in `folder`: the folder's name, and in the hub's cache the repository's.

    Not the name in its configuration, which is that of the model it was trained from.
    """
    resolved = folder.resolve()
    repository = resolved.parent.parent.name
    if resolved.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.rpartition("--")[2]
    return resolved.name
