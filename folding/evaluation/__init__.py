"""Models against experiment: what `foldatlas evaluate` computes, one idea a file.

measures.py             one structure against one experimental chain
baselines.py            an ideal helix, and another chain of that length: what is reached without a model
calibration.py          whether pLDDT and pTM keep their word
unigram.py              perplexity of a model that knows how frequent each residue is, and no more
choice.py               which chains
run.py                  every chain and model (torch)
summary.py              rows -> figures
plots.py                figures -> SVG (matplotlib)
report.py               figures and plots -> one HTML page
files.py                all of it -> a folder, whole or not at all
"""
