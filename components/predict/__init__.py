"""`mura predict`: pictures of a study in, a verdict out, by a registered version.

asking.py      the command: paths in, answers out
views.py       files, directories, zips and S3: the views, and the study that each belongs to
predictor.py   a registered version as one object: views of a study -> probability and verdict
keras_network.py   its network by Keras
fetching.py    `mura fetch`: a version from the registry, as a directory
follower.py    `mura fetch --follow`: that of an alias, whichever it is at the moment
verdicts.py    what is said of each study, as a table, JSON lines or CSV
maps.py        pictures of what the network used
"""
