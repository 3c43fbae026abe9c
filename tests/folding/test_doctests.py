"""Examples in docstrings run and give the results that they show."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("module", ["foldatlas.folding.predictor"])
def test_docstring_examples_run(module: str) -> None:
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted > 0
    assert found.failed == 0
