"""Confidence from logits, against transformers' functions on one protein at its own length."""

import pytest
import torch
from transformers.models.esm.modeling_esmfold import categorical_lddt
from transformers.models.esm.openfold_utils import compute_predicted_aligned_error, compute_tm

from foldatlas.folding.network import confidence


def logits(*shape):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_plddt():
    of_bins = logits(2, 30, 50)
    torch.testing.assert_close(confidence.plddt(of_bins), 100 * categorical_lddt(of_bins), atol=1e-4, rtol=0)


def test_plddt_spans_0_to_100():
    certain = torch.full((1, 2, 50), -100.0)
    certain[0, 0, 0] = certain[0, 1, 49] = 100.0
    assert confidence.plddt(certain)[0].tolist() == pytest.approx([1, 99])


def test_predicted_aligned_error():
    of_bins = logits(1, 20, 20, 64)
    expected = compute_predicted_aligned_error(of_bins)["predicted_aligned_error"]
    torch.testing.assert_close(confidence.predicted_aligned_error(of_bins), expected, atol=1e-4, rtol=0)


def test_pae_centres_are_those_of_the_release():
    centres = confidence.pae_centres(torch.device("cpu"))
    assert centres[[0, 1, -1]].tolist() == [0.25, 0.75, 31.75]


def test_ptm_of_each_protein_depends_on_its_own_length():
    lengths = [1, 7, 25, 40]
    of_bins = logits(4, 40, 40, 64)
    mask = torch.arange(40) < torch.tensor(lengths).unsqueeze(1)
    found = confidence.best_alignment(confidence.tm_of_alignments(of_bins, mask), mask).tolist()
    expected = [compute_tm(of_bins[i, :length, :length]).item() for i, length in enumerate(lengths)]
    assert found == pytest.approx(expected, abs=1e-6)
