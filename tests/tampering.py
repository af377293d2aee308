"""What somebody who can write to the registry or the artifact store may do to a version."""

import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlparse

import numpy as np
import pytest

from components.signing import directory, keys


def files_of(name: str, number: int, server_files: Path | None = None) -> Path:
    """The directory of a version in the artifact store.

    Args:
        name: of the registered model.
        number: of the version.
        server_files: where the server of the tests keeps its files, if it keeps the artifacts.
    """
    from components import tracking

    client = tracking.connect()
    version = client.get_model_version(name, str(number))
    location = client.get_logged_model(version.model_id or version.source.removeprefix("models:/")).artifact_location
    if location.startswith("mlflow-artifacts:"):
        assert server_files is not None, "a server keeps it"
        return server_files / "artifacts" / urlparse(location).path.lstrip("/")
    return Path(location.removeprefix("file://"))


def flip(file: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


CODE = "import pathlib\npathlib.Path({canary!r}).touch()\n"
"""Foreign code: it leaves a file where it ran."""


class Tampering(NamedTuple):
    """A change of a version's directory."""

    change: Callable[[Path, Path], None]
    """Takes the directory, and the file that foreign code would write."""
    says: str
    """What the refusal says."""


def _add_code(folder: Path, canary: Path) -> None:
    (folder / "code").mkdir()
    (folder / "code" / "components.py").write_text(CODE.format(canary=str(canary)))


def _name_loader(folder: Path, canary: Path) -> None:
    """A loader of one's own, as a changed MLmodel can name one."""
    _add_code(folder, canary)
    (folder / "code" / "foreign.py").write_text(CODE.format(canary=str(canary)))
    text = (folder / "MLmodel").read_text()
    (folder / "MLmodel").write_text(text.replace("components.predict.pyfunc", "foreign") + "code: code\n")


def _add_lambda(folder: Path, canary: Path) -> None:
    """A layer of Keras that is Python code, in the file of the network."""
    function = {"class_name": "__lambda__", "config": {"code": CODE.format(canary=str(canary))}}
    layer = {"class_name": "Lambda", "config": {"name": "foreign", "function": function}}
    file = folder / "data" / "model.keras"
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    config.setdefault("config", {}).setdefault("layers", []).append(layer)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


class _Foreign:
    """Runs code when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (CODE.format(canary=str(self.canary)),)


def _add_pickle(folder: Path, canary: Path) -> None:
    np.savez(folder / "data" / "model.npz", weights=np.array([_Foreign(canary)], dtype=object))


def _sign_again(folder: Path, _: Path) -> None:
    """Another pair of scores, signed by somebody who is not trusted here."""
    pem = keys.drawn()
    file = folder / "evidence" / "version.json"
    file.write_text(file.read_text().replace("0.", "0.9", 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(keys.SIGNING_KEY, pem.decode())
        patch.setenv(keys.TRUSTED_KEYS, keys.public_of(pem, "").pem.decode())
        directory.sign(folder)


def _older(folder: Path, _: Path) -> None:
    """A directory that the trusted key signed for another version."""
    file = folder / "evidence" / "version.json"
    said = json.loads(file.read_text())
    file.write_text(json.dumps(said | {"logged_model": "m-" + "0" * 32}))
    directory.sign(folder)


def _of_another_name(folder: Path, _: Path) -> None:
    file = folder / "evidence" / "version.json"
    said = json.loads(file.read_text())
    said["registered"]["model"] = "other"
    file.write_text(json.dumps(said))
    directory.sign(folder)


def _flipped(name: str) -> Tampering:
    return Tampering(lambda folder, _: flip(folder / name), f"{name} was changed")


TAMPERINGS = {
    "a byte of the weights": _flipped("data/model.keras"),
    "a byte of the ONNX file": _flipped("data/network.onnx"),
    "a byte of MLmodel": _flipped("MLmodel"),
    "a byte of the card": _flipped("data/predictor.json"),
    "a byte of the golden set": _flipped("evidence/golden/answers.json"),
    "a byte of a golden picture": _flipped("evidence/golden/wrist-upright.png"),
    "a byte of the predictions": _flipped("evidence/studies.parquet"),
    "a byte of the evidence": _flipped("evidence/version.json"),
    "a byte of the evaluation's card": _flipped("evidence/evaluation/card.json"),
    "a missing file": Tampering(
        lambda folder, _: (folder / "evidence" / "training.json").unlink(), "evidence/training.json is missing"
    ),
    "no signature": Tampering(lambda folder, _: (folder / "model.sig").unlink(), "it is not signed"),
    "a folder with code": Tampering(_add_code, "code/components.py was added"),
    "a foreign loader": Tampering(_name_loader, "MLmodel was changed"),
    "a Lambda layer": Tampering(_add_lambda, "data/model.keras was changed"),
    "a pickle": Tampering(_add_pickle, "data/model.npz was added"),
    "another key": Tampering(_sign_again, "which is not trusted here"),
    "an older directory": Tampering(_older, "it is the directory of another version"),
    "another model's directory": Tampering(_of_another_name, "it was signed as a version of other, not of mura"),
}


@contextmanager
def tampered(folder: Path, tampering: Tampering, canary: Path) -> Iterator[None]:
    """A directory is changed so, and is as before afterwards."""
    kept = canary.with_name(f"{canary.name}.kept")
    shutil.copytree(folder, kept)
    try:
        tampering.change(folder, canary)
        yield
    finally:
        shutil.rmtree(folder)
        shutil.move(kept, folder)
