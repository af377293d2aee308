"""The list of what a place without internet needs."""

import importlib.util
import re
from pathlib import Path

import pytest

from infra import kit

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pieces() -> list[kit.Piece]:
    return list(kit.pieces("cpu", engine=None))


def test_every_package_of_the_image_is_listed_with_every_digest_that_is_accepted(pieces: list[kit.Piece]) -> None:
    lock = (ROOT / "requirements/cpu.txt").read_text()
    listed = {piece.name: piece.digest for piece in pieces if piece.kind == "package"}
    for name, marker, hashes in re.findall(r"^(\S+==\S+)( ;.*)? \\\n((?:    --hash=.*\n)+)", lock, re.M):
        if not marker:
            assert set(listed[name].split(",")) == set(re.findall(r"--hash=(\S+)", hashes))
    assert any(name.startswith("tensorflow-cpu==") for name in listed)
    assert not any(name.startswith("pywin32==") for name in listed)


def test_keras_checks_the_weights_by_the_same_digests(pieces: list[kit.Piece]) -> None:
    spec = importlib.util.find_spec("keras")
    assert spec
    assert spec.origin
    applications = Path(spec.origin).parent / "src/applications"
    weights = [piece for piece in pieces if piece.kind == "weights"]
    assert len(weights) == 3
    for piece in weights:
        source = (applications / f"{piece.name.partition('_weights')[0]}.py").read_text()
        assert piece.name in source
        assert piece.digest.removeprefix("md5:") in source


def test_images_are_named_by_what_is_in_them_and_may_be_elsewhere(pieces: list[kit.Piece]) -> None:
    images = [piece for piece in pieces if piece.kind == "image"]
    assert re.fullmatch(r"localhost/mura:cpu-[0-9a-f]{16}", images[0].name)
    assert {piece.digest for piece in images} == {"-"}
    assert {piece.name.partition(":")[0] for piece in images[1:]} == {
        "docker.io/library/python",
        "docker.io/chrislusf/seaweedfs",
        "docker.io/library/postgres",
    }
