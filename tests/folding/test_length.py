"""Long proteins: chunks change nothing, memory is planned, offsets never pass 31 bits. Nothing large is allocated."""

import copy

import pytest
import torch

from foldatlas.folding.multimer import encode_complexes
from foldatlas.folding.network import confidence
from foldatlas.folding.network.esmfold import OutputFlags
from foldatlas.folding.network.tokens import encode
from foldatlas.folding.network.triangle import TriangleAttention
from foldatlas.folding.planning import cost, memory
from foldatlas.folding.planning.chunks import MAX_ELEMENTS, largest_slice, slices
from foldatlas.schemas.errors import OutOfMemory

from .conftest import RELEASED

# A protein alone, in a batch, chunked and not: pLDDT and pTM as fractions, positions in angstrom.
SCORE = 1e-5
ANGSTROM = 1e-3

GB = 10**9


def folded(network, sequences, rows, recycles=3):
    with torch.inference_mode():
        return network(encode(sequences), recycles=recycles, outputs=OutputFlags(), rows=rows)


def assert_near(found, expected, length, row=0):
    plddt = (found.plddt_BL[row, :length] - expected.plddt_BL[0]).abs().max().item() / 100
    ptm = (found.ptm_B[row] - expected.ptm_B[0]).abs().item()
    position = (found.positions_BLA3[row, :length] - expected.positions_BLA3[0]).abs().max().item()
    assert plddt <= SCORE and ptm <= SCORE and position <= ANGSTROM, (plddt, ptm, position)


@pytest.mark.parametrize("rows", [1, 7, 32, 69])
def test_chunks_change_nothing(pair, random_sequence, rows):
    sequence = random_sequence(70)
    assert_near(folded(pair.network, [sequence], rows), folded(pair.network, [sequence], 70), 70)


def test_a_batch_in_chunks_gives_each_protein_what_it_gets_alone(pair, random_sequence):
    sequences = [random_sequence(length) for length in (29, 70, 2, 44)]
    batch = folded(pair.network, sequences, 8)
    for row, sequence in enumerate(sequences):
        assert_near(batch, folded(pair.network, [sequence], len(sequence)), len(sequence), row)


@pytest.mark.parametrize("rows", [1, 9, 80])
def test_chunks_change_no_output_of_pairs(pair, rows):
    """Aligned errors and what is made of them, and distances, of a complex beside a padded single chain."""
    batch = encode_complexes([["MKTAYIAKQRQISFVKSHFSRQLEERLG", "GSHMLEVQAPILSRVGDG"], ["ACDEFGHIKL"]])
    whole, chunked = (
        pair.network(
            batch, recycles=0, outputs=OutputFlags(pae=True, pae_logits=True, distogram_logits=True), rows=number
        )
        for number in (batch.aatype_BL.shape[1], rows)
    )
    for name in ("ptm_B", "iptm_B", "pae_BLL", "pae_logits_BLLN", "distogram_logits_BLLN"):
        torch.testing.assert_close(getattr(chunked, name), getattr(whole, name), atol=1e-4, rtol=0, msg=name)
    torch.testing.assert_close(
        chunked.pae_BLL, confidence.predicted_aligned_error(whole.pae_logits_BLLN), atol=1e-4, rtol=0
    )
    assert whole.iptm_B[0] > 0
    assert torch.equal(chunked.distogram_logits_BLLN, chunked.distogram_logits_BLLN.transpose(1, 2))


@pytest.mark.parametrize("rows", [None, 5])
def test_two_runs_are_bitwise_equal(two_blocks, random_sequence, rows):
    sequences = [random_sequence(70), random_sequence(31)]
    first, second = (folded(two_blocks.network, sequences, rows) for _ in range(2))
    for name in ("positions_BLA3", "plddt_BL", "ptm_B"):
        assert torch.equal(getattr(first, name), getattr(second, name))


def test_every_row_is_worked_on_once():
    for length, size in ((1, 1), (10, 3), (10, 10), (10, 64)):
        covered = [index for chunk in slices(length, size) for index in range(length)[chunk]]
        assert covered == list(range(length))
        assert all(chunk.stop - chunk.start <= size for chunk in slices(length, size))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("length", [1, 512, 1024, 1290, 2048, 4096, 9000, 20_000, 46_000])
def test_no_tensor_of_a_chunk_needs_more_than_31_bits(device, length):
    """4 L^3 passes 2^32 at 1,024 residues: where fair-esm, unchunked, starts to give garbage (esm #560)."""
    rows = cost.preferred_rows(RELEASED, 1, length, device)
    assert 1 <= rows <= length
    widest = 4 * RELEASED.trunk.pair_width  # query, key, value and gate; the hidden layer of the transition
    assert rows * length * widest <= MAX_ELEMENTS
    channels = largest_slice(length * length)
    assert channels >= 1 and channels * length * length <= MAX_ELEMENTS
    if length == 4096:
        assert length * length * RELEASED.trunk.pair_width > MAX_ELEMENTS, "a whole pair representation would not do"


