"""The bill of materials of an image, CycloneDX 1.6: every Python and Debian package in it.

python -m infra.sbom ENGINE IMAGE FILE

The image is asked what is installed, rather than the lock file what should be. The same image gives the same bytes.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

# Run by the image's own Python.
_ASK_PYTHON = """
import json, platform
from importlib import metadata
def licence(about):
    named = [each.split(" :: ")[-1] for each in about.get_all("Classifier", []) if each.startswith("License :: ")]
    return about.get("License-Expression") or (named[0] if named else "")
print(json.dumps(sorted([each.name, each.version, licence(each.metadata)] for each in metadata.distributions())))
"""
# dpkg says of itself and of what it installed; a base that is not Debian's says nothing.
_ASK_DEBIAN = """
if [ -e /etc/debian_version ]; then
    . /etc/os-release
    dpkg-query --show --showformat="$VERSION_CODENAME"'\\t${Package}\\t${Version}\\t${Architecture}\\n'
fi
"""


def main(engine: str, image: str, file: Path) -> None:
    """Ask, write, and check against CycloneDX' schema."""
    python = json.loads(_inside(engine, image, "python", "-c", _ASK_PYTHON))
    debian = [line.split("\t") for line in _inside(engine, image, "sh", "-c", _ASK_DEBIAN).splitlines()]
    about = json.loads(_run(engine, "image", "inspect", image))[0]
    text = JsonV1Dot6(bill(image, about["Id"], python, debian)).output_as_string(indent=2)
    document: dict[str, Any] = json.loads(text)
    # A number drawn at random and the time of day: they would make another bill of the same image.
    del document["serialNumber"], document["metadata"]["timestamp"]
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    if refused := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"error: {file}: not CycloneDX 1.6: {refused}")
    file.write_text(text, encoding="utf-8")


def bill(image: str, image_id: str, python: list[list[str]], debian: list[list[str]]) -> Bom:
    """The bill of an image.

    Args:
        image: its reference.
        image_id: sha256 of its configuration.
        python: name, version and licence by distribution.
        debian: the release's name, package, version and architecture by package.
    """
    name, _, tag = image.rpartition(":")
    whole = Component(
        name=name,
        version=tag,
        type=ComponentType.CONTAINER,
        bom_ref="image",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=image_id.removeprefix("sha256:"))],
    )
    licences = LicenseFactory()
    parts = [
        Component(
            name=package,
            version=version,
            bom_ref=f"python/{package}",
            purl=PackageURL("pypi", name=package.lower().replace("_", "-"), version=version),
            licenses=[licences.make_from_string(licence)] if licence else [],
        )
        for package, version, licence in python
    ]
    parts += [
        Component(
            name=package,
            version=version,
            bom_ref=f"debian/{package}:{machine}",
            purl=PackageURL("deb", "debian", package, version, {"arch": machine, "distro": release}),
        )
        for release, package, version, machine in debian
    ]
    made = Bom(components=parts, metadata=BomMetaData(component=whole))
    made.register_dependency(whole, parts)
    return made


def _inside(engine: str, image: str, *words: str) -> str:
    return _run(engine, "run", "--rm", "--network=none", "--read-only", f"--entrypoint={words[0]}", image, *words[1:])


def _run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
