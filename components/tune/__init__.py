"""`mura tune`: a search for better parameters of a candidate. It is no step: it changes params.yaml at most.

command.py          from params.yaml and shards to a better params.yaml
searching.py        the study in a database, and the workers that share it
fold_training.py    one trial: the training of `mura train`, on each fold
folds.py            folds of the training split, by patient
params_patch.py     the best values, written into the text of params.yaml
trial_table.py      what is told at the end

Only the training split is read. Whoever searched on the tuning split would choose what looks good there, and the tuning
split could no longer say which candidate is the best.
"""
