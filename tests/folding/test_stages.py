"""Folding in stages gives the integers that encoding the floats of `fold_batch` gives, on the device or on the host."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from quantised import quantised

from foldatlas.folding.models import load
from foldatlas.folding.network.tokens import Batch
from foldatlas.folding.prediction import narrowed
from foldatlas.folding.stages import FoldingStages, padded_to_bucket
from foldatlas.schemas.errors import NonFiniteOutput, OutOfMemory

SEQUENCES = ["MKTAYIAKQRW", "GXBG", "M"]
OUTPUTS = {"mean_embedding": True, "residue_embedding": True, "pae": True}


@pytest.fixture(scope="module")
def predictor():
    return load("nano", recycles=0)


def assert_equal(found, expected):
    for field in type(expected).__dataclass_fields__:
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field), err_msg=field)


@pytest.mark.parametrize("outputs", [{}, OUTPUTS])
def test_stages_round_as_the_host_does(predictor, outputs):
    stages = predictor.stages
    found = stages.collect(stages.compute(stages.prepare(SEQUENCES, **outputs)))
    expected = [quantised(prediction) for prediction in predictor.fold_batch(SEQUENCES, **outputs)]
    for one, other in zip(found, expected, strict=True):
        assert_equal(one, other)
    assert found[0].coordinates.dtype == np.int16


def test_bucket_changes_nothing_but_rounding(predictor):
    stages = predictor.stages
    prepared = stages.prepare(SEQUENCES, pae=True)
    padded = replace(prepared, batch=padded_to_bucket(prepared.batch))
    assert prepared.batch.aatype_BL.shape == (3, 11) and padded.batch.aatype_BL.shape == (3, 16)
    for one, other in zip(*(stages.collect(stages.compute(each)) for each in (prepared, padded)), strict=True):
        for field in ("coordinates", "plddt", "pae"):
            difference = getattr(one, field).astype(int) - getattr(other, field)
            assert np.abs(difference).max() <= 1, field
        assert one.ptm == pytest.approx(other.ptm, abs=1e-4)


FLOATS = ("positions_BLA3", "plddt_BL", "ptm_B", "mean_embedding_BD", "pae_BLL")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((field, value) for field in FLOATS for value in (float("nan"), float("inf"))),
        ("positions_BLA3", 3e7),
        ("plddt_BL", 100.01),
        ("plddt_BL", -0.01),
        ("residue_embedding_BLD", 70_000.0),
        ("pae_BLL", 32.0),
    ],
)
def test_values_that_cannot_be_stored_are_an_error(predictor, field, value):
    def spoilt(batch: Batch, **options):
        output = predictor._network(batch, **options)
        values = getattr(output, field).clone()
        values[1] = value  # the second protein's, padding included
        return replace(output, **{field: values})

    stages = FoldingStages(predictor._network, 0)
    spoilt.embedding, spoilt.trunk = predictor._network.embedding, predictor._network.trunk
    stages._network = spoilt
    with pytest.raises(NonFiniteOutput, match=f"protein 2 of 3 .4 residues.* {field.rpartition('_')[0]}"):
        stages.collect(stages.compute(stages.prepare(SEQUENCES, **OUTPUTS)))


def test_memory_that_is_exhausted_is_an_error_of_the_batch(predictor):
    def full(batch, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    full.embedding, full.trunk = predictor._network.embedding, predictor._network.trunk
    stages = FoldingStages(predictor._network, 0)
    stages._network = full
    with pytest.raises(OutOfMemory, match="2 proteins of up to 3 residues"):
        stages.compute(stages.prepare(["MKV", "M"]))


def test_exhausted_memory_is_free_before_the_error_is_handled(predictor):
    """The child still has the error while it computes the next batch."""
    alive = []

    def full(batch, **options):
        def in_a_layer():
            activations = torch.zeros(3)
            alive.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("CUDA out of memory")

        in_a_layer()

    full.embedding, full.trunk = predictor._network.embedding, predictor._network.trunk
    stages = FoldingStages(predictor._network, 0)
    stages._network = full
    with pytest.raises(OutOfMemory) as error:
        stages.compute(stages.prepare(["MKV", "M"]))
    assert isinstance(error.value.__cause__, torch.OutOfMemoryError)
    assert alive[0]() is None


def test_coordinates_are_narrow_where_all_fit():
    for value, dtype in ((32_767, np.int16), (-32_767, np.int16), (32_768, np.int32), (-32_768, np.int32)):
        found = narrowed(np.array([[0, 1, value]], np.int32))
        assert found.dtype == dtype and found[0, 2] == value
