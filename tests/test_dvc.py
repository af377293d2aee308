"""`dvc repro` on a small phantom: what a run uses, candidates as they are named, experiments, names of any kind."""

import hashlib
import json
import os
import re
import shlex
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import miniature
import pandas as pd
import pytest
import yaml
from dvc.repo import Repo
from dvc_project import BIN, Project
from miniature import write_zip

from components.artifacts.manifest import Manifest
from components.artifacts.promotion import Promotion
from components.artifacts.registration import Registration
from components.scores.studies import sigmoid

# The whole graph runs in a fixture.
pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
ONE = {"architecture": "custom_cnn"}
# Changes of a choice, and of the code that trains.
OTHER_POINT = ("params.yaml", "operating_point: kappa", "operating_point: half")
OTHER_TRAINING = ("components/train/phases.py", "\n\ndef ", "\n\nNEW = 1\n\n\ndef ")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """From the archive to the champion. During the training, params.yaml and the code are changed, and changed back."""
    made = Project(tmp_path_factory.mktemp("project"))
    made.choose(wide=ONE)
    run = made.start("dvc", "repro", "--quiet")
    while not (made.path / "artifacts/model/.wide.partial").exists():
        assert run.poll() is None, run.communicate()[0]
        time.sleep(0.05)
    with made.edited(*OTHER_POINT), made.edited(*OTHER_TRAINING):
        told = run.communicate()[0]
    assert run.returncode == 0, told
    return made


def test_a_run_uses_what_it_began_with_and_dvc_writes_that_down(project: Project) -> None:
    artifacts = project.path / "artifacts"
    used = json.loads((artifacts / "evaluation" / "wide.made.json").read_text())["settings"]
    assert used["inputs"]["protocol"]["operating_point"] == "kappa"
    assert json.loads((artifacts / "evaluation" / "wide" / "metrics.json").read_text())["operating_point"] == "kappa"
    stage = yaml.safe_load((project.path / "dvc.lock").read_text())["stages"]["evaluate@wide"]
    (settings,) = [each for each in stage["deps"] if "settings" in each["path"]]
    text = (artifacts / "settings" / "evaluate.json").read_bytes()
    assert settings["md5"] == hashlib.md5(text).hexdigest()
    assert json.loads(text) == used
    # What was changed meanwhile was changed back.
    assert project.outdated() == set()
    with project.edited(*OTHER_POINT), project.edited(*OTHER_TRAINING):
        assert project.outdated() == {"train@wide", "evaluate@wide"}
        told = json.loads(project.run("dvc", "params", "diff", "--json"))
        assert told["params.yaml"]["protocol.operating_point"] == {"old": "kappa", "new": "half"}
        # Nothing is made of a model that was trained otherwise.
        told = project.run("dvc", "repro", "--single-item", "evaluate@wide", code=255)
        assert "error: artifacts/model/wide: made with other code than in artifacts/settings/train/wide.json" in told
    # DVC took the evaluation away before it asked for another.
    project.run("dvc", "checkout")
    assert project.outdated() == set()


def test_a_candidate_has_its_name_everywhere(project: Project) -> None:
    artifacts = project.path / "artifacts"
    (registered,) = Registration.read(artifacts / "registration").facts.versions
    assert (registered.candidate, registered.architecture) == ("wide", "custom_cnn")
    assert "wide (custom CNN)" in (artifacts / "promotion" / "report.html").read_text()
    assert "artifacts/evaluation/wide/summary.json" in project.run("dvc", "metrics", "show")
    assert {"artifacts/model/wide/curves.csv", "artifacts/evaluation/wide/plots/roc.csv"} <= set(
        re.findall(r"artifacts/[\w./]+\.csv", project.run("dvc", "plots", "show", "--json"))
    )


def test_doing_it_again_runs_only_what_always_runs_and_ignores_a_candidate_that_was_removed(project: Project) -> None:
    artifacts = project.path / "artifacts"
    for folder in ("model", "evaluation"):
        shutil.copytree(artifacts / folder / "wide", artifacts / folder / "gone")
    said = project.run("dvc", "repro")
    assert set(re.findall(r"Running stage '([^']+)'", said)) == {"settings", "register", "promote"}
    assert "is already the champion" in said
    assert [each.candidate for each in Registration.read(artifacts / "registration").facts.versions] == ["wide"]
    assert [each.candidate for each in Promotion.read(artifacts / "promotion").facts.candidates] == ["wide"]
    assert "gone" not in project.run("dvc", "metrics", "show")
    assert "evaluation/gone" not in project.run("mura", "summary")


