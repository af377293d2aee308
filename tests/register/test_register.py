import base64
import json
import logging
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import NO_OFFSETS, make_scores, scored
from html_page import Page, check_page
from protocols import PROTOCOL
from tampering import files_of, flip

from components import tracking
from components.artifacts import evidence
from components.artifacts.evaluation import (
    PREDICTIONS,
    STUDIES,
    Evaluation,
    EvaluationFacts,
    SecondOpinion,
)
from components.artifacts.registration import (
    FOREST,
    REPORT,
    Opened,
    OtherProtocol,
    RegisteredModel,
    Registration,
    other_protocols,
)
from components.artifacts.trained_model import Offsets, TrackedRun, TrainedModel
from components.base.errors import DataRefused, UsageError
from components.params.protocol import ProtocolParams
from components.params.register import RegisterParams
from components.register import register
from components.scores.both_splits import BothSplits
from components.signing.directory import SIGNATURE
from components.tracking import model_registry, server

PARAMS = RegisterParams(model="mura")
SHOWN = {"card.json", "report.html", "candidates.png"}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_each_candidate_becomes_a_version(
    mlflow_here: Path,
    out: Path,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
) -> None:
    models = [make_model("vgg19", run=make_tracked()), make_model("vgg16", run=make_tracked())]
    evaluations = [make_evaluation(models[1], 0.7), make_evaluation(models[0], 0.8)]
    registration = register(models, evaluations, PARAMS, out)
    versions = registration.facts.versions
    # In the order given, which is the order of params.yaml.
    assert [(v.candidate, v.version, v.scores.test.auroc.value) for v in versions] == [
        ("vgg19", 1, 0.8),
        ("vgg16", 2, 0.7),
    ]
    assert {path.name for path in out.iterdir()} == {*SHOWN, "vgg16.json", "vgg19.json"}
    assert RegisteredModel.model_validate_json((out / "vgg19.json").read_text()) == versions[0]


@pytest.mark.long
def test_a_version_names_the_chosen_body_parts(
    mlflow_here: Path,
    out: Path,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
) -> None:
    model = make_model("vgg16", run=make_tracked())
    made = make_evaluation(model, 0.7, body_parts=("elbow", "wrist"))
    (version,) = register([model], [made], PARAMS, out).facts.versions
    assert version.body_parts == ("elbow", "wrist")
    held = tracking.connect().get_model_version("mura", "1")
    assert "(elbow and wrist only)" in held.description


@pytest.mark.longest
@pytest.mark.parametrize("second", [b"other weights", None], ids=["another recipe", "the same recipe"])
def test_one_architecture_under_two_names_is_two_versions(
    second: bytes | None,
    mlflow_here: Path,
    out: Path,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
) -> None:
    models = [
        make_model("vgg16", run=make_tracked()),
        make_model("vgg16", second, candidate="wide", run=make_tracked()),
    ]
    evaluations = [make_evaluation(models[1], 0.8), make_evaluation(models[0], 0.7)]
    versions = register(models, evaluations, PARAMS, out).facts.versions
    found = [(v.candidate, v.architecture, v.version, v.scores.test.auroc.value) for v in versions]
    assert found == [("vgg16", "vgg16", 1, 0.7), ("wide", "vgg16", 2, 0.8)]
    assert {path.name for path in out.iterdir()} == {*SHOWN, "vgg16.json", "wide.json"}
    assert [version.run_id for version in versions] == [model.facts.run.run_id for model in models]


@pytest.mark.long
def test_a_candidate_that_is_left_out_is_not_registered_again(
    mlflow_here: Path,
    out: Path,
    tmp_path: Path,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
) -> None:
    models = [make_model(name, candidate=name, run=make_tracked()) for name in ("vgg16", "wide")]
    evaluations = [make_evaluation(model) for model in models]
    register(models, evaluations, PARAMS, out)
    (tmp_path / "later").mkdir()
    later = register(models[:1], evaluations[:1], PARAMS, tmp_path / "later")
    assert [version.candidate for version in later.facts.versions] == ["vgg16"]
    assert {path.name for path in later.path.iterdir()} == {*SHOWN, "vgg16.json"}
    assert len(tracking.connect().search_model_versions("name = 'mura'")) == 2


