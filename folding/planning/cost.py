"""Operations and memory of folding, predicted from lengths. Does not import torch.

Operations are those that the network executes: 2 for each multiply-add of a matrix product, 0 for everything else.
Letters in formulas are those of the network's shapes: L residues, T tokens, C single and Z pair channels, D language
model channels, H heads, K head width, P points.
"""

from bisect import bisect_right
from typing import Final

from foldatlas.folding.config import ESMFoldConfig, LanguageModelConfig, StructureModuleConfig, TrunkConfig
from foldatlas.folding.planning.chunks import MAX_ELEMENTS
from foldatlas.schemas.errors import OutOfMemory
from foldatlas.schemas.wording import counted

_NUM_PAE_BINS = 64  # the distogram has as many
_PLDDT_OUTPUTS = 50  # bins of the C-alpha

_FLOAT_BYTES = 4
# Bytes of a number in the language model and in the trunk's blocks; a test compares them with network/precision.py.
NUMBER_BYTES: Final = {"fp32": (4, 4), "bf16": (2, 2), "fp16": (2, 4), "fp8": (2, 2)}

# Numbers of tensors that exist at the same time, counted in the code and tested against measured allocations.
_CHUNKS_ALIVE_IN_BLOCK = 6  # pair channels of the rows of a chunk: projections of triangle attention, and their sum
_CHUNKS_ALIVE_IN_RECYCLING = 4  # the same, float32
_LOGITS_ALIVE_IN_ATTENTION = 4  # of invariant point attention, for the rows of a chunk
_STATES_ALIVE_IN_LAYER = 9
_MAPS_ALIVE_IN_CONTACTS = 7  # of the heads at a time: probabilities, masked, symmetric, their product and correction
_CONTACTS_ALIVE = 3  # maps of a whole protein: sums over heads, and the mask

_LENGTHS: Final = range(1, 1_000_000)  # residues of any protein

# On a CPU the temporaries of a chunk should fit the cache, but products need some rows; a GPU is fastest with many.
_CPU_PAIRS_PER_CHUNK: Final = 2048
_CPU_ROWS_PER_CHUNK: Final = 32
# From this length on a tenth of the rows fills a GPU, and the peak is three pair representations.
_GPU_LENGTH_IN_PARTS: Final = 1024
_GPU_PARTS: Final = 10
# From this length on it costs little to compute the structure module's pairs again.
_RECOMPUTED_LENGTH: Final = 512