def numbers(found: Any) -> set[str]:
    """The numbers in JSON, in lists or in a text, to three digits."""
    if isinstance(found, str):
        # Pictures are no text, and marks of HTML have no results in them.
        text = re.sub(r"base64,[\w+/=]+|<style>.*?</style>|<[^>]*>", " ", found, flags=re.S)
        return {f"{float(each):.3f}" for each in re.findall(r"(?<![\w.])-?\d+\.\d{3,}(?![\w.])", text)}
    if isinstance(found, dict | list):
        inner = found.values() if isinstance(found, dict) else found
        return set().union(*(numbers(each) for each in inner if not isinstance(each, str)))
    return {f"{found:.3f}"} if isinstance(found, float) else set()


class Numbers(NamedTuple):
    """Numbers of what lies in the workspace, to three digits."""

    known: set[str]
    """What may be shown, whatever the test split gives: the numbers of tuning and of the curves, and round ones."""
    test: set[str]
    """What the test split gives, apart from these."""


def numbers_of(project: Project) -> Numbers:
    artifacts = project.path / "artifacts"
    evaluation = artifacts / "evaluation" / "wide"
    tuning = pd.read_parquet(evaluation / "studies.parquet").query("split == 'tuning'")
    # What the tuning split itself gives may be equal by chance, and round numbers say nothing.
    known = numbers(json.loads((evaluation / "metrics.json").read_text()))
    known |= numbers(tuning["probability"].tolist() + sigmoid(tuning["logit"]).tolist())
    known |= numbers((artifacts / "model" / "wide" / "curves.csv").read_text().replace(",", " "))
    known |= {f"{number / 20:.3f}" for number in range(-20, 21)}
    measured = json.loads((evaluation / "test.json").read_text())
    # The other slices would fill the thousand numbers of three digits: tests/evaluate looks for their intervals.
    sections = numbers(measured["slices"]["body_part"]) | numbers(measured["operating_points"])
    hidden = (numbers(measured["test"]) | numbers(measured["calibration"]["test"]) | sections) - known
    assert len(hidden) >= 3
    assert hidden <= numbers((evaluation / "test.html").read_text()) | sections
    # The card is read when all choices are made: it has what the others must not have.
    assert numbers(measured["test"]["auroc"]) <= numbers((evaluation / "model_card.md").read_text())
    return Numbers(known, hidden)


def shown(project: Project) -> dict[str, str]:
    """Whatever one looks at while one chooses."""
    evaluation = project.path / "artifacts" / "evaluation" / "wide"
    return {
        "a file": "".join(path.read_text() for path in (evaluation / "metrics.json", evaluation / "summary.json")),
        "the report": (evaluation / "report.html").read_text(),
        "a plot": "".join(path.read_text().replace(",", " ") for path in (evaluation / "plots").glob("*.csv")),
        "mura summary": project.run("mura", "summary"),
        "dvc metrics show": project.run("dvc", "metrics", "show", "--precision", "8"),
        "dvc exp show": project.run("dvc", "exp", "show", "--json"),
        "dvc plots show": project.run("dvc", "plots", "show", "--json"),
    }


def check_that_nothing_of_the_test_split_is_shown(project: Project) -> None:
    """Look for the test numbers wherever one looks while one chooses."""
    found, places = numbers_of(project), shown(project)
    assert numbers(places["the report"]) & found.known
    for place, text in places.items():
        assert not numbers(text) & found.test, place


def test_no_number_of_the_test_split_is_shown_while_one_chooses(project: Project) -> None:
    check_that_nothing_of_the_test_split_is_shown(project)
    for page in ("registration", "promotion"):
        said = (project.path / "artifacts" / page / "report.html").read_text()
        assert "1 model that this registry knows was ever measured on this test split" in " ".join(said.split())


VERSIONS = "SELECT name, version FROM model_versions UNION SELECT alias, version FROM registered_model_aliases"


