"""The language model's own outputs against transformers' EsmForMaskedLM, float32, the same random weights."""

import math
import re

import numpy as np
import pytest
import torch
from transformers import EsmConfig, EsmForMaskedLM

from foldatlas.folding import models, perplexity
from foldatlas.folding.config import LanguageModelConfig
from foldatlas.folding.language_predictor import LanguagePredictor
from foldatlas.folding.network import precision
from foldatlas.folding.network.language_heads import build_heads
from foldatlas.folding.network.language_model import LanguageModel
from foldatlas.folding.network.tokens import EOS, LANGUAGE_TOKENS, MASK, PAD, UNKNOWN, encode_language
from foldatlas.folding.planning import memory
from foldatlas.folding.predictor import Predictor
from foldatlas.folding.weights import fitting, nano
from foldatlas.folding.weights.tensor_names import canonical_name
from foldatlas.schemas.errors import ModelError, OutOfMemory, SequenceError, UsageError

from .conftest import CONFIGS, randomise

ALL_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
STATE = 2e-5  # tolerance of hidden states and logits, whose size is about 1
PROBABILITY = 1e-5


class Reference:
    """transformers' model, asked for one sequence at a time, and ours with its weights."""

    def __init__(self, name, *, tied):
        config = {**CONFIGS[name], "is_folding_model": False, "esmfold_config": None, "vocab_list": None}
        # Eager attention gives the maps; fused attention has none.
        self.config = EsmConfig(**config, tie_word_embeddings=tied, attn_implementation="eager")
        self.model = EsmForMaskedLM(self.config).eval()
        randomise(self.model, seed=3)
        # Contacts are saturated, and so compare nothing, where the weights of the regression are large.
        state = self.state = {key: tensor.clone() for key, tensor in self.model.state_dict().items()}
        sizes = LanguageModelConfig(
            config["num_hidden_layers"],
            config["hidden_size"],
            config["num_attention_heads"],
            config["intermediate_size"],
        )
        ours = LanguageModel(sizes)
        renamed = {canonical_name(key): tensor for key, tensor in state.items()}
        names = ours.state_dict().keys()
        ours.load_state_dict({name: renamed[f"esm.{name}"] for name in names}, strict=True)
        self.sizes = sizes
        self.language = LanguagePredictor(ours.eval(), build_heads(sizes, state, ours.embed_tokens.weight))

    def __call__(self, tokens_1T):
        with torch.inference_mode():
            return self.model(tokens_1T, attention_mask=torch.ones_like(tokens_1T), output_hidden_states=True)


@pytest.fixture(scope="module", params=[("two_blocks", True), ("four_blocks", False)], ids=["tied", "untied"])
def reference(request):
    name, tied = request.param
    return Reference(name, tied=tied)


@pytest.fixture(scope="module")
def sequences(random_sequence):
    return [random_sequence(31), random_sequence(1), ALL_LETTERS, random_sequence(55)]


def test_letters_have_the_tokens_of_the_release(two_blocks):
    vocabulary = two_blocks.config.vocab_list
    assert {letter: vocabulary[token] for letter, token in LANGUAGE_TOKENS.items() if letter != "J"} == {
        letter: letter for letter in ALL_LETTERS if letter != "J"
    }
    assert vocabulary[LANGUAGE_TOKENS["J"]] == vocabulary[UNKNOWN] == "<unk>"
    assert vocabulary[MASK] == "<mask>"
    assert encode_language(["AX", "U"]).tolist() == [[0, 5, 24, EOS], [0, 26, EOS, PAD]]


def test_hidden_states_of_every_layer(reference, sequences):
    layers = list(range(reference.sizes.num_layers + 1))
    for found in reference.language.embed(sequences, layers=layers, per_residue=True):
        states = reference(encode_language([found.sequence])).hidden_states
        assert len(states) == len(found.residues) == len(layers)
        for layer, expected in zip(layers, states, strict=True):
            expected = expected[0, 1:-1].numpy()
            np.testing.assert_allclose(found.residues[layer], expected, atol=STATE, rtol=1e-5)
            np.testing.assert_allclose(found.mean[layer], expected.mean(axis=0), atol=STATE, rtol=1e-5)


