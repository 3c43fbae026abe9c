"""ESM-2 and ESMFold as torch modules. Their sizes are in folding/config.py.

tokens.py                       sequences to residue types and tokens
segments.py                     attention within the sequences of a pack
language_model.py               ESM-2
language_heads.py               ESM-2's masked-token head and contact head
attention.py                    attention bias of the trunk
triangle.py                     triangle multiplication and triangle attention
sequence_and_pair.py            updates between the single and the pair representation
trunk.py                        the trunk's blocks, and recycling
rigid.py                        rigid transformations
invariant_point_attention.py    invariant point attention
structure_module.py             structure module: backbone frames and torsions
residue_constants.py            ideal geometry of the residues (no torch)
atoms.py                        frames and torsions to atom positions
confidence.py                   pLDDT, predicted aligned error, pTM and ipTM
esmfold.py                      the whole network
precision.py                    which tensors have 16 bits, and why the others do not
layout.py                       modules built without initial values
linear.py                       linear layers, by the fastest exact kernel
fp8.py                          products of the language model in FP8
kernels/                        Triton kernels for a GPU, and the policy that chooses them
early_stop.py                   recycling that stops for each protein
graphs.py                       CUDA graphs of trunk passes
transfer.py                     copies between host and device for which the host does not wait
in_place.py                     arithmetic that overwrites its first operand
"""