@pytest.mark.longest
def test_an_experiment_changes_no_registry_and_shows_no_version(project: Project) -> None:
    before = project.asks(VERSIONS)
    place = project.environment.pop("MLFLOW_TRACKING_URI")
    try:
        told = project.run("dvc", "exp", "run", "--temp", "--name", "try", "--set-param", "promote.alias=other")
        assert set(re.findall(r"Running stage '([^']+)'", told)) == {"settings", "register", "promote"}
        shown = json.loads(project.run("dvc", "exp", "show", "--json"))
        (trial,) = [each for each in shown[1]["experiments"] or () if each["name"] == "try"]
        assert trial["revs"][0]["data"]["params"]["params.yaml"]["data"]["promote"]["alias"] == "other"
        project.run("dvc", "exp", "apply", "try")
        assert Registration.read(project.path / "artifacts" / "registration").facts.versions == ()
        assert project.run("mura", "summary").startswith("trial: try is an experiment")
        shown = json.loads(project.run("dvc", "plots", "show", "--json", "artifacts/promotion/plots"))
        assert shown["data"].keys() == {"artifacts/promotion/plots/trial.png"}, shown
        check_that_nothing_of_the_test_split_is_shown(project)
    finally:
        project.environment["MLFLOW_TRACKING_URI"] = place
    assert project.asks(VERSIONS) == before


def measured_models(project: Project) -> str:
    """What the page of the registration says of the use of the test split."""
    said = " ".join((project.path / "artifacts" / "registration" / "report.html").read_text().split())
    (found,) = re.findall(r"[\d,]+ models? that this registry knows w\w+ ever measured on this test split", said)
    return found


def chosen(experiment: Any) -> Any:
    """The params.yaml of an experiment, as `dvc exp show` has it."""
    return experiment["revs"][0]["data"]["params"]["params.yaml"]["data"]


@pytest.mark.longest
def test_ten_experiments_show_no_number_of_the_test_split_and_one_of_them_counts_once_it_is_registered(
    project: Project,
) -> None:
    project.run("dvc", "repro", "--quiet")
    before, registered = numbers_of(project), project.asks(VERSIONS)
    assert measured_models(project).startswith("1 model ")
    # One trains, two measure anew, and the others are over soon.
    for choice in (
        "train.default.learning_rate=0.002",
        "protocol.operating_point=half,sensitivity",
        "promote.alias=one,two,three,four",
        "register.model=one,two,three",
    ):
        project.run("dvc", "exp", "run", "--queue", "--quiet", "--set-param", choice)
    project.run("dvc", "exp", "run", "--run-all", "--jobs", "2")
    looked = [shown(project)]
    (experiments,) = (each["experiments"] for each in json.loads(looked[0]["dvc exp show"]) if each.get("experiments"))
    rates = {each["name"]: chosen(each)["train"]["default"]["learning_rate"] for each in experiments}
    (learns,) = (name for name, rate in rates.items() if rate == 0.002)
    assert len(rates) >= 10
    looked.append({"dvc exp diff": project.run("dvc", "exp", "diff", "--json", "HEAD", learns)})
    assert project.asks(VERSIONS) == registered

    project.run("dvc", "exp", "apply", learns)
    after = numbers_of(project)
    looked.append(shown(project))
    project.run("dvc", "repro", "--quiet")
    looked.append(shown(project))
    known, hidden = before.known | after.known, before.test | after.test
    assert after.test - before.test
    for place, text in (item for places in looked for item in places.items()):
        assert not numbers(text) & (hidden - known), place
    # The experiments that nobody registered are not known to the registry. The applied one is a second model.
    assert measured_models(project).startswith("2 models ")
    ours = [row for row in project.asks(VERSIONS) if row[0] == "mura"]
    assert len(ours) == sum(row[0] == "mura" for row in registered) + 1


NAMES = ['it\'s "a"; touch PWNED; $(touch PWNED) `touch PWNED` &\ntouch PWNED\n# 骨 ${b}.zip', "-f | touch PWNED .csv"]


@pytest.mark.longest
def test_names_of_files_are_no_commands(tmp_path: Path) -> None:
    project = Project(tmp_path)
    archive, overlay = (f"data/{NAMES[0]}", NAMES[1])
    write_zip(tmp_path / archive, miniature.archive(miniature.images(train=10, valid=3)))
    (tmp_path / "data" / "overlay.csv").rename(tmp_path / overlay)
    project.choose(one=ONE)
    file = tmp_path / "params.yaml"
    document = yaml.safe_load(file.read_text()) | {"archive": archive, "labels": {"overlay": overlay}}
    file.write_text(yaml.safe_dump(document, allow_unicode=True))
    # From another directory, too.
    project.run("dvc", "repro", "--quiet", "../dvc.yaml:ingest", folder="data")
    assert Manifest.read(tmp_path / "artifacts" / "manifest").facts.archive == NAMES[0]
    # What is wrong is told before anything runs.
    file.write_text(yaml.safe_dump(document | {"seed": "1; touch PWNED"}))
    told = project.run("dvc", "repro", "ingest", code=255)
    assert set(re.findall(r"Running stage '([^']+)'", told)) == {"settings"}
    assert "error: params.yaml: seed: " in told
    document["train"]["candidates"] = {"$(touch PWNED); touch PWNED": ONE}
    file.write_text(yaml.safe_dump(document))
    assert "error: params.yaml: train.candidates" in project.run("dvc", "repro", "--single-item", "settings", code=255)
    with Repo(str(tmp_path)) as repo:
        commands = [stage.cmd for stage in repo.index.stages if stage.name.startswith("train@")]
    assert [shlex.split(command)[2:4] for command in commands] == [["--candidate", "$(touch PWNED); touch PWNED"]]
    assert not list(tmp_path.rglob("PWNED*"))


