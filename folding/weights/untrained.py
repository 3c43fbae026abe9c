"""Generated weights of an untrained network.

They are a baseline of `foldatlas evaluate`, and used in tests. The values of a tensor are a function of its name.
Random bits come from numpy's PCG64, whose stream is fixed, and become weights by operations that IEEE 754 rounds
exactly (no logarithm, sine or power). So all platforms generate the same bits; DIGEST is that of a network of nano's
sizes.
"""

import hashlib
import math
from typing import Final

import numpy as np
import numpy.typing as npt

DIGEST: Final = "e9177756eb89d5514cc2d6788e1a96b3daf1a2ca6435b5ae6ea5305bddc7bb00"

_SEED: Final = "FoldAtlas nano 1"
_ROTARY_BASE: Final = 10_000.0
_DOUBLE_BITS: Final = 53

# Scale of a tensor's weights relative to that which preserves the variance of the input; 1 if not listed. That of the
# backbone update is small, so that frames stay within some tens of angstrom; those of the heads are large, so that
# untrained scores differ between residues and proteins.
_GAIN: Final = {
    "trunk.structure_module.bb_update.linear.weight": 0.5,
    "lddt_head.3.weight": 4.0,
    "ptm_head.weight": 4.0,
}


def generate(shapes: dict[str, tuple[int, ...]]) -> dict[str, npt.NDArray[np.float32]]:
    """Return float32 weights of these shapes by name: LayerNorm scales near 1, biases near 0, others by fan-in."""
    return {name: _tensor(name, shape) for name, shape in shapes.items()}


def _tensor(name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    if name.endswith("inv_freq"):
        return _rotary_frequencies(shape[0])
    uniform = _uniform(name, shape)
    if len(shape) == 1:
        is_layer_norm_scale = name.endswith("weight")  # the only weights with one axis
        centre = 1.0 if is_layer_norm_scale else 0.0
        return (centre + 0.1 * uniform).astype(np.float32)
    # A uniform number in [-1, 1] has variance 1/3. Rows of embeddings are added to other values: they have variance 1.
    fan_in = 1 if "embed" in name or "recycle_disto" in name else shape[1]
    return (uniform * (_GAIN.get(name, 1.0) * math.sqrt(3.0 / fan_in))).astype(np.float32)


def _uniform(name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return doubles in [-1, 1) from the top 53 of each 64 random bits, seeded by `name`."""
    seed = int.from_bytes(hashlib.sha256(f"{_SEED} {name}".encode()).digest()[:16], "little")
    bits = np.random.PCG64(seed).random_raw(math.prod(shape)) >> np.uint64(64 - _DOUBLE_BITS)
    return (bits.astype(np.float64) / 2.0 ** (_DOUBLE_BITS - 1) - 1.0).reshape(shape)


def _rotary_frequencies(number: int) -> npt.NDArray[np.float32]:
    """Return `_ROTARY_BASE` to the powers 0, -1/number, -2/number ...; `number` is a power of two.

    Square roots and divisions are used because they are exactly rounded; `pow` is not.
    """
    root = _ROTARY_BASE
    for _ in range(number.bit_length() - 1):
        root = math.sqrt(root)
    frequencies = np.ones(number)
    for index in range(1, number):
        frequencies[index] = frequencies[index - 1] / root
    return frequencies.astype(np.float32)
