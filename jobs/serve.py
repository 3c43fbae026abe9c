"""`foldatlas serve`: serve an atlas over HTTP."""

import argparse
import contextlib
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

from foldatlas.jobs.arguments import ATLAS_HELP, add_memory_limit, add_weights, path, positive, say
from foldatlas.schemas.errors import FoldAtlasError, Interrupted, OutOfMemory, UsageError

if TYPE_CHECKING:
    from foldatlas.atlas.serve.folds import Folds

EXAMPLES: Final = """examples:
  foldatlas serve atlas
  curl http://127.0.0.1:8000/fetchPredictedStructure/P12345.pdb
  curl "http://127.0.0.1:8000/v1/proteins?min_plddt=70&min_ptm=0.7"
  foldatlas serve atlas --token-file tokens.txt --host 0.0.0.0 --host-name atlas.example.org
  foldatlas serve atlas --prefix /atlas --host-name example.org
  foldatlas serve atlas --fold-model nano

By default only this machine can connect. docs/api.md describes the routes, docs/public-server.md a server for others.
A new index, after `foldatlas index`, is served without a restart.
"""

FEATURES: Final = ("read", "sql", "search", "fold", "metrics")
_NEEDED: Final = ("fastapi", "prometheus_client", "starlette", "usearch", "uvicorn")


def serve(
    atlas: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: str | Path | None = None,
    public: Sequence[str] = (),
    host_names: Sequence[str] = (),
    cors: Sequence[str] = (),
    prefix: str = "",
    memory_limit: str | None = None,
    search_databases: str | Path | None = None,
    fold_model: str | None = None,
    fold_device: str = "auto",
    fold_length: int | None = None,
    weights: str | Path | None = None,
) -> None:
    """Serve `atlas` over HTTP until the process is interrupted.

    `token_file` has one token a line; then all of FEATURES need a token but those that `public` names. `host_names` are
    accepted in the header Host beside the names of `host`; `cors` are origins whose pages may read answers; `prefix` is
    the path under which a proxy publishes the server. `search_databases` is the folder that `foldatlas index
    --search-folder` was given. `fold_model` folds sequences on demand on `fold_device`, at most `fold_length` residues
    (None: 400); `weights` is a folder that is searched for it first. Raise UsageError.
    """
    try:
        from foldatlas.atlas.serve.http.app import create_app
        from foldatlas.atlas.serve.http.run import listen
        from foldatlas.atlas.serve.http.run import run as run_server
        from foldatlas.atlas.serve.search import embeddings  # noqa: F401 - which processes of searches import
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        raise UsageError(f"foldatlas serve needs {error.name}: pip install 'foldatlas[serve]'") from None
    from foldatlas.atlas.serve.cage.processes import SqlProcesses
    from foldatlas.atlas.serve.current import CurrentAtlas
    from foldatlas.atlas.serve.search.build import search_folder
    from foldatlas.atlas.serve.search.jobs import Searches
    from foldatlas.atlas.serve.settings import FOLD, SEARCH, SQL, ServerSettings, read_tokens

    settings = ServerSettings(
        host=host,
        port=port,
        tokens=read_tokens(token_file) if token_file is not None else frozenset(),
        public=frozenset(public),
        host_names=tuple(host_names),
        origins=tuple(cors),
        prefix=prefix,
    )
    with listen(settings) as listener, CurrentAtlas(atlas, memory_limit) as current, contextlib.ExitStack() as stack:
        processes = None
        if settings.access(SQL) != "off":
            processes = stack.enter_context(SqlProcesses(current.folder))
        searches = None
        if settings.access(SEARCH) != "off" and (search_databases is not None or current.folder.is_local):
            searches = stack.enter_context(Searches(current, search_folder(current.folder, search_databases)))
            searches.prepare()
        folding = None
        if fold_model is not None and settings.access(FOLD) != "off":
            folding = stack.enter_context(on_demand(fold_model, fold_device, fold_length, weights))
        app = create_app(current, settings, processes, searches, folding)
        stack.callback(app.state.shared.explorer.close)
        run_server(app, settings, listener, lambda url: say(f"serving {atlas} at {url}"))


