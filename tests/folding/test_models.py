"""Names of models, the settings they stand for, and what may be asked without torch."""

import subprocess
import sys

import pytest

from foldatlas.folding import models
from foldatlas.folding.weights import nano
from foldatlas.schemas.errors import ModelError
from foldatlas.schemas.records import Settings


def test_settings_of_nano():
    assert models.settings_of("nano") == Settings("nano", nano.WEIGHTS_DIGEST, 0, "fp32")
    assert models.settings_of("nano", recycles=2).recycles == 2


def test_a_loaded_predictor_has_the_settings_that_were_planned():
    assert models.load("nano", recycles=1).settings == models.settings_of("nano", recycles=1)


@pytest.mark.parametrize("call", [models.config_of, models.settings_of, models.load])
def test_an_unknown_model_is_refused_with_those_that_exist(call):
    with pytest.raises(ModelError, match=r"unknown model 'esmfold_v9'.*'nano', 'esmfold_v1', 'esm2_t6_8M_UR50D'"):
        call("esmfold_v9")


def test_impossible_settings_are_refused():
    with pytest.raises(ModelError, match="recycles=-1"):
        models.settings_of("nano", recycles=-1)
    with pytest.raises(ModelError, match="unknown precision 'fp4'"):
        models.load("nano", precision="fp4")


def test_weights_that_break_their_promise_are_refused(monkeypatch):
    monkeypatch.setattr(nano, "WEIGHTS_DIGEST", "0" * 64)
    with pytest.raises(ModelError, match="have digest"):
        models.load("nano")


def test_planning_imports_no_torch():
    program = (
        "import sys; from foldatlas.folding import models; from foldatlas.folding.compare import shape; "
        "from foldatlas.folding.planning import batching, cost; "
        "models.settings_of('nano'); print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_a_device_that_is_not_there_is_a_clear_error() -> None:
    with pytest.raises(ModelError, match="device 'cuda:99' cannot be used"):
        models.load("nano", device="cuda:99")
