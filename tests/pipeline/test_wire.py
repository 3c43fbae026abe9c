"""Messages between child and parent: every field comes back, and other bytes are an error, never code that runs."""

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_device import Sink

from foldatlas.folding.prediction import Embedding, QuantisedPrediction
from foldatlas.pipeline.workers.messages import DoesNotFit, Done, NotReady, Ready, Request
from foldatlas.pipeline.workers.results import pack, unpack
from foldatlas.pipeline.workers.wire import WireError, receive, send
from foldatlas.schemas.records import Settings, num_atoms


def received(message: Any, arrays: Any = None) -> tuple[Any, Any]:
    sink: Any = Sink()
    send(sink, message, arrays)
    return receive(sink)


@pytest.mark.parametrize(
    "message",
    [
        Ready(Settings("nano", "0" * 64, 3, "fp32")),
        NotReady("no such weights"),
        Request(7, ["MKV", "A"], {"pae": True, "layers": [3, 6]}),
        DoesNotFit(2**40, 0.25, "é"),
    ],
)
def test_messages_come_back(message: Any) -> None:
    assert received(message) == (message, {})


@given(
    sequences=st.lists(st.text("ACGWXU", min_size=1, max_size=9), min_size=1, max_size=5),
    outputs=st.sets(st.sampled_from(["mean", "residues", "pae"])),
    scale=st.sampled_from([1, 400]),
    seed=st.integers(0, 2**32 - 1),
)
def test_structures_come_back(sequences: list[str], outputs: set[str], scale: int, seed: int) -> None:
    """Coordinates beyond 327 angstrom make the whole batch wider, and change no value."""
    draw = np.random.default_rng(seed)
    sent = []
    for number, sequence in enumerate(sequences):
        length = len(sequence)
        coordinates = draw.integers(-30_000, 30_000, (num_atoms(sequence), 3)).astype(np.int16)
        sent.append(
            QuantisedPrediction(
                sequence,
                coordinates * np.int32(scale) if number == 0 and scale > 1 else coordinates,
                draw.integers(0, 10_001, length).astype(np.uint16),
                float(draw.uniform()),
                draw.normal(size=4).astype(np.float32) if "mean" in outputs else None,
                draw.normal(size=(length, 4)).astype(np.float16) if "residues" in outputs else None,
                draw.integers(0, 255, (length, length)).astype(np.uint8) if "pae" in outputs else None,
            )
        )  # fmt: skip
    message, arrays = received(Done(1, 0.5), pack(sent))
    assert message == Done(1, 0.5)
    for before, after in zip(sent, unpack(sequences, arrays), strict=True):
        assert isinstance(after, QuantisedPrediction)
        for field in QuantisedPrediction.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(after, field), getattr(before, field))


@pytest.mark.parametrize("per_residue", [True, False])
def test_embeddings_come_back(per_residue: bool) -> None:
    draw, layers, sent = np.random.default_rng(1), (0, 12), []
    for sequence in ("MK", "A"):
        means = {layer: draw.normal(size=4).astype(np.float32) for layer in layers}
        residues = {layer: draw.normal(size=(len(sequence), 4)).astype(np.float32) for layer in layers}
        sent.append(Embedding(sequence, means, residues if per_residue else None))
    _, arrays = received(Done(1, 0.5), pack(sent))
    for before, after in zip(sent, unpack(["MK", "A"], arrays), strict=True):
        assert isinstance(after, Embedding)
        np.testing.assert_equal(after.mean, before.mean)
        np.testing.assert_equal(after.residues, before.residues)


def test_results_of_other_sequences_are_refused() -> None:
    arrays = pack([QuantisedPrediction("MK", np.zeros((17, 3), np.int16), np.zeros(2, np.uint16), 0.0)])
    for other in (["MKM"], ["MK", "MK"], ["M"]):
        with pytest.raises(ValueError, match="proteins"):
            unpack(other, arrays)


def _whole() -> bytes:
    sink: Any = Sink()
    send(sink, Done(1, 0.5), {"a": np.arange(5, dtype=np.int32)})
    return sink.data  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        pickle.dumps(Done(1, 0.5)),
        _whole()[:-1],
        _whole().replace(b"<i4", b"|O8"),
        _whole().replace(b"Done", b"Dine"),
        b"\xff\xff\xff\xff" + _whole()[4:],
    ],
    ids=["empty", "short", "pickle", "cut", "objects", "unknown", "long header"],
)
def test_other_bytes_are_an_error(data: bytes) -> None:
    sink: Any = Sink()
    sink.data = data
    with pytest.raises(WireError):
        receive(sink)


def test_bytes_per_residue_are_few() -> None:
    """8 atoms a residue in 16 bits and a pLDDT: half of what float32 took."""
    sequence = "M" * 200
    results = [QuantisedPrediction(sequence, np.zeros((1600, 3), np.int16), np.zeros(200, np.uint16), 0.0)] * 8
    sink: Any = Sink()
    send(sink, Done(1, 0.5), pack(results))
    assert len(sink.data) / 1600 < 51