@pytest.mark.long
def test_registering_again_gives_the_same_receipt(
    mlflow_here: Path,
    out: Path,
    tmp_path: Path,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
) -> None:
    model = make_model(run=make_tracked())
    evaluation = make_evaluation(model)
    (tmp_path / "again").mkdir()
    first = register([model], [evaluation], PARAMS, out)
    second = register([model], [evaluation], PARAMS, tmp_path / "again")
    assert first.digest == second.digest
    assert Registration.read(out).facts == second.facts
    assert len(tracking.connect().search_model_versions("name = 'mura'")) == 1


@pytest.mark.long
def test_models_that_were_ever_measured_on_the_test_split_are_counted(
    mlflow_here: Path,
    out: Path,
    tmp_path: Path,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "components")
    first = [make_model(name, run=make_tracked()) for name in ("vgg16", "vgg19")]
    earlier = register(first, [make_evaluation(model, protocol={"min_gain": 0.5}) for model in first], PARAMS, out)
    assert earlier.facts.opened == Opened(models=2, protocols=())
    assert "2 models measured on this test split so far" in caplog.text
    (tmp_path / "later").mkdir()
    model = make_model("vgg16", b"other weights", run=make_tracked())
    later = register([model], [make_evaluation(model)], PARAMS, tmp_path / "later")
    change = OtherProtocol(versions=("mura 1", "mura 2"), differences=("min_gain 0.5, now 0.01",))
    assert later.facts.opened == Opened(models=3, protocols=(change,))
    assert "the protocol has changed since mura 1 and mura 2: min_gain 0.5, now 0.01" in caplog.text
    said = " ".join((later.path / REPORT).read_text().split())
    assert "3 models that this registry knows were ever measured on this test split" in said
    assert "The protocol has changed since mura 1 and mura 2:</b> min_gain 0.5, now 0.01." in said


def test_a_change_of_the_protocol_is_said_with_what_it_was() -> None:
    def version(number: int, **changes: Any) -> RegisteredModel:
        known = {"protocol": PROTOCOL | changes} if changes.get("target") != 0 else {}
        return RegisteredModel(
            model="mura", version=number, run_id="r", candidate="a", architecture="vgg16", model_digest="m",
            evaluation_digest="e", data_digest="d", code_revision="c", training_seconds=1.0, scores=make_scores(),
            **known,
        )  # fmt: skip

    earlier = [version(1), version(2, target=0), version(3, slices=[], max_loss=0.1), version(4, new=True)]
    assert other_protocols(earlier, PROTOCOL) == (
        OtherProtocol(versions=("mura 2",), differences=("no protocol was recorded",)),
        OtherProtocol(versions=("mura 3",), differences=("slices none, now body_part", "max_loss 0.1, now 0.02")),
        OtherProtocol(versions=("mura 4",), differences=("new True, now not there",)),
    )
    assert other_protocols(earlier[:1], PROTOCOL) == ()


@pytest.mark.long
def test_the_page_compares_the_candidates_and_ranks_on_tuning(
    mlflow_here: Path,
    out: Path,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
) -> None:
    models = [make_model(name, run=make_tracked()) for name in ("vgg16", "vgg19")]
    best, second = scored(0.9)[1], scored(0.7)[1]
    evaluations = [
        make_evaluation(models[0], 0.9), make_evaluation(models[1], 0.7)
    ]  # fmt: skip
    register(models, evaluations, PARAMS, out)
    html = (out / REPORT).read_text()
    check_page(html)
    words = Page(html).words
    table = html.split("Ranked by AUROC on the tuning split")[1].split("</table>")[0]
    assert table.index("VGG-16") < table.index("VGG-19")
    for scores in (best, second):
        assert f"{scores.test.cohen_kappa.value:.3f}" in words
    assert base64.b64encode((out / FOREST).read_bytes()).decode() in html
    assert "300 studies of 300 patients; 150 of the studies are abnormal" in words


