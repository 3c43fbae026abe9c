"""LanguagePredictor, the Python interface of a language model: embeddings, logits, contacts, pseudo-perplexity.

Sequences are encoded in ESM-2's own tokens (tokens.encode_language). Each is one chain.

Shapes: B batch, T tokens, L residues, D channels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from foldatlas.folding import perplexity
from foldatlas.folding.network.language_heads import ContactHead, LanguageHeads, MaskedHead
from foldatlas.folding.network.language_model import LanguageModel
from foldatlas.folding.network.tokens import encode_language
from foldatlas.folding.planning import cost, memory
from foldatlas.folding.planning.out_of_memory import describe_out_of_memory
from foldatlas.folding.prediction import Embedding, Floats
from foldatlas.schemas.errors import ModelError, NonFiniteOutput, SequenceError, UsageError
from foldatlas.schemas.records import STANDARD_RESIDUES


class LanguagePredictor:
    """ESM-2, with the heads for which there are weights.

    Each method runs its sequences as one batch and returns a result for each, in order, without padding. All raise
    SequenceError for an empty list or sequence, or a character other than an upper-case letter; OutOfMemory if the
    batch does not fit into memory; NonFiniteOutput if a result is not finite.
    """

    def __init__(self, model: LanguageModel, heads: LanguageHeads | None = None):
        self._model = model
        self._heads = heads or LanguageHeads()

    @property
    def has_masked_head(self) -> bool:
        """Whether the weights have a masked-token head, which `masked_logits` and `perplexity` need."""
        return self._heads.masked is not None

    @property
    def num_layers(self) -> int:
        return len(self._model.layers)

    @property
    def device(self) -> torch.device:
        return self._model.embed_tokens.weight.device

    def embed(
        self, sequences: Sequence[str], *, layers: Sequence[int] | None = None, per_residue: bool = False
    ) -> list[Embedding]:
        """Return the hidden states of `layers`: 0 is the token embedding, -1 the last layer. None means [-1].

        With `per_residue`, the states of each residue are returned beside their mean. Raise UsageError for a layer that
        the model does not have.
        """
        chosen = layer_numbers([-1] if layers is None else layers, self.num_layers)
        tokens_BT = encode_language(sequences, self.device)
        with torch.inference_mode(), describe_out_of_memory(sequences, self.device):
            states = {
                layer: _on_host(state_BTD[:, 1:-1])
                for layer, state_BTD in zip(range(max(chosen) + 1), self._model.hidden_states(tokens_BT), strict=False)
                if layer in chosen
            }
        embeddings = []
        for row, sequence in enumerate(sequences):
            residues = {layer: states[layer][row, : len(sequence)].copy() for layer in chosen}
            for layer, values in residues.items():
                _check_finite(values, f"layer {layer}", row, sequences)
            mean = {layer: values.mean(axis=0) for layer, values in residues.items()}
            embeddings.append(Embedding(sequence, mean, residues if per_residue else None))
        return embeddings

    def masked_logits(self, sequences: Sequence[str]) -> list[Floats]:
        """Return logits [L, 33] of the tokens at each residue, with nothing masked, in the order of ESM-2's vocabulary.

        Raise ModelError if the weights have no masked-token head.
        """
        head = self._masked_head()
        tokens_BT = encode_language(sequences, self.device)
        with torch.inference_mode(), describe_out_of_memory(sequences, self.device):
            *_, state_BTD = self._model.hidden_states(tokens_BT)
            logits = _on_host(head(state_BTD)[:, 1:-1])
        found = [logits[row, : len(sequence)].copy() for row, sequence in enumerate(sequences)]
        for row, values in enumerate(found):
            _check_finite(values, "logits", row, sequences)
        return found

    def contacts(self, sequences: Sequence[str]) -> list[Floats]:
        """Return the probability [L, L], 0 to 1, that the C-betas of two residues are within 8 angstrom.

        The memory of attention maps grows with the square of the length: fewer heads are processed at a time if those
        of a whole layer do not fit. Raise ModelError if the weights have no contact head.
        """
        head = self._contact_head()
        tokens_BT = encode_language(sequences, self.device)
        free, length = memory.free_bytes(self.device), max(map(len, sequences))
        heads = cost.contact_heads(self._model.config, len(sequences), length, memory_limit=free)
        with torch.inference_mode(), describe_out_of_memory(sequences, self.device):
            contacts = _on_host(head(tokens_BT, self._model.attention_maps(tokens_BT, heads)))
        found = [contacts[row, : len(sequence), : len(sequence)].copy() for row, sequence in enumerate(sequences)]
        for row, values in enumerate(found):
            _check_finite(values, "contacts", row, sequences)
        return found

    def perplexity(self, sequences: Sequence[str], *, one_pass: bool = False, in_parts: bool = False) -> list[float]:
        """Return the pseudo-perplexity, 1 or more; perplexity.py defines it and the two approximations.

        The exact value takes one pass for each residue. Raise ModelError if the weights have no masked-token head,
        SequenceError for a sequence without a standard residue, UsageError if both approximations are requested.
        """
        if one_pass and in_parts:
            raise UsageError("one_pass and in_parts are two approximations: ask for one of them")
        head = self._masked_head()
        tokens_BT = encode_language(sequences, self.device)
        measure = perplexity.one_pass if one_pass else perplexity.in_parts if in_parts else perplexity.exact
        found = []
        for row, sequence in enumerate(sequences):
            if not set(sequence) & set(STANDARD_RESIDUES):
                raise SequenceError(
                    f"protein {row + 1} of {len(sequences)} ({sequence[:20]}...) has no standard residue and so no "
                    "perplexity: remove it from the list"
                )
            tokens_T = tokens_BT[row, : len(sequence) + 2]
            with torch.inference_mode(), describe_out_of_memory([sequence], self.device):
                value = measure(self._model, head, tokens_T)
            _check_finite(np.float32(value), "perplexity", row, sequences)
            found.append(value)
        return found

    def _masked_head(self) -> MaskedHead:
        if self._heads.masked is None:
            raise ModelError(
                "the weights have no head for masked residues (lm_head.dense.weight): use an ESM-2 model such as "
                "esm2_t33_650M_UR50D"
            )
        return self._heads.masked

    def _contact_head(self) -> ContactHead:
        if self._heads.contact is None:
            raise ModelError(
                "the weights have no contact head (contact_head.regression.weight): use an ESM-2 model that has one, "
                "such as esm2_t33_650M_UR50D"
            )
        return self._heads.contact


def layer_numbers(layers: Sequence[int], num_layers: int) -> list[int]:
    """Return `layers`, of a model with `num_layers`, as numbers from 0 (the token embedding); negative ones count from
    the end. Raise UsageError for an empty list or a layer that does not exist."""
    if not layers:
        raise UsageError(f"no layer was given: give one or more of 0 to {num_layers}")
    for layer in layers:
        if not -num_layers - 1 <= layer <= num_layers:
            raise UsageError(f"layer {layer} does not exist: give 0 to {num_layers}, or -1 for the last")
    return [layer % (num_layers + 1) for layer in layers]


def _on_host(values: Tensor) -> Floats:
    array: Floats = values.float().cpu().numpy()
    return array


def _check_finite(values: Floats | np.float32, what: str, row: int, sequences: Sequence[str]) -> None:
    if not np.isfinite(values).all():
        sequence = sequences[row]
        raise NonFiniteOutput(
            f"protein {row + 1} of {len(sequences)} ({len(sequence)} residues, {sequence[:20]}...) has {what} "
            "values that are not finite: check the weights, or use --precision fp32"
        )
