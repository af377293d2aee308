"""A Slurm that belongs to the test."""

from collections.abc import Iterator
from pathlib import Path

import one_node
import pytest


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[one_node.Slurm]:
    """One node, two processors."""
    missing = one_node.missing()
    assert not missing, f"not here: {', '.join(missing)}. On Debian: apt-get install slurm-wlm munge"
    folder: Path = tmp_path_factory.mktemp("slurm")
    with one_node.running(folder) as slurm:
        yield slurm
