"""A version that somebody changed in the artifact store or in the registry is refused, and nothing foreign runs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from miniature import pack
from registered import Registered
from tampering import TAMPERINGS, Tampering, files_of, tampered

from components.artifacts.manifest import ValidManifest
from components.base.errors import ExitCode
from components.tracking import model_registry

ROOT = Path(__file__).parents[2]
Mura = Callable[..., tuple[int, str, str]]


@pytest.fixture
def place(registered: Registered, tmp_path: Path, no_mlflow: pytest.MonkeyPatch) -> Path:
    """The champion in a registry of its own; its files are those of `registered`."""
    shutil.copy(registered.folder / "mlflow.db", tmp_path / "mlflow.db")
    no_mlflow.chdir(tmp_path)
    no_mlflow.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    cv2.imwrite("view.png", np.zeros((40, 60), np.uint8))
    return tmp_path


@pytest.mark.long
def test_a_whole_version_is_verified_link_by_link(place: Path, registered: Registered, run_mura: Mura) -> None:
    code, out, err = run_mura(
        "verify", "models:/mura@champion", "--json", "--archive", str(registered.folder / "archive.zip")
    )
    assert code == ExitCode.DONE, err
    said = json.loads(out)
    assert (said["verified"], said["broken"]) == (True, None)
    states = {each["link"]: each["state"] for each in said["links"]}
    assert list(states) == [
        "archive", "manifest", "shards", "model", "evaluation", "run", "weights", "version", "signature", "record",
    ]  # fmt: skip
    assert {states[name] for name in ("archive", "run", "weights", "version", "signature")} == {"ok"}
    assert {states[name] for name in ("manifest", "shards", "model", "evaluation")} == {"not looked at"}
    # Any bytes have an md5: no table of contents is read, which has a limit.
    Path("cut.zip").write_bytes((registered.folder / "archive.zip").read_bytes()[:-1])
    code, out, _ = run_mura("verify", "models:/mura@champion", "--archive", "cut.zip")
    assert (code, "cut.zip: expected md5 " in out) == (ExitCode.DATA, True)
    assert run_mura("predict", "view.png")[0] == ExitCode.DONE
    version = model_registry.version("mura", 1)
    assert version is not None
    assert model_registry.replay(version) is None


@pytest.mark.long
@pytest.mark.parametrize("tampering", TAMPERINGS.values(), ids=TAMPERINGS)
def test_what_was_changed_is_refused_and_runs_nothing(
    tampering: Tampering, place: Path, registered: Registered, run_mura: Mura
) -> None:
    version = model_registry.version("mura", 1)
    assert version is not None
    canary = place / "canary"
    with tampered(files_of("mura", 1), tampering, canary):
        code, out, err = run_mura("verify", "models:/mura/1")
        assert code == ExitCode.DATA
        assert err.startswith("error: mura version 1: the first broken link is signature: ")
        assert tampering.says in err
        assert f"{'broken':13}  signature " in out
        code, _, err = run_mura("predict", "view.png")
        assert code == ExitCode.DATA
        assert tampering.says in err
        assert tampering.says in str(model_registry.fault(version))
    assert not canary.exists()
    assert model_registry.fault(version) is None


@pytest.mark.long
@pytest.mark.parametrize("tag", ["candidate", "test_auroc", "evaluation_digest", "test_digest"])
def test_a_changed_tag_is_refused(tag: str, place: Path, registered: Registered, run_mura: Mura) -> None:
    from mlflow import MlflowClient

    MlflowClient().set_model_version_tag("mura", "1", tag, "other")
    code, _, err = run_mura("verify", "models:/mura/1")
    assert code == ExitCode.DATA
    assert "the first broken link is version: expected" in err
    assert "its tag of that name says other" in err
    assert run_mura("predict", "view.png")[0] == ExitCode.DATA


@pytest.mark.long
def test_links_that_lie_here_are_looked_at(place: Path, registered: Registered, run_mura: Mura) -> None:
    artifacts = place / "artifacts"
    for name, there in (("valid_manifest", "valid"), ("shards", "shards")):
        shutil.copytree(registered.folder / there, artifacts / name)
    for name in ("model", "evaluation"):
        shutil.copytree(registered.made / name, artifacts / name / "small")
    params = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"archive": str(registered.folder / "archive.zip")}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    here = ("archive", "manifest", "shards", "model", "evaluation")
    words = ("verify", "models:/mura/1", "--artifacts", str(artifacts), "--json")
    for said in (words, ("verify", "models:/mura/1", "--json")):
        code, out, err = run_mura(*said)
        assert code == ExitCode.DONE, err
        states = {each["link"]: each["state"] for each in json.loads(out)["links"]}
        assert {states[name] for name in here} == {"ok"}
    weights = artifacts / "model" / "small" / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:-1])
    code, out, err = run_mura(*words)
    assert (code, json.loads(out)["broken"]) == (ExitCode.DATA, "model")
    assert "model.weights.h5" in err
    assert not err.endswith("..\n")
    assert run_mura("verify", "models:/mura/1")[0] == ExitCode.DATA


@pytest.mark.long
def test_what_lies_here_of_another_version_is_no_broken_link_unless_it_was_named(
    place: Path, registered: Registered, run_mura: Mura
) -> None:
    valid = ValidManifest.read(registered.folder / "valid")
    (place / "artifacts").mkdir()
    pack(registered.folder / "archive.zip", valid, place / "artifacts" / "shards", image_size=40)
    Path("other.zip").write_bytes(b"another archive")
    params = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"archive": "other.zip"}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    code, out, err = run_mura("verify", "models:/mura/1", "--json")
    assert code == ExitCode.DONE, err
    words = {each["link"]: (each["state"], each["words"]) for each in json.loads(out)["links"]}
    for link in ("archive", "shards"):
        assert words[link][0] == "not looked at"
        assert "is of another version" in words[link][1]
    assert run_mura("verify", "models:/mura/1", "--archive", "other.zip")[0] == ExitCode.DATA
    assert run_mura("verify", "models:/mura/1", "--artifacts", "artifacts")[0] == ExitCode.DATA