def test_embedding_layers_default_to_last_and_may_be_negative(reference, sequences):
    last = reference.sizes.num_layers
    (found,) = reference.language.embed(sequences[:1])
    assert (list(found.mean), found.residues) == ([last], None)
    (counted,) = reference.language.embed(sequences[:1], layers=[-1, -2])
    assert list(counted.mean) == [last, last - 1]
    np.testing.assert_array_equal(counted.mean[last], found.mean[last])


@pytest.mark.parametrize("layers", [[9], [-9], [], [0, 9]])
def test_a_layer_that_does_not_exist_is_refused(reference, layers):
    with pytest.raises(UsageError, match="layer"):
        reference.language.embed(["ACD"], layers=layers)


def test_masked_logits(reference, sequences):
    for sequence, found in zip(sequences, reference.language.masked_logits(sequences), strict=True):
        expected = reference(encode_language([sequence])).logits[0, 1:-1].numpy()
        np.testing.assert_allclose(found, expected, atol=STATE, rtol=1e-5)


def test_contacts(reference, sequences):
    """Each protein of a batch has what transformers gives it alone."""
    for sequence, found in zip(sequences, reference.language.contacts(sequences), strict=True):
        tokens = encode_language([sequence])
        with torch.inference_mode():
            expected = reference.model.predict_contacts(tokens, torch.ones_like(tokens))[0].numpy()
        assert found.shape == (len(sequence), len(sequence))
        np.testing.assert_allclose(found, expected, atol=PROBABILITY)
        np.testing.assert_allclose(found, found.T, atol=PROBABILITY)
        if len(sequence) > 1:
            assert np.ptp(expected) > 1000 * PROBABILITY  # the comparison would see a difference


