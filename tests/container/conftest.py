"""The image that `make image` made of this checkout."""

import os
import shutil
import subprocess

import pytest
from containers import ROOT, Image

from components.params.document import read_params
from pipelines.graph import image_names


@pytest.fixture(scope="session")
def image() -> Image:
    """The CPU image of this very code."""
    return _image("cpu")


@pytest.fixture(scope="session")
def server_image() -> Image:
    """The image of the server of this very code."""
    return _image("serve")


def _image(hardware: str) -> Image:
    engine = os.environ.get("ENGINE") or shutil.which("podman")
    assert engine, "podman is not here: apt-get install podman"
    profile = read_params(ROOT / "params.yaml").kubeflow
    found = Image(engine, image_names.reference(profile, hardware))
    there = subprocess.run([engine, "image", "inspect", found.reference], capture_output=True)
    assert there.returncode == 0, f"{found.reference} is not here: make image HARDWARE={hardware}"
    return found
