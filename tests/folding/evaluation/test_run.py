"""Evaluation of a network on made-up chains: rows against the functions that they come from, and what cannot be
folded."""

import dataclasses
import json
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from foldatlas.folding.compare import superposition
from foldatlas.folding.compare.lddt import lddt_all_atom, lddt_ca
from foldatlas.folding.evaluation import baselines, choice, files, run
from foldatlas.folding.evaluation.measures import empty_row, measure
from foldatlas.folding.network.language_heads import LanguageHeads, MaskedHead
from foldatlas.folding.network.tokens import encode_language
from foldatlas.folding.perplexity import in_parts
from foldatlas.folding.planning.batching import BATCH_MFLOP
from foldatlas.folding.predictor import Predictor
from foldatlas.folding.weights import fitting, nano
from foldatlas.folding.weights.nano import CONFIG
from foldatlas.schemas.errors import NonFiniteOutput, OutOfMemory, UsageError
from foldatlas.schemas.records import ATOMS, Settings


@pytest.fixture(scope="module")
def predictor():
    """nano with generated weights, and a head for masked residues with random ones."""
    torch.manual_seed(0)
    network = fitting.generate(nano.CONFIG)
    head = MaskedHead(CONFIG.language_model).eval().requires_grad_(False)
    torch.nn.init.normal_(head.bias)
    return Predictor(network, Settings("some <model>", "0" * 64, 0, "fp32"), LanguageHeads(masked=head))


@pytest.fixture
def valid(chains):
    return choice.distinct(choice.choose(chains, [choice.Choice("valid")], None))


def test_rows_are_what_the_measures_say(predictor, valid):
    rows = run.evaluate_model(predictor, "model", valid)
    assert [row.chain for row in rows] == ["v<2>&$x$", "v1", "v3"]
    assert [row.num_gaps for row in rows] == [0, 1, 0]
    for row, chain in zip(rows, valid, strict=True):
        (prediction,) = predictor.fold([chain.sequence])
        atoms = np.zeros((row.length, 14, 3))
        place = 0
        for number, residue in enumerate(chain.sequence):
            for atom in range(len(ATOMS[residue])):
                atoms[number, atom] = prediction.positions[place]
                place += 1
        reference = chain.positions_LA3
        assert row.failure is None
        assert row.tm_score == pytest.approx(superposition.tm_score(atoms[:, 1], reference[:, 1]), abs=1e-3)
        assert row.gdt_ts == pytest.approx(superposition.gdt_ts(atoms[:, 1], reference[:, 1]), abs=0.02)
        assert row.gdt_ha == pytest.approx(superposition.gdt_ha(atoms[:, 1], reference[:, 1]), abs=0.02)
        assert row.rmsd == pytest.approx(superposition.rmsd(atoms[:, 1], reference[:, 1]), abs=1e-2)
        assert row.lddt_ca == pytest.approx(lddt_ca(atoms[:, 1], reference[:, 1]).score, abs=5e-3)
        everything = lddt_all_atom(chain.sequence, atoms, reference, chain.observed_LA)
        assert row.lddt == pytest.approx(everything.score, abs=2e-3)
        assert row.mean_plddt == pytest.approx(prediction.plddt.mean(), abs=1e-2)
        assert row.ptm == pytest.approx(prediction.ptm, abs=1e-4)
        assert len(row.plddt_L) == len(row.lddt_ca_L) == row.length
        language = predictor.language
        with torch.inference_mode():
            tokens = encode_language([chain.sequence])[0]
            assert row.perplexity == pytest.approx(in_parts(language._model, language._heads.masked, tokens), rel=1e-5)
        assert row.perplexity_residues == row.length - chain.sequence.count("X")


def test_the_reference_itself_has_full_marks(chains):
    for chain in chains:
        positions = chain.positions_LA3.astype(float)
        positions[~chain.observed_LA] = np.nan
        row = empty_row(chain, "truth", "model")
        measure(row, chain, positions, has_side_chains=True)
        assert (row.tm_score, row.gdt_ts, row.gdt_ha, row.lddt, row.lddt_ca) == pytest.approx((1, 1, 1, 1, 1), abs=1e-6)
        assert row.rmsd == pytest.approx(0, abs=1e-4)
        assert row.contact_precision in (1, None)


