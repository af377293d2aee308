"""A hospital's files go from import to a verdict of predict and of serve, and nothing says whose they are."""

import json
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import hospital
import httpx
import pandas as pd
import pytest
import yaml
from dvc_project import Project

from components.artifacts.manifest import TABLE, ValidManifest

pytestmark = [pytest.mark.longest, pytest.mark.timeout(900)]
KEEP = ("view_position", "manufacturer", "sex", "age")


class Ran(NamedTuple):
    project: Project
    outside: Path
    """Where the hospital's files and the key are."""
    told: list[str]
    """What the commands printed."""
    before: dict[Path, int]
    """Files that were there before the import, and when they were written."""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """From the hospital's directory to the champion."""
    here, outside = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("outside")
    project = Project(here)
    for name in ("TMPDIR", "DVC_SITE_CACHE_DIR", "HOME"):
        # Whatever a command leaves in these places is searched, too.
        (here / name).mkdir()
        project.environment[name] = str(here / name)
    hospital.draw(outside / "dicom")
    (outside / "labels.csv").write_text(hospital.rows())
    project.choose(wide={"architecture": "custom_cnn", "width": 8})
    before = hospital.written_at(here)
    told = [
        project.run(
            *("mura", "import", "--dicom", str(outside / "dicom"), "--labels", str(outside / "labels.csv")),
            *("--key", str(hospital.key_file(outside / "key")), "--keep", ",".join(KEEP)),
        )
    ]
    file = here / "params.yaml"
    document = yaml.safe_load(file.read_text())
    document["protocol"]["slices"] = ["body_part", *KEEP]
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    told.append(project.run("dvc", "repro"))
    asked = here / "asked"
    asked.mkdir()
    for number, patient in enumerate((3, 4)):
        shutil.copy(outside / "dicom" / hospital.name(patient), asked / f"{number}.dcm")
    told.append(project.run("mura", "predict", "asked", "--json"))
    told += served(project, sorted(asked.iterdir()))
    shutil.rmtree(asked)
    return Ran(project, outside, told, before)


def served(project: Project, files: list[Path]) -> list[str]:
    """What a server of the champion answers for each file and for one that is refused, and what it tells on its log."""
    told = [project.run("mura", "fetch", "--out", "version")]
    server = project.start("mura", "serve", "--model", "version", "--port", "0", "--log", "served.jsonl")
    assert server.stdout is not None
    try:
        for line in server.stdout:
            told.append(line)
            if found := re.search(r" at (http://\S+)", line):
                break
        else:
            raise AssertionError("".join(told))
        contents = [("one.dcm", files[0].read_bytes()), ("two.dcm", files[1].read_bytes())]
        contents.append((f"{hospital.CANARY}.dcm", files[0].read_bytes()[:600]))
        for name, content in contents:
            answer = httpx.post(f"{found[1]}/predict", files=[("view", (name, content))], timeout=60)
            told.append(answer.text)
    finally:
        server.terminate()
        told += server.communicate(timeout=60)[0].splitlines()
    return told


def test_a_model_answers_for_the_hospitals_own_files(ran: Ran) -> None:
    answers = [json.loads(line) for line in ran.told[2].splitlines() if line.startswith("{")]
    assert [each["body_part"] for each in answers] == ["knee", "hand"]
    for each in answers:
        assert each["verdict"] in ("normal", "abnormal")
        # The model learned this part: its own offset was taken.
        assert not any("offset of all body parts" in note for note in each["notes"])


def test_a_server_gives_the_same_answers(ran: Ran) -> None:
    asked = [json.loads(line) for line in ran.told[2].splitlines() if line.startswith("{")]
    one, two, refused = (json.loads(line) for line in ran.told if line.startswith("{") and "\n" not in line)
    for answer, expected in zip((one, two), asked, strict=True):
        assert answer["probability"] == pytest.approx(expected["probability"], abs=1e-4)
        assert (answer["verdict"], answer["body_part"]) == (expected["verdict"], expected["body_part"])
    assert "view 1" in refused["error"]
    assert len((ran.project.path / "served.jsonl").read_text().splitlines()) == 2


def test_what_is_kept_is_measured_apart(ran: Ran) -> None:
    artifacts = ran.project.path / "artifacts"
    valid = ValidManifest.read(artifacts / "valid_manifest")
    assert valid.facts.archive_parts == ("hand", "knee")
    assert valid.facts.kept == KEEP
    table = pd.read_parquet(valid.path / TABLE)
    assert set(table["age"]) == {"60-69"}
    # One patient's device is a canary, and rare.
    assert set(table["manufacturer"]) == {"ACME INC", "other"}
    groups = json.loads((artifacts / "evaluation/wide/metrics.json").read_text())["slices"]
    assert set(groups["sex"]) == {"female", "male"}
    assert set(groups["view_position"]) <= {"AP", "AP and LATERAL"}
    assert set(groups["body_part"]) == {"hand", "knee"}


def test_nothing_says_whose_the_pictures_are(ran: Ran) -> None:
    here = ran.project.path
    made = [path for path, when in hospital.written_at(here).items() if ran.before.get(path) != when]
    assert {
        here / name for name in ("mlflow.db", "data/own.zip", "artifacts/manifest/manifest.parquet", "served.jsonl")
    } <= set(made)
    assert hospital.traces(made, ran.told) == []
