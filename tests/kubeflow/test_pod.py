"""A step in a pod: it finds its inputs, and the places of its outputs, in what Kubeflow tells it."""

import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.meta import Meta
from dvc_data.hashfile.tree import Tree
from miniature import archive, prove, use_cores, write_directory, write_zip

from components.artifacts.evaluation import Evaluation
from components.artifacts.manifest import Manifest
from components.artifacts.registration import Registration
from components.artifacts.trained_model import TrainedModel
from components.base.errors import OutsideFailed
from components.cli.main import run
from components.kubeflow.executor import ExecutorInput, brought
from components.params.document import read_params

HEADER = "study,old,new,source,reason\n"


def told(folder: Path, output: str, artifacts: dict[str, Path], **parameters: Any) -> list[str]:
    """The flag, with what Kubeflow's driver writes for it: numbers may be floats."""

    def listed(name: str, path: Path) -> dict[str, Any]:
        return {"artifacts": [{"name": name, "type": {"schemaTitle": "x"}, "uri": str(path)}]}

    document = {
        "inputs": {
            "artifacts": {name: listed(name, path) for name, path in artifacts.items()},
            "parameterValues": parameters,
        },
        "outputs": {
            "artifacts": {output: listed(output, folder / output)},
            "outputFile": str(folder / "output_metadata.json"),
        },
    }
    return ["--executor-input", json.dumps(document)]


INGEST = {"params": {"tuning_fraction": 0.25, "body_parts": "all"}, "seed": 1.0, "overlay": HEADER}


def ingest(folder: Path, zip_file: Path | str, **parameters: Any) -> Manifest:
    words = told(folder, "manifest", {}, **{**INGEST, "archive": str(zip_file), **parameters})
    assert run(["ingest", *words]) == 0
    return Manifest.read(folder / "manifest")


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive as DVC's remote has it: named by its content."""
    use_cores(1, monkeypatch)
    made = write_zip(tmp_path / "MURA-v1.1.zip", archive())
    return made.rename(place_of(tmp_path, made.read_bytes()))


def place_of(folder: Path, content: bytes) -> Path:
    """Where DVC's remote in a folder has a file of this content."""
    md5 = hashlib.md5(content).hexdigest()
    (folder / "files/md5" / md5[:2]).mkdir(parents=True, exist_ok=True)
    return folder / "files/md5" / md5[:2] / md5[2:]


def md5_of(stored: Path) -> str:
    """The md5 that the address names."""
    return stored.parent.name + stored.name


def test_a_step_reads_everything_from_what_kubeflow_tells_it(tmp_path: Path, stored: Path) -> None:
    made = ingest(tmp_path / "pod", stored, archive_name="MURA-v1.1.zip")
    document = json.loads((tmp_path / "pod/output_metadata.json").read_text())
    assert document["parameterValues"] == {"digest": made.digest[:32]}
    assert document["artifacts"]["manifest"]["artifacts"][0]["metadata"] == {}
    # The flags say the same.
    words = ["--archive", str(stored), "--seed", "1", "--params", json.dumps(INGEST["params"])]
    assert run(["ingest", *words, "--out", str(tmp_path / "here")]) == 0
    assert Manifest.read(tmp_path / "here").digest == made.digest


def test_the_archive_has_its_own_name_and_not_that_of_its_object(tmp_path: Path, stored: Path) -> None:
    assert ingest(tmp_path / "named", stored, archive_name="MURA-v1.1.zip").facts.archive == "MURA-v1.1.zip"
    # Without one, what DVC knows it by.
    for number, name in enumerate(({}, {"archive_name": ""})):
        named = ingest(tmp_path / str(number), stored, **name).facts.archive
        assert named == f"md5 {md5_of(stored)}"


def other_in_the_place_of(stored: Path) -> str:
    """Put another zip under the same address; its md5."""
    files = archive()
    write_zip(stored, files | {"MURA-v1.1/notes.txt": b"one more"})
    return hashlib.md5(stored.read_bytes()).hexdigest()


@pytest.mark.parametrize("place", ["disk", "S3"])
def test_another_archive_under_the_address_of_one_is_refused(
    tmp_path: Path, stored: Path, bucket: Path, place: str, capfd: pytest.CaptureFixture[str]
) -> None:
    expected, address = md5_of(stored), str(stored)
    if place == "S3":
        stored = stored.rename(place_of(bucket, stored.read_bytes()))
        address = f"s3://bucket/files/md5/{expected[:2]}/{expected[2:]}"
    assert ingest(tmp_path / "right", address).facts.archive_md5 == expected
    found = other_in_the_place_of(stored)
    capfd.readouterr()
    assert run(["ingest", *told(tmp_path / "pod", "manifest", {}, **INGEST, archive=address)]) == 3
    (line,) = capfd.readouterr().err.splitlines()[-1:]
    assert f"{address}: expected the archive of md5 {expected}, found md5 {found}." in line
    assert not (tmp_path / "pod/manifest").exists()