def test_contacts_do_not_depend_on_the_memory_that_is_free(reference, sequences, monkeypatch):
    """Down to a head at a time, and then refused with the longest protein that would fit."""
    whole, seen = reference.language.contacts(sequences), []
    attention_maps = LanguageModel.attention_maps

    def note(self, tokens_BT, num_heads):
        seen.append(num_heads)
        return attention_maps(self, tokens_BT, num_heads)

    monkeypatch.setattr(LanguageModel, "attention_maps", note)
    longest = max(map(len, sequences))
    free = 10**12
    while free:
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: free)
        try:
            found = reference.language.contacts(sequences)
        except OutOfMemory as error:
            assert f"contacts of 4 proteins of up to {longest} residues" in str(error)
            (fits,) = re.findall(r"one protein of (\d+) residues", str(error))
            reference.language.contacts(["A" * int(fits)])
            with pytest.raises(OutOfMemory):
                reference.language.contacts(["A" * (int(fits) + 1)])
            break
        for chunked, expected in zip(found, whole, strict=True):
            assert np.abs(chunked - expected).max() <= PROBABILITY
        free = free // 10 if free > 10**8 else int(free * 0.9)
    heads = reference.sizes.num_heads
    assert {heads, -(-heads // 2), 1} <= set(seen[:-1])


def by_a_loop(reference, sequence, *, masked):
    """Pseudo-perplexity as its definition says, a pass a residue, by transformers."""
    tokens = encode_language([sequence])
    logs = []
    for position in range(1, len(sequence) + 1):
        asked = tokens.clone()
        if masked:
            asked[0, position] = MASK
        if sequence[position - 1] in "ACDEFGHIKLMNPQRSTVWY":
            logits = reference(asked).logits[0, position].double()
            logs.append(logits.log_softmax(-1)[tokens[0, position]].item())
    return math.exp(-sum(logs) / len(logs))


@pytest.mark.parametrize("one_pass", [False, True])
def test_perplexity(reference, sequences, one_pass):
    found = reference.language.perplexity(sequences, one_pass=one_pass)
    expected = [by_a_loop(reference, sequence, masked=not one_pass) for sequence in sequences]
    assert found == pytest.approx(expected, rel=1e-5)


def test_perplexity_in_parts_scores_each_residue_once(reference, sequences, monkeypatch):
    """The parts are read off the tokens that the model is given; transformers says what they are worth."""
    asked, last_state = [], perplexity._last_state

    def listening(model, tokens):
        asked.append(tokens)
        return last_state(model, tokens)

    monkeypatch.setattr(perplexity, "_last_state", listening)
    for sequence in sequences:
        asked.clear()
        (found,) = reference.language.perplexity([sequence], in_parts=True)
        tokens, logs = encode_language([sequence]), {}
        for masked in asked:
            positions = (masked[0] == MASK).nonzero().ravel().tolist()
            assert torch.equal(
                masked[0, [i for i in range(masked.shape[1]) if i not in positions]],
                tokens[0, [i for i in range(masked.shape[1]) if i not in positions]],
            )
            logits = reference(masked).logits[0].double().log_softmax(-1)
            assert not logs.keys() & set(positions)
            logs.update({position: logits[position, tokens[0, position]].item() for position in positions})
        standard = [i + 1 for i, letter in enumerate(sequence) if letter in "ACDEFGHIKLMNPQRSTVWY"]
        assert sorted(logs) == standard
        assert len(asked) == min(7, len(standard))
        assert found == pytest.approx(math.exp(-sum(logs.values()) / len(logs)), rel=1e-5)


def test_two_approximations_at_once_are_refused(reference, sequences):
    with pytest.raises(UsageError, match="ask for one"):
        reference.language.perplexity(sequences, one_pass=True, in_parts=True)


def test_hiding_a_residue_changes_the_perplexity(reference, sequences):
    exact, seen = (reference.language.perplexity(sequences, one_pass=one_pass) for one_pass in (False, True))
    assert min(abs(one / other - 1) for one, other in zip(exact, seen, strict=True)) > 1e-3


@pytest.mark.parametrize("tokens_a_pass", [1, 100, 1000])
def test_perplexity_does_not_depend_on_how_it_is_batched(reference, sequences, tokens_a_pass):
    model, head = reference.language._model, reference.language._heads.masked
    tokens = encode_language([sequences[0]])[0]
    with torch.inference_mode():
        found = perplexity.exact(model, head, tokens, tokens_a_pass)
    assert found == pytest.approx(reference.language.perplexity(sequences[:1])[0], rel=1e-6)


def test_a_sequence_of_unknown_residues_has_no_perplexity(reference):
    with pytest.raises(SequenceError, match="protein 2 of 2"):
        reference.language.perplexity(["ACD", "XXB"])


def test_every_weight_of_the_heads_changes_the_outcome(reference, sequences):
    """The comparisons above would see 5 % of any tensor of the heads."""
    language = reference.language

    def outputs():
        return language.masked_logits(sequences[:1])[0], language.contacts(sequences[:1])[0]

    before = outputs()
    heads = language._heads
    tensors = {**heads.masked.state_dict(), **heads.contact.state_dict()}
    assert len(tensors) == 8
    for name, tensor in tensors.items():
        original = tensor.clone()
        tensor.mul_(1.05)
        moved = [np.abs(after - value).max() for after, value in zip(outputs(), before, strict=True)]
        tensor.copy_(original)
        assert max(moved[0] / STATE, moved[1] / PROBABILITY) > 10, name


def test_a_models_heads_are_those_its_weights_have(reference):
    embedding = reference.state["esm.embeddings.word_embeddings.weight"]
    state = reference.state
    without = {key: tensor for key, tensor in state.items() if "contact_head" not in key}
    assert build_heads(reference.sizes, without, embedding).contact is None
    # The folding trunk has an lm_head of its own, which is another thing.
    trunk = {"lm_head.weight": torch.zeros(23, 8), "lm_head.bias": torch.zeros(23)}
    assert build_heads(reference.sizes, trunk, embedding).masked is None
    # fair-esm's names, and the tie that some files leave unsaid
    renamed = {key.replace("lm_head.decoder.", "lm_head.").replace("esm.", ""): state[key] for key in state}
    found = build_heads(reference.sizes, renamed, embedding)
    assert torch.equal(found.masked.decoder.weight, state["lm_head.decoder.weight"])
    unsaid = {key: tensor for key, tensor in state.items() if key != "lm_head.decoder.weight"}
    assert torch.equal(build_heads(reference.sizes, unsaid, embedding).masked.decoder.weight, embedding)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lm_head.bias": None}, r"lack lm_head\.bias"),
        ({"lm_head.dense.extra": torch.zeros(1)}, r"unexpected tensor lm_head\.dense\.extra"),
        ({"esm.contact_head.regression.weight": torch.zeros(1, 3)}, r"contact_head\.regression\.weight has shape"),
    ],
)
def test_weights_of_heads_must_fit(reference, change, message):
    state = {key: tensor for key, tensor in {**reference.state, **change}.items() if tensor is not None}
    with pytest.raises(ModelError, match=message):
        build_heads(reference.sizes, state, state["esm.embeddings.word_embeddings.weight"])


