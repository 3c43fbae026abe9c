"""`foldatlas evaluate`: comparison of models with experimental structures.

measures.py             scores of one structure against one experimental chain
baselines.py            baselines without a network: an ideal helix, and a random training chain
calibration.py          calibration of pLDDT against lDDT and of pTM against TM-score
unigram.py              perplexity of a unigram model
choice.py               selection of chains
run.py                  folds and measures every chain with every model (torch)
summary.py              summary statistics of the rows
plots.py                plots as SVG (matplotlib)
report.py               one HTML page with tables and plots
files.py                writes the results to a folder, atomically
"""
