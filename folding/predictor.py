"""Folding sequences: what callers use of the network.

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
from foldatlas.folding.network.language_heads import LanguageHeads
from foldatlas.folding.network.residue_constants import ATOM_EXISTS_RA
from foldatlas.folding.network.tokens import Batch, check_batch
from foldatlas.folding.planning import host_memory, memory
from foldatlas.folding.planning.batching import BATCH_MFLOP, cut_into_batches
from foldatlas.folding.planning.out_of_memory import describe_out_of_memory
from foldatlas.folding.prediction import Embedding, Floats, Prediction
from foldatlas.schemas.errors import NonFiniteOutput
from foldatlas.schemas.records import Settings


class Predictor:
    """A network ready to fold. `settings` say what decides its structures; `language` is its language model alone."""

    def __init__(self, network: ESMFold, settings: Settings, heads: LanguageHeads | None = None):
        self.settings = settings
        self.config = network.config
        self._network = network
        self._heads = heads

    @property
    def language(self) -> LanguagePredictor:
        """The language model without the folding trunk, with those heads that the weights have."""
        return LanguagePredictor(self._network.esm, self._heads)

    def fold(
        self,
        sequences: Sequence[str],
        *,
        mean_embedding: bool = False,
        residue_embedding: bool = False,
        pae: bool = False,
        distogram: bool = False,
    ) -> list[Prediction]:
        """Fold `sequences`, in batches that fill the device; predictions come in the same order.

        `A:B` are two chains, folded together (multimer.py says how). The outputs that must be asked for are described
        in prediction.py. A protein's prediction does not depend on what it is batched with, beyond float32 rounding
        (about 1e-4 angstrom).

        Raises SequenceError, before any work, for a string in place of a list, an empty list, sequence or chain, what
        is no string in the list, or a character that is no upper-case letter; OutOfMemory when a protein does not fit;
        NonFiniteOutput when the network's output for any protein is not finite.
        """
        check_batch(sequences)
        lengths = [sum(map(len, chains)) + len(LINKER) * (len(chains) - 1) for chains in map(split_chains, sequences)]
        ascending = sorted(range(len(sequences)), key=lengths.__getitem__)
        predictions: dict[int, Prediction] = {}
        for batch in self.batches([lengths[place] for place in ascending], pae=pae, distogram=distogram):
            places = ascending[batch.start : batch.stop]
            folded = self.fold_batch(
                [sequences[place] for place in places],
                mean_embedding=mean_embedding,
                residue_embedding=residue_embedding,
                pae=pae,
                distogram=distogram,
            )
            predictions.update(zip(places, folded, strict=True))
        return [predictions[place] for place in range(len(sequences))]

    def batches(
        self, lengths: Sequence[int], *, pae: bool = False, distogram: bool = False, most_bytes: int | None = None
    ) -> list[range]:
        """Cut proteins of `lengths` residues, ascending, into batches that fill the device, for `fold_batch` with these
        outputs; each is a range of indices. `most_bytes` of memory a batch takes at most, where less is not free."""
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
        """The same in one pass of the network, all padded to the longest; OutOfMemory when they do not fit together."""
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
        with torch.inference_mode(), describe_out_of_memory(sequences, device):
            folded = self._network(batch, recycles=self.settings.recycles, outputs=outputs)
            predictions = _to_predictions(complexes, batch, folded)
        del folded
        if device.type == "cpu":
            host_memory.trim()  # else up to 64 MB of freed activations stay at the top of the heap
        return predictions

    def embed(
        self, sequences: Sequence[str], *, layers: Sequence[int] | None = None, per_residue: bool = False
    ) -> list[Embedding]:
        """Hidden states of the language model: `LanguagePredictor.embed`."""
        return self.language.embed(sequences, layers=layers, per_residue=per_residue)

    def masked_logits(self, sequences: Sequence[str]) -> list[Floats]:
        """Logits of each residue's token: `LanguagePredictor.masked_logits`."""
        return self.language.masked_logits(sequences)

    def contacts(self, sequences: Sequence[str]) -> list[Floats]:
        """Contact probabilities from attention: `LanguagePredictor.contacts`."""
        return self.language.contacts(sequences)

    def perplexity(self, sequences: Sequence[str], *, one_pass: bool = False, in_parts: bool = False) -> list[float]:
        """Pseudo-perplexity: `LanguagePredictor.perplexity`."""
        return self.language.perplexity(sequences, one_pass=one_pass, in_parts=in_parts)


def _to_predictions(complexes: Sequence[Sequence[str]], batch: Batch, folded: ESMFoldOutput) -> list[Prediction]:
    """Cut a batch into proteins without padding and linkers, on the host."""
    aatype_BL = batch.aatype_BL.cpu().numpy()
    is_residue_BL = batch.is_residue_BL.cpu().numpy()
    positions_BLA3 = folded.positions_BLA3.cpu().numpy()
    plddt_BL = folded.plddt_BL.cpu().numpy()
    ptm_B = folded.ptm_B.cpu().numpy()
    iptm_B = _on_host(folded.iptm_B)
    mean_embedding_BD = _on_host(folded.mean_embedding_BD)
    residue_embedding_BLD = _on_host(folded.residue_embedding_BLD)
    pae_BLL = _on_host(folded.pae_BLL)
    distogram_BLLN = _on_host(folded.distogram_logits_BLLN)
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
                f"{prediction.sequence[:20]}...) has {name} that are not finite: the weights or the precision "
                "cannot fold it"
            )
