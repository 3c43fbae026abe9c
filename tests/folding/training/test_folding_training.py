"""The folding head's training: what a step sees, that it learns, and that runs are exact."""

import json
import signal
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from foldatlas.folding import models
from foldatlas.folding.compare import lddt, superposition
from foldatlas.folding.compare.atom_layouts import ATOM37
from foldatlas.folding.compare.experimental import Chain, read_chains
from foldatlas.folding.network.esmfold import OutputFlags
from foldatlas.folding.network.tokens import encode
from foldatlas.folding.training import initialization, metrics
from foldatlas.folding.training.average import Average
from foldatlas.folding.training.data.crops import Crop, Phase, parse_phase
from foldatlas.folding.training.folding_training import FoldTrainer, Recipe, RunSettings
from foldatlas.folding.training.forward import forward, make_examples
from foldatlas.folding.training.losses.structure_loss import ALPHAFOLD2_FINE_TUNING, SMALL
from foldatlas.folding.training.optimisers import AdamW, Muon
from foldatlas.folding.training.processes import Processes
from foldatlas.folding.training.stopping import Stop
from foldatlas.folding.weights import fitting, nano
from foldatlas.folding.weights.published import MODEL
from foldatlas.jobs.train_fold import train_fold
from foldatlas.schemas.errors import SettingsMismatchError, TrainingError, UsageError
from foldatlas.schemas.records import ATOMS, STANDARD_RESIDUES

ALONE = Processes(0, 1, torch.device("cpu"))
STEPS = 8
RECIPE = Recipe(
    phases=(Phase(16, 2, 5), Phase(24, 4, 3)),
    loss=SMALL,
    adamw=AdamW(2e-3, betas=(0.9, 0.99)),
    muon=Muon(5e-3),
    warm_up_steps=2,
    clip_norm=0.5,
    recycles=1,
)


def helix(length):
    """C-alphas of an ideal helix, angstrom."""
    angle = np.radians(100) * np.arange(length)
    return np.stack((2.3 * np.cos(angle), 2.3 * np.sin(angle), 1.5 * np.arange(length)), axis=1)


def make_chain(number, length, cluster):
    """A made-up chain: a wound C-alpha trace with the other atoms around it."""
    generator = np.random.default_rng(number)
    sequence = "".join(generator.choice(list(STANDARD_RESIDUES), length))
    bend = np.cumsum(generator.normal(0, 0.15, (length, 3)), axis=0)
    alpha = helix(length) + 3 * np.sin(bend)
    positions = alpha[:, None] + generator.normal(0, 0.9, (length, 14, 3))
    positions[:, 1] = alpha
    observed = np.zeros((length, 14), bool)
    for residue, letter in enumerate(sequence):
        observed[residue, : len(ATOMS[letter])] = True
    positions[~observed] = 0
    index = np.arange(length, dtype=np.int32)
    return Chain(f"made{number}", sequence, positions.astype(np.float32), observed, index, "train", cluster)


@pytest.fixture(scope="module")
def chains():
    return [make_chain(number, length, f"c{number % 4}") for number, length in enumerate((30, 18, 41, 25, 12, 36))]


@pytest.fixture(scope="module")
def chains_file(chains, tmp_path_factory):
    """The chains, as a file of the layout in docs/training.md."""
    rows = []
    for chain in chains:
        residue, place = np.nonzero(chain.observed_LA)
        x, y, z = (1000 * chain.positions_LA3[residue, place]).round().astype(int).T
        names = [ATOMS[chain.sequence[i]][atom] for i, atom in zip(residue, place, strict=True)]
        rows.append(
            {
                "chain_id": chain.name,
                "cluster30": chain.cluster,
                "split": chain.split,
                "sequence": chain.sequence,
                "residue_index": chain.residue_index_L.tolist(),
                "atom_residue": residue.tolist(),
                "atom_type": [ATOM37.index(name) for name in names],
                "x": x.tolist(),
                "y": y.tolist(),
                "z": z.tolist(),
            }
        )
    metadata = {"coordinates": "made up, 0.001 angstrom", "atom_type": "index into " + " ".join(ATOM37)}
    path = tmp_path_factory.mktemp("chains") / "chains.parquet"
    pq.write_table(pa.Table.from_pylist(rows).replace_schema_metadata(metadata), path)
    return path


def new_network(seed=0):
    language_model = {f"esm.{key}": value for key, value in fitting.generate(nano.CONFIG).esm.state_dict().items()}
    network = initialization.network(nano.CONFIG, language_model, seed)
    return fitting.build(nano.CONFIG, {name: value.clone() for name, value in network.state_dict().items()})


