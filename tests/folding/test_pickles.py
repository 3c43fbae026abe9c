"""No file makes this machine run what it holds: not in weights, not in configurations, not by a disguise."""

import os
import pickle
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from foldatlas.folding import models
from foldatlas.folding.weights import pickles
from foldatlas.schemas.errors import ModelError


class Runs:
    """Unpickling this calls `function` on `arguments`."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def attacks(marker):
    return {
        "system": Runs(os.system, f"touch {marker}"),
        "eval": Runs(eval, f"open({str(marker)!r}, 'w')"),
        "popen": Runs(subprocess.Popen, ["touch", str(marker)]),
        "import": Runs(__import__, "this"),
        "path": Runs(Path.touch, marker),
        "torch": Runs(torch.hub.load, str(marker), "model"),
    }


ATTACKS = list(attacks(Path()))


def test_the_attacks_are_real(tmp_path):
    """Plain unpickling, as torch.load did by default before 2.6, runs the first of them."""
    marker = tmp_path / "ran"
    torch.save({"model": {}, "cfg": attacks(marker)["system"]}, tmp_path / "a.pt")
    program = f"import torch; torch.load({str(tmp_path / 'a.pt')!r}, weights_only=False)"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert marker.exists()


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("file", ["bin", "fair"])
def test_a_malicious_file_is_refused_and_nothing_runs(two_blocks, tmp_path, attack, file):
    marker = tmp_path / "ran"
    evil = attacks(marker)[attack]
    if file == "bin":
        two_blocks.reference.save_pretrained(tmp_path)
        (tmp_path / "model.safetensors").unlink()
        torch.save({**two_blocks.reference.state_dict(), "evil": evil}, tmp_path / "pytorch_model.bin")
    else:
        model = {"embed_tokens.weight": torch.zeros(33, 8)}
        torch.save({"cfg": {"model": Namespace(a=1, evil=evil)}, "model": model}, tmp_path / "esm2_x.pt")
    with pytest.raises(ModelError, match=r"refers to .*was not read"):
        models.load_language_model(str(tmp_path)) if file == "fair" else models.load(str(tmp_path))
    assert not marker.exists()
    assert "this" not in sys.modules


def test_a_plain_pickle_is_refused(tmp_path):
    path = tmp_path / "esm2_x.pt"
    path.write_bytes(pickle.dumps(Runs(os.system, f"touch {tmp_path / 'ran'}")))
    with pytest.raises(ModelError, match=r"not written by torch\.save"):
        models.load_language_model(str(path))
    assert not (tmp_path / "ran").exists()


def test_a_function_behind_an_allowed_name_is_not_called(tmp_path, monkeypatch):
    """Names of configuration classes are never imported, so an object of that name here is not reached."""
    path = tmp_path / "a.pt"
    ran = []
    module = type(sys)("omegaconf.nodes")
    module.AnyNode = lambda *arguments: ran.append(arguments)
    module.AnyNode.__module__, module.AnyNode.__qualname__ = "omegaconf.nodes", "AnyNode"
    monkeypatch.setitem(sys.modules, "omegaconf", type(sys)("omegaconf"))
    monkeypatch.setitem(sys.modules, "omegaconf.nodes", module)
    torch.save({"cfg": Runs(module.AnyNode, "x"), "model": {}}, path)
    assert isinstance(pickles.read(path)["cfg"], pickles.Inert)
    assert ran == []


def test_python_beside_a_model_is_not_imported(two_blocks, tmp_path):
    """transformers would run this with trust_remote_code."""
    two_blocks.reference.save_pretrained(tmp_path)
    (tmp_path / "modeling_evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    config = (tmp_path / "config.json").read_text().replace("{", '{"auto_map": {"AutoModel": "modeling_evil.M"},', 1)
    (tmp_path / "config.json").write_text(config)
    models.load(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_a_configuration_becomes_plain_values(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"cfg": Namespace(layers=3, inner=Namespace(rate=0.5, names=["a", None]))}, path)
    assert pickles.plain(pickles.read(path)) == {"cfg": {"layers": 3, "inner": {"rate": 0.5, "names": ["a", None]}}}
