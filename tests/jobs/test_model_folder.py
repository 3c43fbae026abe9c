"""A model that transformers saved, folded through the whole pipeline, gives transformers' numbers out of the atlas."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from Bio import SeqIO
from safetensors.torch import load_file, save_file
from transformers import EsmConfig, EsmForProteinFolding
from transformers.models.esm.configuration_esm import get_default_vocab_list

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.reader import Atlas
from foldatlas.folding.models import settings_of
from foldatlas.schemas.records import ATOMS, STANDARD_RESIDUES

Run = Callable[..., subprocess.CompletedProcess[str]]
ANGSTROM, PLDDT, PTM = 0.01, 0.1, 1e-3  # coordinates are stored to 0.01 A

CONFIG = EsmConfig(
    vocab_size=33, mask_token_id=32, pad_token_id=1, hidden_size=40, num_hidden_layers=4, num_attention_heads=5,
    intermediate_size=72, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, max_position_embeddings=1026,
    layer_norm_eps=1e-5, position_embedding_type="rotary", emb_layer_norm_before=False, token_dropout=True,
    is_folding_model=True, vocab_list=list(get_default_vocab_list()),
    esmfold_config={
        "esm_type": "esm2_3B", "fp16_esm": False, "lddt_head_hid_dim": 20,
        "trunk": {
            "num_blocks": 1, "sequence_state_dim": 32, "pairwise_state_dim": 16, "sequence_head_width": 8,
            "pairwise_head_width": 4, "position_bins": 24, "dropout": 0, "max_recycles": 3, "chunk_size": None,
            "structure_module": {
                "sequence_dim": 24, "pairwise_dim": 20, "ipa_dim": 6, "resnet_dim": 28, "num_heads_ipa": 3,
                "num_qk_points": 2, "num_v_points": 6, "num_blocks": 4,
            },
        },
    },
)  # fmt: skip


@pytest.fixture(scope="module")
def reference() -> EsmForProteinFolding:
    """Random weights large enough to be seen in the output: transformers' own are mostly zero."""
    model = EsmForProteinFolding(CONFIG).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(generator=generator)
            if parameter.dim() == 1 and name.endswith("weight"):
                parameter.mul_(0.3).add_(1.0)
            elif parameter.dim() == 1:
                parameter.mul_(1.5 if "lddt_head" in name else 0.3)
            elif "embed" not in name:
                parameter.mul_(parameter.shape[-1] ** -0.5)
    return model


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fasta") / "q.fasta"
    random = np.random.default_rng(2)
    proteins = ["".join(random.choice(list(STANDARD_RESIDUES), length)) for length in (1, 33, 52, 90)]
    path.write_text("".join(f">p{number}\n{letters}\n" for number, letters in enumerate(proteins)))
    return path


def atoms(positions: torch.Tensor, sequence: str) -> np.ndarray:
    """transformers' atom14 of one protein, as an atlas has them: those that there are, residue after residue."""
    return np.concatenate([positions[row, : len(ATOMS[letter])].numpy() for row, letter in enumerate(sequence)])


def test_a_saved_model_folds_as_transformers_does(
    reference: EsmForProteinFolding, fasta: Path, run: Run, tmp_path: Path
) -> None:
    reference.save_pretrained(tmp_path / "random-fold")
    done = run("fold", fasta, "atlas", "--model", "random-fold", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "4 records: 4 folded, 0 repeated, 0 refused, 0 failed\n"
    settings = AtlasFolder(tmp_path / "atlas").header().settings
    assert settings == settings_of(str(tmp_path / "random-fold"))
    assert (settings.model, settings.recycles) == ("random-fold", CONFIG.esmfold_config.trunk.max_recycles - 1)

    with fasta.open() as file:
        records = list(SeqIO.parse(file, "fasta"))
    spread = []
    with Atlas.open(tmp_path / "atlas") as atlas:
        for record in records:
            sequence = str(record.seq)
            aatype = torch.tensor([[STANDARD_RESIDUES.index(letter) for letter in sequence]])
            with torch.inference_mode():
                theirs = reference(aatype, torch.ones_like(aatype), num_recycles=settings.recycles)
            ours = atlas.structure(record.id)
            expected = atoms(theirs.positions[-1][0], sequence)
            assert abs(ours.positions - expected).max() < ANGSTROM
            assert abs(ours.plddt - 100 * theirs.plddt[0, :, 1].numpy()).max() < PLDDT
            ((ptm,),) = atlas.query(f"select ptm from proteins where id = '{record.id}'").rows()
            assert abs(ptm - theirs.ptm.item()) < PTM
            spread += [*theirs.plddt[0, :, 1].tolist()]
    assert 100 * np.ptp(spread) > 50 * PLDDT, "the reference says the same of every residue: nothing was compared"

    # the same place with other weights is another model: this atlas does not take its structures
    state = load_file(tmp_path / "random-fold" / "model.safetensors")
    state["ptm_head.bias"] += 1
    save_file(state, tmp_path / "random-fold" / "model.safetensors", metadata={"format": "pt"})
    again = run("fold", fasta, "atlas", "--model", "random-fold", cwd=tmp_path)
    assert again.returncode == 2
    assert "weights" in again.stderr


def test_a_name_in_the_folder_of_weights_is_that_model(
    reference: EsmForProteinFolding, fasta: Path, run: Run, tmp_path: Path
) -> None:
    reference.save_pretrained(tmp_path / "models" / "esmfold_v1")
    done = run("fold", fasta, "atlas", "--model", "esmfold_v1", "--weights", "models", "--recycles", "0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    settings = AtlasFolder(tmp_path / "atlas").header().settings
    assert settings == settings_of("esmfold_v1", 0, weights_dir=str(tmp_path / "models"))
    assert settings.model == "esmfold_v1"
