"""What folding costs, predicted from lengths alone: operations and memory. No torch, so that planning stays light.

Operations are counted as the network executes them: 2 for each multiply-add of a matrix product, nothing for the
rest. Letters in formulas follow the network's shapes: L residues, T tokens, C single and Z pair channels, D language
model channels, H heads, K head width, P points.
"""

from bisect import bisect_right
from typing import Final

from foldatlas.folding.config import ESMFoldConfig, LanguageModelConfig, StructureModuleConfig, TrunkConfig
from foldatlas.folding.planning.chunks import MAX_ELEMENTS
from foldatlas.schemas.errors import OutOfMemory
from foldatlas.schemas.wording import counted

_NUM_PAE_BINS = 64  # as many as the distogram has
_PLDDT_OUTPUTS = 50  # bins of the C-alpha

_FLOAT_BYTES = 4
# Bytes of a number in the language model and in the trunk's blocks, as precision.py has it (a test holds them equal).
NUMBER_BYTES: Final = {"fp32": (4, 4), "bf16": (2, 2), "fp16": (2, 4)}

# Tensors that live at the same time, counted in the code of each part and checked against an allocator in tests.
_CHUNKS_ALIVE_IN_BLOCK = 6  # pair channels of the rows at work: projections of triangle attention, and their sum
_CHUNKS_ALIVE_IN_RECYCLING = 4  # the same, float32
_LOGITS_ALIVE_IN_ATTENTION = 4  # of invariant point attention, in the rows at work
_STATES_ALIVE_IN_LAYER = 9
_MAPS_ALIVE_IN_CONTACTS = 7  # of the heads at work: probabilities, masked, symmetric, their product and its correction
_CONTACTS_ALIVE = 3  # maps of a whole protein: sums over heads, and the mask

_LENGTHS: Final = range(1, 1_000_000)  # of any protein, residues

# On a CPU the temporaries of a chunk should stay in cache, and its products want some rows; a GPU is fastest with
# everything at once.
_CPU_PAIRS_A_CHUNK: Final = 2048
_CPU_ROWS_A_CHUNK: Final = 32


