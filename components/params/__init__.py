"""params.yaml as frozen types that refuse unknown keys. A module for each section.

params/
    document.py     the whole file, and a section by its name
    section.py      what all sections have in common
    train.py        the candidates: a default, and what each changes
    ensemble.py     the ensembles of them
    protocol.py     what is fixed before the test split is opened
    ingest.py validate.py shard.py evaluate.py register.py promote.py stress.py    the choices of a step
    tune.py         what `mura tune` searches
    kubeflow.py     where and with what Kubeflow runs the steps
"""

from pathlib import Path

DEFAULT = Path("params.yaml")
