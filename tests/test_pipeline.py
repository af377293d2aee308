"""The steps through their door, from an archive to a champion: as people run them, killed as machines kill them."""

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
import yaml
from object_store import SECRET, USER, serving
from protocols import NO_FLOORS
from servers import free_port

from components.artifacts.evaluation import Evaluation
from components.artifacts.manifest import Manifest, ValidManifest
from components.artifacts.promotion import Promotion
from components.artifacts.registration import Registration
from components.artifacts.shards import Shards
from components.artifacts.trained_model import WEIGHTS, TrainedModel

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent
MURA = Path(sys.executable).with_name("mura")
DEMO = yaml.safe_load((ROOT / "params.yaml").read_text())
SHARD = json.dumps({"image_size": 32, "images_per_shard": 40})
TRAIN = json.dumps(
    {**DEMO["train"]["default"], "candidate": "custom_cnn", "architecture": "custom_cnn", "epochs": 3, "patience": 3}
)


class Done(NamedTuple):
    code: int
    told: str
    """The error stream."""


class Workplace:
    """A directory with the project's params.yaml and an MLflow of its own."""

    def __init__(self, path: Path, **environment: str) -> None:
        self.path = path
        mine = {"MLFLOW_TRACKING_URI": f"sqlite:///{path}/mlflow.db", "CUDA_VISIBLE_DEVICES": "-1"}
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")} | mine | environment
        (path / "params.yaml").write_text((ROOT / "params.yaml").read_text())

    def start(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [MURA, *words],
            cwd=self.path,
            env=self.environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str) -> Done:
        process = self.start(*words)
        out, told = process.communicate(timeout=240)
        return Done(process.returncode, told + out)

    def must(self, *words: str) -> Done:
        done = self.run(*words)
        assert done.code == 0, done.told
        return done

    def asks(self, query: str) -> list[tuple[Any, ...]]:
        """What MLflow's database answers, past MLflow."""
        with closing(sqlite3.connect(f"file:{self.path}/mlflow.db?mode=ro", uri=True)) as database:
            return database.execute(query).fetchall()

    def __truediv__(self, name: str) -> Path:
        return self.path / name


INGEST = ("ingest", "--archive", "phantom.zip", "--seed", "1", "--out", "manifest")
VALIDATE = ("validate", "--archive", "phantom.zip", "--manifest", "manifest", "--out", "valid_manifest")
SHARDS = ("shard", "--archive", "phantom.zip", "--manifest", "valid_manifest", "--params", SHARD, "--out", "shards")
TRAINING = ("train", "--shards", "shards", "--params", TRAIN, "--seed", "1", "--out", "model")
EVALUATE = ("evaluate", "--manifest", "valid_manifest", "--shards", "shards", "--model", "model")
# Three epochs teach little: any model may be promoted here.
EVALUATE += ("--protocol", json.dumps(DEMO["protocol"] | NO_FLOORS))
EVALUATE += ("--seed", "1", "--out", "evaluation")
REGISTER = ("register", "--model", "model", "--evaluation", "evaluation", "--out", "registration")
PROMOTE = ("promote", "--registration", "registration", "--out", "promotion")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Workplace:
    """A workplace where every step has run once."""
    here = Workplace(tmp_path_factory.mktemp("pipeline"))
    (here / "mlflow.db").write_bytes(mlflow_database.read_bytes())
    here.must(
        "phantom", "--studies", "84", "--seed", "1", "--difficulty", "0", "--workers", "2", "--out", "phantom.zip"
    )
    for words in (INGEST, VALIDATE, SHARDS, TRAINING, EVALUATE, REGISTER, PROMOTE):
        here.must(*words)
    return here