def on_demand(
    model: str, device: str = "auto", length: int | None = None, weights: str | Path | None = None
) -> "Folds":
    """Return folding on demand with a model, in a child process that is started for the first sequence.

    `length` is the greatest number of residues. Raise ModelError.
    """
    import numpy as np

    from foldatlas.atlas.serve.folds import CannotFold, FoldingFailed, FoldLimits, Folds
    from foldatlas.folding.planning.cost import mflop
    from foldatlas.folding.prediction import Prediction
    from foldatlas.folding.weights.model_files import absolute
    from foldatlas.jobs.choices import ModelChoice
    from foldatlas.pipeline.workers.devices import choose_device
    from foldatlas.pipeline.workers.supervisor import BatchError, Child, WorkerSpec
    from foldatlas.schemas.tables import COORDINATE_SCALE, PLDDT_SCALE

    weights_dir = None if weights is None else str(Path(weights).absolute())
    choice = ModelChoice.resolve(model, None, "fp32", weights_dir, before=lambda: None)
    child = Child(WorkerSpec(absolute(model), choice.settings, choose_device(device), weights_dir))

    def fold(sequence: str) -> Prediction:
        try:
            [found] = child.compute([sequence], mflop(choice.config, len(sequence), choice.settings.recycles))
        except OutOfMemory:
            raise CannotFold("the sequence needs more memory than the server has: fold a shorter one") from None
        except BatchError:
            raise CannotFold("the model gives no structure for this sequence") from None
        except FoldAtlasError as error:
            raise FoldingFailed(type(error).__name__) from error
        positions = (found.coordinates / COORDINATE_SCALE).astype(np.float32)
        return Prediction(sequence, positions, (found.plddt / PLDDT_SCALE).astype(np.float32), found.ptm, None)

    limits = FoldLimits() if length is None else FoldLimits(length=length)
    return Folds(fold, choice.settings.model, limits, child.kill)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("atlas", type=path, metavar="ATLAS", help=ATLAS_HELP)
    add_memory_limit(parser, "80%% of the machine's")
    parser.add_argument("--log-requests", action="store_true", help="write a line per request, without ids and queries")
    address = parser.add_argument_group("address")
    address.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine)"
    )
    address.add_argument("--port", type=_port, default=8000, help="port, 0 for any free one (default: %(default)s)")
    address.add_argument("--prefix", default="", metavar="PATH", help="path under which a proxy publishes the server")
    access = parser.add_argument_group("access")
    access.add_argument(
        "--token-file", type=path, metavar="FILE", help="file with a token per line; all requests need one of them"
    )
    access.add_argument(
        "--public",
        action="append",
        default=[],
        choices=FEATURES,
        metavar="FEATURE",
        help=f"needs no token in spite of --token-file: {', '.join(FEATURES)}; can be repeated",
    )
    access.add_argument(
        "--host-name",
        action="append",
        default=[],
        metavar="NAME",
        help="name of this server in requests; can be repeated",
    )
    access.add_argument(
        "--cors",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="origin whose pages may read answers; can be repeated",
    )
    search = parser.add_argument_group("searches and folding on demand")
    search.add_argument(
        "--search-folder", type=path, metavar="DIR", help="search database of `foldatlas index` (default: ATLAS/search)"
    )
    search.add_argument(
        "--fold-model", type=path, metavar="NAME", help="fold sequences on demand with this model: name or path"
    )
    search.add_argument(
        "--fold-device",
        default="auto",
        metavar="DEVICE",
        help="where the network runs: auto, cpu, cuda or cuda:N (default: %(default)s)",
    )
    search.add_argument(
        "--fold-length",
        type=positive,
        metavar="N",
        help="fold sequences of at most this length, in residues (default: 400)",
    )
    add_weights(search)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 0 to 65535")
    return int(text)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Interrupted(exit_code=128 + number)


def run(arguments: argparse.Namespace) -> int:
    # uvicorn ends its requests and then raises the signal again, which would end the process before it deletes the
    # folder with its link of the index, and keep the space of an index that was replaced.
    signal.signal(signal.SIGTERM, _stop)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log = logging.getLogger("foldatlas.serve")
    log.addHandler(handler)
    log.propagate = False
    log.setLevel(logging.INFO if arguments.log_requests else logging.WARNING)
    serve(
        arguments.atlas,
        host=arguments.host,
        port=arguments.port,
        token_file=arguments.token_file,
        public=arguments.public,
        host_names=arguments.host_name,
        cors=arguments.cors,
        prefix=arguments.prefix,
        memory_limit=arguments.memory_limit,
        search_databases=arguments.search_folder,
        fold_model=arguments.fold_model,
        fold_device=arguments.fold_device,
        fold_length=arguments.fold_length,
        weights=arguments.weights,
    )
    return 0
