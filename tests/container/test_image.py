"""What the image is, and what it is not."""

import json
import re
import subprocess
import uuid
from pathlib import Path

import miniature
import pytest
from containers import STRICT, Image

from components.base import code
from components.base.step import STEPS
from pipelines.graph import image_names


def test_it_runs_as_a_numbered_user_who_is_not_root(image: Image) -> None:
    assert image.about()["Config"]["User"] == "1000:1000"
    assert image.run("-c", "id -u; id -g", program="sh").stdout.split() == ["1000", "1000"]


def test_without_words_it_explains_itself(image: Image) -> None:
    about = image.about()["Config"]
    assert (about["Entrypoint"], about["Cmd"]) == (["mura"], ["--help"])


def test_its_user_may_write_nowhere_but_where_everybody_may(image: Image) -> None:
    # Not read-only here: what keeps the files as they are is whom they belong to. Podman makes the working directory.
    found = image.run(
        "-c",
        "find / -xdev \\( -type f -o -type d \\) -writable -not -path '/proc/*' -not -path '/dev/*' 2>/dev/null",
        program="sh",
        options=("--network=none", "--read-only-tmpfs=false"),
    )
    assert set(found.stdout.split()) <= {"/tmp", "/var/tmp", "/run/lock", "/work"}


def test_nothing_in_it_changes_who_one_is_or_compiles(image: Image) -> None:
    found = image.run("-c", "command -v cc gcc c++ ld make git; find /opt -perm /6000", program="sh")
    assert found.stdout == ""


@pytest.mark.parametrize("package", ["kfp", "dvc", "pytest", "pipelines"])
def test_what_steps_do_not_need_is_not_in_it(image: Image, package: str) -> None:
    assert image.run("-c", f"import {package}", program="python").returncode == 1


def test_its_surroundings_are_those_written_in_the_recipe(image: Image) -> None:
    names = {each.partition("=")[0] for each in image.about()["Config"]["Env"]}
    recipe = (code.ROOT / "infra/Containerfile").read_text()
    base = {"LANG", "GPG_KEY", "PYTHON_VERSION", "PYTHON_SHA256", "container"}
    assert names - base <= set(re.findall(r"\b([A-Z_]+)=", recipe))


def test_no_secret_key_archive_or_document_of_ours_is_in_it(image: Image) -> None:
    names = " -o ".join(f"-name '{each}'" for each in (".git", ".env", "id_rsa*", "id_ed25519*", "*.zip", "*.dcm"))
    ours = "find /work /root /home /run/secrets -type f 2>/dev/null; "
    # pydicom brings colour palettes and samples of its own.
    ours += f"find / -xdev \\( {names} \\) -not -path '/proc/*' -not -path '*/site-packages/pydicom/*' 2>/dev/null"
    assert image.run("-c", ours, program="sh").stdout == ""


def test_it_says_which_code_it_is(image: Image) -> None:
    about = image.about()
    revision = image_names.revision("cpu")
    assert about["Config"]["Labels"]["org.opencontainers.image.revision"] == revision
    asked = "from components.base import code, provenance; print(provenance.code_revision(), code.whole_digest())"
    assert image.run("-c", asked, program="python").stdout.split() == [revision, code.whole_digest()]


def test_the_bill_of_materials_is_of_this_image(image: Image) -> None:
    tag = image.reference.rpartition(":")[2]
    bill = json.loads((code.ROOT / f"build/sbom-{tag}.cdx.json").read_text())
    assert bill["metadata"]["component"]["hashes"][0]["content"] == image.about()["Id"].removeprefix("sha256:")
    locked = set(re.findall(r"^([a-z0-9-]+)==", (code.ROOT / "requirements/cpu.txt").read_text(), re.M))
    named = {re.sub(r"[_.]", "-", each["name"].lower()) for each in bill["components"] if "pypi" in each["purl"]}
    assert named <= locked | {"mura-pipeline"}
    assert {"tensorflow-cpu", "mlflow", "mura-pipeline"} <= named