def test_one_identity_goes_from_the_data_to_the_champion(place: Workplace) -> None:
    shards, model = Shards.read(place / "shards"), TrainedModel.read(place / "model")
    evaluation = Evaluation.read(place / "evaluation")
    registered = Registration.read(place / "registration").facts.versions[0]
    champion = Promotion.read(place / "promotion").facts.current
    assert champion == registered
    digests = {x.facts.data_digest for x in (shards, model, evaluation)} | {registered.data_digest}
    assert len(digests) == 1
    # And DVC's name for the archive, the md5 of its bytes.
    md5 = hashlib.md5((place / "phantom.zip").read_bytes()).hexdigest()
    artifacts = (Manifest.read(place / "manifest"), ValidManifest.read(place / "valid_manifest"), shards, model)
    assert {x.facts.archive_md5 for x in artifacts} == {md5}
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
    version = client.get_model_version(registered.model, str(registered.version))
    stored = version.source.removeprefix("models:/")
    (said,) = (each for each in (place / "mlruns").rglob("evidence/version.json") if stored in each.parts)
    assert json.loads(said.read_text())["archive_md5"] == md5
    run = client.get_run(registered.run_id)
    scores = evaluation.facts.scores
    used = {each.dataset.name: each.dataset.digest for each in run.inputs.dataset_inputs}
    assert used == {"mura": md5, "mura-tuning": scores.tuning_digest[:36], "mura-test": scores.test_digest[:36]}
    assert run.data.tags["data_digest"] == registered.data_digest
    assert registered.model_digest == model.digest
    assert registered.evaluation_digest == evaluation.digest


@pytest.mark.longest
def test_second_opinions_are_reported_beside_the_official_result_and_change_nothing_else(place: Workplace) -> None:
    official = Evaluation.read(place / "evaluation")
    predictions = pd.read_parquet(place / "evaluation" / "predictions.parquet")
    test = predictions[predictions["split"] == "test"].drop_duplicates("study")
    rows = [f"{row.study}/,{row.abnormal},{1 - row.abnormal},reader,<b>plate</b>" for row in test.head(3).itertuples()]
    trained = ValidManifest.read(place / "valid_manifest").table.query("split == 'train' and abnormal == 0")["study"]
    rows.append(f"{trained.iloc[0]},normal,abnormal,reader,screw")
    (place / "opinions.csv").write_text("\n".join(["study,old,new,source,reason", *rows]))
    place.must(*INGEST[:-1], "second_manifest", "--overlay", "opinions.csv")
    place.must(*VALIDATE[:4], "second_manifest", "--out", "second_valid_manifest")
    # With the shards and the model that are there: no image is packed again, no network trained.
    place.must("evaluate", "--manifest", "second_valid_manifest", *EVALUATE[3:-1], "second_evaluation")

    second = Evaluation.read(place / "second_evaluation")
    opinion = second.facts.second_opinion
    assert second.facts.scores == official.facts.scores
    assert official.facts.second_opinion is None
    assert opinion is not None
    assert opinion.studies == 3
    assert opinion.test.auroc != official.facts.scores.test.auroc
    assert opinion.test.n_studies == official.facts.scores.test.n_studies
    assert opinion.overlay_digest == Manifest.read(place / "second_manifest").facts.overlay_digest
    told = json.loads((second.path / "test.json").read_text())
    assert told.pop("second_opinion")["test"] == opinion.test.model_dump()
    without = json.loads((official.path / "test.json").read_text())
    # The official labels measure the doubtful studies apart, too.
    groups, whole = (each["slices"].pop("second_opinion") for each in (told, without))
    assert {name: group["n_studies"] for name, group in groups.items()} == {
        "changed": 3,
        "none": opinion.test.n_studies - 3,
    }
    assert list(whole) == ["none"]
    assert told == without
    page = second.test_report.read_text()
    assert "If the second opinions on labels are right" in page
    assert page.count("&lt;b&gt;plate&lt;/b&gt;") == 3
    assert "If the second opinions" not in official.test_report.read_text()
    assert second.report.read_text() == official.report.read_text()
    again = pd.read_parquet(second.path / "predictions.parquet")
    pd.testing.assert_frame_equal(again.drop(columns="overlay"), predictions.drop(columns="overlay"))
    assert again.groupby("study")["overlay"].first().notna().sum() == 3


