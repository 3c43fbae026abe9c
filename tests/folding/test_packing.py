"""The language model on proteins of different lengths: packed, so that nothing is computed for padding."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from foldatlas.folding.network.esmfold import OutputFlags
from foldatlas.folding.network.kernels import policy, self_check
from foldatlas.folding.network.kernels.policy import PACKED_ATTENTION, Case
from foldatlas.folding.network.language_model import LanguageModel
from foldatlas.folding.network.segments import Segments
from foldatlas.folding.network.tokens import PAD, encode, language_tokens
from foldatlas.folding.weights import nano

LENGTHS = (29, 2, 40, 29)
CASE = Case("cpu", torch.bfloat16, 16, 4)


@pytest.fixture
def nothing_approved(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(policy, "_approved", set())
    monkeypatch.setattr(self_check, "_checked", set())
    yield


def states(model, batch, lengths, weights):
    with torch.inference_mode():
        return model(language_tokens(batch), weights, lengths)


def test_packed_states_are_those_of_transformers(pair, random_sequence):
    """In float32 to 2e-5, in a batch that is wider than its longest protein too."""
    batch = encode([random_sequence(length) for length in (*LENGTHS, 47)])
    tokens = language_tokens(batch)[:4]
    weights = pair.network.esm_s_combine.softmax(dim=0)
    with torch.inference_mode():
        weighted, last = pair.network.esm(tokens, weights, LENGTHS)
        expected = pair.reference.esm(tokens, attention_mask=tokens != PAD, output_hidden_states=True).hidden_states
    expected_weighted = torch.stack(expected, dim=-1) @ weights
    assert weighted.shape == (4, 47, last.shape[-1]) == last.shape
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(weighted[row, :length], expected_weighted[row, 1 : length + 1], atol=1e-5, rtol=0)
        torch.testing.assert_close(last[row, :length], expected[-1][row, 1 : length + 1], atol=2e-5, rtol=0)
        assert last[row, length + 1 :].count_nonzero() == 0


@pytest.mark.parametrize("lengths", [(40,), (31, 31)])
def test_equal_lengths_give_the_same_bits(two_blocks, random_sequence, lengths):
    """Without a mask, for attention that has a faster kernel without it."""
    batch, weights = encode([random_sequence(length) for length in lengths]), two_blocks.network.esm_s_combine
    assert batch.lengths == lengths
    for padded, packed in zip(
        states(two_blocks.network.esm, batch, None, weights),
        states(two_blocks.network.esm, batch, batch.lengths, weights),
        strict=True,
    ):
        assert torch.equal(padded, packed)


def test_fold_packs_the_batch_that_it_gets(two_blocks, random_sequence, monkeypatch):
    seen = []
    attend = Segments.attend

    def note(self: Segments, *inputs: Tensor) -> Tensor:
        seen.append((self.lengths, inputs[0].shape[2]))
        return attend(self, *inputs)

    monkeypatch.setattr(Segments, "attend", note)
    with torch.inference_mode():
        two_blocks.network(encode([random_sequence(9), random_sequence(5)]), recycles=0, outputs=OutputFlags())
    assert seen == 3 * [((11, 7), 18)]


def test_nothing_is_computed_for_padding():
    """The matrix products of a batch are those of its proteins alone, and no more."""
    model = LanguageModel(nano.CONFIG.language_model).to("meta")
    weights = torch.ones(nano.CONFIG.language_model.num_layers + 1, device="meta")

    def operations(lengths: tuple[int, ...], *, packed: bool) -> int:
        batch = encode(["A" * length for length in lengths], "meta")
        with FlopCounterMode(display=False) as counter:
            states(model, batch, batch.lengths if packed else None, weights)
        return counter.get_total_flops()

    alone = sum(operations((length,), packed=True) for length in LENGTHS)
    assert operations(LENGTHS, packed=True) == alone
    assert operations(LENGTHS, packed=False) > 1.5 * alone


@pytest.mark.usefixtures("nothing_approved")
def test_one_call_is_used_once_it_is_approved(monkeypatch):
    monkeypatch.setattr(Segments, "attend_in_one_call", lambda self, *inputs: inputs[2] + 1)
    segments = Segments((3, 2))
    query = torch.zeros(1, 4, 5, 16, dtype=torch.bfloat16)
    assert segments.attend(query, query, query).count_nonzero() == 0
    policy.approve(PACKED_ATTENTION, CASE)
    assert segments.attend(query, query, query).eq(1).all()
    assert segments.attend(*3 * [query.float()]).count_nonzero() == 0


def without_boundaries(self: Segments, *inputs: Tensor) -> Tensor:
    return torch.nn.functional.scaled_dot_product_attention(*inputs, scale=1.0)


def missing(self: Segments, *inputs: Tensor) -> Tensor:
    raise RuntimeError("no kernel image is\navailable")


@pytest.mark.parametrize(
    ("attention", "reason"),
    [
        (Segments.attend_by_length, None),
        (without_boundaries, "its kernel is off by"),
        (missing, "its kernel fails with RuntimeError: no kernel image is available"),
    ],
)
@pytest.mark.usefixtures("nothing_approved")
def test_check_at_load_finds_wrong_attention(attention, reason, monkeypatch, caplog):
    """What is wrong, or does not run, is not used, and a warning is logged."""
    monkeypatch.setattr(Segments, "attend_in_one_call", attention)
    monkeypatch.setattr(policy, "can_attend_in_one_call", lambda case: True)
    model = LanguageModel(nano.CONFIG.language_model)
    model.embed_tokens.to(torch.bfloat16)
    self_check.approve_packed_attention(model)
    assert bool(policy._approved) == (reason is None)
    warnings = [record.message for record in caplog.records]
    assert len(warnings) == (reason is not None)
    assert all(
        f"attention of packed sequences runs by plain torch on cpu, more slowly: {reason}" in text for text in warnings
    )


@pytest.mark.parametrize(
    ("case", "usable"),
    [
        (Case("cuda:0", torch.bfloat16, 64, 40), True),
        (Case("cuda:0", torch.float16, 64, 40), True),
        (Case("cuda:0", torch.float32, 64, 40), False),
        (Case("cuda:0", torch.bfloat16, 20, 40), False),
        (Case("cpu", torch.bfloat16, 64, 40), False),
    ],
)
def test_one_call_exists_for_these_cases(case, usable, monkeypatch):
    assert policy.can_attend_in_one_call(case) == usable
    monkeypatch.setenv("FOLDATLAS_KERNELS", "off")
    assert not policy.can_attend_in_one_call(case)