def mflop(config: ESMFoldConfig, length: int, recycles: int) -> int:
    """Millions of floating-point operations to fold one protein of `length` residues, rounded up.

    An integer, so that sums over a plan are the same in any order.
    """
    per_pass = _trunk_pass(config.trunk, length) + _structure_pass(config, length)
    start = 2 * length * (config.language_model.width * config.trunk.single_width + config.trunk.single_width**2)
    total = _language_model(config.language_model, length) + start + (recycles + 1) * per_pass + _heads(config, length)
    return -(-total // 1_000_000)


def language_mflop(config: LanguageModelConfig, length: int) -> int:
    """The same of the language model alone."""
    return -(-_language_model(config, length) // 1_000_000)


def pair_output_bytes(*, pae: bool = False, logits: int = 0) -> int:
    """Bytes of outputs for each pair of residues: aligned errors, and how many tensors of logits."""
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
    """Bytes of activations at the peak of folding a batch padded to `length`; weights come on top.

    `rows` of the pair representation are worked on at a time, by default all; `pair_output_bytes` says what is wanted
    of every pair. An estimate from what is alive at once in the widest places: it is at least what is allocated
    (without padding an allocator adds), and less than twice that from 64 residues on.
    """
    trunk, module, model = config.trunk, config.structure_module, config.language_model
    of_language_model, of_trunk = NUMBER_BYTES[precision]
    whole, a_row = num_proteins * length * length, num_proteins * length * min(rows or length, length)
    pair, structure_pair = of_trunk * trunk.pair_width, _FLOAT_BYTES * module.pair_width

    # The pair representation and one factor of triangle multiplication, or the bias of an attention, which is less.
    block = whole * 2 * pair + a_row * (_CHUNKS_ALIVE_IN_BLOCK * pair + 2 * of_trunk * trunk.num_single_heads)
    recycling = whole * pair + a_row * _FLOAT_BYTES * _CHUNKS_ALIVE_IN_RECYCLING * trunk.pair_width
    logits = _FLOAT_BYTES * module.num_heads
    in_structure = max(_LOGITS_ALIVE_IN_ATTENTION * logits, _FLOAT_BYTES * trunk.pair_width + 2 * structure_pair)
    structure = whole * (pair + structure_pair + logits) + a_row * in_structure
    in_heads = max(trunk.pair_width + 3 * _NUM_PAE_BINS, 2 * trunk.pair_width + _NUM_PAE_BINS)
    heads = whole * (pair + pair_output_bytes) + a_row * _FLOAT_BYTES * in_heads
    copies = whole * 2 * pair_output_bytes  # without padding and linkers, beside what is copied, on a CPU

    layer = of_language_model * (_STATES_ALIVE_IN_LAYER * model.width + 2 * model.transition_width)
    points = 3 * module.num_heads * (2 * module.num_query_points + 2 * module.num_value_points)
    value = module.num_heads * (module.pair_width + module.head_width + 4 * module.num_value_points)
    in_trunk = _FLOAT_BYTES * max(12 * trunk.single_width, 4 * module.single_width + 2 * points + 3 * value)
    kept = _FLOAT_BYTES * (2 * model.width + 3 * trunk.single_width)  # what the language model left, and its embedding
    a_residue = kept + max(layer, in_trunk)
    return max(block, recycling, structure, heads, copies) + num_proteins * (length + 2) * a_residue


def contact_bytes(config: LanguageModelConfig, num_proteins: int, length: int, heads: int) -> int:
    """Bytes of activations at the peak of contacts of a batch, where `heads` attention heads are worked on at a time;
    as enough and as little wasted as peak_bytes."""
    tokens = num_proteins * (length + 2)
    maps = tokens * (length + 2) * (_MAPS_ALIVE_IN_CONTACTS * heads + _CONTACTS_ALIVE)
    return _FLOAT_BYTES * (maps + tokens * (_STATES_ALIVE_IN_LAYER * config.width + 2 * config.transition_width))


def contact_heads(config: LanguageModelConfig, num_proteins: int, length: int, *, memory_limit: int) -> int:
    """Attention heads to work on at a time so that contacts of a batch stay within `memory_limit` (bytes, weights
    apart): all of a layer's, halved until they fit. Raises OutOfMemory when not even one does."""
    heads = config.num_heads
    while (needed := contact_bytes(config, num_proteins, length, heads)) > memory_limit:
        if heads == 1:
            longest = bisect_right(_LENGTHS, memory_limit, key=lambda length: contact_bytes(config, 1, length, 1))
            raise OutOfMemory(
                f"contacts of {counted(num_proteins, 'protein')} of up to {length:,} residues need "
                f"{needed / 1e9:,.2f} GB beside the weights, {memory_limit / 1e9:,.2f} GB are free, enough for one "
                f"protein of {longest:,} residues: take fewer or shorter ones, or use a device with more memory"
            )
        heads = -(-heads // 2)
    return heads


def preferred_rows(config: ESMFoldConfig, num_proteins: int, length: int, device: str) -> int:
    """Rows of the pair representation to work on at a time where memory does not matter.

    No tensor of a chunk has 2^31 elements, whatever the length: some kernels count elements in 32 bits.
    """
    a_row = num_proteins * length
    widest = max(4 * config.trunk.pair_width, config.structure_module.num_heads, _NUM_PAE_BINS)
    fastest = max(1, _CPU_PAIRS_A_CHUNK // a_row, _CPU_ROWS_A_CHUNK // num_proteins) if device == "cpu" else length
    return min(length, fastest, max(1, MAX_ELEMENTS // (a_row * widest)))


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
    """Rows to work on at a time so that folding a batch stays within `memory_limit` (bytes, weights apart).

    Halves the rows that are fastest on `device` until they fit. Raises OutOfMemory when not even one row does.
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
    """Residues of the longest protein that folds alone, a row at a time, within `memory_limit`; 0 if none does."""

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
        what += f" with {pair_output_bytes:,} bytes of output for each pair of them"
        advice += ", ask for fewer outputs"
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
    """The heads and side chains, computed once."""
    module = config.structure_module
    L, C, width, torsion = length, module.single_width, config.plddt_width, module.torsion_width
    pae = 2 * L**2 * (config.trunk.pair_width * _NUM_PAE_BINS + _NUM_PAE_BINS)
    plddt = 2 * L * (C * width + width * width + width * _PLDDT_OUTPUTS)
    torsions = 2 * L * (2 * C * torsion + 2 * module.num_torsion_blocks * torsion * torsion + torsion * 14)
    return pae + plddt + torsions
