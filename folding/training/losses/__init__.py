"""The losses of the folding head, and the experimental values that they compare with.

structure_loss.py       the sum of all losses and its weights
fape.py                 frame-aligned point error
lddt_loss.py            lDDT of C-alphas, and a smooth form of it
torsion_loss.py         torsion angles
distogram_loss.py       distances between C-betas
confidence_losses.py    the pLDDT and PAE heads
violations.py           bonds, angles, clashes
geometry_bounds.py      the bounds that violations are measured against
targets.py              frames, torsions and names of the experimental atoms
side_chains.py          which atoms define torsions and groups
ambiguous_atoms.py      side chains with two names
outputs.py              what a forward pass gives to the losses
loss_math.py            means where something was observed; tables on the device
"""
