"""The network, inside out. Sizes are in folding/config.py.

tokens.py                       sequences as numbers
segments.py                     sequences end to end, each attending to itself
language_model.py               ESM-2
language_heads.py               its heads for masked residues and contacts
attention.py                    what the attentions of the trunk share
triangle.py                     triangle multiplication and attention
trunk.py                        the block, recycling
rigid.py                        rotations and translations
invariant_point_attention.py    attention among frames
structure_module.py             frames of residues
residue_constants.py            ideal geometry (no torch)
atoms.py                        torsions to atoms
confidence.py                   pLDDT, predicted aligned error, pTM
esmfold.py                      the whole
precision.py                    which numbers have 16 bits, and why the others do not
layout.py                       a network's shapes without its values
linear.py                       linear layers through the fastest exact kernel
in_place.py                     arithmetic that overwrites its first operand
"""