def reads(stage: Any) -> set[str]:
    """What a stage depends on."""
    return {dep.def_path for dep in stage.deps}


@pytest.mark.parametrize("ensembles", [(), ("both",), ("both", "more")], ids=["none", "one", "two"])
def test_ensembles_are_stages_of_their_own(tmp_path: Path, ensembles: tuple[str, ...]) -> None:
    project = Project(tmp_path)
    project.choose({name: {"members": "all", "flips": True} for name in ensembles}, wide=ONE, narrow=ONE)
    with Repo(str(tmp_path)) as repo:
        stages = {stage.name: stage for stage in repo.index.stages if hasattr(stage, "name")}
    named = {name for name in stages if "ensemble" in name}
    assert named == {f"{step}@{name}" for step in ("ensemble", "evaluate_ensemble") for name in ensembles}
    # A directory that `settings` makes, also for none of them.
    assert {"artifacts/model", "artifacts/evaluation", "artifacts/ensemble"} <= reads(stages["register"])
    for name in ensembles:
        made, measured = stages[f"ensemble@{name}"], stages[f"evaluate_ensemble@{name}"]
        settings = f"artifacts/settings/ensemble/{name}.json"
        assert reads(made) == {"artifacts/model", "artifacts/evaluation", settings}
        assert f"artifacts/ensemble/model/{name}" in reads(measured)
        # The files of an evaluation are the same, elsewhere.
        elsewhere = {out.def_path.replace("ensemble/", "").replace(name, "wide") for out in measured.outs}
        assert elsewhere == {out.def_path for out in stages["evaluate@wide"].outs}
        assert [out.def_path for out in measured.outs if out.metric] == [
            f"artifacts/ensemble/evaluation/{name}/summary.json"
        ]


@pytest.mark.longest
def test_an_archive_may_lie_outside(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    project, outside = Project(tmp_path / "project"), tmp_path / "outside"
    outside.mkdir()
    write_zip(outside / "a.zip", miniature.archive(miniature.images(train=10, valid=3)))
    (project.path / "linked").symlink_to(outside)
    project.choose(one=ONE)
    file = project.path / "params.yaml"
    for place in (f"{outside}/a.zip", "linked/a.zip", "../outside/a.zip"):
        file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"archive": place}))
        project.run("dvc", "repro", "--quiet", "ingest")
        assert Manifest.read(project.path / "artifacts" / "manifest").facts.archive == "a.zip"


@pytest.mark.longest
def test_an_archive_that_is_not_here_is_told_by_the_first_stage(tmp_path: Path) -> None:
    project = Project(tmp_path)
    settings = ("mura", "settings", "--out", "artifacts/settings")

    def choose(archive: str) -> None:
        file = tmp_path / "params.yaml"
        file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"archive": archive}))

    choose("data/nope.zip")
    told = project.run("dvc", "repro", code=255)
    assert "error: data/nope.zip: no such archive" in told
    # The phantom is drawn by a stage, whatever its path is written like.
    for place in ("data/phantom.zip", "./data/phantom.zip", f"{tmp_path}/data/phantom.zip"):
        choose(place)
        project.run(*settings)
    # DVC has it, and can fetch it.
    write_zip(tmp_path / "data" / "it is.zip", miniature.archive(miniature.images(train=10, valid=3)))
    project.run("dvc", "add", "data/it is.zip")
    (tmp_path / "data" / "it is.zip").unlink()
    choose("data/it is.zip")
    assert "data/it is.zip is not here: `dvc pull 'data/it is.zip.dvc'` fetches it" in project.run(*settings)


def test_without_the_environment_one_line_says_how_to_activate_it(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.environment["PATH"] = os.environ["PATH"].replace(str(BIN), "/nowhere")
    told = project.run(str(BIN / "dvc"), "repro", code=255)
    assert "error: mura is not found: run source .venv/bin/activate\n" in told
    assert set(re.findall(r"Running stage '([^']+)'", told)) == {"settings"}
