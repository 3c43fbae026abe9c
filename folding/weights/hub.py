"""Hugging Face's hub: what its cache on this machine holds, and fetching a model from it.

Commands fetch, in the driver and before they begin (jobs/weights.py). Workers look into the cache and no further.
"""

from collections.abc import Sequence
from pathlib import Path

from foldatlas.folding.weights.published import CONFIG, PUBLISHED, by_hand
from foldatlas.schemas.errors import ModelError


def cache_folder(repository: str) -> Path:
    """Where the hub's cache keeps `repository`, there or not."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")


def cached(repository: str) -> Path | None:
    """The folder of `repository` in the hub's cache, None if it is not there. No network is asked."""
    from huggingface_hub import constants, try_to_load_from_cache

    # Asked for one file: as a whole, a repository counts as absent when any file of it was not fetched, read or not.
    config = try_to_load_from_cache(repository, CONFIG, cache_dir=constants.HF_HUB_CACHE)
    return Path(config).parent if isinstance(config, str) else None


def fetch(name: str, folder: str | Path | None = None) -> None:
    """Fetches the published model `name` into `folder`/`name` (None: the hub's cache), with progress on stderr.

    What is there already is not fetched again; an interrupted file goes on where it stopped. Raises ModelError for a
    name that is not published, and with what to do instead when the hub cannot be reached.
    """
    if name not in PUBLISHED:
        raise ModelError(f"there is no published model {name!r}: give one of {', '.join(PUBLISHED)}")
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils import logging

    logging.disable_propagation()  # it writes to stderr itself; Beam's handler of the root logger would repeat it
    repository = PUBLISHED[name].repository
    try:
        files = wanted_files(HfApi().list_repo_files(repository))
        local = None if folder is None else Path(folder) / name
        snapshot_download(repository, local_dir=local, allow_patterns=files)
    # Whatever keeps the hub from answering is an exception of one of four libraries.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"{name} could not be fetched from {repository} ({type(error).__name__}: {reason}): try again where there "
            f"is a network, or put {by_hand(name, folder)}"
        ) from error


def wanted_files(files: Sequence[str]) -> list[str]:
    """Those of a repository's files that are read here: sizes, and the weights once, as safetensors if there are."""
    safetensors = [file for file in files if file.endswith((".safetensors", ".safetensors.index.json"))]
    pickled = [file for file in files if file.startswith("pytorch_model") and file.endswith((".bin", ".index.json"))]
    return [CONFIG, *(safetensors or pickled)]
