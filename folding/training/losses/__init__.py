"""The losses of the folding head, and the experimental values that they compare with.

structure_loss.py       the weighted sum of all losses
fape.py                 frame-aligned point error
lddt_loss.py            lDDT of C-alphas, and its differentiable form
torsion_loss.py         torsion angle loss
distogram_loss.py       distogram loss
confidence_losses.py    losses of the pLDDT and PAE heads
violations.py           violations of bond lengths and angles, and clashes
geometry_bounds.py      the bounds that violations are measured against
targets.py              frames, torsions and distances of an experimental structure
side_chains.py          atoms that define torsions and rigid groups
ambiguous_atoms.py      renaming of symmetric side-chain atoms
outputs.py              the network's outputs that the losses read
loss_math.py            masked means, distances, tables on the device
"""
