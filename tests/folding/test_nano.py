"""The embedded model: what the package holds is what it says, and its structures and scores are those of proteins."""

import os

import numpy as np
import pytest

from foldatlas.folding import models
from foldatlas.folding.weights import nano
from foldatlas.folding.weights.checkpoints import read_config
from foldatlas.folding.weights.fitting import digest
from foldatlas.folding.weights.model_files import find

MOST_BYTES = 12_000_000  # in the package


def test_the_file_is_what_planners_say_without_reading_it():
    checkpoint = models.open_model("nano")
    assert digest(checkpoint.state) == nano.WEIGHTS_DIGEST
    assert read_config(find("nano")) == nano.CONFIG == checkpoint.config
    assert models.settings_of("nano").recycles == nano.CONFIG.recycles
    assert os.path.getsize(nano.WEIGHTS) <= MOST_BYTES


@pytest.fixture(scope="module")
def predictions(random_sequence):
    predictor = models.load("nano")
    return [predictor.fold([random_sequence(length, seed=7)])[0] for length in (1, 20, 90, 200)]


def test_chains_keep_together(predictions):
    for prediction in predictions[1:]:
        from_centre = prediction.positions - prediction.positions.mean(axis=0)
        assert 3 < np.sqrt((from_centre**2).sum(axis=1).mean()) < 30
        assert np.abs(from_centre).max() < 100


def test_scores_differ_between_residues_and_proteins(predictions):
    assert len({prediction.ptm for prediction in predictions}) == len(predictions)
    for prediction in predictions[1:]:
        assert np.ptp(prediction.plddt) > 10
        assert prediction.plddt.min() > 0
        assert prediction.plddt.max() < 100