@pytest.mark.parametrize("words", [(), *((step,) for step in STEPS), ("phantom",), ("summary",), ("doctor",)])
def test_every_command_explains_itself(image: Image, words: tuple[str, ...]) -> None:
    told = image.run(*words, "--help")
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith("Usage: mura")


def test_nothing_is_missing_in_it(image: Image) -> None:
    told = image.run("doctor")
    assert told.returncode == 0, told.stdout + told.stderr


def test_whoever_the_cluster_makes_it_run_as(image: Image) -> None:
    told = image.run("--version", options=("--user=1234567:0", "--read-only", "--cap-drop=all"))
    assert told.returncode == 0, told.stderr


def test_a_mount_that_may_not_be_written_to_is_told_in_one_line(image: Image, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    told = image.run(
        "phantom", "--studies", "14", "--out", "x.zip", options=("--read-only", f"--volume={tmp_path}:/work")
    )
    assert (told.returncode, told.stderr.splitlines()[-1][:6]) == (2, "error:")


def test_a_disk_that_is_too_small_is_refused_and_named(image: Image, tmp_path: Path) -> None:
    miniature.write_zip(tmp_path / "a.zip", miniature.archive(miniature.images(14, 7)))
    tmp_path.chmod(0o755)
    small = (*STRICT, "--tmpfs=/small:size=400k,mode=1777", f"--volume={tmp_path}:/given:ro")
    ingest = "mura ingest --archive /given/a.zip --params '{\"tuning_fraction\": 0.25}' --seed 1 --out /small/out"
    for words, told in (
        ("mura phantom --studies 84 --out /small/a.zip", "/small: a phantom of "),
        (f"head -c 395000 /dev/zero > /small/full; {ingest}", "/small: a manifest of 35 images will"),
        (f"head -c 380000 /dev/zero > /small/full; {ingest}", "/small/out: no space"),
    ):
        done = image.run("-c", words, program="sh", options=small)
        assert done.returncode == 5, done.stderr
        line = done.stderr.splitlines()[-1]
        assert line.startswith(f"error: {told}")
        assert "are free" in line


def test_a_place_that_is_a_mount_is_refused_before_the_work(image: Image, tmp_path: Path) -> None:
    miniature.write_zip(tmp_path / "a.zip", miniature.archive(miniature.images(14, 7)))
    tmp_path.chmod(0o755)
    options = (*STRICT, "--tmpfs=/given:mode=0777", "--tmpfs=/given/out:mode=0777", f"--volume={tmp_path}:/archive:ro")
    params = ("--params", '{"tuning_fraction": 0.25}', "--seed", "1")
    told = image.run("ingest", "--archive", "/archive/a.zip", *params, "--out", "/given/out", options=options)
    assert told.returncode == 2, told.stderr
    assert told.stderr.splitlines()[-1].startswith("error: /given/out: is a mount point")


def test_as_the_first_process_it_ends_when_it_is_told_to(image: Image) -> None:
    """To process 1 the system gives no signal that it has no handler for."""
    name = f"mura-test-{uuid.uuid4().hex}"
    nobody = ("--env=AWS_ENDPOINT_URL=http://127.0.0.1:9", "--env=AWS_ACCESS_KEY_ID=a", "--env=AWS_SECRET_ACCESS_KEY=b")
    command = [image.engine, "run", f"--name={name}", *STRICT, *nobody, "--env=MURA_PATIENCE=300", image.reference]
    command += ["ingest", "--archive", "s3://bucket/a.zip", "--params", '{"tuning_fraction": 0.25}', "--seed", "1"]
    with subprocess.Popen([*command, "--out", "/tmp/out"], stderr=subprocess.PIPE, text=True) as step:
        assert step.stderr is not None
        try:
            assert any("does not answer" in line for line in step.stderr)
            subprocess.run([image.engine, "kill", "--signal=TERM", name], check=True, capture_output=True, timeout=60)
            assert step.stderr.read() == "terminated\n"
        finally:
            subprocess.run([image.engine, "rm", "--force", name], capture_output=True, timeout=60)
