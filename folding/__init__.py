"""What a protein becomes: the language model ESM-2 and the folding network ESMFold.

models.py               the models people can name: settings, sizes, loading
predictor.py            Predictor: sequences in, predictions out
language_predictor.py   the language model alone: embeddings, contacts, perplexity
prediction.py           what a prediction is (no torch)
config.py               sizes of networks; reading transformers' configuration (no torch)
perplexity.py           pseudo-perplexity, exact, in parts and in one pass
multimer.py             several chains as one

network/                the network, inside out
planning/               memory and operations, predicted from lengths; batches
weights/                names and files -> tensors that fit the network
compare/                structures compared, and experimental chains (no torch)
training/               how the networks are trained
evaluation/             `foldatlas evaluate`: scores, baselines, calibration, the report

Old names, for one release:
    experimental.py     compare/experimental.py
    lddt.py             compare/lddt.py
    atom_layouts.py     compare/atom_layouts.py
"""
