"""Predictor.fold: what callers get, and how it fails."""

import re

import numpy as np
import pytest
import torch

from foldatlas.folding import models
from foldatlas.folding.network.esmfold import OutputFlags
from foldatlas.folding.planning import cost, memory
from foldatlas.folding.planning.batching import BATCH_MFLOP
from foldatlas.folding.predictor import Predictor
from foldatlas.schemas.errors import NonFiniteOutput, OutOfMemory, SequenceError
from foldatlas.schemas.records import ATOMS, num_atoms

ALL_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@pytest.fixture(scope="module")
def predictor():
    return models.load("nano", recycles=1)


def test_a_prediction_has_every_atom_of_its_sequence(predictor):
    (prediction,) = predictor.fold([ALL_LETTERS])
    assert prediction.sequence == ALL_LETTERS
    assert prediction.positions.shape == (num_atoms(ALL_LETTERS), 3)
    assert prediction.positions.dtype == prediction.plddt.dtype == np.float32
    assert prediction.plddt.shape == (26,)
    assert 0 <= prediction.plddt.min() <= prediction.plddt.max() <= 100
    assert prediction.mean_plddt == pytest.approx(sum(prediction.plddt.tolist()) / 26, abs=1e-4)
    assert isinstance(prediction.ptm, float)
    assert 0 <= prediction.ptm <= 1
    assert prediction.mean_embedding is None


def test_atoms_are_in_the_order_of_records(predictor):
    """Bond lengths tell: N-CA 1.46, CA-C 1.52, C=O 1.23, CA-CB 1.53 angstrom in each residue."""
    (prediction,) = predictor.fold([ALL_LETTERS])
    start = 0
    for residue in ALL_LETTERS:
        names = ATOMS[residue]
        position = dict(zip(names, prediction.positions[start : start + len(names)], strict=True))
        start += len(names)
        for first, second, length in (("N", "CA", 1.46), ("CA", "C", 1.52), ("C", "O", 1.23), ("CA", "CB", 1.53)):
            if second in position:
                assert np.linalg.norm(position[first] - position[second]) == pytest.approx(length, abs=0.02)


def test_predictions_come_in_the_order_of_the_sequences(predictor):
    sequences = ["MKTAYIAKQR", "G", "WWWWWWWWWWWWWWWWWWWW", "ACDX"]
    predictions = predictor.fold(sequences, mean_embedding=True)
    assert [prediction.sequence for prediction in predictions] == sequences
    for together in predictions:
        (alone,) = predictor.fold([together.sequence], mean_embedding=True)
        np.testing.assert_allclose(together.positions, alone.positions, atol=1e-3)
        np.testing.assert_allclose(together.plddt, alone.plddt, atol=1e-2)
        assert together.ptm == pytest.approx(alone.ptm, abs=1e-4)
        assert together.mean_embedding.shape == (128,)
        assert together.mean_embedding.dtype == np.float32
        np.testing.assert_allclose(together.mean_embedding, alone.mean_embedding, atol=1e-5)


def test_a_list_of_any_length_and_order_is_folded_in_batches(predictor, random_sequence, monkeypatch):
    """By cost, shortest first, a complex with its linkers; what comes back is in the order that was given."""
    batches, fold_batch = [], Predictor.fold_batch

    def note(self, sequences, **wanted):
        batches.append(sequences)
        return fold_batch(self, sequences, **wanted)

    monkeypatch.setattr(Predictor, "fold_batch", note)
    sequences = [*(random_sequence(length) for length in (120, 8, 60, 9)), "MKTAY:GSHML", random_sequence(8)]
    predictions = predictor.fold(sequences, pae=True)
    assert [prediction.sequence for prediction in predictions] == [text.replace(":", "") for text in sequences]
    assert batches[0][:3] == [sequences[1], sequences[5], sequences[3]]
    assert len(batches) > 1 and [text for batch in batches for text in batch][3:] == [sequences[n] for n in (4, 2, 0)]
    for text, together in zip(sequences, predictions, strict=True):
        (alone,) = fold_batch(predictor, [text], pae=True)
        np.testing.assert_allclose(together.positions, alone.positions, atol=1e-3)
        np.testing.assert_allclose(together.pae, alone.pae, atol=1e-3)
    batches.clear()
    with pytest.raises(SequenceError):
        predictor.fold(["MKV", "M1"])
    assert not batches