def test_model_without_heads_is_refused_by_name():
    with pytest.raises(ModelError, match="contact head"):
        models.load("nano").contacts(["ACD"])
    untrained = Predictor(fitting.generate(nano.CONFIG), models.settings_of("nano"))
    for ask in (untrained.masked_logits, untrained.perplexity):
        with pytest.raises(ModelError, match="masked residues"):
            ask(["ACD"])


def test_embeddings_of_standard_residues_are_those_of_folding(random_sequence):
    nano = models.load("nano", recycles=0)
    sequence = random_sequence(30)
    (folded,) = nano.fold([sequence], mean_embedding=True, residue_embedding=True)
    (embedded,) = nano.embed([sequence], per_residue=True)
    np.testing.assert_array_equal(folded.residue_embedding, embedded.residues[6])
    np.testing.assert_allclose(folded.mean_embedding, embedded.mean[6], atol=1e-6)


def test_folding_does_not_make_attention_maps(monkeypatch):
    def fail(*_):
        raise AssertionError("attention was materialised")

    nano = models.load("nano", recycles=0)
    monkeypatch.setattr("foldatlas.folding.network.language_model.SelfAttention.probabilities", fail)
    nano.fold(["ACDEF"], mean_embedding=True)
    nano.embed(["ACDEF"])


def test_heads_come_out_of_a_saved_model(reference, sequences, tmp_path):
    reference.model.save_pretrained(tmp_path / "esm2")
    found = models.load_language_model(str(tmp_path / "esm2")).predictor
    for ours, saved in zip(reference.language.contacts(sequences), found.contacts(sequences), strict=True):
        assert np.abs(ours - saved).max() <= PROBABILITY
    for ours, saved in zip(reference.language.masked_logits(sequences), found.masked_logits(sequences), strict=True):
        assert np.abs(ours - saved).max() <= STATE


# Three times the most that 16 bits moved a probability on these networks, and the logarithm of a perplexity.
HALF = {"bf16": 0.15, "fp16": 0.02}


@pytest.mark.parametrize("name", HALF)
def test_heads_compute_in_float32_on_a_model_in_16_bits(reference, sequences, tmp_path, name):
    reference.model.save_pretrained(tmp_path / "esm2")
    found = models.load_language_model(str(tmp_path / "esm2"), dtype_of=precision.get(name).dtype_of).predictor
    assert found._model.embed_tokens.weight.dtype == precision.get(name).language_model
    contacts = zip(reference.language.contacts(sequences), found.contacts(sequences), strict=True)
    moved = max(np.abs(whole - half).max() for whole, half in contacts)
    assert 0 < moved <= HALF[name]
    for how in ({}, {"one_pass": True}):
        whole, half = (language.perplexity(sequences, **how) for language in (reference.language, found))
        ratio = np.abs(np.log(whole) - np.log(half)).max()
        assert 0 < ratio <= HALF[name]
