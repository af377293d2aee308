"""What a place without internet needs, with digests: images, Python packages, weights.

python -m infra.kit [--hardware cpu|gpu] [--engine podman|docker]

One line each, tab-separated: what it is, its name, its digest. Of an image that is not on this machine, the digest
is `-`. Of a package, every digest that the lock accepts: one for each file of it that an index may have.
"""

import argparse
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml
from packaging.requirements import Requirement

from components.network.architectures import IMAGENET_ADDRESSES
from components.params.document import read_params
from pipelines.graph import image_names

ROOT = Path(__file__).parent.parent
# md5 of ImageNet's weights, as keras.applications checks it when it has downloaded them to ~/.keras/models.
WEIGHTS = {
    "vgg16": "6d6bbae143d832006294945121d1f1fc",
    "vgg19": "253f8cb515780f3b799900260a226db6",
    "inception_v3": "bcbd6486424b2319ff4ef7d526e38f63",
}


class Piece(NamedTuple):
    """Something to bring along."""

    kind: str
    name: str
    digest: str


def main() -> None:
    """Print the list."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hardware", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--engine", default=shutil.which("podman") or shutil.which("docker"))
    flags = parser.parse_args()
    for piece in pieces(flags.hardware, flags.engine):
        print(*piece, sep="\t")


def pieces(hardware: str, engine: str | None) -> Iterator[Piece]:
    """Everything, in the order in which it is used.

    Args:
        hardware: cpu or gpu, which packages the image has.
        engine: podman or docker, asked for the digests of images; None if there is none.
    """
    ours = image_names.reference(read_params(ROOT / "params.yaml").kubeflow, hardware)
    for image in (ours, _base(), *_servers()):
        yield Piece("image", image, _image_digest(engine, image))
    for lock in ("build", hardware, "tools"):
        yield from _packages(ROOT / "requirements" / f"{lock}.txt")
    for architecture, address in IMAGENET_ADDRESSES.items():
        file = address.rpartition("/")[2]
        yield Piece("weights", file, f"md5:{WEIGHTS[architecture]}")


def _base() -> str:
    """What our image is built on."""
    (found,) = re.findall(r"^ARG BASE_IMAGE=(\S+)$", (ROOT / "infra/Containerfile").read_text(encoding="utf-8"), re.M)
    return str(found)


def _servers() -> list[str]:
    """What compose.yaml starts that is not ours; the manifests start the same."""
    services = yaml.safe_load((ROOT / "infra/compose.yaml").read_text(encoding="utf-8"))["services"]
    return sorted({each["image"] for each in services.values() if not each["image"].startswith("$")})


def _image_digest(engine: str | None, image: str) -> str:
    if engine is None:
        return "-"
    words = [engine, "image", "inspect", "--format", "{{.Id}}", image]
    told = subprocess.run(words, capture_output=True, text=True)
    return "sha256:" + told.stdout.strip().removeprefix("sha256:") if told.returncode == 0 else "-"


def _packages(lock: Path) -> Iterator[Piece]:
    """The packages of a lock file that this kind of machine installs."""
    text = lock.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in re.findall(r"^[A-Za-z0-9].*$", text, re.M):
        words, *hashes = re.split(r"\s+--hash=", line)
        requirement = Requirement(words.strip())
        if requirement.marker is None or requirement.marker.evaluate():
            yield Piece(
                "package", f"{requirement.name}{requirement.specifier}", ",".join(each.strip() for each in hashes)
            )


if __name__ == "__main__":
    main()
