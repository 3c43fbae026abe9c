"""Where models are looked for, in which order, their names, and the error where none is found."""

import json
import subprocess
import sys

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from foldatlas.folding import models
from foldatlas.folding.weights import fitting, model_files, published
from foldatlas.schemas.errors import ModelError

NAME = "esm2_t6_8M_UR50D"


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    """No test may find what this machine's own cache holds."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def put(folder, config=None):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config or {"model_type": "esm"}))
    save_file({"a": torch.zeros(1)}, folder / "model.safetensors")


def put_in_cache(tmp_path, repository):
    base = tmp_path / "hub" / ("models--" + repository.replace("/", "--"))
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text("c0ffee")
    put(base / "snapshots" / "c0ffee")
    return base / "snapshots" / "c0ffee"


def test_a_name_is_found_in_the_folder_before_the_cache(tmp_path):
    snapshot = put_in_cache(tmp_path, f"facebook/{NAME}")
    assert model_files.find(NAME).config == snapshot / "config.json"
    assert model_files.find(NAME, str(tmp_path / "models")).config == snapshot / "config.json"
    fair = tmp_path / "models" / f"{NAME}.pt"
    fair.parent.mkdir()
    torch.save({}, fair)
    assert model_files.find(NAME, str(tmp_path / "models")).files == (fair,)
    put(tmp_path / "models" / NAME)
    place = model_files.find(NAME, str(tmp_path / "models"))
    assert (place.name, place.files) == (NAME, (tmp_path / "models" / NAME / "model.safetensors",))


def test_files_of_fair_esm_are_found_among_others(tmp_path):
    for name in ("esmfold_3B_v1", *published.LANGUAGE_MODELS, "esm2_t36_3B_UR50D-contact-regression"):
        torch.save({}, tmp_path / f"{name}.pt")
    folding = (tmp_path / "esmfold_3B_v1.pt", tmp_path / "esm2_t36_3B_UR50D.pt")
    assert model_files.find("esmfold_v1", str(tmp_path)) == model_files.ModelFiles("esmfold_v1", "fair", folding)
    contacts = tmp_path / "esm2_t36_3B_UR50D-contact-regression.pt"
    assert model_files.find("esm2_t36_3B_UR50D", str(tmp_path)).files == (folding[1], contacts)


def test_missing_weights_error_names_files_and_folder(tmp_path):
    with pytest.raises(ModelError) as caught:
        model_files.find("esmfold_v1", str(tmp_path / "models"))
    for part in (
        f"{tmp_path}/models/esmfold_v1 with config.json and model.safetensors or pytorch_model.bin",
        f"{tmp_path}/models/esmfold_3B_v1.pt with {tmp_path}/models/esm2_t36_3B_UR50D.pt",
        f"{tmp_path}/hub/models--facebook--esmfold_v1",
        f"`foldatlas weights esmfold_v1 {tmp_path}/models`",
        f"of facebook/esmfold_v1 into {tmp_path}/models/esmfold_v1",
        f"esmfold_3B_v1.pt and esm2_t36_3B_UR50D.pt into {tmp_path}/models, and pass --weights {tmp_path}/models",
    ):
        assert part in str(caught.value)
    assert model_files.is_missing("esmfold_v1", str(tmp_path / "models"))
    with pytest.raises(ModelError, match="into DIR, and pass --weights DIR"):
        model_files.find("esmfold_v1")
    assert not model_files.is_missing("nano") and not model_files.is_missing(str(tmp_path / "elsewhere"))


def test_partial_download_is_not_a_model(tmp_path):
    snapshot = put_in_cache(tmp_path, "facebook/esmfold_v1")
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"has config\.json but no weights.*run `foldatlas weights esmfold_v1` again"):
        models.settings_of("esmfold_v1")
    assert model_files.is_missing("esmfold_v1")
    (snapshot / "model.safetensors.index.json").write_text('{"weight_map": {"a": "part-1.safetensors"}}')
    assert model_files.is_missing("esmfold_v1")
    save_file({"a": torch.zeros(1)}, snapshot / "part-1.safetensors")
    assert not model_files.is_missing("esmfold_v1")


def test_folder_gives_the_model_its_name(two_blocks, tmp_path):
    """Not what its configuration says: that is the model it was trained from."""
    put(tmp_path / "mine", {"model_type": "esm", "_name_or_path": "facebook/esmfold_v1"})
    assert model_files.find(str(tmp_path / "mine")).name == "mine"
    assert model_files.find(str(put_in_cache(tmp_path, "someone/their-fold"))).name == "their-fold"
    fitting.save(two_blocks.network, tmp_path / "ours.safetensors")
    assert models.settings_of(str(tmp_path / "ours.safetensors")).model == "ours"
    (tmp_path / "small run").mkdir()
    fitting.save(two_blocks.network, tmp_path / "small run" / "model.safetensors")
    of_file = models.settings_of(str(tmp_path / "small run" / "model.safetensors"))
    assert of_file.model == "small run"
    assert models.settings_of(str(tmp_path / "small run")) == of_file  # the folder of a training run is its model


def test_file_of_another_library_is_refused_naming_its_folder(tmp_path):
    put(tmp_path / "theirs")
    with pytest.raises(ModelError, match=f"not a network saved by FoldAtlas.*: give its folder, {tmp_path}/theirs$"):
        models.settings_of(str(tmp_path / "theirs" / "model.safetensors"))
    (tmp_path / "theirs" / "config.json").unlink()
    for path in (tmp_path / "theirs", tmp_path / "theirs" / "model.safetensors"):
        with pytest.raises(ModelError, match=r"a model of transformers needs its config\.json"):
            models.settings_of(str(path))


def test_partial_download_is_not_a_training_run(tmp_path):
    """Weights without their configuration, where a published model belongs: they are fetched again."""
    put(tmp_path / NAME)
    (tmp_path / NAME / "config.json").unlink()
    assert model_files.is_missing(NAME, str(tmp_path))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], r"has no model: it needs config\.json and model\.safetensors or pytorch_model\.bin"),
        (["esm2_a.pt", "esm2_b.pt"], r"several models \(esm2_a\.pt, esm2_b\.pt\)"),
    ],
)
def test_a_folder_without_one_model_is_refused(tmp_path, files, message):
    for name in files:
        torch.save({}, tmp_path / name)
    with pytest.raises(ModelError, match=message):
        model_files.find(str(tmp_path))


def test_a_name_is_looked_for_without_torch_or_network(tmp_path):
    put(tmp_path / "esmfold_v1")
    program = (
        "import sys, socket; socket.socket.connect = None; from foldatlas.folding.weights import model_files\n"
        f"model_files.find('esmfold_v1', {str(tmp_path)!r})\n"
        "try: model_files.find('esm2_t6_8M_UR50D')\n"
        "except ValueError as error: print(type(error).__name__)\n"
        "print('torch' in sys.modules)"
    )
    environment = {"HF_HUB_CACHE": str(tmp_path / "hub"), "PATH": "", "HOME": str(tmp_path)}
    environment["PYTHONPATH"] = ":".join(filter(None, sys.path))
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert run.stdout.split() == ["MissingWeights", "False"]
