"""What a protein becomes: the language model ESM-2 and the folding network ESMFold.

For callers:
    models.py                       the models people can name: settings, sizes, loading
    predictor.py                    Predictor.fold: sequences in, predictions out
    prediction.py                   what a prediction is (no torch)
    cost.py                         operations and memory, predicted from lengths (no torch)
    batching.py                     cutting a sorted list into batches (no torch)
    shape.py                        radius of gyration, helices and strands (no torch)

The network, inside out:
    precision.py                    which numbers have 16 bits, and why the others do not
    memory.py                       free memory of a device, from which the rows at work are chosen
    chunks.py                       cutting an axis
    linear.py                       linear layers through the fastest exact kernel
    config.py                       sizes; reading transformers' configuration
    tokens.py                       sequences as numbers
    language_model.py               ESM-2
    attention.py                    what the attentions of the trunk share
    triangle.py                     triangle multiplication and attention
    trunk.py                        the block, recycling
    rigid.py                        rotations and translations
    invariant_point_attention.py    attention among frames
    structure_module.py             frames of residues
    residue_constants.py            ideal geometry
    atoms.py                        torsions to atoms
    confidence.py                   pLDDT, predicted aligned error, pTM
    esmfold.py                      the whole

Its weights:
    weights.py                      strict loading, digests, safetensors
    nano.py                         the embedded model
"""