def mflop(config: ESMFoldConfig, length: int, recycles: int) -> int:
    """Return the millions of floating-point operations to fold one protein of `length` residues, rounded up.

    The result is an integer, so that the sum over a plan does not depend on the order.
    """
    per_pass = _trunk_pass(config.trunk, length) + _structure_pass(config, length)
    start = 2 * length * (config.language_model.width * config.trunk.single_width + config.trunk.single_width**2)
    total = _language_model(config.language_model, length) + start + (recycles + 1) * per_pass + _heads(config, length)
    return -(-total // 1_000_000)


def language_mflop(config: LanguageModelConfig, length: int) -> int:
    """Return the same for the language model alone."""
    return -(-_language_model(config, length) // 1_000_000)


def pair_output_bytes(*, pae: bool = False, logits: int = 0) -> int:
    """Return the bytes of output for each pair of residues, with PAE and with `logits` tensors of 64 bins."""
    return _FLOAT_BYTES * (pae + logits * _NUM_PAE_BINS)


def peak_bytes(
    config: ESMFoldConfig,
    num_proteins: int,
    length: int,
    *,
    precision: str = "fp32",
    rows: int | None = None,
    pair_output_bytes: int = 0,
) -> int:
    """Return the peak bytes of activations when folding a batch padded to `length`, without the weights.

    `rows` of the pair representation are processed at a time, by default all; `pair_output_bytes` are the requested
    bytes of output for each pair. The estimate is the maximum over the widest points of the network: it is at least
    what is allocated (without the allocator's padding), and less than twice that from 64 residues on.
    """
    trunk, module, model = config.trunk, config.structure_module, config.language_model
    of_language_model, of_trunk = NUMBER_BYTES[precision]
    all_pairs, chunk_pairs = num_proteins * length * length, num_proteins * length * min(rows or length, length)
    pair, structure_pair = of_trunk * trunk.pair_width, _FLOAT_BYTES * module.pair_width

    # The pair representation and one factor of triangle multiplication; the bias of an attention is smaller.
    block = all_pairs * 2 * pair + chunk_pairs * (_CHUNKS_ALIVE_IN_BLOCK * pair + 2 * of_trunk * trunk.num_single_heads)
    recycling = all_pairs * pair + chunk_pairs * _FLOAT_BYTES * _CHUNKS_ALIVE_IN_RECYCLING * trunk.pair_width
    logits = _FLOAT_BYTES * module.num_heads
    in_structure = max(_LOGITS_ALIVE_IN_ATTENTION * logits, _FLOAT_BYTES * trunk.pair_width + 2 * structure_pair)
    kept_for_structure = logits if recomputes_structure_pair(length, rows or length) else structure_pair + logits
    structure = all_pairs * (pair + kept_for_structure) + chunk_pairs * in_structure
    in_heads = max(trunk.pair_width + 3 * _NUM_PAE_BINS, 2 * trunk.pair_width + _NUM_PAE_BINS)
    heads = all_pairs * (pair + pair_output_bytes) + chunk_pairs * _FLOAT_BYTES * in_heads
    copies = all_pairs * 2 * pair_output_bytes  # on a CPU: the outputs, and their copies without padding and linkers

    layer = of_language_model * (_STATES_ALIVE_IN_LAYER * model.width + 2 * model.transition_width)
    points = 3 * module.num_heads * (2 * module.num_query_points + 2 * module.num_value_points)
    value = module.num_heads * (module.pair_width + module.head_width + 4 * module.num_value_points)
    in_trunk = _FLOAT_BYTES * max(12 * trunk.single_width, 4 * module.single_width + 2 * points + 3 * value)
    kept = _FLOAT_BYTES * (2 * model.width + 3 * trunk.single_width)  # states of the language model, and the input
    per_residue = kept + max(layer, in_trunk)
    return max(block, recycling, structure, heads, copies) + num_proteins * (length + 2) * per_residue


def recomputes_structure_pair(length: int, rows: int) -> bool:
    """Return whether the structure module's pairs are computed in each of its iterations, not kept.

    That is 2 % more operations in a trunk of 8 blocks, 0.3 % in one of 48, at the lengths where it is done.
    """
    return length >= _RECOMPUTED_LENGTH and 4 * rows <= length


def contact_bytes(config: LanguageModelConfig, num_proteins: int, length: int, heads: int) -> int:
    """Return the peak bytes of activations for contacts of a batch, with `heads` attention heads at a time.

    The accuracy is that of `peak_bytes`.
    """
    tokens = num_proteins * (length + 2)
    maps = tokens * (length + 2) * (_MAPS_ALIVE_IN_CONTACTS * heads + _CONTACTS_ALIVE)
    return _FLOAT_BYTES * (maps + tokens * (_STATES_ALIVE_IN_LAYER * config.width + 2 * config.transition_width))


def contact_heads(config: LanguageModelConfig, num_proteins: int, length: int, *, memory_limit: int) -> int:
    """Return the number of attention heads to process at a time for contacts of a batch within `memory_limit`.

    The limit, in bytes, excludes the weights. The number is that of a layer, halved until it fits. Raise OutOfMemory if
    a single head does not fit.
    """
    heads = config.num_heads
    while (needed := contact_bytes(config, num_proteins, length, heads)) > memory_limit:
        if heads == 1:
            longest = bisect_right(_LENGTHS, memory_limit, key=lambda length: contact_bytes(config, 1, length, 1))
            raise OutOfMemory(
                f"contacts of {counted(num_proteins, 'protein')} of up to {length:,} residues need "
                f"{needed / 1e9:,.2f} GB beside the weights, {memory_limit / 1e9:,.2f} GB are free, enough for one "
                f"protein of {longest:,} residues: use fewer or shorter proteins, or a device with more memory"
            )
        heads = -(-heads // 2)
    return heads


def preferred_rows(config: ESMFoldConfig, num_proteins: int, length: int, device: str) -> int:
    """Return the number of rows of the pair representation that is fastest to process at a time, for any memory.

    No tensor of a chunk has 2^31 elements or more: some kernels count elements in 32 bits.
    """
    row_pairs = num_proteins * length
    widest = max(4 * config.trunk.pair_width, config.structure_module.num_heads, _NUM_PAE_BINS)
    if device == "cpu":
        fastest = max(1, _CPU_PAIRS_PER_CHUNK // row_pairs, _CPU_ROWS_PER_CHUNK // num_proteins)
    else:
        fastest = length if length < _GPU_LENGTH_IN_PARTS else -(-length // _GPU_PARTS)
    return min(length, fastest, max(1, MAX_ELEMENTS // (row_pairs * widest)))


def choose_rows(
    config: ESMFoldConfig,
    num_proteins: int,
    length: int,
    *,
    precision: str,
    device: str,
    memory_limit: int,
    pair_output_bytes: int = 0,
) -> int:
    """Return the number of rows to process at a time so that folding a batch stays within `memory_limit`.

    The limit, in bytes, excludes the weights. The number is the fastest one on `device`, halved until it fits. Raise
    OutOfMemory if a single row does not fit.
    """
    rows = preferred_rows(config, num_proteins, length, device)

    def needed(rows: int) -> int:
        return peak_bytes(
            config, num_proteins, length, precision=precision, rows=rows, pair_output_bytes=pair_output_bytes
        )

    while needed(rows) > memory_limit:
        if rows == 1:
            limit = longest(config, precision=precision, memory_limit=memory_limit, pair_output_bytes=pair_output_bytes)
            raise OutOfMemory(_does_not_fit(num_proteins, length, needed(1), memory_limit, limit, pair_output_bytes))
        rows = -(-rows // 2)
    return rows


def longest(config: ESMFoldConfig, *, precision: str, memory_limit: int, pair_output_bytes: int = 0) -> int:
    """Return the length of the longest protein that folds alone, one row at a time, within `memory_limit`, or 0."""

    def fits_alone(length: int) -> bool:
        needed = peak_bytes(config, 1, length, precision=precision, rows=1, pair_output_bytes=pair_output_bytes)
        return needed <= memory_limit

    fits, too_long = 0, 1
    while fits_alone(too_long):
        fits, too_long = too_long, 2 * too_long
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if fits_alone(middle):
            fits = middle
        else:
            too_long = middle
    return fits


def _does_not_fit(
    num_proteins: int, length: int, needed: int, memory_limit: int, limit: int, pair_output_bytes: int
) -> str:
    what, advice = f"a protein of {length:,} residues", f"pass --max-length {limit}"
    if num_proteins > 1:
        what, advice = f"a batch of {num_proteins} proteins of {length:,} residues", "fold fewer at once"
    if pair_output_bytes:
        what += f" with {pair_output_bytes:,} bytes of output for each pair of residues"
        advice += ", request fewer outputs"
    return (
        f"{what} needs {needed / 1e9:,.2f} GB beside the weights, {memory_limit / 1e9:,.2f} GB are free, enough for "
        f"one protein of {limit:,} residues: {advice}, or use a device with more memory"
    )


def _language_model(config: LanguageModelConfig, length: int) -> int:
    T, D = length + 2, config.width
    projections = 2 * T * (4 * D * D + 2 * D * config.transition_width)
    attention = 4 * T * T * D
    return config.num_layers * (projections + attention)


def _trunk_pass(trunk: TrunkConfig, length: int) -> int:
    L, C, Z = length, trunk.single_width, trunk.pair_width
    triangle_multiplication = 2 * (2 * L**3 * Z + 6 * 2 * L**2 * Z * Z)
    triangle_attention = 2 * (4 * L**3 * Z + 2 * L**2 * (5 * Z * Z + Z * trunk.num_pair_heads))
    pair_transition = 2 * L**2 * 8 * Z * Z
    sequence_to_pair = 2 * L**2 * Z * Z // 2 + 2 * L * (C * Z + Z * Z)
    pair_to_sequence = 2 * L**2 * Z * trunk.num_single_heads
    sequence_attention = 4 * L**2 * C + 2 * L * 5 * C * C
    single_transition = 2 * L * 8 * C * C
    return trunk.num_blocks * (
        triangle_multiplication
        + triangle_attention
        + pair_transition
        + sequence_to_pair
        + pair_to_sequence
        + sequence_attention
        + single_transition
    )


def _structure_pass(config: ESMFoldConfig, length: int) -> int:
    module: StructureModuleConfig = config.structure_module
    L, C, Z, H, K = length, module.single_width, module.pair_width, module.num_heads, module.head_width
    query_points, value_points = module.num_query_points, module.num_value_points
    once = 2 * L**2 * (config.trunk.pair_width * Z + Z * H) + 2 * L * (config.trunk.single_width * C + C * C)
    projections = 2 * L * C * H * (3 * K + 3 * (2 * query_points + value_points))
    attention = 2 * L**2 * H * (2 * K + 3 * value_points + Z)
    output = 2 * L * H * (Z + K + 4 * value_points) * C
    transition = 2 * L * (3 * module.num_transition_layers * C * C + 6 * C)
    return once + module.num_iterations * (projections + attention + output + transition)


def _heads(config: ESMFoldConfig, length: int) -> int:
    """Operations of the heads and side chains, which run once."""
    module = config.structure_module
    L, C, width, torsion = length, module.single_width, config.plddt_width, module.torsion_width
    pae = 2 * L**2 * (config.trunk.pair_width * _NUM_PAE_BINS + _NUM_PAE_BINS)
    plddt = 2 * L * (C * width + width * width + width * _PLDDT_OUTPUTS)
    torsions = 2 * L * (2 * C * torsion + 2 * module.num_torsion_blocks * torsion * torsion + torsion * 14)
    return pae + plddt + torsions
