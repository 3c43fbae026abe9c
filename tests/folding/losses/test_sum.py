"""The weighted sum: what it holds, and that no input makes it or its gradient anything but finite numbers."""

import pytest
import torch

from foldatlas.folding.network.rigid import Rigid
from foldatlas.folding.training.losses.ambiguous_atoms import rename
from foldatlas.folding.training.losses.fape import (
    NO_CLAMP,
    backbone_frame_aligned_error,
    side_chain_frame_aligned_error,
)
from foldatlas.folding.training.losses.lddt_loss import smooth_lddt_loss
from foldatlas.folding.training.losses.outputs import NetworkOutputs
from foldatlas.folding.training.losses.structure_loss import PRESETS, SMALL, LossWeights, structure_loss
from foldatlas.folding.training.losses.torsion_loss import torsion_loss

EVERYTHING = LossWeights(
    side_chain_fape=0.5,
    backbone_fape=0.4,
    local_fape=0.3,
    smooth_lddt=0.7,
    torsion=0.6,
    distogram=0.25,
    plddt=0.01,
    aligned_error=0.1,
    violation=0.9,
)
LOSSES = [name for name in EVERYTHING.__dataclass_fields__ if isinstance(getattr(EVERYTHING, name), float)]
LENGTH = 16


def outputs_of(*predictions, logits_dtype=torch.float32):
    generator = torch.Generator().manual_seed(4)
    num_proteins = predictions[0].positions.shape[0]

    def logits(*shape):
        return torch.randn(num_proteins, *shape, generator=generator).to(logits_dtype).requires_grad_()

    return NetworkOutputs(
        frames=[item.frames for item in predictions],
        torsion_vectors=[item.torsions for item in predictions],
        group_frames=[predictions[-1].groups],
        positions=[predictions[-1].positions],
        distogram_logits_BLLN=logits(LENGTH, LENGTH, 64),
        pae_logits_BLLN=logits(LENGTH, LENGTH, 64),
        plddt_logits_BLN=logits(LENGTH, 50),
    )


@pytest.fixture
def structure(synthetic):
    return synthetic.chain(num_proteins=2, num_residues=LENGTH)


@pytest.fixture
def outputs(structure, synthetic):
    return outputs_of(synthetic.disturbed(structure, 1), synthetic.disturbed(structure, 2))


def test_the_total_is_the_weighted_sum(structure, outputs):
    targets = structure.targets()
    found = structure_loss(outputs, targets, EVERYTHING)
    assert list(found) == [*LOSSES, "total"]
    assert all(value.shape == (2,) for value in found.values())
    expected = sum(getattr(EVERYTHING, name) * found[name] for name in LOSSES)
    torch.testing.assert_close(found["total"], expected)
    first, last = outputs.frames
    torch.testing.assert_close(
        found["backbone_fape"],
        (backbone_frame_aligned_error(first, targets) + backbone_frame_aligned_error(last, targets)) / 2,
    )
    true = targets.alpha_BL3, targets.alpha_mask_BL
    torch.testing.assert_close(
        found["smooth_lddt"],
        (smooth_lddt_loss(first.translation, *true) + smooth_lddt_loss(last.translation, *true)) / 2,
    )
    torch.testing.assert_close(
        found["torsion"], sum(torsion_loss(vectors, targets) for vectors in outputs.torsion_vectors) / 2
    )
    renamed = rename(outputs.positions[-1], targets)
    torch.testing.assert_close(
        found["side_chain_fape"],
        side_chain_frame_aligned_error(outputs.group_frames[-1], outputs.positions[-1], targets, renamed),
    )


@pytest.mark.parametrize("name", PRESETS)
def test_presets_run_and_leave_out_what_they_do_not_weigh(name, structure, outputs):
    weights = PRESETS[name]
    found = structure_loss(outputs, structure.targets(), weights)
    assert set(found) == {"total", *(loss for loss in LOSSES if getattr(weights, loss))}
    assert torch.isfinite(found["total"]).all()


def test_alphafold2s_total_is_that_of_its_supplement(structure, outputs):
    """Jumper et al. 2021, equation 7: 0.5 FAPE + 0.5 auxiliary + 0.3 distogram + 0.01 confidence, with 1.0 of the
    violations in fine-tuning; auxiliary is the mean over the iterations of torsions and backbone FAPE, which a tenth
    of the batches does not clamp (1.11.5). The released configuration weighs the aligned errors 0.1."""
    targets = structure.targets()
    clamped, free = (
        structure_loss(outputs, targets, EVERYTHING, torch.full((2,), limit)) for limit in (10.0, NO_CLAMP)
    )
    auxiliary = 0.9 * clamped["backbone_fape"] + 0.1 * free["backbone_fape"] + clamped["torsion"]
    first = 0.5 * clamped["side_chain_fape"] + 0.5 * auxiliary + 0.3 * clamped["distogram"] + 0.01 * clamped["plddt"]
    second = first + 0.1 * clamped["aligned_error"] + 1.0 * clamped["violation"]
    for name, expected in (("alphafold2", first), ("alphafold2-fine-tuning", second)):
        torch.testing.assert_close(structure_loss(outputs, targets, PRESETS[name])["total"], expected)


