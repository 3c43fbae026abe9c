"""ESM-2 out of fine-tuned and wrapped checkpoints against transformers' own; other models are named."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import EsmConfig, EsmForMaskedLM, EsmForSequenceClassification, EsmForTokenClassification

from foldatlas.folding import models
from foldatlas.folding.network.tokens import encode, language_tokens
from foldatlas.folding.weights import checkpoints
from foldatlas.schemas.errors import ModelError
from foldatlas.schemas.records import ATOMS

SIZES = {
    "vocab_size": 33, "mask_token_id": 32, "pad_token_id": 1, "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 64, "position_embedding_type": "rotary", "token_dropout": True,
    "emb_layer_norm_before": False, "layer_norm_eps": 1e-5, "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
SEQUENCE = "MKTAYIAKQRQISFVKSHFSRQ"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"


def reference_of(kind):
    torch.manual_seed(5)
    model = kind(EsmConfig(**SIZES)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def assert_embeds(folder, reference):
    """The language model in `folder` gives transformers' last hidden state to 1e-4."""
    loaded = models.load_language_model(str(folder))
    tokens = language_tokens(encode([SEQUENCE]))
    with torch.inference_mode():
        found = loaded.network(tokens, torch.zeros(3))[1]
        expected = reference.esm(tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state[:, 1:-1]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", [EsmForSequenceClassification, EsmForTokenClassification])
def test_a_classifier_gives_its_language_model(kind, tmp_path):
    reference = reference_of(kind)
    reference.save_pretrained(tmp_path)
    assert_embeds(tmp_path, reference)
    (note,) = models.notes_of(str(tmp_path))
    assert "left out the head" in note and "classifier." in note


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("kind", [EsmForMaskedLM, EsmForSequenceClassification])
def test_prefixes_of_wrappers_are_stripped(prefix, kind, tmp_path):
    reference = reference_of(kind)
    reference.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    state = {
        prefix + key.replace("esm.encoder.", "esm._orig_mod.encoder."): t for key, t in reference.state_dict().items()
    }
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert_embeds(tmp_path, reference)
    notes = models.notes_of(str(tmp_path))
    assert sum("stripped" in note for note in notes) == 1


def wrapped(state, prefix):
    """The names that DDP and torch.compile give: a prefix, and one inside the trunk, which may be compiled alone."""
    return {prefix + key.replace("trunk.blocks.", "trunk._orig_mod.blocks."): t for key, t in state.items()}


def test_wrapped_esmfold_of_transformers_folds(two_blocks, tmp_path):
    """An ESMFold saved inside wrappers predicts the same as transformers; a note reports the prefixes."""
    two_blocks.reference.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(wrapped(two_blocks.reference.state_dict(), "module._orig_mod."), tmp_path / "pytorch_model.bin")
    (found,) = models.load(str(tmp_path), recycles=1).fold([SEQUENCE])
    theirs = two_blocks.fold_reference(SEQUENCE, 1)
    alpha = [start + 1 for start in atom_starts(SEQUENCE)]  # after N
    torch.testing.assert_close(
        torch.from_numpy(found.positions[alpha]), theirs.positions[-1, 0, :, 1], atol=1e-2, rtol=0
    )
    torch.testing.assert_close(torch.from_numpy(found.plddt) / 100, theirs.plddt[0, :, 1], atol=1e-4, rtol=0)
    assert abs(found.ptm - theirs.ptm.item()) < 1e-4
    (note,) = models.notes_of(str(tmp_path))
    assert note == "stripped _orig_mod. and module. from tensor names"


def atom_starts(sequence):
    """Index of the first atom of each residue in a prediction's positions."""
    return np.cumsum([0, *(len(ATOMS[residue]) for residue in sequence)])[:-1].tolist()


def test_digest_and_notes_open_the_files_once(two_blocks, tmp_path, monkeypatch):
    """Commands ask for both; the released model's file has 8.4 GB."""
    two_blocks.reference.save_pretrained(tmp_path)
    opened, open_checkpoint = [], checkpoints.open_checkpoint
    monkeypatch.setattr(checkpoints, "open_checkpoint", lambda files: opened.append(files) or open_checkpoint(files))
    models.settings_of(str(tmp_path))
    models.notes_of(str(tmp_path))
    assert len(opened) == 1
    models.language_model_of(str(tmp_path))
    models.notes_of(str(tmp_path), language_model_only=True)
    assert len(opened) == 2


def test_wrapped_file_of_ours_is_refused(two_blocks, tmp_path):
    """Our own files are never wrapped: a state saved by someone else lacks their sizes."""
    save_file(wrapped(two_blocks.network.state_dict(), "module."), tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=r"not a network saved by FoldAtlas"):
        models.load(str(tmp_path / "x.safetensors"))


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"model_type": "t5"}, "T5"),
        ({"model_type": "bert"}, "ProtBert"),
        ({"model_type": "ESMplusplus"}, "ESM C"),
        ({**SIZES, "model_type": "esm", "position_embedding_type": "absolute"}, "ESM-1b or ESM-1v"),
    ],
)
def test_another_model_is_named_by_its_config(config, name, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=f"{name}.*give an ESM-2"):
        models.load_language_model(str(tmp_path))


@pytest.mark.parametrize(
    ("tensor", "name"),
    [
        ("encoder.block.0.layer.0.SelfAttention.q.weight", "T5"),
        ("bert.encoder.layer.0.output.dense.weight", "BERT"),
        ("transformer.blocks.0.attn.q_ln.weight", "ESM C"),
        ("encoder.sentence_encoder.embed_positions.weight", "ESM-1b"),
        ("encoder.sentence_encoder.layers.0.self_attn.in_proj_weight", "fairseq"),
        ("esm.encoder.layer.0.attention.self.query.lora_A.weight", "LoRA"),
    ],
)
def test_another_model_is_named_by_its_tensors(tensor, name, tmp_path):
    save_file({tensor: torch.zeros(1)}, tmp_path / "x.safetensors")
    torch.save({tensor: torch.zeros(1)}, tmp_path / "bare.pt")
    torch.save({"model": {tensor: torch.zeros(1)}}, tmp_path / "fair.pt")
    for file in ("x.safetensors", "bare.pt", "fair.pt"):
        with pytest.raises(ModelError, match=name):
            models.load_language_model(str(tmp_path / file))


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin", "x.pt", "x.safetensors"])
def test_a_git_lfs_pointer_is_named(file, tmp_path):
    (tmp_path / file).write_text(POINTER)
    (tmp_path / "config.json").write_text(json.dumps({**SIZES, "model_type": "esm"}))
    path = tmp_path / file if file.startswith("x.") else tmp_path
    with pytest.raises(ModelError, match="Git LFS pointer"):
        models.load_language_model(str(path))
