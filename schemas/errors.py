"""The exceptions FoldAtlas raises on purpose.

    FoldAtlasError                 exit 1
    |-- UsageError (ValueError)    exit 2   refused before anything was changed
    |   |-- SourceError                     a FASTA source that cannot be used
    |   |-- ForeignFolderError              an output folder that holds something else
    |   |-- NotAnAtlasError                 a folder that should be an atlas and is none
    |   |-- SettingsMismatchError           an atlas made with other result-changing settings
    |   |-- ModelError                      an unknown model or unusable weights
    |   |   `-- MissingWeights                a published model that is not on this machine, or not all of it
    |   |-- SequenceError                   a sequence the network cannot take
    |   `-- QueryError                      SQL that DuckDB does not accept
    |-- DamagedAtlasError          exit 3   files that contradict the manifest
    |-- IncompleteError            exit 3   shards still missing after every try
    |-- StoreError                 exit 1   an object store that refuses, or is away for too long
    |-- EngineError                exit 1   the Beam engine gave up or was lost
    |-- WorkerError                exit 1   the process that owns the device broke
    |   |-- WorkerDied                      it ended, or was killed
    |   |-- WorkerTimeout                   it passed its deadline and was killed
    |   |-- OutOfMemory                     the batch did not fit on the device
    |   `-- NonFiniteOutput                 the network gave NaN or infinity
    |-- TrainingError              exit 1   training cannot go on
    `-- Interrupted                exit 130 Ctrl-C, or SIGTERM (exit 143)

A message gives the value, the limit and the next step. Commands print it without a traceback.
"""


class FoldAtlasError(Exception):
    """Root of everything FoldAtlas raises on purpose."""

    exit_code = 1


class UsageError(FoldAtlasError, ValueError):
    """A request that cannot be carried out as given; nothing was changed."""

    exit_code = 2


class SourceError(UsageError):
    """A FASTA source is missing, empty, unreadable or not FASTA."""


class ForeignFolderError(UsageError):
    """The output folder holds something that is not a FoldAtlas atlas or export."""


class NotAnAtlasError(UsageError):
    """The folder named as an atlas is missing or is not one."""


class SettingsMismatchError(UsageError):
    """The atlas was made with another model, weights, recycles or precision."""


class ModelError(UsageError):
    """The model is unknown, or its weights do not fit the network."""


class MissingWeights(ModelError):
    """Weights that are not on this machine, or not all of them: they can be fetched."""


class SequenceError(UsageError):
    """A sequence is empty or holds letters that are no residue code."""


class QueryError(UsageError):
    """SQL that could not be parsed, bound or run."""


class DamagedAtlasError(FoldAtlasError):
    """A committed file is missing, unreadable or does not match its digest."""

    exit_code = 3


class IncompleteError(FoldAtlasError):
    """Shards that are still not committed after every round."""

    exit_code = 3


class StoreError(FoldAtlasError):
    """An object store refused a request, or did not answer for as long as a run waits."""


class EngineError(FoldAtlasError):
    """The Beam engine gave a job up, or was lost; what it finished is kept."""


class WorkerError(FoldAtlasError):
    """The supervised process that owns the device failed."""


class WorkerDied(WorkerError):
    """The process ended or was killed while it had work."""


class WorkerTimeout(WorkerError):
    """The process passed its deadline and was killed."""


class OutOfMemory(WorkerError):
    """A batch did not fit into the device's memory."""


class NonFiniteOutput(WorkerError):
    """The network gave NaN or infinity for a protein."""


class TrainingError(FoldAtlasError):
    """A training run cannot go on from where it is."""


class Interrupted(FoldAtlasError):
    """The person or the system asked the run to stop."""

    exit_code = 130

    def __init__(self, message: str = "stopped on request", *, exit_code: int = 130):
        super().__init__(message)
        self.exit_code = exit_code