# What is called registered can be loaded.


def lose_the_files(here: Path) -> None:
    shutil.rmtree(here / "mlruns")


def delete_the_model(here: Path) -> None:
    client = tracking.connect()
    client.delete_logged_model(client.get_model_version("mura", "1").source.removeprefix("models:/"))


@pytest.mark.longest
@pytest.mark.parametrize("lose", [lose_the_files, delete_the_model])
def test_a_lost_model_is_registered_again_and_can_be_loaded(
    lose: Callable[[Path], None],
    mlflow_here: Path,
    out: Path,
    trained: TrainedModel,
    make_evaluation: Callable[..., Evaluation],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "components")
    evaluation = make_evaluation(trained)
    register([trained], [evaluation], PARAMS, out)
    lose(mlflow_here)
    for _ in range(2):
        (version,) = register([trained], [evaluation], PARAMS, out).facts.versions
        assert version.version == 2
    assert says_what_the_artifact_says(trained, "models:/mura/2")
    assert caplog.text.count("mura version 1 cannot be loaded any more") == 1


@pytest.mark.longest
@pytest.mark.parametrize("copied", [pytest.param(False, id="moved"), pytest.param(True, id="copied")])
def test_models_move_with_the_project(
    copied: bool,
    mlflow_here: Path,
    tmp_path_factory: pytest.TempPathFactory,
    out: Path,
    trained: TrainedModel,
    make_evaluation: Callable[..., Evaluation],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluation = make_evaluation(trained)
    before = register([trained], [evaluation], PARAMS, out).facts
    project = tmp_path_factory.mktemp("elsewhere") / "a project"
    project.mkdir()
    for name in ("mlflow.db", "mlruns"):
        (shutil.move if not copied else copy)(mlflow_here / name, project / name)
    left = files(mlflow_here / "mlruns")
    monkeypatch.chdir(project)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/mlflow.db")
    assert register([trained], [evaluation], PARAMS, out).facts == before
    assert files(mlflow_here / "mlruns") == left
    shutil.rmtree(mlflow_here / "mlruns", ignore_errors=True)
    assert says_what_the_artifact_says(trained, "models:/mura/1")
    client = tracking.connect()
    next_run = client.create_run(server.experiment_id(client))
    assert next_run.info.artifact_uri.startswith((project / "mlruns" / "mura").as_uri())


def copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)


def files(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


def says_what_the_artifact_says(model: TrainedModel, uri: str) -> bool:
    import mlflow
    import numpy as np

    from components.network import architectures

    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1)).astype(np.float32)
    network, answers = mlflow.keras.load_model(uri), mlflow.pyfunc.load_model(uri)
    (answer,) = answers.predict(answers.input_example).to_dict("records")
    assert answer["model_digest"] == model.digest
    return bool(np.allclose(network(pixels), architectures.load(model)(pixels), atol=1e-5))


