"""Results of a batch as a few arrays, and back.

Arrays of a batch hold its proteins one after the other, in the order of the request. Sequences, from which their sizes
follow, are not repeated. Shapes: N proteins of the batch, R residues and A atoms of all of them, D channels.

    coordinates         int16 or int32 [A, 3], of a structure; other fields of QuantisedPrediction likewise:
    plddt, ptm          uint16 [R], float64 [N]
    mean_embedding      float32 [N, D]
    residue_embedding   float16 [R, D]
    pae                 uint8 [sum of L x L]
    passes              int32 [N]

    mean.LAYER          float32 [N, D], of an embedding, for each layer
    residues.LAYER      float32 [R, D]
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from foldatlas.folding.prediction import Embedding, QuantisedPrediction
from foldatlas.schemas.records import num_atoms

Array = npt.NDArray[Any]
Result = QuantisedPrediction | Embedding

_MEAN: Final = "mean."
_RESIDUES: Final = "residues."


def pack(results: Sequence[Result]) -> dict[str, Array]:
    """Return the arrays of results of one kind."""
    structures = [result for result in results if isinstance(result, QuantisedPrediction)]
    if structures:
        return _pack_structures(structures)
    return _pack_embeddings([result for result in results if isinstance(result, Embedding)])


def unpack(sequences: Sequence[str], arrays: Mapping[str, Array]) -> list[Result]:
    """Return the result of each of `sequences` from the arrays of `pack`, of which they are views.

    Raise ValueError or KeyError if the arrays do not have the sizes of these sequences.
    """
    lengths = [len(sequence) for sequence in sequences]
    if "coordinates" not in arrays:
        return list(_unpack_embeddings(sequences, lengths, arrays))
    # copies, or a few coordinates would keep the aligned errors of their whole batch in memory
    coordinates = _split(arrays["coordinates"].copy(), [num_atoms(sequence) for sequence in sequences])
    plddt = _split(arrays["plddt"].copy(), lengths)
    ptm = _rows(arrays["ptm"], len(sequences))
    means = _rows(arrays["mean_embedding"].copy(), len(sequences)) if "mean_embedding" in arrays else None
    residues = _split(arrays["residue_embedding"], lengths) if "residue_embedding" in arrays else None
    errors = _split(arrays["pae"], [length * length for length in lengths]) if "pae" in arrays else None
    passes = _rows(arrays["passes"], len(sequences)).tolist() if "passes" in arrays else [None] * len(sequences)
    return [
        QuantisedPrediction(
            sequence,
            coordinates[row],
            plddt[row],
            float(ptm[row]),
            None if means is None else means[row],
            None if residues is None else residues[row],
            None if errors is None else errors[row].reshape(lengths[row], lengths[row]),
            passes[row],
        )
        for row, sequence in enumerate(sequences)
    ]


def _pack_structures(structures: Sequence[QuantisedPrediction]) -> dict[str, Array]:
    arrays: dict[str, Array] = {
        "coordinates": np.concatenate([structure.coordinates for structure in structures]),  # int32 if any one is
        "plddt": np.concatenate([structure.plddt for structure in structures]),
        "ptm": np.array([structure.ptm for structure in structures], np.float64),
    }
    if structures[0].passes is not None:
        arrays["passes"] = np.array([structure.passes for structure in structures], np.int32)
    optional: dict[str, list[Array | None]] = {
        "mean_embedding": [structure.mean_embedding for structure in structures],
        "residue_embedding": [structure.residue_embedding for structure in structures],
        "pae": [None if structure.pae is None else structure.pae.reshape(-1) for structure in structures],
    }
    for name, values in optional.items():
        present = [value for value in values if value is not None]
        if present:
            arrays[name] = np.stack(present) if name == "mean_embedding" else np.concatenate(present)
    return arrays


def _pack_embeddings(embeddings: Sequence[Embedding]) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for layer in embeddings[0].mean:
        arrays[f"{_MEAN}{layer}"] = np.stack([embedding.mean[layer] for embedding in embeddings])
        states = [embedding.residues[layer] for embedding in embeddings if embedding.residues is not None]
        if states:
            arrays[f"{_RESIDUES}{layer}"] = np.concatenate(states)
    return arrays


def _unpack_embeddings(
    sequences: Sequence[str], lengths: Sequence[int], arrays: Mapping[str, Array]
) -> list[Embedding]:
    layers = [int(name.removeprefix(_MEAN)) for name in arrays if name.startswith(_MEAN)]
    means = {layer: _rows(arrays[f"{_MEAN}{layer}"], len(sequences)) for layer in layers}
    residues = {
        layer: _split(arrays[f"{_RESIDUES}{layer}"], lengths) for layer in layers if f"{_RESIDUES}{layer}" in arrays
    }
    return [
        Embedding(
            sequence,
            {layer: rows[row] for layer, rows in means.items()},
            {layer: parts[row] for layer, parts in residues.items()} or None,
        )
        for row, sequence in enumerate(sequences)
    ]


def _rows(values: Array, count: int) -> Array:
    """Return `values`. Raise ValueError if they have not `count` rows."""
    if len(values) != count:
        raise ValueError(f"{len(values)} values for {count} proteins")
    return values


def _split(values: Array, sizes: Sequence[int]) -> list[Array]:
    """Return consecutive parts of `values`. Raise ValueError if they do not add up to its length."""
    ends = np.cumsum(sizes)
    return np.split(_rows(values, int(ends[-1])), ends[:-1])
