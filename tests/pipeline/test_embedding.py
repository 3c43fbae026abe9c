"""FASTA to a file of embeddings: every accepted record has its row, with what the model gives its sequence alone.

The model runs in this process, but for the tests of what a process of its own is for.
"""

import dataclasses
import gzip
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from foldatlas.atlas.storage.commit import attempt_name
from foldatlas.folding import models
from foldatlas.folding.language_predictor import LanguagePredictor
from foldatlas.folding.network.tokens import LANGUAGE_TOKENS
from foldatlas.folding.prediction import Embedding
from foldatlas.folding.weights import nano
from foldatlas.pipeline import embedding
from foldatlas.pipeline.embedding import Embedded, embed_fasta
from foldatlas.pipeline.workers.supervisor import BatchError, WorkerSpec
from foldatlas.schemas.errors import Interrupted, ModelError, NonFiniteOutput, OutOfMemory, SourceError, UsageError
from foldatlas.schemas.records import structure_id
from foldatlas.schemas.tables import EMBEDDED

Write = Callable[..., str]


@pytest.fixture(scope="module")
def language() -> LanguagePredictor:
    return models.load("nano", recycles=0).language


LAST = nano.CONFIG.language_model.num_layers


@dataclass
class InThisProcess:
    """Replaces supervisor.Child in embed_fasta, without a process."""

    language: LanguagePredictor

    def compute(self, batch: list[str], cost: int, **arguments: Any) -> list[Embedding]:
        assert cost > 0
        try:
            return self.language.embed(batch, **arguments)
        except NonFiniteOutput as error:
            raise BatchError(str(error)) from error

    def renew(self) -> bool:
        return False


