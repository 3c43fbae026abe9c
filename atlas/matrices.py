"""The old name of `foldatlas.atlas.parquet.matrices`, kept for one release."""

import warnings

from foldatlas.atlas.parquet.matrices import (
    decode_pae,
    decode_residue_embeddings,
    encode_pae,
    encode_residue_embeddings,
    flat_lists,
    half_precision,
)

__all__ = [
    "decode_pae",
    "decode_residue_embeddings",
    "encode_pae",
    "encode_residue_embeddings",
    "flat_lists",
    "half_precision",
]

warnings.warn("foldatlas.atlas.matrices is now foldatlas.atlas.parquet.matrices", DeprecationWarning, stacklevel=2)
