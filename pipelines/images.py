"""Which image runs the steps: named by what is in it."""

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
# What makes an image besides the code and the lock of its packages.
_RECIPE = ("infra/Containerfile", "infra/install.sh", "requirements/build.txt", "pyproject.toml")


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
        digest.update(path.relative_to(code.ROOT).as_posix().encode() + b"\0" + _read(path) + b"\0")
    return f"{hardware}-{digest.hexdigest()[:_DIGITS]}"


def revision(hardware: str) -> str:
    """The commit that last changed what is in the image, which its numbers carry; `+dirty` when files differ from it.

    Not the latest commit, which may have changed a document: the image would be another for it.

    Args:
        hardware: cpu or gpu.
    """
    paths = [str(path) for path in _contents(hardware)]
    commit = provenance.git("log", "-1", "--format=%H", "--", *paths)
    if not commit:
        return provenance.code_revision()
    return commit if provenance.git("status", "--porcelain", "--", *paths) == "" else commit + "+dirty"


def reference(profile: KubeflowParams, hardware: str) -> str:
    """The image of a profile; one that has a tag or a digest of its own is taken as it is."""
    if "@" in profile.image or re.search(r":[^/]+$", profile.image):
        return profile.image
    return f"{profile.image}:{tag(hardware)}"


def _contents(hardware: str) -> list[Path]:
    lock = code.ROOT / "requirements" / f"{hardware}.txt"
    if not lock.is_file():
        raise UsageError(f"{lock}: no such file. Run in a checkout, or give `kubeflow.image` a tag.")
    sources = (path for path in (code.ROOT / "components").rglob("*") if "__pycache__" not in path.parts)
    recipe = [code.ROOT / name for name in _RECIPE]
    return sorted([*(path for path in sources if path.is_file()), lock, *recipe])


def _read(path: Path) -> bytes:
    """A file; of pyproject.toml only what an image has of it, and not how the project is linted and tested."""
    if path.name != "pyproject.toml":
        return path.read_bytes()
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    return json.dumps([document["build-system"], document["project"]]).encode()


if __name__ == "__main__":
    # For infra/image.sh.
    print(tag(sys.argv[1]), revision(sys.argv[1]))
