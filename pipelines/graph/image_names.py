"""The image that runs the steps, named by its content."""

import hashlib
import json
import re
import sys
import tomllib
from pathlib import Path

from components.base import code, provenance
from components.base.errors import UsageError
from components.params.kubeflow import KubeflowParams

_DIGITS = 16
# Files that make an image besides the code and the lock of its packages.
RECIPE = ("infra/Containerfile", "infra/install.sh", "requirements/build.txt", "pyproject.toml")


def tag(hardware: str) -> str:
    """The tag of the image made of this code and these packages: `cpu-<digest>`.

    A change of documentation or tests gives the same tag. Kubeflow's cache compares the references of images, not their
    content.

    Args:
        hardware: cpu or gpu, the lock file that is installed.

    Raises:
        UsageError: this is not a checkout.
    """
    digest = hashlib.sha256()
    for path in _contents(hardware):
        digest.update(path.relative_to(code.ROOT).as_posix().encode() + b"\0" + _read(path) + b"\0")
    return f"{hardware}-{digest.hexdigest()[:_DIGITS]}"


def revision(hardware: str) -> str:
    """The commit that last changed a file of the image; `+dirty` if a file differs from it.

    The latest commit may have changed only a document. With it, the image would change.

    Args:
        hardware: cpu or gpu.
    """
    paths = [str(path) for path in _contents(hardware)]
    commit = provenance.git("log", "-1", "--format=%H", "--", *paths)
    if not commit:
        return provenance.code_revision()
    return commit if provenance.git("status", "--porcelain", "--", *paths) == "" else commit + "+dirty"


def reference(profile: KubeflowParams, hardware: str) -> str:
    """The image of a profile. An image with a tag or a digest is taken as it is."""
    if "@" in profile.image or re.search(r":[^/]+$", profile.image):
        return profile.image
    return f"{profile.image}:{tag(hardware)}"


def _contents(hardware: str) -> list[Path]:
    lock = code.ROOT / "requirements" / f"{hardware}.txt"
    if not lock.is_file():
        raise UsageError(f"{lock}: no such file. Run in a checkout, or give `kubeflow.image` a tag.")
    sources = (path for path in (code.ROOT / "components").rglob("*") if "__pycache__" not in path.parts)
    recipe = [code.ROOT / name for name in RECIPE]
    return sorted([*(path for path in sources if path.is_file()), lock, *recipe])


def _read(path: Path) -> bytes:
    """The content of a file; of pyproject.toml only what goes into an image, not the settings of lint and tests."""
    if path.name != "pyproject.toml":
        return path.read_bytes()
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    return json.dumps([document["build-system"], document["project"]]).encode()


if __name__ == "__main__":
    # For infra/image.sh.
    print(tag(sys.argv[1]), revision(sys.argv[1]))