def test_batches_count_the_outputs_and_heed_a_limit(predictor, monkeypatch):
    monkeypatch.setitem(BATCH_MFLOP, "cpu", 10**12)
    wanted = OutputFlags(distogram_logits=True).pair_bytes
    ten = cost.peak_bytes(predictor.config, 10, 50, pair_output_bytes=wanted)
    assert predictor.batches([50] * 20, distogram=True, most_bytes=ten) == [range(10), range(10, 20)]
    assert predictor.batches([50] * 18, distogram=True, most_bytes=ten - 1) == [range(9), range(9, 18)]
    assert predictor.batches([50] * 20, most_bytes=ten)[0].stop > 10
    monkeypatch.setattr(memory, "free_bytes", lambda device: ten)
    assert predictor.batches([50] * 20, distogram=True, most_bytes=10**15) == [range(10), range(10, 20)]


def test_folding_twice_gives_the_same_bits(predictor):
    first, second = (predictor.fold(["MKTAYIAKQRQISFVK"])[0] for _ in range(2))
    np.testing.assert_array_equal(first.positions, second.positions)


def test_recycling_changes_the_structure(predictor):
    again = models.load("nano", recycles=2).fold(["MKTAYIAKQR"])[0]
    assert np.abs(again.positions - predictor.fold(["MKTAYIAKQR"])[0].positions).max() > 0.1


def test_predictions_do_not_keep_the_batch_alive(predictor):
    prediction = predictor.fold(["A", "ACDEFGHIKL"], mean_embedding=True)[0]
    for values in (prediction.positions, prediction.plddt, prediction.mean_embedding):
        assert values.base is None or values.base.nbytes == values.nbytes


def test_single_string_is_refused(predictor):
    for ask in (predictor.fold, predictor.embed, predictor.masked_logits, predictor.perplexity):
        with pytest.raises(SequenceError, match="one string was given, 'MKV': give a list"):
            ask("MKV")


@pytest.mark.parametrize("odd", [None, 7, b"MKV", ["MKV"]])
def test_item_that_is_not_a_string_is_named_by_index(predictor, odd):
    message = re.escape(f"sequence 2 of 3 is a {type(odd).__name__}, {odd!r}: give strings")
    for ask in (predictor.fold, predictor.fold_batch, predictor.embed, predictor.masked_logits, predictor.perplexity):
        with pytest.raises(SequenceError, match=message):
            ask(["MKV", odd, "MKV"])


@pytest.mark.parametrize("sequences", [[], [""], ["acd"], ["AC", "A-C"], ["A:"], [":A"], ["A::C"], ["A*"]])
def test_invalid_sequence_is_refused(predictor, sequences):
    with pytest.raises(SequenceError):
        predictor.fold(sequences)


class Failing(torch.nn.Module):
    """A fake network whose device fails."""

    def __init__(self, network, error):
        super().__init__()
        self.config, self.embedding, self.trunk, self.error = network.config, network.embedding, network.trunk, error

    def forward(self, *_, **__):
        raise self.error


def cannot_allocate():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    return caught.value


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("device"), MemoryError(), "host"])
def test_out_of_memory_names_the_batch(predictor, error):
    error = cannot_allocate() if error == "host" else error
    failing = Predictor(Failing(predictor._network, error), predictor.settings)
    with pytest.raises(OutOfMemory, match=r"^2 proteins of up to 3 residues do not fit .*: process fewer at once"):
        failing.fold_batch(["AC", "ACD"])
    with pytest.raises(OutOfMemory, match=r"^a protein of 1 residue does not fit into the memory of cpu: use a"):
        failing.fold_batch(["A"])


def test_other_errors_are_passed_on(predictor):
    failing = Predictor(Failing(predictor._network, RuntimeError("a bug")), predictor.settings)
    with pytest.raises(RuntimeError, match="a bug"):
        failing.fold_batch(["AC"])


@pytest.mark.parametrize("name", ["lddt_head.3.bias", "ptm_head.bias", "esm.embed_tokens.weight"])
def test_output_that_is_not_finite_is_an_error(name):
    predictor = models.load("nano", recycles=0)
    predictor._network.state_dict()[name].fill_(float("nan"))
    with pytest.raises(NonFiniteOutput, match=r"protein 1 of 2 \(4 residues, ACDE"):
        predictor.fold_batch(["ACDE", "AC"])
