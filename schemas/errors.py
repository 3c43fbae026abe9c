"""The exceptions of FoldAtlas.

    FoldAtlasError                 exit 1
    |-- UsageError (ValueError)    exit 2   refused before anything was changed
    |   |-- SourceError                     a source that cannot be used
    |   |-- ForeignFolderError              an output folder that holds other files
    |   |-- NotAnAtlasError                 a folder that is not an atlas
    |   |-- SettingsMismatchError           an atlas made with other settings
    |   |-- ModelError                      an unknown model or unusable weights
    |   |   `-- MissingWeights                weights that are not on this machine, or incomplete
    |   |-- SequenceError                   a sequence that the network does not accept
    |   `-- QueryError                      SQL that DuckDB does not accept
    |-- DamagedAtlasError          exit 3   files that contradict the manifest
    |-- IncompleteError            exit 3   shards that are not committed after all tries
    |-- StoreError                 exit 1   an object store that refuses requests or does not answer
    |-- EngineError                exit 1   a failure of the Beam engine
    |-- WorkerError                exit 1   a failure of the process that owns the device
    |   |-- WorkerDied                      it ended or was killed
    |   |-- WorkerTimeout                   it passed its deadline and was killed
    |   |-- OutOfMemory                     the batch did not fit on the device
    |   `-- NonFiniteOutput                 the network returned NaN or infinity
    |-- TrainingError              exit 1   training cannot continue
    `-- Interrupted                exit 130 Ctrl-C, or SIGTERM (exit 143)

A message gives the value, the limit and the next step. Commands print it without a traceback.
"""


class FoldAtlasError(Exception):
    """Base class of all exceptions of FoldAtlas."""

    exit_code = 1


class UsageError(FoldAtlasError, ValueError):
    """A request that cannot be carried out as given; nothing was changed."""

    exit_code = 2


class SourceError(UsageError):
    """A source is missing, empty, unreadable or not FASTA."""


class ForeignFolderError(UsageError):
    """The output folder holds other files than an atlas or an export of FoldAtlas."""


class NotAnAtlasError(UsageError):
    """The folder named as an atlas is missing or is not one."""


class SettingsMismatchError(UsageError):
    """The atlas was made with another model, weights, recycles or precision."""


class ModelError(UsageError):
    """The model is unknown, or its weights do not fit the network."""


class MissingWeights(ModelError):
    """The weights are not on this machine, or incomplete; they can be downloaded."""


class SequenceError(UsageError):
    """A sequence is empty or contains letters that are not residue codes."""


class QueryError(UsageError):
    """SQL that could not be parsed, bound or run."""


class DamagedAtlasError(FoldAtlasError):
    """A committed file is missing, unreadable or does not match its digest."""

    exit_code = 3


class IncompleteError(FoldAtlasError):
    """Shards are not committed after all rounds."""

    exit_code = 3


class StoreError(FoldAtlasError):
    """An object store refused a request, or did not answer within the time for retries."""


class EngineError(FoldAtlasError):
    """The Beam engine failed or was lost. Committed shards are kept."""


class WorkerError(FoldAtlasError):
    """The supervised process that owns the device failed."""


class WorkerDied(WorkerError):
    """The process ended or was killed during its work."""


class WorkerTimeout(WorkerError):
    """The process passed its deadline and was killed."""


class OutOfMemory(WorkerError):
    """A batch did not fit into the device's memory."""


class NonFiniteOutput(WorkerError):
    """The network returned NaN or infinity for a protein."""


class TrainingError(FoldAtlasError):
    """A training run cannot continue."""


class Interrupted(FoldAtlasError):
    """The user or the system stopped the run."""

    exit_code = 130

    def __init__(self, message: str = "stopped on request", *, exit_code: int = 130):
        super().__init__(message)
        self.exit_code = exit_code
