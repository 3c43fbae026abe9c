"""What a protein becomes: the language model ESM-2 and the folding network ESMFold.

For callers:
    models.py                       the models people can name: settings, sizes, loading
    predictor.py                    Predictor: sequences in, predictions out
    language_predictor.py           the language model alone: embeddings, contacts, perplexity
    prediction.py                   what a prediction is (no torch)
    atom_layouts.py                 its atoms as atom14 and atom37 (no torch)
    cost.py                         operations and memory, predicted from lengths (no torch)
    batching.py                     cutting a sorted list into batches (no torch)
    shape.py                        radius of gyration, helices and strands (no torch)

Predictions against experiment:
    experimental.py                 experimental chains, read from Parquet (no torch)
    compare.py                      superposition, RMSD, TM-score, GDT (no torch)
    lddt.py                         lDDT, all-atom and of C-alphas (no torch)
    contact_precision.py            how many predicted contacts are contacts (no torch)
    evaluation/                     `foldatlas evaluate`: scores, baselines, calibration, the report

The network, inside out:
    precision.py                    which numbers have 16 bits, and why the others do not
    memory.py                       free memory of a device, from which the rows at work are chosen
    host_memory.py                  that of this machine, its container or batch job (no torch)
    chunks.py                       cutting an axis
    linear.py                       linear layers through the fastest exact kernel
    config.py                       sizes; reading transformers' configuration
    tokens.py                       sequences as numbers
    multimer.py                     several chains as one
    language_model.py               ESM-2
    segments.py                     sequences end to end, each attending to itself
    language_heads.py               its heads for masked residues and contacts
    perplexity.py                   pseudo-perplexity, exact, in parts and in one pass
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
    out_of_memory.py                what to say when a batch does not fit

Its weights:
    places.py                       names and paths -> files (no torch)
    hub.py                          the hub's cache; fetching (no torch)
    names.py                        published names of tensors -> ours
    foreign.py                      other models and Git LFS pointers, named as what they are (no torch)
    pickles.py                      files of torch.save, read without running code
    checkpoints.py                  files -> sizes and mapped tensors
    weights.py                      strict fitting, digests, our own files
    nano.py                         the embedded model
    whole_files.py                  files that appear whole or not at all (no torch)

Its training: training/
"""