def make_trainer(chains, path, recipe=RECIPE, valid=(), **settings):
    settings = RunSettings(**{"save_every": 2, "log_every": 1, "valid_every": 0, **settings})
    return FoldTrainer(
        new_network(), chains, recipe, path, {}, ALONE, settings=settings, valid=valid, log=lambda line: None
    )


def run(trainer, stop=None):
    try:
        return trainer.train(Stop() if stop is None else stop)
    finally:
        trainer.close()


def test_training_sees_what_folding_gives(chains):
    """The outputs of a whole chain as a crop are ESMFold.forward's; a crop's residues keep the whole chain's states."""
    network = fitting.generate(nano.CONFIG)
    examples = make_examples(chains, [Crop(0, 0, 30), Crop(3, 0, 25)])
    outputs = forward(network, examples, 2, train_language_model=False)
    with torch.inference_mode():
        batch = encode([chains[0].sequence, chains[3].sequence])
        folded = network(batch, recycles=2, outputs=OutputFlags(pae_logits=True, distogram_logits=True))
    on_residues = batch.mask_BL[..., None, None]
    torch.testing.assert_close(
        outputs.positions[-1] * on_residues, folded.positions_BLA3 * on_residues, atol=1e-3, rtol=0
    )
    torch.testing.assert_close(outputs.pae_logits_BLLN[0], folded.pae_logits_BLLN[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(outputs.distogram_logits_BLLN[0], folded.distogram_logits_BLLN[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(outputs.frames[-1].translation[0], folded.positions_BLA3[0, :, 1], atol=1e-3, rtol=0)
    np.testing.assert_array_equal(examples.targets.positions_BLA3[0].numpy(), chains[0].positions_LA3)


def test_a_crop_has_the_atoms_and_residues_of_its_place(chains):
    examples = make_examples(chains, [Crop(2, 7, 20), Crop(4, 0, 12)])
    np.testing.assert_array_equal(examples.targets.positions_BLA3[0].numpy(), chains[2].positions_LA3[7:27])
    assert torch.equal(examples.batch.aatype_BL[0], encode([chains[2].sequence[7:27]]).aatype_BL[0])
    assert examples.batch.mask_BL.sum(dim=1).tolist() == [20, 12]
    assert not examples.targets.observed_BLA[1, 12:].any()


@pytest.mark.parametrize(("start", "length"), [(0, 64), (600, 64), (1136, 64), (50, 1100), (0, 1200)])
def test_language_model_sees_the_crop_in_its_context(start, length):
    """Of a chain longer than the window: at its ends, in its middle, and where the crop itself is longer."""
    chain = make_chain(9, 1200, "c")
    examples = make_examples([chain], [Crop(0, start, length)])
    (first,) = examples.starts
    seen = examples.windows.aatype_BL[0, first : first + length]
    assert first >= 0
    assert torch.equal(seen, examples.batch.aatype_BL[0])
    assert examples.windows.aatype_BL.shape[1] == max(1024, length)


def test_blocks_begin_as_the_identity_and_gates_open(chains):
    network = new_network()
    single, pair = torch.randn(1, 9, 128), torch.randn(1, 9, 9, 32)
    mask = torch.ones(1, 9, dtype=torch.bool)
    with torch.inference_mode():
        for block in network.trunk.blocks:
            new_single, new_pair = block(single, pair.clone(), mask, 9)
            assert torch.equal(new_single, single) and torch.equal(new_pair, pair)
    state = network.state_dict()
    assert {float(state[name].unique()) for name in state if name.endswith(("linear_g.bias", "g_proj.bias"))} == {1.0}
    again, other = (new_network(seed=seed).state_dict() for seed in (0, 1))
    assert all(torch.equal(value, again[name]) for name, value in state.items())
    assert sum(not torch.equal(value, other[name]) for name, value in state.items()) > 40


def test_the_average_is_that_of_few_steps_at_first():
    parameter = torch.nn.Parameter(torch.tensor([0.0]))
    average = Average([("x", parameter)], decay=0.9)
    expected = 0.0
    for step in range(1, 201):
        parameter.data.fill_(step)
        average.update(step)
        decay = min(0.9, step / (9 + step))
        expected = decay * expected + (1 - decay) * step
    assert average.values["x"].item() == pytest.approx(expected, rel=1e-5)
    assert 189 < expected < 192  # nine steps behind


@pytest.mark.parametrize("parts", ["folding", "all", "confidence"])
def test_only_what_is_asked_for_changes(chains, tmp_path, parts):
    trainer = make_trainer(chains, tmp_path / "run", replace(RECIPE, parts=parts, phases=(Phase(16, 2, 3),)))
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    assert run(trainer)
    after = trainer.network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    of_heads = {name for name in before if name.startswith(("lddt_head.", "ptm_head."))}
    of_language_model = {name for name in before if name.startswith("esm.")}
    if parts == "confidence":
        assert changed and changed <= of_heads
    else:
        assert {"trunk.trunk2sm_s.weight", "esm_s_combine", "distogram_head.bias"} <= changed
        assert bool(changed & of_language_model) == (parts == "all")


def test_a_run_that_was_stopped_goes_on_bitwise(chains, tmp_path):
    whole = make_trainer(chains, tmp_path / "whole")
    assert run(whole)
    stop = Stop()
    first = make_trainer(chains, tmp_path / "parts")
    update = first._update

    def stop_in_the_third():
        if first.step == 2:
            stop.exit_code = 130
        return update()

    first._update = stop_in_the_third
    assert not run(first, stop)
    second = make_trainer(chains, tmp_path / "parts")
    assert second.step == 3
    assert run(second)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name
    lines = [[{k: v for k, v in line.items() if k != "steps_per_second"} for line in metrics.read(tmp_path / path)]
             for path in ("whole", "parts")]  # fmt: skip
    assert lines[0] == lines[1] and [line["step"] for line in lines[0]] == list(range(1, STEPS + 1))


def test_a_run_goes_on_with_the_same_settings_alone(chains, tmp_path):
    run(make_trainer(chains, tmp_path / "run"))
    with pytest.raises(SettingsMismatchError, match="clip_norm"):
        make_trainer(chains, tmp_path / "run", replace(RECIPE, clip_norm=0.1))


def test_gradients_that_are_not_finite_end_a_run_with_the_reason(chains, tmp_path):
    trainer = make_trainer(chains, tmp_path / "run", replace(RECIPE, phases=(Phase(16, 2, 30),)))
    broken = trainer.network.trunk.trunk2sm_s.weight
    with torch.no_grad():
        broken[0, 0] = float("nan")
    with pytest.raises(TrainingError, match="10 updates in a row, up to step 10"):
        run(trainer)


def test_weights_that_are_not_finite_are_refused(chains, tmp_path):
    """The last update may break what no later gradient could tell."""
    trainer = make_trainer(chains, tmp_path, replace(RECIPE, phases=(Phase(8, 2, 1),), warm_up_steps=0, muon=None))
    next(iter(trainer._average.values.values())).fill_(float("nan"))
    with pytest.raises(TrainingError, match="no longer finite"):
        run(trainer)


@pytest.mark.parametrize("crop", [1, 2])
def test_crops_of_a_residue_or_two_give_numbers(chains, tmp_path, crop):
    trainer = make_trainer(
        chains, tmp_path, replace(RECIPE, phases=(Phase(crop, 2, 2),), warm_up_steps=0, loss=ALPHAFOLD2_FINE_TUNING)
    )
    assert run(trainer)
    assert all(value is not None for line in metrics.read(tmp_path) for value in line.values())


@pytest.mark.parametrize(
    ("steps", "gain", "lag", "rmsd"), [(30, 0.3, 0.05, 10.0), pytest.param(100, 0.8, 1e-3, 3.0, marks=pytest.mark.long)]
)
def test_training_overfits_one_protein(steps, gain, lag, rmsd, chains, tmp_path):
    """The full runs are in docs/training.md. `lag`: the averaged weights, which are validated, follow those that are
    trained."""
    chain = chains[3]
    recipe = replace(RECIPE, phases=(Phase(32, 1, steps),), warm_up_steps=10, recycles=0, average_decay=0.9)
    trainer = make_trainer([chain], tmp_path / "run", recipe, [chain], save_every=1000, log_every=50)
    before = trainer.validate()
    assert run(trainer)
    assert trainer.validate() > before + gain
    with torch.inference_mode():
        folded = trainer.network(encode([chain.sequence]), recycles=0, outputs=OutputFlags())
    alpha = folded.positions_BLA3[0, :, 1].numpy()
    assert lddt.lddt_ca(alpha, chain.positions_LA3[:, 1]).score == pytest.approx(trainer.validate(), abs=lag)
    assert superposition.rmsd(alpha, chain.positions_LA3[:, 1]) < rmsd


def options(chains_file, **changes):
    short = {
        "preset": "nano", "init": "nano", "phases": ["16x2x5", "24x4x3"], "recycles": 1, "log_every": 1,
        "save_every": 1, "device": "cpu", **changes,
    }  # fmt: skip
    words = [str(chains_file)]
    for name, value in short.items():
        words += [f"--{name.replace('_', '-')}", *(value if isinstance(value, list) else [str(value)])]
    return short, words


@pytest.mark.slow
def test_two_processes_learn_as_one_and_a_killed_run_goes_on(chains_file, tmp_path, start, somewhere):
    """The loss curve of one process within 1e-4 in two; the weights bitwise after SIGKILL at a random place."""
    # Muon makes all directions of a gradient as long, those that are rounding too, and a recycled distance near the
    # edge of a bin jumps: with either, two curves part.
    short, words = options(chains_file, recycles=0, muon_learning_rate=0.0, learning_rate=3e-4)
    assert train_fold(chains_file, tmp_path / "one", **short) == tmp_path / "one" / MODEL

    code, output = start("fold", words[0], tmp_path / "two", *words[1:], processes=2)
    assert code == 0, output
    curves = [[line["total"] for line in metrics.read(tmp_path / name)] for name in ("one", "two")]
    assert len(curves[0]) == STEPS
    np.testing.assert_allclose(curves[1], curves[0], rtol=0, atol=1e-4)

    code, output = start("fold", words[0], tmp_path / "killed", *words[1:], signalled=("SIGKILL", *somewhere))
    assert code == -signal.SIGKILL, (somewhere, output)
    assert not (tmp_path / "killed" / MODEL).exists()
    train_fold(chains_file, tmp_path / "killed", **short)
    one, resumed = (load_file(tmp_path / name / MODEL) for name in ("one", "killed"))
    assert all(torch.equal(one[name], resumed[name]) for name in one), somewhere


def test_trained_network_folds(chains_file, chains, tmp_path):
    short, _ = options(chains_file)
    path = train_fold(chains_file, tmp_path / "run", **{**short, "phases": ["16x2x2"]})
    (prediction,) = models.load(str(path)).fold([chains[0].sequence])
    assert np.isfinite(prediction.positions).all()
    again = train_fold(chains_file, tmp_path / "heads", **{**short, "init": str(path), "train": "confidence"})
    (other,) = models.load(str(again)).fold([chains[0].sequence])
    np.testing.assert_array_equal(other.positions, prediction.positions)
    assert other.ptm != prediction.ptm


def test_wrong_input_is_refused_in_words(chains_file, tmp_path):
    short, _ = options(chains_file)
    for change, message in [
        ({"phases": ["16x2"]}, "16x2.*CROPxBATCHxSTEPS"),
        ({"phases": ["16x0x3"]}, "CROPxBATCHxSTEPS"),
        ({"phases": [f"{10**20}x1x1"]}, "CROPxBATCHxSTEPS"),
        ({"preset": "micro"}, "unknown preset 'micro'"),
        ({"train": "heads"}, "'heads' cannot be trained"),
        ({"precision": "fp16"}, "'fp16' cannot be used for training"),
        ({"learning_rate": -1.0}, "learning rate -1.0 must be above 0"),
        ({"learning_rate": float("nan")}, "learning rate nan"),
        ({"learning_rate": float("inf")}, "learning rate inf"),
        ({"muon_learning_rate": -1.0}, "learning rate -1.0"),
        ({"average_decay": 1.0}, "average decay 1.0"),
        ({"average_decay": float("nan")}, "average decay nan"),
        ({"recycles": -1}, "recycles=-1"),
        ({"loss": "large"}, "unknown loss 'large'"),
        ({"init": None}, "--language-model"),
        ({"language_model": "nano"}, "--language-model.*or --init"),
        ({"init": "there-is-no-such-model"}, "there-is-no-such-model"),
        ({"splits": ["test"]}, "no chain of split test"),
        ({"max_length": 3}, "no chain to train on"),
        ({"only": tmp_path / "names"}, "names"),
        ({"preset": "esmfold", "muon_learning_rate": 1e-3}, "muon"),
    ]:
        with pytest.raises(UsageError, match=message):
            train_fold(chains_file, tmp_path / "run", **{**short, **change})
    assert not (tmp_path / "run").exists()
    (tmp_path / "names").write_text("nobody\n")
    with pytest.raises(UsageError, match="names has 1 name, none of which is a chain"):
        train_fold(chains_file, tmp_path / "run", **{**short, "only": tmp_path / "names"})
    assert parse_phase("64x4x6000") == Phase(64, 4, 6000)


def test_only_the_chains_that_are_named_are_trained_on(chains_file, tmp_path):
    (tmp_path / "names.tsv").write_text("name\trole\nmade2\ttrunk\n")
    short, _ = options(chains_file)
    one = train_fold(chains_file, tmp_path / "one", **{**short, "only": tmp_path / "names.tsv"})
    settings = json.loads((one.parent / "settings.json").read_text())
    everything = train_fold(chains_file, tmp_path / "all", **short)
    assert settings["chains"] != json.loads((everything.parent / "settings.json").read_text())["chains"]
    assert len(read_chains(chains_file)) == 6