@pytest.mark.longest
def test_a_registry_of_its_own_is_honoured(
    mlflow_here: Path,
    mlflow_database: Path,
    out: Path,
    trained: TrainedModel,
    make_evaluation: Callable[..., Evaluation],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copy(mlflow_database, mlflow_here / "registry.db")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{mlflow_here}/registry.db")
    register([trained], [make_evaluation(trained)], PARAMS, out)
    with closing(sqlite3.connect(mlflow_here / "registry.db")) as registry:
        assert registry.execute("SELECT name, version FROM model_versions").fetchall() == [("mura", 1)]
    assert says_what_the_artifact_says(trained, "models:/mura/1")


@pytest.mark.long
def test_registering_what_is_on_the_server_imports_no_tensorflow(
    mlflow_here: Path,
    out: Path,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
) -> None:
    model = make_model(run=make_tracked())
    evaluation = make_evaluation(model)
    script = f"""
import sys
from pathlib import Path
from components.artifacts.evaluation import Evaluation
from components.artifacts.trained_model import TrainedModel
from components.params.promote import PromoteParams
from components.params.protocol import ProtocolParams
from components.params.register import RegisterParams
from components.promote import promote
from components.register import register
assert "mlflow" not in sys.modules
(out := Path({str(out)!r}, "promotion")).mkdir()
models, evaluations = [TrainedModel.read(Path({str(model.path)!r}))], [Evaluation.read(Path({str(evaluation.path)!r}))]
registration = register(models, evaluations, RegisterParams(model="mura"), Path({str(out)!r}))
promote(registration, PromoteParams(alias="champion"), out)
print({{"tensorflow", "keras", "great_expectations"}} & set(sys.modules))
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=mlflow_here,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_nothing_to_register_is_refused(out: Path) -> None:
    with pytest.raises(UsageError, match="at least one model"):
        register([], [], PARAMS, out)


def test_a_model_without_its_evaluation_is_refused(
    out: Path, make_model: Callable[..., TrainedModel], make_evaluation: Callable[..., Evaluation]
) -> None:
    trained, retrained = make_model(weights=b"1"), make_model(weights=b"2")
    with pytest.raises(UsageError, match="has no evaluation"):
        register([retrained], [make_evaluation(trained)], PARAMS, out)


def test_an_evaluation_without_its_model_is_refused(
    out: Path, make_model: Callable[..., TrainedModel], make_evaluation: Callable[..., Evaluation]
) -> None:
    models = [make_model("vgg16"), make_model("vgg19")]
    with pytest.raises(UsageError, match="not among those given"):
        register(models[:1], [make_evaluation(model) for model in models], PARAMS, out)


def test_two_models_of_one_name_are_refused(
    out: Path, make_model: Callable[..., TrainedModel], make_evaluation: Callable[..., Evaluation]
) -> None:
    models = [make_model(weights=b"1"), make_model(weights=b"2")]
    with pytest.raises(UsageError, match="expected one model of the candidate vgg16, got 2"):
        register(models, [make_evaluation(model) for model in models], PARAMS, out)


def test_two_evaluations_of_a_model_are_refused(
    out: Path, make_model: Callable[..., TrainedModel], make_evaluation: Callable[..., Evaluation]
) -> None:
    model = make_model()
    with pytest.raises(UsageError, match="expected one evaluation of the candidate vgg16, got 2"):
        register([model], [make_evaluation(model, auroc) for auroc in (0.7, 0.8)], PARAMS, out)


def test_candidates_of_different_data_are_refused(
    out: Path, make_model: Callable[..., TrainedModel], make_evaluation: Callable[..., Evaluation]
) -> None:
    models = [make_model("vgg16"), make_model("vgg19", data_digest="0" * 64)]
    with pytest.raises(UsageError, match="same data"):
        register(models, [make_evaluation(model) for model in models], PARAMS, out)


@pytest.mark.parametrize("split", ["tuning", "test"])
def test_candidates_evaluated_on_different_studies_are_refused(
    split: str, out: Path, make_model: Callable[..., TrainedModel], make_evaluation: Callable[..., Evaluation]
) -> None:
    models = [make_model("vgg16"), make_model("vgg19")]
    evaluations = [make_evaluation(models[0]), make_evaluation(models[1], **{f"{split}_digest": "0" * 64})]
    with pytest.raises(UsageError, match=f"same {split} studies"):
        register(models, evaluations, PARAMS, out)


def test_an_experiment_of_dvc_registers_nothing(
    out: Path,
    no_mlflow: pytest.MonkeyPatch,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "components")
    no_mlflow.setenv("DVC_EXP_NAME", "puffy-dogs")
    # Whoever asked for a registry would fail here.
    no_mlflow.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    model = make_model()
    facts = register([model], [make_evaluation(model)], PARAMS, out).facts
    assert (facts.versions, facts.trial) == ((), "puffy-dogs")
    assert Registration.read(out).facts == facts
    assert caplog.messages == ["register: trial puffy-dogs: nothing is registered"]


# Cards that were changed and sealed again, with a digest and a checksum that fit.


FORGED: dict[str, tuple[tuple[str, ...], Any]] = {
    "the AUROC": (("scores", "test", "auroc", "value"), 0.8199),
    "the end that the gate looks at": (("scores", "test", "auroc", "low"), 0.7999),
    "the score that ranks": (("scores", "tuning", "auroc", "value"), 0.8 + 1e-6),
    "the score that ranks equal ones": (("scores", "tuning", "brier", "value"), 0.1701),
    "the threshold": (("scores", "threshold"), 0.5),
    "a count": (("scores", "test", "confusion", "true_positive"), 121),
    "patients": (("scores", "test", "n_patients"), 301),
    "which test studies": (("scores", "test_digest"), "0" * 64),
    "which tuning studies": (("scores", "tuning_digest"), "0" * 64),
    "a score that is there and should not": (
        ("scores", "test", "f1"),
        {"value": None, "low": None, "high": None, "too_few": False},
    ),
    "the seed of the folds": (("seed",), 2),
    "images at once": (("params", "batch_size"), 0),
    "how the threshold is chosen": (("protocol", "operating_point"), "half"),
    "a rule that there is not": (("protocol", "lucky"), True),
    "an operating point that is not chosen now": (("operating_points", "half", "test", "f1", "value"), 0.8101),
    "the slope": (("calibration", "slope"), 1.0),
    "the intercept": (("calibration", "intercept"), 1.0),
    "the calibration error": (("reliability", "test", "calibrated", "expected_error"), 0.0),
    "a group of a slice": (("slices", "test", "body_part", "wrist", "auroc", "value"), 0.8101),
    "a group that there is not": (("slices", "tuning", "body_part"), {}),
    "the floor": (("floor", "test", "auroc", "value"), 0.5001),
    "what the model has more": (("floor", "tuning", "auroc_gain", "low"), 0.0),
    "the floor's threshold": (("floor", "threshold"), 0.7),
    "body parts without an offset": (("calibration", "pooled_parts"), ("hand",)),
    "a choice that there is not": (("params", "lucky"), True),
}


@pytest.mark.long
@pytest.mark.parametrize(("place", "value"), FORGED.values(), ids=FORGED)
def test_scores_that_are_not_those_of_the_predictions_are_refused(
    place: tuple[str, ...],
    value: Any,
    out: Path,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
) -> None:
    model = make_model()
    made = make_evaluation(model, 0.8)
    forged = reseal(made, place, value)
    assert forged.digest != made.digest
    with pytest.raises(DataRefused, match=r"its card says (.+)\. Evaluate the model again") as refusal:
        register([model], [forged], PARAMS, out)
    assert refusal.value.exit_code == 3
    assert "\n" not in str(refusal.value)


def test_a_second_opinion_is_measured_again(
    out: Path, make_model: Callable[..., TrainedModel], make_evaluation: Callable[..., Evaluation]
) -> None:
    model = make_model()
    made = make_evaluation(model, 0.8)
    opinion = SecondOpinion(overlay_digest="0e" * 32, studies=3, test=made.facts.scores.test)
    forged = Evaluation.seal(made.path, made.facts.model_copy(update={"second_opinion": opinion}))
    with pytest.raises(DataRefused, match=r"its card says second_opinion\.studies 3, its predictions give 0\."):
        register([model], [forged], PARAMS, out)


def test_predictions_that_nothing_can_be_measured_of_are_refused(
    out: Path, make_model: Callable[..., TrainedModel], make_evaluation: Callable[..., Evaluation]
) -> None:
    model = make_model()
    made = make_evaluation(model, 0.8)
    pd.DataFrame({"image": ["a"]}).to_parquet(made.path / PREDICTIONS, index=False)
    with pytest.raises(DataRefused, match=r"predictions\.parquet: nothing can be measured from it .*Evaluate"):
        register([model], [Evaluation.seal(made.path, made.facts)], PARAMS, out)


def test_a_test_split_of_one_class_is_refused(
    out: Path, make_model: Callable[..., TrainedModel], make_evaluation: Callable[..., Evaluation]
) -> None:
    model = make_model()
    made = make_evaluation(model, 0.8)
    predictions = pd.read_parquet(made.path / PREDICTIONS).query("split == 'tuning' or abnormal == 1")
    found = BothSplits.measure(predictions, NO_OFFSETS, ProtocolParams.model_validate(PROTOCOL), made.facts.seed)
    predictions.to_parquet(made.path / PREDICTIONS, index=False)
    found.table.to_parquet(made.path / STUDIES, index=False)
    facts = made.facts.model_copy(
        update={
            "scores": made.facts.scores.model_copy(update={"test": found.test}),
            "operating_points": found.points,
            "reliability": found.reliability,
        }
    )
    with pytest.raises(DataRefused, match=r"expected abnormal and normal studies in test, got 150 abnormal of 150"):
        register([model], [Evaluation.seal(made.path, facts)], PARAMS, out)


def test_a_table_of_studies_that_is_not_of_the_predictions_is_refused(
    out: Path, make_model: Callable[..., TrainedModel], make_evaluation: Callable[..., Evaluation]
) -> None:
    model = make_model()
    made = make_evaluation(model, 0.8)
    table = pd.read_parquet(made.path / STUDIES)
    table["probability"] = table["probability"].clip(upper=0.5)
    table.to_parquet(made.path / STUDIES, index=False)
    with pytest.raises(DataRefused, match=r"studies\.parquet: its rows are not those that the predictions give"):
        register([model], [Evaluation.seal(made.path, made.facts)], PARAMS, out)


def test_an_evaluation_with_the_offsets_of_another_model_is_refused(
    out: Path, make_model: Callable[..., TrainedModel], make_evaluation: Callable[..., Evaluation]
) -> None:
    model = make_model(offsets=Offsets(body_part={"wrist": 1.0}, pooled=1.0))
    with pytest.raises(DataRefused, match=r"its card says calibration\.intercept"):
        register([model], [make_evaluation(model)], PARAMS, out)


def test_candidates_that_were_measured_in_two_ways_are_refused(
    out: Path, make_model: Callable[..., TrainedModel], make_evaluation: Callable[..., Evaluation]
) -> None:
    models = [make_model("vgg16"), make_model("vgg19")]
    one, other = (make_evaluation(model) for model in models)
    with pytest.raises(UsageError, match="same way of measuring"):
        register(models, [one, reseal(other, ("protocol", "min_gain"), 0.6)], PARAMS, out)


@pytest.mark.parametrize(
    ("name", "place", "says"),
    [
        ("summary.json", ("tuning_auroc",), "says tuning_auroc 0.991, its card and predictions give 0.8"),
        ("metrics.json", ("tuning", "auroc", "value"), "says tuning.auroc.value 0.991, its card and predictions give"),
        ("test.json", ("test", "auroc", "value"), "says test.auroc.value 0.991, its card and predictions give"),
        ("test.json", ("roc", "sensitivity"), "says roc.sensitivity 0.991, its card and predictions give"),
    ],
)
def test_a_file_that_says_other_than_the_card_is_refused(
    mlflow_here: Path,
    out: Path,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    name: str,
    place: tuple[str, ...],
    says: str,
) -> None:
    model = make_model("vgg16")
    made = make_evaluation(model, 0.8)
    document = json.loads((made.path / name).read_text())
    inner = document
    for each in place[:-1]:
        inner = inner[each]
    inner[place[-1]] = 0.991
    (made.path / name).write_text(json.dumps(document))
    forged = Evaluation.seal(made.path, made.facts)
    assert forged.digest != made.digest
    with pytest.raises(DataRefused, match=re.escape(says)):
        register([model], [forged], PARAMS, out)


def reseal(made: Evaluation, place: tuple[str, ...], value: Any) -> Evaluation:
    """The same evaluation with another fact."""
    facts = made.facts.model_dump()
    inner = facts
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return Evaluation.seal(made.path, EvaluationFacts.model_validate(facts))


def _set_tag(name: str, text: str) -> None:
    tracking.connect().set_model_version_tag("mura", "1", name, text)


CHANGES: dict[str, Callable[[], None]] = {
    "the AUROC for people": lambda: _set_tag("test_auroc", "0.999 (0.998 to 1.000)"),
    "no AUROC": lambda: tracking.connect().delete_model_version_tag("mura", "1", "test_auroc"),
}


@pytest.mark.long
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_version_that_was_changed_is_not_taken_for_the_one_that_was_registered(
    change: Callable[[], None],
    mlflow_here: Path,
    out: Path,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
) -> None:
    model = make_model(run=make_tracked())
    evaluation = make_evaluation(model)
    register([model], [evaluation], PARAMS, out)
    client = tracking.connect()
    change()
    with pytest.raises(
        DataRefused, match=r"mura version 1 is not what was registered for vgg16: .*delete that version"
    ):
        register([model], [evaluation], PARAMS, out)
    client.delete_model_version("mura", "1")
    (version,) = register([model], [evaluation], PARAMS, out).facts.versions
    assert version.version == 2


@pytest.mark.longest
@pytest.mark.usefixtures("mlflow_here")
def test_a_version_whose_files_were_changed_is_not_believed(
    out: Path,
    trained: TrainedModel,
    make_evaluation: Callable[..., Evaluation],
) -> None:
    evaluation = make_evaluation(trained)
    (version,) = register([trained], [evaluation], PARAMS, out).facts.versions
    file = files_of("mura", 1) / evidence.VERSION
    file.write_text(file.read_text().replace('"value": 0.8,', '"value": 0.9,', 1))
    assert "evidence/version.json was changed" in str(model_registry.fault(version))
    with pytest.raises(DataRefused, match=r"mura version 1 is not believed: .*evidence/version\.json was changed"):
        model_registry.version("mura", 1)
    # Registered again, the files are stored and signed again.
    assert register([trained], [evaluation], PARAMS, out).facts.versions == (version,)
    assert model_registry.fault(version) is None
    assert model_registry.replay(version) is None


# The champion on the same patients.

Made = Callable[..., Registration]


@pytest.fixture
def registered(
    mlflow_here: Path,
    tmp_path: Path,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
) -> Made:
    """Registers new models: `registered(vgg16=0.7)`; candidates and their AUROCs."""

    def run(pictures: str = "", **aurocs: float) -> Registration:
        models, evaluations = [], []
        for candidate, auroc in aurocs.items():
            models.append(make_model("vgg16", str(auroc).encode(), candidate=candidate, run=make_tracked()))
            evaluations.append(make_evaluation(models[-1], auroc, pictures=pictures))
        (place := tmp_path / f"registration-{len(list(tmp_path.iterdir()))}").mkdir()
        return register(models, evaluations, PARAMS, place)

    return run


def crown(registration: Registration) -> RegisteredModel:
    (version,) = registration.facts.versions
    model_registry.set_alias(version, "champion")
    return version


def said(registration: Registration) -> str:
    html = (registration.path / REPORT).read_text()
    check_page(html)
    return Page(html).words


def table_of(version: RegisteredModel) -> Path:
    """The stored table of studies."""
    return files_of("mura", version.version) / evidence.STUDIES


@pytest.mark.long
def test_candidates_are_compared_with_the_champion_on_the_same_patients(registered: Made) -> None:
    first = registered(old=0.7)
    assert first.facts.comparisons == ()
    crown(first)
    later = registered(new=0.8, other=0.6)
    (found,) = later.facts.comparisons
    assert (found.version, found.other, found.aliases, found.missing) == (2, 1, ("champion",), ())
    assert found.test is not None
    assert found.tuning is not None
    assert found.test.auroc.value == pytest.approx(0.1)
    assert found.test.auroc.low is not None
    words = said(later)
    assert "Compared with old (VGG-16) v1, which holds the alias champion" in words
    assert "+0.100 (+0.0" in words
    assert "Compared with new (VGG-16) v2, the first" in words
    # Who held the alias changes no digest.
    assert later.facts.deciding() == later.facts.model_copy(update={"comparisons": ()}).deciding()


@pytest.mark.longest
def test_two_registrations_in_a_row_say_the_same_until_the_alias_moves(registered: Made) -> None:
    crown(registered(old=0.7))
    first, second = registered(new=0.8), registered(new=0.8)
    assert first.facts == second.facts
    assert said(first) == said(second)
    crown(second)
    third = registered(new=0.8)
    assert third.facts.comparisons == ()
    assert third.digest == first.digest
    assert "Paired differences" not in said(third)


@pytest.mark.longest
def test_a_champion_among_the_candidates_is_compared_as_a_candidate(registered: Made) -> None:
    crown(registered(old=0.7))
    registration = registered(old=0.7, new=0.8)
    (found,) = registration.facts.comparisons
    assert (found.version, found.other, found.aliases) == (2, 1, ("champion",))
    assert found.test is not None
    assert "old (VGG-16) v1 champion" in said(registration)
    assert "No difference" not in said(registration)


def lose(version: RegisteredModel) -> str:
    table_of(version).unlink()
    return "is lost from its evidence"


def change(version: RegisteredModel) -> str:
    table = pd.read_parquet(table_of(version))
    table.assign(probability=table["probability"] / 2).to_parquet(table_of(version), index=False)
    return "is not believed: not as"


def damage(version: RegisteredModel) -> str:
    table_of(version).write_bytes(b"PAR1")
    return "is not believed: not as"


def change_facts(version: RegisteredModel) -> str:
    flip(files_of("mura", version.version) / evidence.VERSION)
    return "is not believed: not as"


def be_a_stranger(version: RegisteredModel) -> str:
    (files_of("mura", version.version) / SIGNATURE).unlink()
    return f"is not known, as it is not signed and its tag {model_registry.FACTS} cannot be read"


def be_older(version: RegisteredModel) -> str:
    facts = version.model_dump_json(exclude={"version"})
    tracking.connect().set_model_version_tag("mura", str(version.version), model_registry.FACTS, facts)
    (files_of("mura", version.version) / SIGNATURE).unlink()
    return "was not stored: an older version of this program registered it"


def lower_the_scores(version: RegisteredModel) -> str:
    tracking.connect().set_model_version_tag("mura", str(version.version), "test_auroc", "0.65")
    return "is not used, as the version was changed since it was registered (expected"


@pytest.mark.long
@pytest.mark.parametrize(
    "spoil",
    [
        lose,
        lower_the_scores,
        *(
            pytest.param(spoil, marks=pytest.mark.longest)
            for spoil in (change, damage, change_facts, be_older, be_a_stranger)
        ),
    ],
    ids=lambda each: each.__name__,
)
def test_a_champion_that_cannot_be_compared_is_told_and_stops_nothing(
    spoil: Callable[[RegisteredModel], str], registered: Made, caplog: pytest.LogCaptureFixture
) -> None:
    expected = spoil(crown(registered(old=0.7)))
    later = registered(new=0.8)
    (found,) = later.facts.comparisons
    assert (found.tuning, found.test) == (None, None)
    assert f"its table of studies {expected}" in found.missing[0]
    assert "No difference:" in said(later)
    assert expected in said(later)
    assert f"register: no difference: {found.missing[0]}" in caplog.messages


@pytest.mark.longest
def test_a_champion_of_another_test_split_is_compared_on_tuning_alone(registered: Made) -> None:
    crown(old := registered("others", old=0.7))
    later = registered(new=0.8)
    (found,) = later.facts.comparisons
    assert found.test is None
    assert found.tuning is not None
    digests = [each.facts.versions[0].scores.test_digest[:12] for each in (old, later)]
    assert f"it was measured on other test studies ({digests[0]}, not {digests[1]})" in said(later)
