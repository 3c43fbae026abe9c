"""Folding of batches in three stages, so that a device computes one batch while others are prepared and collected.

A process calls each stage in a thread of its own (pipeline/workers/child.py):

prepare     sequences to residue types, in memory that the device can copy from while it computes
compute     the network, and the rounding of its outputs to the integers of an atlas's files. On a GPU it returns when
            all work is launched, so that the next batch can be launched behind it
collect     waits for the outputs, and splits them by protein, without padding

Errors of kernels are raised where the host waits for them, so perhaps by a later stage, but never by a later batch's
`collect`. Shapes: B batch, L residues, A = 14 atoms of a residue.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from foldatlas.folding.network.esmfold import ESMFold, ESMFoldOutput, OutputFlags
from foldatlas.folding.network.graphs import dropped_without_memory, padded_to_graph
from foldatlas.folding.network.residue_constants import ATOM_EXISTS_RA
from foldatlas.folding.network.tokens import Batch, encode
from foldatlas.folding.network.transfer import pinned, to_device, to_host
from foldatlas.folding.planning import host_memory
from foldatlas.folding.planning.buckets import bucket
from foldatlas.folding.planning.out_of_memory import describe_out_of_memory
from foldatlas.folding.prediction import QuantisedPrediction, narrowed
from foldatlas.schemas.errors import NonFiniteOutput
from foldatlas.schemas.records import COORDINATE_SCALE, PAE_SCALE, PLDDT_SCALE

# Values in place of numbers that are NaN, infinite or too large to be stored.
_NOT_A_COORDINATE: Final = torch.iinfo(torch.int32).min
_NOT_A_PLDDT: Final = -1
_NOT_AN_ERROR: Final = 255  # 31.875 A; aligned errors are at most 31.75


@dataclass(frozen=True, slots=True)
class PreparedBatch:
    """Proteins as the network reads them, on the host, and the outputs to compute."""

    sequences: Sequence[str]
    batch: Batch
    outputs: OutputFlags


@dataclass(frozen=True, slots=True)
class ComputedBatch:
    """Outputs of a batch on the host, by the names of QuantisedPrediction's fields; they are complete after
    `finished`, if it is not None."""

    prepared: PreparedBatch
    outputs: dict[str, Tensor]
    finished: torch.cuda.Event | None


class FoldingStages:
    """The stages of folding with `network` and `recycles` + 1 trunk passes, or fewer with a `recycle_tolerance` in
    angstrom (network/early_stop.py)."""

    def __init__(self, network: ESMFold, recycles: int, recycle_tolerance: float | None = None):
        self._network, self._recycles, self._recycle_tolerance = network, recycles, recycle_tolerance

    @property
    def _device(self) -> torch.device:
        return self._network.embedding.weight.device

    def prepare(
        self,
        sequences: Sequence[str],
        *,
        mean_embedding: bool = False,
        residue_embedding: bool = False,
        pae: bool = False,
    ) -> PreparedBatch:
        """Return single chains as the network's input, padded to the longest, on a GPU to its bucket. Raise
        SequenceError as `encode`."""
        batch = encode(sequences)
        if self._device.type == "cuda":
            batch = padded_to_bucket(batch)
        aatype_BL, mask_BL = pinned(batch.aatype_BL, self._device), pinned(batch.mask_BL, self._device)
        flags = OutputFlags(mean_embedding=mean_embedding, residue_embedding=residue_embedding, pae=pae)
        return PreparedBatch(sequences, replace(batch, aatype_BL=aatype_BL, mask_BL=mask_BL), flags)

    def compute(self, prepared: PreparedBatch) -> ComputedBatch:
        """Return the outputs of a batch, which may still be on their way. Raise OutOfMemory if it does not fit."""
        device, finished = self._device, None
        graphs, sequences = self._network.trunk.graphs, prepared.sequences
        with torch.inference_mode(), dropped_without_memory(graphs), describe_out_of_memory(sequences, device):
            aatype_BL, mask_BL = (to_device(x, device) for x in (prepared.batch.aatype_BL, prepared.batch.mask_BL))
            batch = padded_to_graph(replace(prepared.batch, aatype_BL=aatype_BL, mask_BL=mask_BL), graphs)
            output = self._network(
                batch,
                recycles=self._recycles,
                outputs=prepared.outputs,
                recycle_tolerance=self._recycle_tolerance,
            )
            outputs = {name: to_host(values) for name, values in _in_stored_units(output).items()}
            del output
            if device.type == "cuda":
                finished = torch.cuda.Event(blocking=True)  # `collect` waits without using a core
                finished.record(torch.cuda.current_stream(device))
        if device.type == "cpu":
            host_memory.trim()  # otherwise malloc keeps up to 64 MB of freed activations
        return ComputedBatch(prepared, outputs, finished)

    def collect(self, computed: ComputedBatch) -> list[QuantisedPrediction]:
        """Return the prediction of each protein of a batch, in order.

        Raise NonFiniteOutput if an output is NaN, infinite or too large to be stored.
        """
        if computed.finished is not None:
            computed.finished.synchronize()
        arrays = {name: values.numpy() for name, values in computed.outputs.items()}
        aatype_BL = computed.prepared.batch.aatype_BL.numpy()
        predictions = []
        for row, sequence in enumerate(computed.prepared.sequences):
            length = len(sequence)
            atoms_LA = ATOM_EXISTS_RA[aatype_BL[row, :length]]
            coordinates, plddt = arrays["coordinates"][row, :length][atoms_LA], arrays["plddt"][row, :length]
            ptm = float(arrays["ptm"][row])
            mean = arrays["mean_embedding"][row] if "mean_embedding" in arrays else None
            residues = arrays["residue_embedding"][row, :length] if "residue_embedding" in arrays else None
            pae = arrays["pae"][row, :length, :length] if "pae" in arrays else None
            for name, is_finite in (
                ("positions", (coordinates != _NOT_A_COORDINATE).all()),
                ("plddt", (plddt != _NOT_A_PLDDT).all()),
                ("ptm", np.isfinite(ptm)),
                ("mean_embedding", mean is None or np.isfinite(mean).all()),
                ("residue_embedding", residues is None or np.isfinite(residues).all()),
                ("pae", pae is None or (pae != _NOT_AN_ERROR).all()),
            ):
                if not is_finite:
                    raise NonFiniteOutput(
                        f"protein {row + 1} of {len(aatype_BL)} ({length} residues, {sequence[:20]}...) has {name} "
                        "values that are not finite, or too large to be stored: check the weights, or use --precision "
                        "fp32"
                    )
            coordinates = narrowed(coordinates)
            passes = int(arrays["passes"][row]) if "passes" in arrays else None
            predictions.append(
                QuantisedPrediction(sequence, coordinates, plddt.astype(np.uint16), ptm, mean, residues, pae, passes)
            )
        return predictions


def padded_to_bucket(batch: Batch) -> Batch:
    """Return single chains with padding up to the length of their bucket (planning/buckets.py)."""
    length = batch.aatype_BL.shape[1]
    more = (0, bucket(length) - length)
    return replace(batch, aatype_BL=F.pad(batch.aatype_BL, more), mask_BL=F.pad(batch.mask_BL, more))


def _in_stored_units(output: ESMFoldOutput) -> dict[str, Tensor]:
    """Return the outputs as the integers of an atlas's files, by the names of QuantisedPrediction's fields.

    Values are rounded in double precision, ties to even; aligned errors in single.
    """
    coordinates = (output.positions_BLA3.double() * COORDINATE_SCALE).round()
    plddt_BL = (output.plddt_BL.double() * PLDDT_SCALE).round()
    stored = {
        "coordinates": _integers(coordinates, torch.iinfo(torch.int32).max, _NOT_A_COORDINATE),
        "plddt": _integers(plddt_BL, 100 * PLDDT_SCALE, _NOT_A_PLDDT, least=0),
        "ptm": output.ptm_B,
    }
    if output.mean_embedding_BD is not None:
        stored["mean_embedding"] = output.mean_embedding_BD.float()
    if output.residue_embedding_BLD is not None:
        stored["residue_embedding"] = output.residue_embedding_BLD.half()
    if output.pae_BLL is not None:
        errors_BLL = (output.pae_BLL * PAE_SCALE).round()
        is_stored_BLL = (errors_BLL >= 0) & (errors_BLL < _NOT_AN_ERROR)
        stored["pae"] = torch.where(is_stored_BLL, errors_BLL, _NOT_AN_ERROR).to(torch.uint8)
    if output.passes_B is not None:
        stored["passes"] = output.passes_B
    return stored


def _integers(rounded: Tensor, largest: int, other: int, least: int | None = None) -> Tensor:
    """Return int32 of `rounded`, `other` where a value is NaN or outside `least` (by default -`largest`) to
    `largest`."""
    is_stored = (rounded >= (-largest if least is None else least)) & (rounded <= largest)
    return torch.where(is_stored, rounded, other).to(torch.int32)
