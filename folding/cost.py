"""What folding costs, predicted from lengths alone: operations and memory. No torch, so that planning stays light.

Operations are counted as the network executes them: 2 for each multiply-add of a matrix product, nothing for the
rest. Letters in formulas follow the network's shapes: L residues, T tokens, C single and Z pair channels, D language
model channels, H heads, K head width, P points.
"""

from foldatlas.folding.config import ESMFoldConfig, LanguageModelConfig, StructureModuleConfig, TrunkConfig

_FLOAT_BYTES = 4
_NUM_PAE_BINS = 64
_PLDDT_OUTPUTS = 50  # bins of the C-alpha

# Tensors that live at the same time, counted in the code of each part and checked against an allocator in tests:
# pair representations in triangle multiplication, its caller and theirs; logits of invariant point attention; states
# in a layer of the language model.
_PAIRS_ALIVE_IN_BLOCK = 10
_LOGITS_ALIVE_IN_ATTENTION = 6
_STATES_ALIVE_IN_LAYER = 9


def mflop(config: ESMFoldConfig, length: int, recycles: int) -> int:
    """Millions of floating-point operations to fold one protein of `length` residues, rounded up.

    An integer, so that sums over a plan are the same in any order.
    """
    per_pass = _trunk_pass(config.trunk, length) + _structure_pass(config, length)
    total = _language_model(config, length) + (recycles + 1) * per_pass + _heads(config, length)
    return -(-total // 1_000_000)


def peak_bytes(config: ESMFoldConfig, num_proteins: int, length: int) -> int:
    """Bytes of activations at the peak of folding a batch padded to `length`; weights come on top.

    An estimate from what is alive at once in the widest places: it is at least what is allocated (without padding
    an allocator adds), and less than twice that from 64 residues on.
    """
    trunk, module, model = config.trunk, config.structure_module, config.language_model
    block = _PAIRS_ALIVE_IN_BLOCK * trunk.pair_width + trunk.num_single_heads + trunk.num_pair_heads
    structure = trunk.pair_width + 3 * module.pair_width + _LOGITS_ALIVE_IN_ATTENTION * module.num_heads
    heads = trunk.pair_width + 3 * _NUM_PAE_BINS
    a_pair = max(block, structure, heads)
    language_model = _STATES_ALIVE_IN_LAYER * model.width + 2 * model.transition_width
    points = 3 * module.num_heads * (2 * module.num_query_points + 2 * module.num_value_points)
    value = module.num_heads * (module.pair_width + module.head_width + 4 * module.num_value_points)
    a_residue = max(language_model, 12 * trunk.single_width, 4 * module.single_width + 2 * points + 2 * value)
    return _FLOAT_BYTES * num_proteins * (length * length * a_pair + (length + 2) * a_residue)


def _language_model(config: ESMFoldConfig, length: int) -> int:
    model: LanguageModelConfig = config.language_model
    T, D, C = length + 2, model.width, config.trunk.single_width
    projections = 2 * T * (4 * D * D + 2 * D * model.transition_width)
    attention = 4 * T * T * D
    return model.num_layers * (projections + attention) + 2 * length * (D * C + C * C)


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
