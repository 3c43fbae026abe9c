"""What a map depends on: the method with its constants, the versions of its libraries, the seed, and the input."""

import hashlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from foldatlas.atlas.reader import Atlas
from foldatlas.schemas.errors import UsageError

EMBEDDINGS: Final = "embeddings"
COMPOSITION: Final = "composition"
FEATURES: Final = (EMBEDDINGS, COMPOSITION)

MAX_FITTED: Final = 100_000  # structures of the layout
MIN_LAYOUT: Final = 10  # structures; fewer are placed at their first two principal components
NUM_COMPONENTS: Final = 50
NEIGHBOURS: Final = 15  # by which a structure that is not in the layout is placed

# t-SNE as in openTSNE's defaults: Poličar, Stražar & Zupan 2019; Kobak & Berens 2019.
PERPLEXITY: Final = 30
EXAGGERATION: Final = 12
EARLY_ITERATIONS: Final = 250
ITERATIONS: Final = 500

_LIBRARIES: Final = ("openTSNE", "scikit-learn", "numpy", "scipy")
_INSTALL: Final = "pip install 'foldatlas[map]'"


def require_libraries() -> None:
    """Raise UsageError, with the command that installs them, if the libraries of the method are missing."""
    try:
        import openTSNE  # noqa: F401
        import sklearn  # noqa: F401
    except ImportError as error:
        raise UsageError(f"a map needs openTSNE and scikit-learn ({error}): {_INSTALL}") from None


def library_versions() -> dict[str, str]:
    """Return the version of each library on which positions depend."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            raise UsageError(f"a map needs {name}: {_INSTALL}") from None
    return found


def choose_features(atlas: Atlas, wanted: str | None) -> str:
    """Return `wanted`, or embeddings if the atlas has them for all shards, else composition.

    Raise UsageError if embeddings are wanted and missing.
    """
    [(with_structures, with_embeddings)] = atlas.query(
        "SELECT count(DISTINCT shard) FILTER (WHERE table_name = 'structures'), "
        "count(DISTINCT shard) FILTER (WHERE table_name = 'embeddings') FROM files"
    ).rows()
    if wanted is not None and wanted not in FEATURES:
        raise UsageError(f"{wanted!r} is not a kind of features: choose one of {', '.join(FEATURES)}")
    has_all = with_embeddings == with_structures > 0
    if wanted == EMBEDDINGS and not has_all:
        raise UsageError(
            f"{atlas.folder.uri} has embeddings of {with_embeddings:,} of {with_structures:,} shards: fold with "
            "--embeddings mean --add-outputs first, or give --features composition"
        )
    return wanted or (EMBEDDINGS if has_all else COMPOSITION)


def run_settings(atlas: Atlas, features: str, seed: int, structures: int) -> dict[str, Any]:
    """Return the settings of a run: everything on which the positions of `structures` structures depend."""
    return {
        "method": "tsne" if structures >= MIN_LAYOUT else "pca",
        "features": features,
        "seed": seed,
        "max_fitted": MAX_FITTED,
        "components": NUM_COMPONENTS,
        "neighbours": NEIGHBOURS,
        "perplexity": PERPLEXITY,
        "exaggeration": EXAGGERATION,
        "iterations": [EARLY_ITERATIONS, ITERATIONS],
        "libraries": library_versions(),
        "input": _digest_of_input(atlas, features),
    }


def _digest_of_input(atlas: Atlas, features: str) -> str:
    """Return the sha256 of the files that the features and the present records come from."""
    table = "embeddings" if features == EMBEDDINGS else "structures"
    rows = atlas.query(
        "SELECT sha256 FROM files WHERE table_name IN ('records', 'scores', $table) ORDER BY sha256", {"table": table}
    ).rows()
    [(contents,)] = atlas.query("SELECT contents FROM settings").rows()
    lines = [str(contents), *(str(sha256) for (sha256,) in rows)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
