"""FASTA to a file of embeddings: every accepted record has its row, with what the model gives its sequence alone."""

import dataclasses
import gzip
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from foldatlas.atlas.commit import attempt_name
from foldatlas.folding import models
from foldatlas.folding.language_predictor import LanguagePredictor
from foldatlas.folding.prediction import Embedding
from foldatlas.folding.tokens import LANGUAGE_TOKENS
from foldatlas.pipeline import embedding
from foldatlas.pipeline.embedding import embed_fasta
from foldatlas.schemas.errors import Interrupted, OutOfMemory, SourceError, UsageError
from foldatlas.schemas.records import structure_id
from foldatlas.schemas.tables import EMBEDDED

Write = Callable[..., str]


@pytest.fixture(scope="module")
def language() -> LanguagePredictor:
    return models.load("nano", recycles=0).language


def run(language: LanguagePredictor, fasta: str, out: Path, layer: int = -1, per_residue: bool = True):  # type: ignore[no-untyped-def]
    return embed_fasta([fasta], out, language, layer=layer, per_residue=per_residue, metadata={"model": "nano"})


@pytest.mark.parametrize("window", [1, 500, 1 << 14])
@pytest.mark.parametrize("layer", [-1, 2])
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
    assert table.schema.metadata[b"layer"] == (b"6" if layer == -1 else b"2")
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


def test_what_cannot_be_read_leaves_no_file(language: LanguagePredictor, write_fasta: Write, tmp_path: Path) -> None:
    cut = tmp_path / "cut.fasta.gz"
    cut.write_bytes(gzip.compress(b">a\nMKVLAAG\n>b\nMKV\n" * 5000)[:-20])
    (tmp_path / "text").write_text("no fasta")
    for name, message in ((cut, "damaged"), (tmp_path / "text", "no FASTA record"), (tmp_path / "x", "not exist")):
        with pytest.raises(SourceError, match=message):
            run(language, str(name), tmp_path / "out.parquet")
    for layer in (7, -8, -9):
        with pytest.raises(UsageError, match=f"no layer {layer}"):
            run(language, write_fasta(["MKV"]), tmp_path / "out.parquet", layer=layer)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.fasta.gz", "in.fasta", "text"]


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


def test_what_a_killed_run_left_is_removed(language: LanguagePredictor, write_fasta: Write, tmp_path: Path) -> None:
    host = attempt_name().rsplit("_", 2)[0]
    dead, alive = (tmp_path / f".out.parquet.{host}_{process}_ab.part" for process in (4194305, 1))
    other = tmp_path / f".other.parquet.{host}_4194305_ab.part"
    for path in (dead, alive, other):
        path.write_bytes(b"PAR1")
    run(language, write_fasta(["MKV"]), tmp_path / "out.parquet")
    assert [path.exists() for path in (dead, alive, other)] == [False, True, True]