def test_a_clamp_may_be_drawn_for_each_protein(structure, outputs):
    drawn = structure_loss(outputs, structure.targets(), SMALL, torch.tensor([10.0, NO_CLAMP]))["backbone_fape"]
    targets = structure.targets()
    for protein, clamp in enumerate((10.0, NO_CLAMP)):
        expected = sum(backbone_frame_aligned_error(f, targets, ((clamp, 1.0),)) for f in outputs.frames) / 2
        torch.testing.assert_close(drawn[protein], expected[protein])


def test_proteins_do_not_see_each_other(structure, outputs, synthetic):
    together = structure_loss(outputs, structure.targets(), EVERYTHING)
    one = synthetic.chain(num_proteins=2, num_residues=LENGTH)
    observed = one.observed.clone()
    observed[1] = False
    found = structure_loss(outputs, one.targets(observed), EVERYTHING)
    for name, value in found.items():
        torch.testing.assert_close(value[0], together[name][0])


def test_a_missing_output_is_named(structure, outputs):
    lacking = NetworkOutputs(outputs.frames, outputs.torsion_vectors, [], [])
    with pytest.raises(ValueError, match=r"'distogram'.*distogram_logits_BLLN"):
        structure_loss(lacking, structure.targets(), SMALL)
    with pytest.raises(ValueError, match=r"'side_chain_fape'.*group_frames"):
        structure_loss(lacking, structure.targets(), EVERYTHING)


def leaves(structure, collapsed=False):
    """Predictions whose tensors are leaves, of the true structure or with everything in one place."""
    rotation, translation = structure.frames.rotation.clone(), structure.frames.translation.clone()
    groups = structure.targets().groups
    tensors = {
        "rotation": rotation,
        "translation": torch.zeros_like(translation) if collapsed else translation,
        "torsions": torch.zeros_like(structure.torsions) if collapsed else structure.torsions.clone(),
        "group_rotation": groups.rotation.clone(),
        "group_translation": torch.zeros_like(groups.translation) if collapsed else groups.translation.clone(),
        "positions": torch.zeros_like(structure.positions) if collapsed else structure.positions.clone(),
    }
    return {name: tensor.requires_grad_() for name, tensor in tensors.items()}


@pytest.mark.parametrize("observed", ["all", "nothing", "one atom"])
@pytest.mark.parametrize("collapsed", [False, True])
@pytest.mark.parametrize("mixed", [False, True])
def test_everything_stays_finite(structure, observed, collapsed, mixed):
    seen = structure.observed.clone()
    if observed != "all":
        seen[:] = False
        seen[:, 2, 1] = observed == "one atom"
    inputs = leaves(structure, collapsed)
    frames = Rigid(inputs["rotation"], inputs["translation"])
    outputs = NetworkOutputs(
        frames=[frames],
        torsion_vectors=[inputs["torsions"]],
        group_frames=[Rigid(inputs["group_rotation"], inputs["group_translation"])],
        positions=[inputs["positions"]],
        distogram_logits_BLLN=torch.zeros(2, LENGTH, LENGTH, 64),
        pae_logits_BLLN=torch.zeros(2, LENGTH, LENGTH, 64),
        plddt_logits_BLN=torch.zeros(2, LENGTH, 50),
    )
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
        found = structure_loss(outputs, structure.targets(seen), EVERYTHING)
    assert all(torch.isfinite(value).all() for value in found.values())
    assert all(value.dtype == torch.float32 for value in found.values())
    found["total"].sum().backward()
    assert all(torch.isfinite(tensor.grad).all() for tensor in inputs.values())
    if observed == "nothing":
        needs_no_truth = {"violation", "torsion", "total"}
        assert all(not value.any() for name, value in found.items() if name not in needs_no_truth)


def test_mixed_precision_changes_nothing(structure, synthetic):
    predicted = synthetic.disturbed(structure, 1)
    outputs = outputs_of(predicted, logits_dtype=torch.bfloat16)
    in_full = outputs_of(predicted)
    as_bf16 = NetworkOutputs(
        in_full.frames, in_full.torsion_vectors, in_full.group_frames, in_full.positions,
        *(x.bfloat16().float() for x in (in_full.distogram_logits_BLLN, in_full.pae_logits_BLLN)),
        in_full.plddt_logits_BLN.bfloat16().float(),
    )  # fmt: skip
    targets = structure.targets()
    expected = structure_loss(as_bf16, targets, EVERYTHING)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = structure_loss(outputs, targets, EVERYTHING)
    for name, value in found.items():
        assert torch.equal(value, expected[name]), name
