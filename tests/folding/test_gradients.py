"""Gradients through the network, against transformers' own: the same weights, the same loss, the same derivatives."""

import pytest
import torch

from foldatlas.folding.network.esmfold import OutputFlags
from foldatlas.folding.network.tokens import encode

SEQUENCES = ["MKTAYIAKQRQISFVKSHFSRQ", "GSHMASWLPE"]
# Of the norm of a tensor's gradient. Sums of float32 in another order differ by some 1e-5 of it.
RELATIVE = 2e-3
WANTED = OutputFlags(pae_logits=True, distogram_logits=True)


def loss(positions_BLA3, plddt_BL, distogram_BLLN, pae_BLLN):
    """A number that every output moves: projections on fixed random directions."""
    generator = torch.Generator().manual_seed(5)
    outputs = (positions_BLA3, plddt_BL, distogram_BLLN, pae_BLLN)
    return sum((output * torch.randn(output.shape, generator=generator)).mean() for output in outputs)


@pytest.mark.parametrize("recycles", [0, 2])
def test_gradients_are_those_of_transformers(trainable, recycles):
    batch = encode(SEQUENCES[:1])
    ours = trainable.network(batch, recycles=recycles, outputs=WANTED)
    loss(ours.positions_BLA3, ours.plddt_BL / 100, ours.distogram_logits_BLLN, ours.pae_logits_BLLN).backward()
    theirs = trainable.reference(batch.aatype_BL, batch.mask_BL.long(), num_recycles=recycles)
    loss(theirs.positions[-1], theirs.plddt[..., 1], theirs.distogram_logits, theirs.ptm_logits).backward()

    expected = {name: parameter.grad for name, parameter in trainable.reference.named_parameters()}
    compared = 0
    for name, parameter in trainable.network.named_parameters():
        if name.startswith("esm."):
            continue  # transformers stops the gradient in front of the language model
        if name == "embedding.weight":
            parameter.grad[0] = 0  # alanine: transformers takes it for padding, and never trains it
        if parameter.grad is None:  # of LayerNorms whose input is zero before the first pass
            assert expected[name] is None or not expected[name].any(), name
            continue
        difference, size = (parameter.grad - expected[name]).norm().item(), expected[name].norm().item()
        assert difference <= RELATIVE * size + 1e-6, f"{name}: {difference:.2g} of {size:.2g}"
        compared += size > 1e-4
    assert compared > 150


def test_the_language_model_gets_gradients_too(trainable):
    folded = trainable.network(encode(SEQUENCES), recycles=0, outputs=OutputFlags())
    folded.positions_BLA3.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in trainable.network.esm.layers[0].parameters())


def test_recording_gradients_changes_no_output(trainable):
    batch = encode(SEQUENCES)
    recording = trainable.network(batch, recycles=2, outputs=WANTED)
    with torch.inference_mode():
        plain = trainable.network(batch, recycles=2, outputs=WANTED, rows=5)
    for name in ("positions_BLA3", "plddt_BL", "ptm_B", "distogram_logits_BLLN", "pae_logits_BLLN"):
        torch.testing.assert_close(getattr(recording, name).detach(), getattr(plain, name), atol=1e-3, rtol=0)


def test_checkpointing_changes_no_gradient(trainable):
    gradients = []
    for checkpoint in (False, True):
        trainable.network.zero_grad()
        trainable.network.trunk.checkpoint = checkpoint
        folded = trainable.network(encode(SEQUENCES), recycles=1, outputs=WANTED)
        loss(folded.positions_BLA3, folded.plddt_BL, folded.distogram_logits_BLLN, folded.pae_logits_BLLN).backward()
        gradients.append([parameter.grad.clone() for parameter in trainable.network.trunk.parameters()])
    trainable.network.trunk.checkpoint = False
    assert all(torch.equal(first, second) for first, second in zip(*gradients, strict=True))
