"""The checkpoints of nano's own training in examples/nano: whole, small enough, and what this code goes on with."""

import dataclasses
import json
from pathlib import Path

from foldatlas.folding import models
from foldatlas.folding.config import LanguageModelConfig
from foldatlas.folding.training.average import Average
from foldatlas.folding.training.folding_training import CONFIDENCE_HEADS, LANGUAGE_MODEL
from foldatlas.folding.training.masked_model import MaskedLanguageModel
from foldatlas.folding.training.optimisers import AdamW, Optimiser
from foldatlas.folding.training.recipes import PRESETS
from foldatlas.folding.training.run_folder import Saved, latest, read_settings
from foldatlas.folding.weights import fitting, nano

EXAMPLES = Path(__file__).parents[3] / "examples" / "nano"
MOST_BYTES = 16_000_000  # of a part


def saved_in(run: Path) -> Saved:
    said: list[str] = []
    saved = latest(run, said.append)
    assert saved is not None and said == []
    return saved


def test_parts_are_small() -> None:
    assert all(path.stat().st_size < MOST_BYTES for path in EXAMPLES.rglob("*"))


def test_language_model_training_is_resumed() -> None:
    settings, saved = read_settings(EXAMPLES / "lm"), saved_in(EXAMPLES / "lm")
    assert settings is not None and 0 < saved.step < settings["steps"]
    assert LanguageModelConfig(**settings["config"]) == nano.CONFIG.language_model
    model = MaskedLanguageModel(nano.CONFIG.language_model)
    optimiser = Optimiser(model.named_parameters(), AdamW(settings["learning_rate"]))
    model.load(saved.tensors)
    optimiser.load({name: tensor for name, tensor in saved.tensors.items() if ":" in name})
    back = {**model.parameters_on_host(), **optimiser.state()}
    assert back.keys() == saved.tensors.keys()
    assert all(bool((back[name] == tensor).all()) for name, tensor in saved.tensors.items())
    assert {float(value) for name, value in back.items() if name.endswith(":step")} == {saved.step}


def test_folding_head_training_is_resumed() -> None:
    settings, saved = read_settings(EXAMPLES / "head"), saved_in(EXAMPLES / "head")
    began_with = models.open_model(str(EXAMPLES / "crops.safetensors"))
    assert settings is not None and began_with.config is not None
    assert settings["begins_with"] == fitting.digest(began_with.state)
    # The preset's, but for what was trained before.
    recipe = json.loads(json.dumps(dataclasses.asdict(PRESETS[nano.NAME].recipe)))
    assert settings["phases"] == ["150x4x3000"] and recipe["phases"][1] == {"crop": 150, "batch": 4, "steps": 3000}
    for name in recipe.keys() - {"phases"}:
        assert settings[name] == recipe[name], name
    network = fitting.build(began_with.config, began_with.state)
    trained = [(name, p) for name, p in network.named_parameters() if not name.startswith(LANGUAGE_MODEL)]
    average = Average(((name, p.requires_grad_()) for name, p in trained), recipe["average_decay"])
    of = {
        kind: {name.partition("/")[2]: tensor for name, tensor in saved.tensors.items() if name.startswith(f"{kind}/")}
        for kind in ("parameter", "average", "optimiser")
    }
    average.load(of["average"])
    shapes = {name: parameter.shape for name, parameter in trained}
    assert {name: tensor.shape for name, tensor in of["parameter"].items()} == shapes
    assert {name.rpartition(":")[0] for name in of["optimiser"]} == shapes.keys()
    assert any(name.startswith(CONFIDENCE_HEADS) for name in shapes)


def test_the_model_card_is_of_the_model_on_board() -> None:
    said = (EXAMPLES.parents[1] / "docs" / "nano.md").read_text(encoding="utf-8")
    assert f"`{nano.WEIGHTS_DIGEST[:16]}...`" in said
    state = models.open_model(nano.NAME).state
    of_language_model = sum(tensor.numel() for name, tensor in state.items() if name.startswith(LANGUAGE_MODEL))
    of_head = sum(tensor.numel() for tensor in state.values()) - of_language_model
    assert f"4 heads; {of_language_model / 1e6:.1f} M parameters" in said
    assert f"4 iterations; {of_head / 1e6:.1f} M parameters" in said
    assert f"{Path(nano.WEIGHTS).stat().st_size / 1e6:.1f} MB" in said
