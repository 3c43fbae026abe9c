"""Structure prediction: the language model ESM-2 and the folding network ESMFold.

models.py               models by name: settings, sizes, loading
predictor.py            Predictor: folds sequences
stages.py               folding of batches in stages that overlap
language_predictor.py   LanguagePredictor: embeddings, contacts, perplexity
prediction.py           the results, Prediction and Embedding (no torch)
config.py               sizes of networks, and published configurations (no torch)
perplexity.py           pseudo-perplexity: exact, in parts, in one pass
multimer.py             encoding of complexes of several chains

network/                the networks as torch modules
planning/               memory and operations predicted from lengths; batches
weights/                finding, reading and writing of weights
compare/                comparison of structures; experimental chains (no torch)
training/               training of the networks
evaluation/             `foldatlas evaluate`: scores, baselines, calibration, the report

Old names, for one release:
    experimental.py     compare/experimental.py
    lddt.py             compare/lddt.py
    atom_layouts.py     compare/atom_layouts.py
"""
