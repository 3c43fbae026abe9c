"""What people run: the `foldatlas` command, one module a command. No logic of its own.

cli.py          the command line: parser, errors, exit codes
arguments.py    what the parsers share
plan.py         FASTA -> a plan
fold.py         plan, fold, index: the main job
embed.py        embeddings alone
weights.py      released weights
index.py        the SQL index
status.py       what is done and what is left
query.py        SQL
export.py       subsets as files
verify.py       whether an atlas is whole
merge.py        several atlases into one
novelty.py      searches of an atlas against references
reference.py    reference databases of known structures and sequences
evaluate.py     models against experiment
train.py        the training recipes
train_lm.py     a language model
train_fold.py   a folding head

Every command is a function of the same name that Python can import and call. deploy/ holds images, Slurm scripts and
Kubernetes files.
"""
