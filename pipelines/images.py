"""Which image runs the steps: named by what is in it."""

import hashlib
import re
from pathlib import Path

from components import provenance
from components.errors import UsageError
from components.params.kubeflow import KubeflowParams

_DIGITS = 16


def tag(hardware: str) -> str:
    """The tag of the image made of this code and these packages: `cpu-<digest>`.

    A change of documentation or tests makes no new image, and so no new results: Kubeflow's cache compares the
    references of images, not what is in them.

    Args:
        hardware: cpu or gpu, the lock file that is installed.

    Raises:
        UsageError: this is not a checkout.
    """
    digest = hashlib.sha256()
    for path in _contents(hardware):
        digest.update(path.relative_to(provenance.ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{hardware}-{digest.hexdigest()[:_DIGITS]}"


def reference(profile: KubeflowParams, hardware: str) -> str:
    """The image of a profile; one that has a tag or a digest of its own is taken as it is."""
    if "@" in profile.image or re.search(r":[^/]+$", profile.image):
        return profile.image
    return f"{profile.image}:{tag(hardware)}"


def _contents(hardware: str) -> list[Path]:
    lock = provenance.ROOT / "requirements" / f"{hardware}.txt"
    if not lock.is_file():
        raise UsageError(f"{lock}: no such file. Run in a checkout, or give `kubeflow.image` a tag.")
    sources = (path for path in (provenance.ROOT / "components").rglob("*") if "__pycache__" not in path.parts)
    recipe = provenance.ROOT / "infra" / "Containerfile"
    return sorted([*(path for path in sources if path.is_file()), lock, *([recipe] if recipe.is_file() else [])])