def test_residues_that_were_not_observed_count_for_nothing(chains):
    chain = chains[2]
    chain.observed_LA[5:9] = False
    rng = np.random.default_rng(0)
    positions = chain.positions_LA3 + rng.normal(size=chain.positions_LA3.shape)
    row, other = empty_row(chain, "m", "model"), empty_row(chain, "m", "model")
    measure(row, chain, positions, has_side_chains=True)
    positions[5:9] += 100
    measure(other, chain, positions, has_side_chains=True)
    assert (row.tm_score, row.lddt, row.gdt_ha) == (other.tm_score, other.lddt, other.gdt_ha)
    chain.observed_LA[:] = False
    nothing = empty_row(chain, "m", "model")
    measure(nothing, chain, positions, has_side_chains=True)
    assert (nothing.tm_score, nothing.failure) == (None, "no C-alpha of the chain was observed")


@pytest.mark.parametrize("error", [OutOfMemory("does not fit\nand more"), NonFiniteOutput("does not fit")])
def test_a_chain_that_cannot_be_folded_is_a_row_with_the_reason(predictor, valid, monkeypatch, error):
    fold, asked = predictor.fold_batch, []

    def failing(sequences, **wanted):
        asked.append(len(sequences))
        if any(len(sequence) == 30 for sequence in sequences):
            raise error
        return fold(sequences, **wanted)

    monkeypatch.setattr(predictor, "fold_batch", failing)
    monkeypatch.setitem(BATCH_MFLOP, "cpu", 10**9)
    rows = run.evaluate_model(predictor, "model", valid)
    assert asked == [3, 1, 1, 1]
    assert [row.failure for row in rows] == [None, "does not fit", None]
    assert [row.tm_score is None for row in rows] == [False, True, False]


def test_baselines_have_rows_and_reasons(chains, valid):
    training = [chain for chain in chains if chain.split == "train"]
    rows = run.evaluate_baselines(valid, training)
    assert [row.model for row in rows] == [baselines.HELIX, baselines.RANDOM_CHAIN] * 3
    assert all(row.tm_score is not None and row.lddt is None and row.kind == "baseline" for row in rows)
    (short,) = [row for row in run.evaluate_baselines(valid[-1:], training[:2]) if row.model != baselines.HELIX]
    assert (short.tm_score, short.failure) == (None, "no training chain of another cluster has 41 residues")


def test_choices(chains):
    assert choice.parse_choice("valid", 30) == choice.Choice("valid", 30)
    assert choice.parse_choice("train:150", 30).label == "train, up to 150 residues"
    for wrong in ("train:", "train:x", "train:0", "train:-4", "train:²"):
        with pytest.raises(UsageError, match="train:150"):
            choice.parse_choice(wrong, None)
    chosen = choice.choose(chains, [choice.Choice("valid", 30), choice.Choice("train")], 4)
    assert {label: len(found) for label, found in chosen.items()} == {"valid, up to 30 residues": 2, "train": 4}
    assert chosen == choice.choose(chains, [choice.Choice("valid", 30), choice.Choice("train")], 4)
    with pytest.raises(UsageError, match="no chain of split test: the splits are train, valid"):
        choice.choose(chains, [choice.Choice("test")], None)


def test_roles_divide_a_split(chains, tmp_path):
    path = tmp_path / "roles.tsv"
    path.write_text("name\tlength\trole\nt0\t26\ttrunk\nt1\t30\tconfidence\n")
    divided = choice.with_roles(chains, choice.read_roles(path))
    assert [chain.split for chain in divided] == ["valid"] * 3 + ["trunk", "confidence"] + ["train"] * 4
    path.write_text("name\tlength\nt0\t26\n")
    with pytest.raises(UsageError, match="no column 'role'"):
        choice.read_roles(path)
    with pytest.raises(UsageError, match="cannot be read"):
        choice.read_roles(tmp_path / "none.tsv")


@pytest.fixture
def evaluated(predictor, chains, valid):
    training = [chain for chain in chains if chain.split == "train"]
    other = Predictor(predictor._network, dataclasses.replace(predictor.settings, model="other$1$"), predictor._heads)
    rows = [row for one in (predictor, other) for row in run.evaluate_model(one, "model", valid)]
    rows += run.evaluate_baselines(valid, training)
    chosen = {"valid": valid, "short": valid[:2]}
    return rows, chosen, training, [predictor.settings, other.settings]


