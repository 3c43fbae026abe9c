"""Loading takes no more memory than the weights have: mapped and assigned, copied only where a type widens.

A process of its own loads a checkpoint that is made here. The kernel says what it held: VmHWM is the most that was
resident, pages of mapped files included; RssAnon leaves those out, which the system takes back whenever it needs to.
"""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from foldatlas.folding.config import LanguageModelConfig
from foldatlas.folding.network.language_model import LanguageModel
from foldatlas.folding.network.layout import without_values

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")

HOST_LIMIT = 1.15  # of the checkpoint's bytes

# The peak of RssAnon is sampled, since the kernel keeps none: copies of 16 MB and more last longer than 1 ms.
PROGRAM = """
import json, sys, threading, time
import torch
from foldatlas.folding import models
from foldatlas.folding.weights import checkpoints, fitting
from foldatlas.folding.config import LanguageModelConfig
from foldatlas.folding.network import layout
from foldatlas.folding.network.language_model import LanguageModel

def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))

torch.set_num_threads(1)
with layout.without_values():  # what torch imports for this is not counted
    LanguageModel(LanguageModelConfig(1, 8, 1, 8))
assert "torch._dynamo" not in sys.modules
before = {"anonymous": status("RssAnon"), "resident": status("VmRSS")}
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # VmHWM begins anew
peak, ended = 0, False

def watch():
    global peak
    while not ended:
        peak = max(peak, status("RssAnon"))
        time.sleep(0.001)

watcher = threading.Thread(target=watch)
watcher.start()
loaded = models.load_language_model(sys.argv[1])
total = sum(float(tensor.sum()) for tensor in loaded.network.state_dict().values())  # every page is read
ended = True
watcher.join()
print(json.dumps({"anonymous": peak - before["anonymous"], "resident": status("VmHWM") - before["resident"]}))
"""


def write(folder, dtype):
    """A checkpoint of some 300 MB in transformers' layout; returns its bytes."""
    layers = 24 // dtype.itemsize
    with without_values():
        shapes = LanguageModel(LanguageModelConfig(layers, 1024, 16, 4096)).state_dict()
    state = {f"esm.{name}": torch.full(tensor.shape, 0.5, dtype=dtype) for name, tensor in shapes.items()}
    save_file(state, folder / "model.safetensors")
    sizes = {"hidden_size": 1024, "num_hidden_layers": layers, "num_attention_heads": 16, "intermediate_size": 4096}
    (folder / "config.json").write_text(json.dumps({"model_type": "esm", **sizes}))
    return sum(tensor.nbytes for tensor in state.values())


def pickled(folder):
    """The same as torch.save writes it."""
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def measure(folder):
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("layout", ["safetensors", "pickled"])
def test_weights_of_the_type_that_is_wanted_stay_in_their_file(tmp_path, layout):
    size = write(tmp_path, torch.float32)
    assert size > 300e6
    if layout == "pickled":
        pickled(tmp_path)
    used = measure(tmp_path)
    assert size * 0.9 < used["resident"] < HOST_LIMIT * size  # all of it was read, none of it twice
    assert used["anonymous"] < 0.15 * size


def test_widening_adds_what_the_wider_type_takes(tmp_path):
    size = write(tmp_path, torch.float16)
    assert size > 300e6
    used = measure(tmp_path)
    assert 1.9 * size < used["anonymous"] < HOST_LIMIT * size + size