def run(language: LanguagePredictor, fasta: str, out: Path, layer: int = LAST, per_residue: bool = True) -> Embedded:
    worker = WorkerSpec("nano", models.settings_of("nano"), "cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding, "child_of_this_process", lambda spec: InThisProcess(language))
        return embed_fasta([fasta], out, worker, nano.CONFIG.language_model, layer=layer, per_residue=per_residue)


@pytest.fixture
def embedding_worker(worker: WorkerSpec, monkeypatch: pytest.MonkeyPatch) -> WorkerSpec:
    """A worker whose child is fake_child.py, to embed."""
    monkeypatch.setenv("FAKE_CHILD_EMBEDS", "1")
    return worker


@pytest.mark.parametrize("window", [1, 500, 1 << 14])
@pytest.mark.parametrize("layer", [LAST, 2])
def test_every_record_has_what_its_sequence_has_alone(
    language: LanguagePredictor, proteins: list[str], write_fasta: Write, tmp_path: Path, layer: int, window: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(embedding, "WINDOW_RESIDUES", window)
    sequences = [*proteins[:12], proteins[0], "MUXO", "M"]
    done = run(language, write_fasta(sequences), tmp_path / "out.parquet", layer)
    assert done.line() == "15 records: 15 embedded, 0 refused, 0 failed"
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.equals(EMBEDDED, check_metadata=False)
    assert table.schema.metadata[b"layer"] == str(layer).encode()
    found = table.to_pylist()
    assert [row["id"] for row in found] == [f"p{number}" for number in range(15)]
    for row, sequence in zip(found, sequences, strict=True):
        (alone,) = language.embed([sequence], layers=[layer], per_residue=True)
        assert (row["structure_id"].bytes, row["length"]) == (structure_id(sequence), len(sequence))
        ((_, mean),), residues = alone.mean.items(), next(iter((alone.residues or {}).values()))
        np.testing.assert_allclose(row["mean"], mean, atol=1e-5)
        stored = np.array(row["residues"], np.float32).reshape(len(sequence), -1)
        np.testing.assert_allclose(stored, residues, rtol=2.0**-10, atol=2e-5)


def test_residues_are_null_unless_asked_for(language: LanguagePredictor, write_fasta: Write, tmp_path: Path) -> None:
    run(language, write_fasta(["MKV"]), tmp_path / "out.parquet", per_residue=False)
    assert pq.read_table(tmp_path / "out.parquet").column("residues").to_pylist() == [None]


def test_refused_records_are_counted(language: LanguagePredictor, write_fasta: Write, tmp_path: Path) -> None:
    done = run(language, write_fasta(["MKV", "A:C", "", "MK-V", "M1"]), tmp_path / "out.parquet")
    assert done.line() == "5 records: 1 embedded, 4 refused (1 digit, 1 empty_sequence, 1 gap, 1 multimer), 0 failed"


def test_unreadable_input_leaves_no_file(language: LanguagePredictor, write_fasta: Write, tmp_path: Path) -> None:
    cut = tmp_path / "cut.fasta.gz"
    cut.write_bytes(gzip.compress(b">a\nMKVLAAG\n>b\nMKV\n" * 5000)[:-20])
    (tmp_path / "text").write_text("no fasta")
    for name, message in ((cut, "damaged"), (tmp_path / "text", "no FASTA record"), (tmp_path / "x", "not exist")):
        with pytest.raises(SourceError, match=message):
            run(language, str(name), tmp_path / "out.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.fasta.gz", "text"]


def test_an_existing_file_is_left_alone(language: LanguagePredictor, write_fasta: Write, tmp_path: Path) -> None:
    (tmp_path / "out.parquet").write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        run(language, write_fasta(["MKV"]), tmp_path / "out.parquet")
    assert (tmp_path / "out.parquet").read_text() == "mine"


def test_a_batch_that_does_not_fit_is_halved(
    language: LanguagePredictor,
    proteins: list[str],
    write_fasta: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batches: list[int] = []
    embed = language.embed

    def small(sequences: list[str], **options: bool) -> list[Embedding]:
        batches.append(len(sequences))
        if sum(map(len, sequences)) > 150:
            raise OutOfMemory("too many")
        return embed(sequences, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(language, "embed", small)
    done = run(language, write_fasta(proteins), tmp_path / "out.parquet")
    assert done.rows == 60
    assert max(batches) > 2
    alone = run(language, write_fasta([*proteins[:3], "M" * 200, "M"], "long.fasta"), tmp_path / "long.parquet")
    assert alone.line() == "5 records: 4 embedded, 0 refused, 1 failed"
    assert alone.first_error == "p3: too many"
    rows = pq.read_table(tmp_path / "long.parquet").to_pylist()
    assert [row["error"] for row in rows] == [None] * 3 + ["too many", None]
    assert [row["mean"] is None for row in rows] == [row["residues"] is None for row in rows]
    assert [row["mean"] is None for row in rows] == [False] * 3 + [True, False]


def test_a_protein_without_finite_states_costs_no_other(
    proteins: list[str], write_fasta: Write, tmp_path: Path
) -> None:
    broken = models.load("nano", recycles=0)
    with torch.no_grad():
        broken._network.esm.embed_tokens.weight[LANGUAGE_TOKENS["U"]] = torch.nan
    done = run(broken.language, write_fasta([*proteins[:5], "MKUV", "MKV"]), tmp_path / "out.parquet")
    assert done.line() == "7 records: 6 embedded, 0 refused, 1 failed"
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["id"] for row in rows if row["error"]] == ["p5"]
    assert "not finite" in rows[5]["error"] and rows[5]["mean"] is None


def test_states_beyond_half_precision_fail_with_the_way_out(
    language: LanguagePredictor, write_fasta: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = language.embed

    def large(sequences: list[str], **options: bool) -> list[Embedding]:
        found = embed(sequences, **options)  # type: ignore[arg-type]
        return [dataclasses.replace(one, residues={6: one.residues[6] + 1e5}) for one in found if one.residues]

    monkeypatch.setattr(language, "embed", large)
    done = run(language, write_fasta(["MKV"]), tmp_path / "out.parquet")
    assert done.failed == 1 and "65504" in str(done.first_error) and "--per-residue" in str(done.first_error)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_leaves_nothing(
    language: LanguagePredictor, proteins: list[str], write_fasta: Write, tmp_path: Path, number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    fasta = write_fasta(proteins)
    embed = language.embed

    def asked_to_stop(sequences: list[str], **options: bool) -> list[Embedding]:
        signal.raise_signal(number)
        return embed(sequences, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(language, "embed", asked_to_stop)
    with pytest.raises(Interrupted) as caught:
        run(language, fasta, tmp_path / "out.parquet")
    assert caught.value.exit_code == 128 + number
    assert [path.name for path in tmp_path.iterdir()] == ["in.fasta"]


def test_crash_of_the_process_costs_no_other_protein(
    embedding_worker: WorkerSpec, write_fasta: Write, tmp_path: Path
) -> None:
    """Native code that crashes, the kernel's killer of large processes, an exit, states that are not finite."""
    sequences = ["MKVL", "SEGV", "MKLL", "MKKL", "KILLED", "DEAD", "NAN", "MLLL"]
    out, config = tmp_path / "out.parquet", nano.CONFIG.language_model
    done = embed_fasta([write_fasta(sequences)], out, embedding_worker, config, layer=2, per_residue=True)
    assert done.line() == "8 records: 4 embedded, 0 refused, 4 failed"
    errors = pq.read_table(out).column("error").to_pylist()
    for sequence, error, reason in zip(
        sequences, errors, [None, "SIGSEGV", None, None, "SIGKILL", "exit code 3", "not finite", None], strict=True
    ):
        assert (error is None) if reason is None else reason in error, (sequence, error)
    table = pq.read_table(out)
    assert [len(row["residues"] or ()) for row in table.to_pylist()] == [32, 0, 32, 32, 0, 0, 0, 32]
    assert table.schema.metadata[b"layer"] == b"2" and table.schema.metadata[b"precision"] == b"fp32"


def test_a_model_that_cannot_be_loaded_leaves_no_file(
    embedding_worker: WorkerSpec, write_fasta: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CHILD_REFUSES", "no memory for it")
    fasta = write_fasta(["MKV"])
    with pytest.raises(ModelError, match="could not be loaded on cpu: OSError: no memory for it"):
        embed_fasta(
            [fasta], tmp_path / "out.parquet", embedding_worker, nano.CONFIG.language_model, layer=2, per_residue=False
        )
    assert [path.name for path in tmp_path.iterdir()] == ["in.fasta"]


def test_leftovers_of_a_killed_run_are_removed(language: LanguagePredictor, write_fasta: Write, tmp_path: Path) -> None:
    host = attempt_name().rsplit("_", 2)[0]
    dead, alive = (tmp_path / f".out.parquet.{host}_{process}_ab.part" for process in (4194305, 1))
    other = tmp_path / f".other.parquet.{host}_4194305_ab.part"
    for path in (dead, alive, other):
        path.write_bytes(b"PAR1")
    run(language, write_fasta(["MKV"]), tmp_path / "out.parquet")
    assert [path.exists() for path in (dead, alive, other)] == [False, True, True]