def write(out, evaluated):
    return files.write(out, *evaluated, program="foldatlas 0", source="chains.parquet", notes=["a <note>"])


@pytest.fixture
def without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)


def test_files_hold_what_was_found(evaluated, tmp_path, without_matplotlib):
    rows, chosen, training, _ = evaluated
    summary = write(tmp_path / "out", evaluated)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "chains.parquet", "report.html", "summary.json",
    ]  # fmt: skip
    table = pq.read_table(tmp_path / "out" / "chains.parquet")
    assert table.num_rows == len(rows) == 12
    for number, row in enumerate(rows):
        found = table.slice(number, 1).to_pylist()[0]
        assert (found["chain"], found["model"], found["length"]) == (row.chain, row.model, row.length)
        assert found["tm_score"] == pytest.approx(row.tm_score, rel=1e-6)
        assert found["lddt"] == (None if row.lddt is None else pytest.approx(row.lddt, rel=1e-6))
        if row.plddt_L is not None:
            np.testing.assert_allclose(found["plddt_of_residues"], row.plddt_L, rtol=1e-6)
            np.testing.assert_allclose(found["lddt_ca_of_residues"], row.lddt_ca_L, rtol=1e-6)
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary
    part = summary["splits"]["short"]["models"]["some <model>"]
    expected = [row.tm_score for row in rows if row.model == "some <model>" and row.chain != "v3"]
    assert part["measures"]["tm_score"]["mean"] == pytest.approx(np.mean(expected))
    assert part["plddt_of_residues"]["count"] == sum(len(chain.sequence) for chain in chosen["short"])
    assert summary["splits"]["all splits together"]["chains"] == 3
    assert part["perplexity"]["residues"] == sum(len(c.sequence) for c in chosen["short"]) - 1
    shown = [row for row in rows if row.model == "some <model>" and row.chain != "v3"]
    pairs = [(p / 100, t) for row in shown for p, t in zip(row.plddt_L, row.lddt_ca_L, strict=True) if np.isfinite(t)]
    for name, expected in (
        ("plddt_of_residues", pairs),
        ("plddt_of_chains", [(row.mean_plddt / 100, row.lddt_ca) for row in shown]),
        ("ptm", [(row.ptm, row.tm_score) for row in shown]),
    ):
        means = part[name]["mean_claimed"], part[name]["mean_true"]
        assert means == pytest.approx(tuple(np.mean(expected, axis=0)), rel=1e-5), name
    letters = "".join(chain.sequence for chain in training)
    residues = "".join(chain.sequence for chain in chosen["short"]).replace("X", "")
    logs = [np.log((letters.count(residue) + 1) / (len(letters) + 20)) for residue in residues]
    assert part["perplexity"]["unigram"] == pytest.approx(np.exp(-np.mean(logs)))


def test_the_page_needs_nothing_else_and_escapes_names(evaluated, tmp_path):
    write(tmp_path / "out", evaluated)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.startswith("<!doctype html>") and page.rstrip().endswith("</html>")
    assert "some &lt;model&gt;" in page and "<model>" not in page and "a &lt;note&gt;" in page
    assert "other$1$" in page
    assert page.count("<svg") == page.count("</svg>") == 2 + 2 * 3 + 1
    for fetching in ("src=", "@import", "<script", "<link", "url(http"):
        assert fetching not in page


def test_page_names_missing_matplotlib(evaluated, tmp_path, without_matplotlib):
    summary = write(tmp_path / "out", evaluated)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<svg" not in page and "matplotlib is not installed" in page
    assert any("foldatlas[train]" in note for note in summary["notes"])


def test_nothing_half_written_stays(evaluated, tmp_path, monkeypatch, without_matplotlib):
    def failing(*_, **__):
        raise OSError("no space left")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(files, "sync", failing)  # everything is written by then, to a temporary folder
        write(tmp_path / "out", evaluated)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="exists: give a new folder"):
        write(tmp_path / "out", evaluated)
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(UsageError, match="is not a folder"):
        write(tmp_path / "no" / "out", evaluated)
