"""Several processes: what one of them does for all."""

from pathlib import Path

import pytest
import torch

from foldatlas.folding.training.processes import Processes
from foldatlas.schemas.errors import FoldAtlasError, UsageError

CPU = torch.device("cpu")


class AfterAFault(Processes):
    """Of processes of which one has met a fault."""

    def any(self, flag: bool) -> bool:
        return True


def fails() -> None:
    raise UsageError("no")


def test_failure_of_the_first_process_ends_all() -> None:
    with pytest.raises(UsageError, match="no"):
        AfterAFault(0, 2, CPU).run_on_first(fails)
    with pytest.raises(FoldAtlasError, match="the first process failed to start"):
        AfterAFault(1, 2, CPU).run_on_first(fails)


def test_an_error_of_the_system_ends_all_too(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        AfterAFault(0, 2, CPU).run_on_first((tmp_path / "none").read_text)


def test_one_process_alone_gets_what_was_made() -> None:
    assert Processes(0, 1, CPU).run_on_first(lambda: 7) == 7
