"""ESMFold: the whole network, from residue types to atoms and confidence scores.

Lin et al. 2023. The initial single representation of the trunk is a learned average of ESM-2's hidden states plus an
embedding of the residue type; the heads read the output of the trunk's last pass.

Shapes: B batch, L residues, A = 14 atoms, C single channels, D language model channels, N bins.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foldatlas.folding.config import ESMFoldConfig
from foldatlas.folding.network import confidence, precision
from foldatlas.folding.network.attention import without_cudnn_attention
from foldatlas.folding.network.early_stop import finished_groups
from foldatlas.folding.network.in_place import needs_gradient
from foldatlas.folding.network.language_model import LanguageModel
from foldatlas.folding.network.linear import Linear
from foldatlas.folding.network.residue_constants import NUM_AATYPES
from foldatlas.folding.network.tokens import Batch, language_tokens
from foldatlas.folding.network.trunk import FoldingTrunk, TrunkOutput
from foldatlas.folding.planning import cost, memory
from foldatlas.folding.planning.chunks import slices

NUM_DISTOGRAM_BINS: Final = 64
_NUM_ATOM37: Final = 37  # the pLDDT head scores AlphaFold 2's 37 atom names
_C_ALPHA: Final = 1  # index of the C-alpha among them
# Rows of the residue embedding: one for each type, one that training never used, and one for masked residues.
_NUM_EMBEDDED: Final = NUM_AATYPES + 2


@dataclass(frozen=True, slots=True)
class OutputFlags:
    """Outputs that take time or memory and are computed only on request."""

    mean_embedding: bool = False
    residue_embedding: bool = False
    pae_logits: bool = False
    distogram_logits: bool = False
    pae: bool = False

    @property
    def pair_bytes(self) -> int:
        """Bytes of output for each pair of residues, as folding/planning/cost.py takes them."""
        return cost.pair_output_bytes(pae=self.pae, logits=self.pae_logits + self.distogram_logits)


@dataclass(frozen=True, slots=True)
class ESMFoldOutput:
    """Outputs for a batch. Values at padding are finite and have no meaning."""

    positions_BLA3: Tensor  # angstrom; atoms in the order of records.ATOMS, zero where a residue has no such atom
    plddt_BL: Tensor  # 0 to 100, of each C-alpha
    ptm_B: Tensor  # 0 to 1
    iptm_B: Tensor | None  # 0 to 1; 0 for a single chain; None if no protein of the batch has several
    mean_embedding_BD: Tensor | None  # the language model's last hidden state, averaged over residues
    residue_embedding_BLD: Tensor | None  # the language model's last hidden state
    pae_BLL: Tensor | None  # angstrom, 0.25 to 31.75: error of residue j when the frames of residue i are superposed
    pae_logits_BLLN: Tensor | None  # logits of its 64 bins
    distogram_logits_BLLN: Tensor | None  # logits of 64 bins of the C-beta distance
    passes_B: Tensor | None = None  # trunk passes of each protein, on the host; None if recycling could not stop early


class ESMFold(nn.Module):
    """The network. Build it by folding/weights/fitting.py, which raises for weights that do not fit."""

    def __init__(self, config: ESMFoldConfig):
        super().__init__()
        language_model, single_width = config.language_model, config.trunk.single_width
        self.config = config
        self.esm = LanguageModel(language_model)
        self.esm_s_combine = nn.Parameter(torch.zeros(language_model.num_layers + 1))
        self.esm_s_mlp = nn.Sequential(
            nn.LayerNorm(language_model.width),
            Linear(language_model.width, single_width),
            nn.ReLU(),
            Linear(single_width, single_width),
        )
        self.embedding = nn.Embedding(_NUM_EMBEDDED, single_width)
        self.trunk = FoldingTrunk(config)
        self.distogram_head = Linear(config.trunk.pair_width, NUM_DISTOGRAM_BINS)
        self.ptm_head = Linear(config.trunk.pair_width, confidence.NUM_PAE_BINS)
        self.lddt_head = nn.Sequential(
            nn.LayerNorm(config.structure_module.single_width),
            Linear(config.structure_module.single_width, config.plddt_width),
            Linear(config.plddt_width, config.plddt_width),
            Linear(config.plddt_width, _NUM_ATOM37 * confidence.NUM_PLDDT_BINS),
        )

    @property
    def precision(self) -> str:
        """Name of the precision policy (precision.py) of the weights."""
        return precision.of(self.esm.embed_tokens.weight.dtype, self.trunk.dtype).name

    @without_cudnn_attention()
    def forward(
        self,
        batch: Batch,
        *,
        recycles: int,
        outputs: OutputFlags,
        rows: int | None = None,
        recycle_tolerance: float | None = None,
    ) -> ESMFoldOutput:
        """Fold `batch` with `recycles` + 1 trunk passes, or fewer with a `recycle_tolerance` in angstrom
        (early_stop.py).

        `rows` is the number of rows of the pair representation to process at a time. By default it is the fastest
        number that fits into the free memory beside the outputs, and all rows if gradients are recorded (the forward
        pass of training is in training/forward.py). Raise OutOfMemory, before any work, if not even one row fits.
        """
        # 1. Choose how much of the pair representation to process at a time.
        if rows is None:
            num_proteins, length = batch.aatype_BL.shape
            rows = self._choose_rows(num_proteins, length, outputs)

        # 2. The language model reads each sequence once; its hidden states are averaged with learned weights.
        weights_N = self.esm_s_combine.softmax(dim=0)
        states_BLD, last_state_BLD = self.esm(language_tokens(batch), weights_N, batch.lengths)

        # 3. The average, projected to the trunk's width, plus the residue type: the initial single representation.
        single_BLC = self.esm_s_mlp(states_BLD) + self.embedding(batch.aatype_BL)

        # 4. The trunk and the structure module, `recycles` + 1 times: pair representation and backbone frames.
        if recycle_tolerance is None:
            trunk = self.trunk(single_BLC, batch.aatype_BL, batch.mask_BL, recycles, rows, batch.residue_index_BL)
            return self._read_out(trunk, last_state_BLD, batch, outputs, rows)

        # Or as often as each protein needs.
        groups = finished_groups(
            self.trunk, single_BLC, batch, recycles=recycles, tolerance=recycle_tolerance, rows=rows
        )
        parts: list[tuple[list[int], ESMFoldOutput]] = []
        for group in groups:
            states_BLD = last_state_BLD[torch.tensor(group.proteins, device=last_state_BLD.device)]
            output = self._read_out(group.trunk, states_BLD, group.batch, outputs, rows)
            passes_B = torch.full((len(group.proteins),), group.passes)
            parts.append((group.proteins, replace(output, passes_B=passes_B)))
            del group  # it has pair representations, and the next passes need the memory
        return _in_order_of_batch(parts)

    def _read_out(
        self, trunk: TrunkOutput, last_state_BLD: Tensor, batch: Batch, outputs: OutputFlags, rows: int
    ) -> ESMFoldOutput:
        """Return the outputs after the last trunk pass. `last_state_BLD`: the language model's last hidden state."""
        # 5. Torsion angles place the oxygen and the side chain of each residue on its backbone frame.
        positions_BLA3 = self.trunk.structure_module.atoms(
            trunk.backbone, trunk.state_BLC, trunk.initial_state_BLC, batch.aatype_BL
        )

        # 6. The heads: aligned errors (PAE, pTM, ipTM) from pairs, pLDDT from residues.
        errors = self._aligned_errors(trunk.pair_BLLZ, batch, outputs, rows)
        return ESMFoldOutput(
            positions_BLA3=positions_BLA3,
            plddt_BL=confidence.plddt(self.plddt_logits(trunk.state_BLC)),
            ptm_B=errors.ptm_B,
            iptm_B=errors.iptm_B,
            mean_embedding_BD=mean_over_residues(last_state_BLD, batch.is_residue_BL)
            if outputs.mean_embedding
            else None,
            residue_embedding_BLD=last_state_BLD if outputs.residue_embedding else None,
            pae_BLL=errors.pae_BLL,
            pae_logits_BLLN=errors.logits_BLLN,
            distogram_logits_BLLN=self._distogram_logits(trunk.pair_BLLZ, rows) if outputs.distogram_logits else None,
        )

    def _choose_rows(self, num_proteins: int, length: int, outputs: OutputFlags) -> int:
        if torch.is_grad_enabled() and needs_gradient(*self.parameters()):
            return length
        device = self.embedding.weight.device
        preferred = cost.peak_bytes(
            self.config,
            num_proteins,
            length,
            precision=self.precision,
            rows=cost.preferred_rows(self.config, num_proteins, length, device.type),
            pair_output_bytes=outputs.pair_bytes,
        )
        free, graphs = memory.free_bytes(device, preferred), self.trunk.graphs
        if graphs is not None and graphs.bytes:
            free -= graphs.bytes
            if free < preferred:
                graphs.clear()
                free = memory.free_bytes(device, preferred)
        return cost.choose_rows(
            self.config,
            num_proteins,
            length,
            precision=self.precision,
            device=device.type,
            memory_limit=free,
            pair_output_bytes=outputs.pair_bytes,
        )

    def _aligned_errors(self, pair_BLLZ: Tensor, batch: Batch, outputs: OutputFlags, rows: int) -> "_AlignedErrors":
        """Return pTM, ipTM and, on request, PAE and its logits.

        The logits are computed `rows` rows at a time and discarded unless requested: in full they take half as much
        memory as the published model's pair representation, and from 5,793 residues on have more than 2^31 elements.
        """
        is_residue_BL, chain_BL = batch.is_residue_BL, batch.chain_BL
        pairs = pair_BLLZ.shape[:3]
        tm_BL = pair_BLLZ.new_empty(pairs[:2], dtype=torch.float32)
        interface_tm_BL = None if chain_BL is None else torch.empty_like(tm_BL)
        pae_BLL = pair_BLLZ.new_empty(pairs, dtype=torch.float32) if outputs.pae else None
        logits_BLLN = None
        if outputs.pae_logits:
            logits_BLLN = pair_BLLZ.new_empty(*pairs, confidence.NUM_PAE_BINS, dtype=torch.float32)
        for chunk in slices(pairs[1], rows):
            logits_BRLN = self.ptm_head(pair_BLLZ[:, chunk].float())
            tm_BL[:, chunk] = confidence.tm_of_alignments(logits_BRLN, is_residue_BL)
            if chain_BL is not None and interface_tm_BL is not None:
                in_rows = confidence.interface_tm_of_alignments(logits_BRLN, chain_BL[:, chunk], chain_BL)
                interface_tm_BL[:, chunk] = in_rows
            if pae_BLL is not None:
                pae_BLL[:, chunk] = confidence.predicted_aligned_error(logits_BRLN)
            if logits_BLLN is not None:
                logits_BLLN[:, chunk] = logits_BRLN
        return _AlignedErrors(
            ptm_B=confidence.best_alignment(tm_BL, is_residue_BL),
            iptm_B=None if interface_tm_BL is None else confidence.best_alignment(interface_tm_BL, is_residue_BL),
            pae_BLL=pae_BLL,
            logits_BLLN=logits_BLLN,
        )

    def plddt_logits(self, state_BLC: Tensor) -> Tensor:
        """Return the pLDDT logits [B, L, N] of each C-alpha.

        The head is LayerNorm and three linear layers without activations, W3 (W2 (W1 x + b1) + b2) + b3, computed here
        as one linear layer with weight W3 W2 W1. Of W3 and b3 only the rows of the C-alpha are used.
        """
        norm, *layers = self.lddt_head
        first, second, third = cast(list[Linear], layers)
        of_c_alpha = slice(_C_ALPHA * confidence.NUM_PLDDT_BINS, (_C_ALPHA + 1) * confidence.NUM_PLDDT_BINS)
        weight_3, bias_3 = third.weight[of_c_alpha], third.bias[of_c_alpha]
        weight_32 = weight_3 @ second.weight
        bias_32 = bias_3 + weight_3 @ second.bias
        weight_321 = weight_32 @ first.weight
        bias_321 = bias_32 + weight_32 @ first.bias
        return F.linear(norm(state_BLC), weight_321, bias_321)

    def _distogram_logits(self, pair_BLLZ: Tensor, rows: int) -> Tensor:
        """Return logits [B, L, L, N], the mean of those of ij and ji: the head is linear, so it is applied to the mean
        of the two pairs."""
        logits_BLLN = pair_BLLZ.new_empty(*pair_BLLZ.shape[:3], NUM_DISTOGRAM_BINS, dtype=torch.float32)
        for chunk in slices(pair_BLLZ.shape[1], rows):
            mean_BRLZ = pair_BLLZ[:, chunk].float() + pair_BLLZ[:, :, chunk].transpose(1, 2)
            logits_BLLN[:, chunk] = self.distogram_head(mean_BRLZ.mul_(0.5))
        return logits_BLLN