def test_no_patient_is_in_two_splits_from_the_archive_to_the_predictions(place: Workplace) -> None:
    table = Manifest.read(place / "manifest").table
    assert (table.groupby("patient")["split"].nunique() == 1).all()
    predictions = pd.read_parquet(place / "evaluation" / "predictions.parquet")
    assert set(predictions["split"]) == {"tuning", "test"}
    assert (predictions.groupby("patient")["split"].nunique() == 1).all()


def test_predictions_keep_the_label_of_the_directory(place: Workplace) -> None:
    predictions = pd.read_parquet(place / "evaluation" / "predictions.parquet")
    assert (predictions["study"].str.endswith("_positive") == (predictions["abnormal"] == 1)).all()


def test_probabilities_and_threshold_come_from_tuning_alone(place: Workplace) -> None:
    from components.scores.calibration import Line, fit, probability
    from components.scores.operating_points import choose_threshold

    studies = pd.read_parquet(place / "evaluation" / "studies.parquet")
    facts = Evaluation.read(place / "evaluation").facts
    line = Line(facts.calibration.intercept, facts.calibration.slope)
    tuning, test = (studies[studies["split"] == split] for split in ("tuning", "test"))
    assert fit(*(tuning[name].to_numpy() for name in ("logit", "offset", "abnormal"))) == line
    frozen = probability(line, tuning["logit"].to_numpy(), tuning["offset"].to_numpy())
    assert facts.scores.threshold == choose_threshold(tuning["abnormal"], frozen, "kappa", 0.9)
    assert test["probability"].tolist() == probability(line, test["logit"], test["offset"]).tolist()


@pytest.mark.longest
def test_training_again_from_scratch_gives_the_same_weights(place: Workplace) -> None:
    place.must(*TRAINING[:-1], "again")
    assert (place / "again" / WEIGHTS).read_bytes() == (place / "model" / WEIGHTS).read_bytes()
    assert (place / "again" / "curves.csv").read_text() == (place / "model" / "curves.csv").read_text()


@pytest.mark.longest
def test_training_killed_half_way_goes_on_to_the_same_weights(place: Workplace) -> None:
    state = place / ".resumed.partial" / "checkpoint" / "state.json"
    kill(
        place.start(*TRAINING[:-1], "resumed"),
        lambda: state.is_file() and bool(json.loads(state.read_text())["curves"]),
    )
    assert not (place / "resumed").exists()
    run_id = json.loads(state.read_text())["run_id"]
    told = place.must(*TRAINING[:-1], "resumed").told
    assert "goes on after epoch" in told
    resumed = TrainedModel.read(place / "resumed")
    assert resumed.digest == TrainedModel.read(place / "model").digest
    assert (place / "resumed" / "curves.csv").read_text() == (place / "model" / "curves.csv").read_text()
    assert resumed.facts.run.run_id == run_id
    assert not (place / ".resumed.partial").exists()


@pytest.mark.longest
def test_a_training_whose_machine_is_taken_away_goes_on_elsewhere_to_the_same_weights(
    place: Workplace, tmp_path: Path
) -> None:
    (tmp_path / "bucket").mkdir()
    with serving(tmp_path, free_port(), cached=True) as address:
        on_loan = Workplace(
            place.path,
            AWS_ENDPOINT_URL=address,
            AWS_ACCESS_KEY_ID=USER,
            AWS_SECRET_ACCESS_KEY=SECRET,
            MURA_CHECKPOINTS="s3://bucket/checkpoints",
        )
        kill(
            on_loan.start(*TRAINING[:-1], "lost"),
            lambda: mirrored_epoch(tmp_path / "bucket"),
        )
        shutil.rmtree(place / ".lost.partial")
        told = on_loan.must(*TRAINING[:-1], "elsewhere").told
    assert "goes on after epoch" in told
    assert TrainedModel.read(place / "elsewhere").digest == TrainedModel.read(place / "model").digest