def test_parts_of_an_archive_are_merged_with_no_other_one(
    tmp_path: Path, stored: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The table of contents of the other one is the same."""
    assert run(["ingest", *told(tmp_path, "manifest_part", {}, **INGEST, archive=str(stored), part="1/1")]) == 0
    with zipfile.ZipFile(stored, "a") as other:
        other.comment = b"packed again"
    parts = {"part_1": tmp_path / "manifest_part"}
    assert run(["merge", *told(tmp_path / "pod", "manifest", parts, archive=str(stored))]) == 3
    assert f"expected the archive of md5 {md5_of(stored)}, found md5 " in capfd.readouterr().err
    assert not (tmp_path / "pod/manifest").exists()


ARCHIVE_DIGESTS: dict[str, tuple[str, int]] = {
    "its md5": ("{md5}", 0),
    "another md5": ("0" * 32, 3),
    "a name": ("spring 2026", 0),
    "nothing": ("", 0),
}


@pytest.mark.parametrize(("digest", "code"), ARCHIVE_DIGESTS.values(), ids=ARCHIVE_DIGESTS)
def test_the_digest_that_a_run_was_given_is_compared(
    tmp_path: Path, stored: Path, digest: str, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """At an address that says nothing."""
    known = md5_of(stored)
    plain = stored.rename(tmp_path / "MURA-v1.1.zip")
    words = told(tmp_path, "manifest", {}, **INGEST, archive=str(plain), archive_digest=digest.format(md5=known))
    assert run(["ingest", *words]) == code
    if code:
        assert f"expected the archive of md5 {digest}, found md5 {known}" in capfd.readouterr().err


@pytest.mark.parametrize("step", ["validate", "shard"])
def test_a_manifest_of_another_archive_than_the_run_was_given_is_refused(
    tmp_path: Path, stored: Path, step: str, capfd: pytest.CaptureFixture[str]
) -> None:
    made = ingest(tmp_path / "pod", stored)
    inputs, params = {"manifest": made.path}, read_params(Path("params.yaml")).validate_.model_dump(mode="json")
    if step == "shard":
        inputs, params = {"manifest": prove(made, tmp_path / "valid").path}, {"image_size": 32, "images_per_shard": 10}
    plain = stored.rename(tmp_path / "MURA-v1.1.zip")
    output = "valid_manifest" if step == "validate" else "shards"
    words = told(tmp_path / step, output, inputs, params=params, archive=str(plain), archive_digest="0" * 32)
    capfd.readouterr()
    assert run([step, *words]) == 3
    assert f"expected the archive of md5 {'0' * 32}, found md5 {made.facts.archive_md5}" in capfd.readouterr().err


@pytest.mark.long
@pytest.mark.parametrize("place", ["disk", "S3"])
def test_a_directory_is_compared_with_the_md5_of_its_list(
    tmp_path: Path, bucket: Path, place: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    use_cores(1, monkeypatch)
    files = archive()
    folder = write_directory((bucket if place == "S3" else tmp_path) / "tree", files)
    address = "s3://bucket/tree/" if place == "S3" else str(folder)
    listed = Tree()
    for name, content in files.items():
        listed.add(tuple(name.split("/")), Meta(), HashInfo("md5", hashlib.md5(content).hexdigest()))
    listed.digest()
    digest = str(listed.hash_info.value)
    assert digest.endswith(".dir")
    assert ingest(tmp_path / "right", folder, archive=address, archive_digest=digest).facts.archive_md5 is None
    (folder / "MURA-v1.1/notes.txt").write_bytes(b"one more")
    capfd.readouterr()
    words = told(tmp_path / "pod", "manifest", {}, **INGEST, archive=address, archive_digest=digest)
    assert run(["ingest", *words]) == 3
    assert re.search(rf"expected the archive of md5 {digest}, found md5 [0-9a-f]{{32}}\.dir", capfd.readouterr().err)


def test_a_flag_wins_and_what_nobody_says_is_named(
    tmp_path: Path, stored: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = told(tmp_path, "manifest", {}, **INGEST, archive="/nowhere.zip")
    assert run(["ingest", *words, "--archive", str(stored), "--out", str(tmp_path / "elsewhere")]) == 0
    assert (tmp_path / "elsewhere/card.json").is_file()
    capfd.readouterr()
    assert run(["ingest", *told(tmp_path, "manifest", {}, **INGEST)]) == 2
    assert capfd.readouterr().err.startswith("error: --executor-input: it has no archive, and --archive is not given.")
    assert run(["ingest", "--archive", str(stored)]) == 2
    assert "Missing option '--out'" in capfd.readouterr().err


def test_an_overlay_on_s3_is_read_and_its_name_says_what_is_in_it(
    tmp_path: Path, stored: Path, bucket: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    digest = hashlib.sha256(HEADER.encode()).hexdigest()
    (bucket / f"{digest}.csv").write_text(HEADER)
    made = ingest(tmp_path / "pod", stored, overlay=f"s3://bucket/{digest}.csv")
    assert made.digest == ingest(tmp_path / "text", stored).digest
    wrong = {f"{'0' * 64}.csv": (2, "no such overlay on S3"), "overlay.csv": (2, "named by its content")}
    (bucket / f"{'1' * 64}.csv").write_text(HEADER)
    wrong[f"{'1' * 64}.csv"] = (3, "its content has another sha256 than its name says")
    for name, (code, why) in wrong.items():
        capfd.readouterr()
        words = told(tmp_path, "manifest", {}, **{**INGEST, "archive": str(stored), "overlay": f"s3://bucket/{name}"})
        assert run(["ingest", *words]) == code
        (line,) = capfd.readouterr().err.splitlines()
        assert why in line


@pytest.fixture
def receipt(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
) -> Callable[..., int]:
    """Runs `register` in a pod, with two evaluations that bring their models; as an experiment, without MLflow.

    It is told the digests that are given: `receipt(wide="...")`.
    """
    monkeypatch.setenv("DVC_EXP_NAME", "trial")
    places, inputs = {}, {}
    for number, name in enumerate(("wide", "narrow"), 1):
        model = make_model(candidate=name)
        evaluation = make_evaluation(model)
        shutil.copytree(model.path, brought(evaluation.path, "model"))
        inputs[name] = f"evaluation_{number}"
        places[inputs[name]] = evaluation.path.rename(tmp_path / name)
    # Kubeflow hands them over in an order of its own.
    places = dict(reversed(places.items()))

    def register(**digests: str) -> int:
        known = {f"{inputs[name]}_digest": digest for name, digest in digests.items()}
        return run(["register", *told(tmp_path / "pod", "registration", places, params={"model": "mura"}, **known)])

    return register


def test_register_takes_the_evaluations_that_the_run_made_and_no_others(
    tmp_path: Path, receipt: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    made = {name: Evaluation.read(tmp_path / name).digest[:32] for name in ("wide", "narrow")}
    assert receipt(**made) == 0
    capfd.readouterr()
    for name in made:
        assert receipt(**made | {name: "f" * 32}) == 3
        (line,) = capfd.readouterr().err.splitlines()
        assert f"{tmp_path}/{name}: expected the Evaluation of digest ffffffffffff, which the step before made" in line


def test_promote_takes_the_receipt_that_the_run_made_and_no_other(
    tmp_path: Path, receipt: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    assert receipt() == 0
    made = Registration.read(tmp_path / "pod/registration")
    params = {"alias": "champion"}
    capfd.readouterr()
    for digest, code in ((made.digest[:32], 0), ("f" * 32, 3)):
        place = {"registration": made.path}
        words = told(tmp_path / "end", "promotion", place, params=params, registration_digest=digest)
        assert run(["promote", *words]) == code
    assert "expected the Registration of digest ffffffffffff" in capfd.readouterr().err.splitlines()[-1]


def test_register_finds_each_model_in_its_evaluation(
    tmp_path: Path, receipt: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert receipt() == 0
    assert Registration.read(tmp_path / "pod/registration").facts.trial == "trial"
    assert f"models {tmp_path}/wide/.model {tmp_path}/narrow/.model" in caplog.text


@pytest.mark.parametrize(
    "gone", ["wide", "wide/card.json", "wide/metrics.json", "wide/.model", "narrow/.model/model.weights.h5"]
)
def test_what_the_cache_knows_and_the_bucket_has_no_longer_is_told(
    tmp_path: Path, receipt: Callable[..., int], gone: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The objects of an artifact are removed, all or some of them, and the cache still says that the step is done."""
    path = tmp_path / gone
    path.unlink() if path.is_file() else shutil.rmtree(path)
    assert receipt() == 5
    (line,) = capfd.readouterr().err.splitlines()
    number = 1 if gone.startswith("wide") else 2
    assert line.startswith(f"error: evaluation_{number}: the cache's artifact is gone from the bucket")
    assert "Submit with --no-cache" in line


def test_an_empty_directory_is_gone_too(
    tmp_path: Path, receipt: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(tmp_path / "wide")
    (tmp_path / "wide").mkdir()
    assert receipt() == 5
    assert "--no-cache" in capfd.readouterr().err


def test_a_changed_file_is_still_refused_as_data(
    tmp_path: Path, receipt: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wide/metrics.json").write_text("{}")
    assert receipt() == 3
    assert "changed since its step wrote it" in capfd.readouterr().err


def test_shards_have_a_card_of_another_name(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards/index.json").write_text('{"files": {"train-00000-of-00001.tfrecord": {}}}')
    _, text = told(tmp_path, "trained_model", {"shards": tmp_path / "shards"})
    with pytest.raises(OutsideFailed, match="shards: the cache's artifact is gone"):
        ExecutorInput(text).check_there()
    (tmp_path / "shards/train-00000-of-00001.tfrecord").touch()
    ExecutorInput(text).check_there()
