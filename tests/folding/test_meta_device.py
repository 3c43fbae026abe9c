"""The whole network on torch's meta device, as on a GPU that is not there.

Torch refuses operations between tensors of two devices, so a tensor that is made on the wrong one is found here.
"""

import pytest
import torch

from foldatlas.folding.models import load
from foldatlas.folding.multimer import encode_complexes
from foldatlas.folding.network import precision
from foldatlas.folding.network.esmfold import OutputFlags


@pytest.mark.parametrize(("name", "rows"), [("bf16", 4), ("fp16", 9)])
def test_every_tensor_is_on_the_device_of_the_weights(name: str, rows: int) -> None:
    network = load("nano")._network.to("meta")
    precision.get(name).apply(network)
    batch = encode_complexes([["MKTAYIAKQ"], ["MKT"]], torch.device("meta"))
    flags = OutputFlags(mean_embedding=True, residue_embedding=True, pae_logits=True, distogram_logits=True, pae=True)
    with torch.inference_mode():
        output = network(batch, recycles=1, outputs=flags, rows=rows)
    for field in ("positions_BLA3", "plddt_BL", "ptm_B", "pae_BLL", "pae_logits_BLLN", "distogram_logits_BLLN"):
        assert getattr(output, field).device.type == "meta"
    assert output.positions_BLA3.shape == (2, 9, 14, 3)
