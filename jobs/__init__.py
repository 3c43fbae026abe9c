"""The `foldatlas` command: one module for each command. They wire other packages together and hold no logic.

cli.py          the command line: parser, errors, exit codes
arguments.py    argument types and messages that the parsers share
progress.py     progress bars
plan.py         FASTA -> a plan
fold.py         plan, fold, index: the main job
import_.py      structures that exist already -> an atlas
embed.py        embeddings without folding
choices.py      files, model and engine of `plan` and `fold`, resolved once
weights.py      download of published weights
index.py        the SQL index
status.py       progress of an atlas
report.py       a page about an atlas
query.py        SQL queries
serve.py        the HTTP server
export.py       subsets as files
verify.py       checks of a whole atlas
diff.py         differences between two atlases
merge.py        several atlases into one
novelty.py      searches of an atlas against references
annotate.py     tables joined to an atlas
cluster.py      families by sequence and by structure
project.py      a map of the proteins in two dimensions
reference.py    reference databases of known structures and sequences
evaluate.py     comparison of models with experiment
train.py        the training recipes
train_lm.py     a language model
train_fold.py   a folding head

Each command is also a function of the same name that Python can import. deploy/ holds images, Slurm scripts and
Kubernetes files.
"""