@pytest.mark.parametrize(
    "words",
    [INGEST, VALIDATE, SHARDS, pytest.param(EVALUATE, marks=pytest.mark.longest)],
    ids=lambda words: words[0],
)
def test_a_step_killed_half_way_ends_in_the_same_artifact(place: Workplace, words: tuple[str, ...]) -> None:
    name = words[-1]
    unfinished = place / f".{name}2.partial"
    kill(place.start(*words[:-1], f"{name}2"), unfinished.is_dir)
    assert not (place / f"{name}2").exists()
    place.must(*words[:-1], f"{name}2")
    kind = {"manifest": Manifest, "valid_manifest": ValidManifest, "shards": Shards, "evaluation": Evaluation}[name]
    assert kind.read(place / f"{name}2").digest == kind.read(place / name).digest


@pytest.mark.longest
def test_a_registration_killed_once_the_server_has_the_version_makes_no_second_one(place: Workplace) -> None:
    def versions(name: str) -> list[tuple[Any, ...]]:
        return place.asks(f"select version from model_versions where name = '{name}'")

    def words(name: str) -> tuple[str, ...]:
        return (*REGISTER[:-1], name, "--params", json.dumps({"model": name}))

    name = killed_in_time(place, words, lambda name: versions(name) == [(1,)])
    place.must(*words(name))
    assert [version.version for version in Registration.read(place / name).facts.versions] == [1]
    assert versions(name) == [(1,)]


@pytest.mark.longest
def test_a_promotion_killed_once_the_alias_has_moved_remembers_who_was_champion(place: Workplace) -> None:
    def words(name: str) -> tuple[str, ...]:
        return (*PROMOTE[:-1], name, "--params", json.dumps({"alias": name}))

    def moved(name: str) -> bool:
        return bool(place.asks(f"select * from registered_model_aliases where alias = '{name}'"))

    name = killed_in_time(place, words, moved)
    place.must(*words(name))
    facts = Promotion.read(place / name).facts
    assert facts.decision.outcome == "promoted"
    assert facts.previous is None
    assert facts.current == Registration.read(place / "registration").facts.versions[0]


@pytest.mark.longest
def test_doing_it_again_registers_nothing_new_and_keeps_the_champion(place: Workplace) -> None:
    place.must(*REGISTER)
    again = Registration.read(place / "registration")
    told = place.must(*PROMOTE).told
    assert [version.version for version in again.facts.versions] == [1]
    assert "is already the champion" in told


def test_the_summary_names_the_champion_the_reports_and_mlflow(place: Workplace) -> None:
    told = place.must("summary", "--promotion", "promotion").told
    for word in (
        "custom CNN *",
        "models:/mura@champion",
        "promotion/report.html",
        "make mlflow",
        "not a medical device",
    ):
        assert word in told


def test_refused_data_leave_a_report_and_no_artifact(place: Workplace) -> None:
    narrow = json.dumps({**DEMO["validate"], "max_side": 100})
    done = place.run(*VALIDATE[:-1], "narrow", "--params", narrow)
    assert done.code == 3
    assert "image1.png" in done.told
    assert (place / "narrow.refused" / "data_docs.html").is_file()
    assert not (place / "narrow").exists()


def test_a_training_that_was_promised_a_gpu_does_not_go_on_without(place: Workplace) -> None:
    done = Workplace(place.path, MURA_REQUIRE_GPU="1").run(*TRAINING[:-1], "elsewhere")
    assert done.code == 2
    assert "sees no GPU" in error_line(done)


