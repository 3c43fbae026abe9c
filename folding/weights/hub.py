"""Hugging Face's hub: looking up models in its cache on this machine, and downloads.

Commands download in the driver, before any work (jobs/weights.py). Workers only read the cache.
"""

from collections.abc import Sequence
from pathlib import Path

from foldatlas.folding.weights.published import CONFIG, PUBLISHED, by_hand
from foldatlas.schemas.errors import ModelError


def cache_folder(repository: str) -> Path:
    """Return the folder of `repository` in the Hugging Face cache, whether or not it exists."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")


def cached(repository: str) -> Path | None:
    """Return the snapshot of `repository` in the Hugging Face cache, None if there is none. Uses no network."""
    from huggingface_hub import constants, try_to_load_from_cache

    # One file is looked up: a whole repository counts as missing if any of its files was not downloaded.
    config = try_to_load_from_cache(repository, CONFIG, cache_dir=constants.HF_HUB_CACHE)
    return Path(config).parent if isinstance(config, str) else None


def fetch(name: str, folder: str | Path | None = None) -> None:
    """Download the published model `name` into `folder`/`name` (None: the Hugging Face cache), with progress on stderr.

    Existing files are not downloaded again, and an interrupted download resumes. Raise ModelError for an unknown name,
    or, with instructions, if the hub cannot be reached.
    """
    if name not in PUBLISHED:
        raise ModelError(f"unknown published model {name!r}: use one of {', '.join(PUBLISHED)}")
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils import logging

    logging.disable_propagation()  # the hub's logger writes to stderr itself; Beam's root handler would repeat it
    repository = PUBLISHED[name].repository
    try:
        files = needed_files(HfApi().list_repo_files(repository))
        local = None if folder is None else Path(folder) / name
        snapshot_download(repository, local_dir=local, allow_patterns=files)
    # Network errors are exceptions of four different libraries.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"{name} could not be downloaded from {repository} ({type(error).__name__}: {reason}): try again with a "
            f"network connection, or put {by_hand(name, folder)}"
        ) from error


def needed_files(files: Sequence[str]) -> list[str]:
    """Return the needed files of a repository: the sizes, and one copy of the weights, as safetensors if possible."""
    safetensors = [file for file in files if file.endswith((".safetensors", ".safetensors.index.json"))]
    pickled = [file for file in files if file.startswith("pytorch_model") and file.endswith((".bin", ".index.json"))]
    return [CONFIG, *(safetensors or pickled)]