@pytest.mark.long
def test_attention_over_more_than_32_bits_of_logits_is_right():
    """1,025 residues and 4 heads have 4 L^3 > 2^32 logits, unchunked: its first and last rows, by hand in float64."""
    length, num_heads, width = 1025, 4, 2
    assert num_heads * length**3 > 2**32
    generator = torch.Generator().manual_seed(0)
    attention = TriangleAttention(num_heads * width, num_heads, starting=True)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    pair = torch.randn(1, length, length, num_heads * width, generator=generator)
    mask = (torch.arange(length) < length - 3).unsqueeze(0)
    whole, last, double = pair.clone(), pair.clone(), copy.deepcopy(attention).double()
    with torch.inference_mode():
        attention(whole, mask, rows=length)

        normal = double.layer_norm(pair[0].double())
        bias = double.linear(normal).permute(2, 0, 1).masked_fill(~mask, -torch.inf)
        for row in (0, 1, length // 2, length - 2, length - 1):
            query, key, value = (
                layer(normal[row]).unflatten(-1, (num_heads, width)).transpose(0, 1)
                for layer in (double.mha.linear_q, double.mha.linear_k, double.mha.linear_v)
            )
            weights = (query @ key.transpose(1, 2) / width**0.5 + bias).softmax(dim=-1)
            gated = (weights @ value).transpose(0, 1).flatten(1) * double.mha.linear_g(normal[row]).sigmoid()
            expected = pair[0, row].double() + double.mha.linear_o(gated)
            torch.testing.assert_close(whole[0, row].double(), expected, atol=1e-4, rtol=0)

        # As the last chunk of rows is worked on, alone.
        last[:, -20:] += attention.mha(attention.layer_norm(pair[:, -20:]), bias.float().unsqueeze(0))
    torch.testing.assert_close(last[:, -20:], whole[:, -20:], atol=1e-4, rtol=0)


def test_large_products_are_cut_by_channel(two_blocks, random_sequence, monkeypatch):
    """With a limit small enough to matter here, every product is cut, and nothing changes."""
    sequence = random_sequence(40)
    expected = folded(two_blocks.network, [sequence], 40)
    calls = []

    def small_slice(other_elements):
        calls.append(other_elements)
        return 5

    monkeypatch.setattr("foldatlas.folding.network.triangle.largest_slice", small_slice)
    assert_near(folded(two_blocks.network, [sequence], 40), expected, 40)
    assert set(calls) == {40 * 40}


def test_less_memory_means_fewer_rows_until_none_fits():
    found = []
    for gigabytes in (100, 4, 3.2, 2.9, 2.7):
        rows = cost.choose_rows(RELEASED, 1, 2048, precision="bf16", device="cuda", memory_limit=gigabytes * GB)
        assert cost.peak_bytes(RELEASED, 1, 2048, precision="bf16", rows=rows) <= gigabytes * GB
        found.append(rows)
    # A tenth of the rows of a long protein fills a GPU.
    assert found[0] == 205 and found == sorted(found, reverse=True) and found[-1] < 205 // 2


def test_refusal_names_the_longest_length_that_fits():
    limit = cost.longest(RELEASED, precision="fp32", memory_limit=4 * GB)
    rows = cost.choose_rows(RELEASED, 1, limit, precision="fp32", device="cuda", memory_limit=4 * GB)
    assert cost.peak_bytes(RELEASED, 1, limit, rows=rows) <= 4 * GB < cost.peak_bytes(RELEASED, 1, limit + 1, rows=1)
    with pytest.raises(OutOfMemory, match=rf"{limit + 1:,} residues.*4\.00 GB.*--max-length {limit},"):
        cost.choose_rows(RELEASED, 1, limit + 1, precision="fp32", device="cuda", memory_limit=4 * GB)
    with pytest.raises(OutOfMemory, match=r"64 proteins.*fold fewer at once"):
        cost.choose_rows(RELEASED, 64, limit, precision="fp32", device="cuda", memory_limit=4 * GB)
    assert cost.longest(RELEASED, precision="fp32", memory_limit=1) == 0


def test_outputs_of_pairs_are_planned():
    """What is wanted of every pair takes room: a lower limit, and a word in the message."""
    plain = {"precision": "bf16", "memory_limit": 9 * GB}
    longest = cost.longest(RELEASED, **plain)
    # Less memory than the structure module used and freed.
    for outputs in (OutputFlags(pae=True), OutputFlags(distogram_logits=True)):
        assert cost.longest(RELEASED, **plain, pair_output_bytes=outputs.pair_bytes) == longest
    asked = {**plain, "pair_output_bytes": OutputFlags(distogram_logits=True, pae_logits=True).pair_bytes}
    assert cost.longest(RELEASED, **asked) < longest
    with pytest.raises(OutOfMemory, match=rf"{longest:,} residues.* 512 bytes.*fewer outputs"):
        cost.choose_rows(RELEASED, 1, longest, device="cuda", **asked)


def test_the_network_plans_with_the_memory_that_is_free(two_blocks, random_sequence, monkeypatch):
    sequence = random_sequence(70)
    needed = cost.peak_bytes(two_blocks.network.config, 1, 70, rows=1)
    seen = []
    trunk_forward = type(two_blocks.network.trunk).forward

    def note(self, *arguments):
        seen.append(arguments[4])
        return trunk_forward(self, *arguments)

    monkeypatch.setattr(type(two_blocks.network.trunk), "forward", note)
    for free in (10**12, needed):
        monkeypatch.setattr(memory, "free_bytes", lambda device, enough=None, free=free: free)
        folded(two_blocks.network, [sequence], None, recycles=0)
    assert seen == [cost.preferred_rows(two_blocks.network.config, 1, 70, "cpu"), 1]
    monkeypatch.setattr(memory, "free_bytes", lambda device, enough=None: needed - 1)
    with pytest.raises(OutOfMemory, match="70 residues"):
        folded(two_blocks.network, [sequence], None)