def test_an_mlflow_that_does_not_answer_is_told(place: Workplace) -> None:
    away = Workplace(place.path, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    done = away.run(*REGISTER[:-1], "unreachable")
    assert done.code == 5
    assert "http://127.0.0.1:9" in error_line(done)


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (("ingest", "--archive", "none.zip", "--out", "x"), 2, "no such archive"),
        (("ingest", "--archive", "half.zip", "--out", "x"), 3, "not a readable zip"),
        ((*VALIDATE[:4], "nowhere", "--out", "x"), 2, "expected a Manifest"),
        ((*VALIDATE[:4], "shards", "--out", "x"), 2, "expected a Manifest"),
        (("shard", "--archive", "phantom.zip", "--manifest", "manifest", "--out", "x"), 2, "ValidManifest"),
        ((*SHARDS[:5], "--params", "{", "--out", "x"), 2, "not JSON"),
        ((*SHARDS[:5], "--params", '{"image_size": 32}', "--out", "x"), 2, "images_per_shard"),
        ((*TRAINING[:3], "--params", "params.yaml:train.resnet", "--out", "x"), 2, "train.vgg16"),
        ((*TRAINING[:3], "--params", "elsewhere.yaml:train.vgg16", "--out", "x"), 2, "elsewhere.yaml"),
        (("train", "--out", "x"), 2, "--shards"),
        (("teach",), 2, "teach"),
        (("phantom", "--out", "x.zip", "--studies", "3"), 2, "studies"),
        (("summary", "--promotion", "nowhere"), 2, "expected a Promotion"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else None,
)
def test_an_error_is_one_line_that_helps(place: Workplace, words: tuple[str, ...], code: int, hint: str) -> None:
    whole = (place / "phantom.zip").read_bytes()
    (place / "half.zip").write_bytes(whole[: len(whole) // 2])
    done = place.run(*words)
    assert done.code == code, done.told
    assert hint in error_line(done)
    assert "Traceback" not in done.told
    assert not (place / "x").exists()


def test_debug_shows_the_traceback(place: Workplace) -> None:
    done = place.run("--debug", *VALIDATE[:4], "nowhere", "--out", "x")
    assert done.code == 2
    assert "Traceback" in done.told


def test_a_damaged_shard_is_found_before_training(place: Workplace) -> None:
    file = next((place / "shards").glob("train-*.tfrecord"))
    whole = file.read_bytes()
    damaged = bytearray(whole)
    damaged[len(damaged) // 2] ^= 1
    try:
        file.write_bytes(damaged)
        done = place.run(*TRAINING[:-1], "y")
    finally:
        file.write_bytes(whole)
    assert done.code == 3
    assert file.name in error_line(done)


@pytest.mark.parametrize("words", [("--help",), *((step, "--help") for step in ("ingest", "train", "promote"))])
def test_help_is_quick_because_it_imports_nothing_heavy(words: tuple[str, ...]) -> None:
    script = (
        "import sys; from components.cli.main import run; code = run(sys.argv[1:]); "
        "heavy = {'numpy', 'pandas', 'tensorflow', 'keras', 'mlflow', 'great_expectations', 'cv2', 'kfp'}; "
        "sys.exit(code or ', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


@pytest.mark.parametrize("step", ["ingest", "validate", "shard", "train", "evaluate", "register", "promote", "phantom"])
def test_every_command_explains_itself(step: str) -> None:
    done = subprocess.run([MURA, step, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "--out" in done.stdout
    assert "Args:" not in done.stdout
    assert len(done.stdout.splitlines()) > 8


def mirrored_epoch(bucket: Path) -> bool:
    """Whether an index of checkpoints names an epoch; the server removes an old index before it writes the new one."""
    for index in bucket.glob("*/*/index.json"):
        with suppress(FileNotFoundError):
            if "epoch-" in index.read_text():
                return True
    return False


def kill(process: "subprocess.Popen[str]", ready: Callable[[], bool]) -> None:
    """SIGKILL, as soon as it has come so far."""
    deadline = time.monotonic() + 120
    try:
        while not ready():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)


def killed_in_time(
    place: Workplace, words: Callable[[str], tuple[str, ...]], ready: Callable[[str], bool], attempts: int = 10
) -> str:
    """SIGKILL between what the server was told and the artifact, which is soon there: tried until it was not too late.

    Returns:
        The name under which it happened.
    """
    for attempt in range(attempts):
        name = f"killed{attempt}"
        kill(place.start(*words(name)), partial(ready, name))
        if not (place / name).exists():
            return name
    raise AssertionError(f"the artifact was there before {attempts} of {attempts} kills")


def error_line(done: Done) -> str:
    lines = [line for line in done.told.splitlines() if line.lower().startswith("error:")]
    assert len(lines) == 1, done.told
    return lines[0]