def _in_order_of_batch(parts: Sequence[tuple[Sequence[int], ESMFoldOutput]]) -> ESMFoldOutput:
    """Return the outputs of a whole batch from those of groups of its proteins, each given with its rows."""
    if len(parts) == 1:
        return parts[0][1]
    num_proteins = sum(len(proteins) for proteins, _ in parts)

    def joined(name: str) -> Tensor | None:
        first: Tensor | None = getattr(parts[0][1], name)
        if first is None:
            return None
        whole = first.new_empty(num_proteins, *first.shape[1:])
        for proteins, output in parts:
            whole[torch.tensor(proteins, device=first.device)] = getattr(output, name)
        return whole

    return ESMFoldOutput(**{field.name: joined(field.name) for field in fields(ESMFoldOutput)})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class _AlignedErrors:
    """Scores from the logits of the aligned error; fields as in ESMFoldOutput."""

    ptm_B: Tensor
    iptm_B: Tensor | None
    pae_BLL: Tensor | None
    logits_BLLN: Tensor | None


def mean_over_residues(x_BLD: Tensor, mask_BL: Tensor) -> Tensor:
    """Return the mean [B, D] over the residues where `mask_BL` is True."""
    mask_BL1 = mask_BL.unsqueeze(-1)
    return (x_BLD * mask_BL1).sum(dim=1) / mask_BL1.sum(dim=1)
