"""Predictor, the Python interface of a folding model.

Shapes: B batch, L residues.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from foldatlas.folding.language_predictor import LanguagePredictor
from foldatlas.folding.multimer import LINKER, encode_complexes, split_chains
from foldatlas.folding.network.esmfold import ESMFold, ESMFoldOutput, OutputFlags
from foldatlas.folding.network.graphs import dropped_without_memory, padded_to_graph
from foldatlas.folding.network.language_heads import LanguageHeads
from foldatlas.folding.network.residue_constants import ATOM_EXISTS_RA
from foldatlas.folding.network.tokens import Batch, check_batch
from foldatlas.folding.planning import host_memory, memory
from foldatlas.folding.planning.batching import BATCH_MFLOP, cut_into_batches, padded_length
from foldatlas.folding.planning.out_of_memory import describe_out_of_memory
from foldatlas.folding.prediction import Embedding, Floats, Prediction
from foldatlas.folding.stages import FoldingStages
from foldatlas.schemas.errors import NonFiniteOutput
from foldatlas.schemas.records import Settings


class Predictor:
    """A folding model with its weights (`models.load`).

    `settings` determine the predicted structures: model, weights, recycles (with
    the tolerance at which they stop early) and precision.
    """

    def __init__(self, network: ESMFold, settings: Settings, heads: LanguageHeads | None = None):
        self.settings = settings
        self.config = network.config
        self._network = network
        self._heads = heads

    @property
    def language(self) -> LanguagePredictor:
        """The language model alone, with the heads for which there are weights."""
        return LanguagePredictor(self._network.esm, self._heads)

    @property
    def stages(self) -> FoldingStages:
        """The stages of folding a batch, for a process that overlaps batches."""
        return FoldingStages(self._network, self.settings.recycles, self.settings.recycle_tolerance)

    def fold(
        self,
        sequences: Sequence[str],
        *,
        mean_embedding: bool = False,
        residue_embedding: bool = False,
        pae: bool = False,
        distogram: bool = False,
    ) -> list[Prediction]:
        """Predict the structures of `sequences`; return the predictions in the same order.

        Sequences of similar length are batched to fill the device. A prediction does not depend on the others in its
        batch, beyond float32 rounding (about 1e-4 angstrom). `A:B` is a complex of two chains (multimer.py). The flags
        request the optional outputs of `Prediction`.

        Raise SequenceError, before any work, for a single string, an empty list, sequence or chain, an element that is
        not a string, or a character other than an upper-case letter; OutOfMemory if a protein does not fit into memory;
        NonFiniteOutput if an output of the network is not finite.

        >>> from foldatlas.folding.models import load
        >>> predictor = load("nano")
        >>> short, long = predictor.fold(["MKTAYIAKQR", "GSHMRSLEVQAPILSRVGDG"])
        >>> short.sequence, short.plddt.shape, short.positions.shape  # 10 residues, 83 atoms
        ('MKTAYIAKQR', (10,), (83, 3))
        >>> 0 <= long.mean_plddt <= 100 and 0 <= long.ptm <= 1
        True

        The predicted aligned error is an optional output:

        >>> [complex] = predictor.fold(["MKTAYIAKQR:GSHMRSLEV"], pae=True)
        >>> complex.chain_lengths, complex.pae.shape
        ((10, 9), (19, 19))
        """
        check_batch(sequences)
        lengths = [sum(map(len, chains)) + len(LINKER) * (len(chains) - 1) for chains in map(split_chains, sequences)]
        ascending = sorted(range(len(sequences)), key=lengths.__getitem__)
        predictions: dict[int, Prediction] = {}
        for batch in self.batches([lengths[index] for index in ascending], pae=pae, distogram=distogram):
            indices = ascending[batch.start : batch.stop]
            folded = self.fold_batch(
                [sequences[index] for index in indices],
                mean_embedding=mean_embedding,
                residue_embedding=residue_embedding,
                pae=pae,
                distogram=distogram,
            )
            predictions.update(zip(indices, folded, strict=True))
        return [predictions[index] for index in range(len(sequences))]

    def batches(
        self, lengths: Sequence[int], *, pae: bool = False, distogram: bool = False, most_bytes: int | None = None
    ) -> list[range]:
        """Divide proteins of ascending `lengths` into batches that fill the device; return ranges of indices.

        The batches are for `fold_batch` with the same flags. A batch uses the free memory, `most_bytes` at most.
        """
        device = self._network.embedding.weight.device
        free = memory.free_bytes(device)
        return cut_into_batches(
            lengths,
            config=self.config,
            recycles=self.settings.recycles,
            budget_mflop=BATCH_MFLOP.get(device.type, BATCH_MFLOP["cuda"]),
            memory_limit=free if most_bytes is None else min(free, most_bytes),
            precision=self.settings.precision,
            pair_output_bytes=OutputFlags(pae=pae, distogram_logits=distogram).pair_bytes,
            padded=padded_length(device.type),
        )

    def fold_batch(
        self,
        sequences: Sequence[str],
        *,
        mean_embedding: bool = False,
        residue_embedding: bool = False,
        pae: bool = False,
        distogram: bool = False,
    ) -> list[Prediction]:
        """Predict the structures of `sequences` in one forward pass, padded to the longest.

        Raise as `fold`, and OutOfMemory if the batch does not fit into memory.
        """
        check_batch(sequences)
        complexes = [split_chains(sequence) for sequence in sequences]
        device = self._network.embedding.weight.device
        batch = encode_complexes(complexes, device)
        outputs = OutputFlags(
            mean_embedding=mean_embedding,
            residue_embedding=residue_embedding,
            pae=pae,
            distogram_logits=distogram,
        )
        graphs = self._network.trunk.graphs
        batch = padded_to_graph(batch, graphs)
        with torch.inference_mode(), dropped_without_memory(graphs), describe_out_of_memory(sequences, device):
            output = self._network(
                batch,
                recycles=self.settings.recycles,
                outputs=outputs,
                recycle_tolerance=self.settings.recycle_tolerance,
            )
            predictions = _to_predictions(complexes, batch, output)
        del output
        if device.type == "cpu":
            host_memory.trim()  # otherwise malloc keeps up to 64 MB of freed activations
        return predictions

    def embed(
        self, sequences: Sequence[str], *, layers: Sequence[int] | None = None, per_residue: bool = False
    ) -> list[Embedding]:
        """Return hidden states of the language model: see `LanguagePredictor.embed`."""
        return self.language.embed(sequences, layers=layers, per_residue=per_residue)

    def masked_logits(self, sequences: Sequence[str]) -> list[Floats]:
        """Return token logits of each residue: see `LanguagePredictor.masked_logits`."""
        return self.language.masked_logits(sequences)

    def contacts(self, sequences: Sequence[str]) -> list[Floats]:
        """Return contact probabilities: see `LanguagePredictor.contacts`."""
        return self.language.contacts(sequences)

    def perplexity(self, sequences: Sequence[str], *, one_pass: bool = False, in_parts: bool = False) -> list[float]:
        """Return pseudo-perplexities: see `LanguagePredictor.perplexity`."""
        return self.language.perplexity(sequences, one_pass=one_pass, in_parts=in_parts)


def _to_predictions(complexes: Sequence[Sequence[str]], batch: Batch, output: ESMFoldOutput) -> list[Prediction]:
    """Copy the outputs to the host and split them by protein, without padding and linkers."""
    aatype_BL = batch.aatype_BL.cpu().numpy()
    is_residue_BL = batch.is_residue_BL.cpu().numpy()
    positions_BLA3 = output.positions_BLA3.cpu().numpy()
    plddt_BL = output.plddt_BL.cpu().numpy()
    ptm_B = output.ptm_B.cpu().numpy()
    iptm_B = _on_host(output.iptm_B)
    mean_embedding_BD = _on_host(output.mean_embedding_BD)
    residue_embedding_BLD = _on_host(output.residue_embedding_BLD)
    pae_BLL = _on_host(output.pae_BLL)
    distogram_BLLN = _on_host(output.distogram_logits_BLLN)
    predictions = []
    for row, chains in enumerate(complexes):
        residues = np.flatnonzero(is_residue_BL[row])
        pairs = (row, residues[:, np.newaxis], residues)
        prediction = Prediction(
            sequence="".join(chains),
            positions=positions_BLA3[row, residues][ATOM_EXISTS_RA[aatype_BL[row, residues]]],
            plddt=plddt_BL[row, residues],
            ptm=float(ptm_B[row]),
            mean_embedding=None if mean_embedding_BD is None else mean_embedding_BD[row].copy(),
            residue_embedding=None if residue_embedding_BLD is None else residue_embedding_BLD[row, residues],
            pae=None if pae_BLL is None else pae_BLL[pairs],
            distogram_logits=None if distogram_BLLN is None else distogram_BLLN[pairs],
            iptm=None if iptm_B is None or len(chains) == 1 else float(iptm_B[row]),
            chain_lengths=tuple(map(len, chains)) if len(chains) > 1 else None,
            passes=None if output.passes_B is None else int(output.passes_B[row]),
        )
        _check_finite(prediction, row, len(complexes))
        predictions.append(prediction)
    return predictions


def _on_host(values: Tensor | None) -> Floats | None:
    return None if values is None else values.float().cpu().numpy()


def _check_finite(prediction: Prediction, row: int, num_proteins: int) -> None:
    values: dict[str, npt.ArrayLike | None] = {
        "positions": prediction.positions,
        "plddt": prediction.plddt,
        "ptm": prediction.ptm,
        "iptm": prediction.iptm,
        "mean_embedding": prediction.mean_embedding,
        "residue_embedding": prediction.residue_embedding,
        "pae": prediction.pae,
        "distogram_logits": prediction.distogram_logits,
    }
    for name, value in values.items():
        if value is not None and not np.isfinite(value).all():
            raise NonFiniteOutput(
                f"protein {row + 1} of {num_proteins} ({len(prediction.sequence)} residues, "
                f"{prediction.sequence[:20]}...) has {name} values that are not finite: check the weights, or use "
                "--precision fp32"
            )
