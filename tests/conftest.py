"""What several tests need: a place for MLflow, models and evaluations."""

import functools
import json
import logging
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import object_store
import pytest
from drawn_scores import around, make_scores
from protocols import PROTOCOL
from servers import free_port, wait_for

from components.artifacts.evaluation import (
    CARD_PAGE,
    CARD_TEXT,
    FAMILIARITY,
    PREDICTIONS,
    REPORT,
    STUDIES,
    TEST_REPORT,
    Both,
    BothReliabilities,
    Calibration,
    Evaluation,
    EvaluationFacts,
    Floor,
    FloorScores,
    PointScores,
    RawAndCalibrated,
    Reliability,
    Scores,
)
from components.artifacts.shards import split_digest
from components.artifacts.trained_model import CURVES, WEIGHTS, Offsets, TrackedRun, TrainedModel, TrainedModelFacts
from components.base import surroundings
from components.signing import keys

if TYPE_CHECKING:
    import pandas as pd
    from kubeflow_api import KubeflowApi
    from registered import Registered

    from components.scores.both_splits import BothSplits

os.environ.update(**surroundings.FIXED, TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")

# What tests register is signed by a key that they trust, whatever keys the machine has.
os.environ[keys.SIGNING_KEY] = keys.drawn().decode()
os.environ[keys.TRUSTED_KEYS] = keys.public_of(os.environ[keys.SIGNING_KEY].encode(), "the key of tests").pem.decode()

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MEASURED_WITH = {"batch_size": 8, "flips": False, "false_alarms": 0.01}
NO_OFFSETS = Offsets(body_part={"wrist": 0.0}, pooled=0.0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever leaves out the long tests leaves out the longest, too."""
    for item in items:
        if item.get_closest_marker("longest"):
            item.add_marker("long")


@pytest.fixture(autouse=True)
def levels_of_logs() -> None:
    """A command that ran in this process with --quiet does not silence the tests that follow."""
    for name in ("components", "pipelines"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database, to be copied: making one takes seconds."""
    from components import tracking

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
        tracking.connect()
    return path


@pytest.fixture
def no_mlflow(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Surroundings that say nothing of MLflow, with little patience."""
    for name in ("URI", "USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    for name in ("RUN_ID", "EXPERIMENT_ID", "EXPERIMENT_NAME", "REGISTRY_URI"):
        monkeypatch.delenv(f"MLFLOW_{name}", raising=False)
    # The tests may run in a pod themselves.
    for name in ("KUBERNETES_SERVICE_HOST", "KFP_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MURA_PATIENCE", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    return monkeypatch


@pytest.fixture
def mlflow_here(mlflow_database: Path, tmp_path: Path, no_mlflow: pytest.MonkeyPatch) -> Path:
    """A directory of its own, in which one stands, with an empty mlflow.db that the surroundings name."""
    shutil.copy(mlflow_database, tmp_path / "mlflow.db")
    no_mlflow.chdir(tmp_path)
    no_mlflow.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


@pytest.fixture(scope="session")
def mlflow_server_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the MLflow server keeps database and artifacts."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="session")
def mlflow_server(mlflow_database: Path, mlflow_server_files: Path) -> Iterator[str]:
    """The address of an MLflow server that keeps artifacts itself."""
    folder = mlflow_server_files
    shutil.copy(mlflow_database, folder / "mlflow.db")
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        f"{folder}/artifacts",
        # It closes a connection after 5 idle seconds: a busy machine meets that moment, and tests try only once.
        "--uvicorn-opts",
        "--timeout-keep-alive 300",
    ]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            command, env=os.environ | quiet, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a real S3 server, and the folder whose directories are its buckets."""
    folder = tmp_path_factory.mktemp("s3")
    with object_store.serving(folder, free_port()) as address:
        yield address, folder


@pytest.fixture
def bucket(s3_server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory behind s3://bucket, with surroundings that name server and credentials, and little patience."""
    address, folder = s3_server
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    settings = {"ENDPOINT_URL": address, "ACCESS_KEY_ID": object_store.USER, "SECRET_ACCESS_KEY": object_store.SECRET}
    for name, value in settings.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    here = folder / "bucket"
    here.mkdir()
    yield here
    shutil.rmtree(here)


@pytest.fixture
def api() -> "Iterator[KubeflowApi]":
    """A server that speaks Kubeflow Pipelines' API."""
    from kubeflow_api import KubeflowApi, serve

    with serve(KubeflowApi()) as running:
        yield running


@pytest.fixture
def mura(
    api: "KubeflowApi", monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs `mura pipeline ...` at that server: exit code, what it printed, what it complained."""
    from components.cli import main

    for name in [name for name in os.environ if name.startswith("KF_PIPELINES_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", api.url)
    # Whatever cluster there may be for others is not asked.
    monkeypatch.setenv("KUBECONFIG", os.devnull)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main.run([*(("--debug",) if words[0] == "--debug" else ()), "pipeline", *words[words[0] == "--debug" :]])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def run_mura(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs `mura ...` in this process: exit code, what it printed, what it complained."""
    from components.cli import main

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main.run(words)
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., TrainedModel]:
    """Seals a model: `make_model("vgg16", weights=b"...", data_digest="...")`."""

    def make(architecture: str = "vgg16", weights: bytes | None = None, **facts: Any) -> TrainedModel:
        path = tmp_path / "models" / f"{architecture}-{time.time_ns()}"
        return seal_model(path, architecture, weights, **facts)

    return make


@pytest.fixture
def trained(make_model: Callable[..., TrainedModel], tmp_path: Path) -> TrainedModel:
    """A model with real weights, trained with a server that is not there."""
    from components.network import architectures
    from components.params.train import TrainParams

    params = TrainParams(
        candidate="small",
        architecture="custom_cnn",
        weights="none",
        epochs=2,
        head_epochs=0,
        batch_size=8,
        learning_rate=0.001,
        head_learning_rate=0.001,
        warmup=0.1,
        shrinkage=0.0,
        clip_norm=0.0,
        averaging=0.0,
        dropout=0.0,
        patience=1,
        class_weighting="none",
        flip=False,
        rotation=0,
        zoom=0.0,
        shift=0.0,
        brightness=0.0,
        contrast=0.0,
        width=32,
        batch_norm_momentum=0.9,
        precision="float32",
        residence="auto",
    )
    architectures.build(params, 32, seed=1).save_weights(tmp_path / "a.weights.h5")
    weights = (tmp_path / "a.weights.h5").read_bytes()
    return make_model("custom_cnn", candidate="small", weights=weights, params=params.model_dump(mode="json"))


@pytest.fixture
def hollow() -> set[str]:
    """Runs whose models have no substance."""
    return set()


@pytest.fixture
def make_tracked(tmp_path: Path, hollow: set[str]) -> Callable[[], TrackedRun]:
    """Logs a model without substance to the MLflow in use: enough to be registered."""
    from components import tracking
    from components.tracking import server

    def make() -> TrackedRun:
        client = tracking.connect()
        run = client.create_run(server.experiment_id(client))
        hollow.add(run.info.run_id)
        return log_hollow(run.info.run_id, tmp_path / "hollow", {})

    return make


def log_hollow(run_id: str, folder: Path, tags: dict[str, str]) -> TrackedRun:
    """A logged model of a run, with the files of a network that hold nothing."""
    from components import tracking

    client = tracking.connect()
    experiment = client.get_run(run_id).info.experiment_id
    logged = client.create_logged_model(experiment, name="hollow", source_run_id=run_id, tags=tags)
    _write_hollow(folder)
    client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, "READY")
    return TrackedRun(run_id=run_id, model_uri=f"models:/{logged.model_id}")


def _write_hollow(folder: Path) -> None:
    from components.tracking import stored_model

    network = folder / stored_model.NETWORK
    network.parent.mkdir(parents=True, exist_ok=True)
    (folder / "MLmodel").write_text("flavors: {keras: {data: data}}\n")
    with zipfile.ZipFile(network, "w") as archive:
        for name in ("config.json", "metadata.json", "model.weights.h5"):
            archive.writestr(name, "{}")


def hollow_predictor(name: str, model: TrainedModel, evaluation: Evaluation, run_id: str, folder: Path) -> TrackedRun:
    """The signed predictor of a model whose network is the mean of the pixels: enough to be registered and replayed.

    One that is there is found.
    """
    from components import tracking
    from components.artifacts import predictor
    from components.artifacts.predictor import PredictorCard
    from components.base.files import file_sha256
    from components.golden import replaying
    from components.signing import directory
    from components.tracking import evidence_files, logged_predictor, stored_model

    client, tags = tracking.connect(), logged_predictor.tags_of(model, evaluation, name)
    experiment = client.get_run(run_id).info.experiment_id
    ours = " and ".join([f"source_run_id = '{run_id}'", *(f"tags.{tag} = '{text}'" for tag, text in tags.items())])
    for found in client.search_logged_models([experiment], filter_string=ours):
        return TrackedRun(run_id=run_id, model_uri=f"models:/{found.model_id}")
    logged = client.create_logged_model(experiment, name="hollow", source_run_id=run_id, tags=tags)
    shutil.rmtree(folder, ignore_errors=True)
    _write_hollow(folder)
    onnx = folder / predictor.ONNX
    onnx.write_bytes(mean_network(model.facts.image_size))
    digests = [file_sha256(folder / each) for each in (predictor.NETWORK, predictor.ONNX)]
    (folder / predictor.CARD).write_text(PredictorCard.of(model, evaluation, *digests).model_dump_json())
    bound = evidence_files.Bound(name, run_id, logged.model_id)
    evidence_files.write(model, evaluation, bound, folder)
    replaying.write(folder)
    directory.sign(folder)
    client.log_model_artifacts(logged.model_id, str(folder))
    client.set_logged_model_tags(logged.model_id, {stored_model.ONNX_SHA256: digests[1]})
    client.finalize_logged_model(logged.model_id, "READY")
    return TrackedRun(run_id=run_id, model_uri=f"models:/{logged.model_id}")


@functools.cache
def mean_network(size: int) -> bytes:
    """An ONNX file whose logit says how bright a picture is."""
    import numpy as np
    from onnx import TensorProto, checker, helper, numpy_helper

    def kept(name: str, values: Any) -> Any:
        return numpy_helper.from_array(np.array(values), name)

    nodes = [
        helper.make_node("Cast", ["pixels"], ["given"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["given", "last"], ["map"], keepdims=0),
        helper.make_node("ReduceMean", ["given", "sides"], ["features"], keepdims=0),
        helper.make_node("Sub", ["features", "middle"], ["moved"]),
        helper.make_node("Div", ["moved", "middle"], ["logit"]),
    ]
    shapes = {"logit": ["N", 1], "map": ["N", size, size], "features": ["N", 1]}
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", size, size, 1])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [kept("last", [3]), kept("sides", [1, 2]), kept("middle", np.array([60], np.float32))],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    checker.check_model(made)
    content: bytes = made.SerializeToString()
    return content


@pytest.fixture
def register_hollow(tmp_path: Path) -> Callable[..., Any]:
    """Registers a model of `make_tracked`: `register_hollow("mura", model, evaluation, make_tracked())`."""
    from components.tracking import model_registry

    def register(name: str, model: TrainedModel, evaluation: Evaluation, run: TrackedRun) -> Any:
        made = hollow_predictor(name, model, evaluation, run.run_id, tmp_path / "signed")
        return model_registry.ensure_version(name, model, evaluation, made)

    return register


@pytest.fixture
def make_version(
    mlflow_here: Path,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Callable[..., Any],
) -> Callable[..., Any]:
    """Registers a version of `mura` with an AUROC, in the registry of `mlflow_here`: `make_version(0.8, "vgg19")`."""
    assert mlflow_here.is_dir()

    def make(auroc: float, candidate: str = "vgg16", **protocol: Any) -> Any:
        model = make_model(candidate, weights=f"{candidate} {auroc}".encode(), candidate=candidate)
        evaluation = make_evaluation(model, auroc, protocol or None, test_digest="7e" * 32)
        return register_hollow("mura", model, evaluation, make_tracked())

    return make


@pytest.fixture(scope="session")
def registered(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> "Registered":
    """A small version in a registry of its own. It cannot tell what is unlike."""
    from registered import register_small

    return register_small(tmp_path_factory.mktemp("registered"), mlflow_database, 0.01)


@pytest.fixture(scope="session")
def wary(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> "Registered":
    """The same, which can: so few tuning studies are enough for a tenth of false alarms."""
    from registered import register_small

    return register_small(tmp_path_factory.mktemp("wary"), mlflow_database, 0.1)


@pytest.fixture
def make_evaluation(tmp_path: Path, hollow: set[str]) -> Callable[..., Evaluation]:
    """Seals an evaluation of a model: `make_evaluation(model, auroc=0.8, pictures="others")`.

    Its scores are those of its predictions, except where they are given: `make_evaluation(model, test=...)`. `protocol`
    are changes of the protocol. Where the logged model has no substance, a predictor without any is signed, for `mura`
    or another name.
    """

    from components.scores.json_files import json_files

    # Parameters: each has a default.
    def make(
        model: TrainedModel,
        auroc: float = 0.8,
        protocol: dict[str, Any] | None = None,
        pictures: str = "",
        body_parts: tuple[str, ...] | None = None,
        signed_for: str = "mura",
        **scores: Any,
    ) -> Evaluation:
        path = tmp_path / "evaluations" / f"{model.facts.architecture}-{time.time_ns()}"
        path.mkdir(parents=True)
        predicted, measured = scored(auroc, pictures)
        digests = {f"{name}_digest": split_digest(rows) for name, rows in predicted.groupby("split")}
        predicted.to_parquet(path / PREDICTIONS, index=False)
        measured.table.to_parquet(path / STUDIES, index=False)
        (path / FAMILIARITY).write_text("null\n")
        (path / REPORT).write_text("<p>report</p>")
        (path / TEST_REPORT).write_text("<p>report of the test split</p>")
        (path / CARD_TEXT).write_text("# Model card\n")
        (path / CARD_PAGE).write_text("<h1>Model card</h1>")
        facts = EvaluationFacts(
            candidate=model.facts.candidate,
            architecture=model.facts.architecture,
            model_digest=model.digest,
            data_digest=model.facts.data_digest,
            shards_digest=model.facts.shards_digest,
            code_revision=COMMIT,
            body_parts=body_parts,
            params=MEASURED_WITH,
            protocol=PROTOCOL | (protocol or {}),
            seed=1,
            calibration=measured.calibrated.facts(NO_OFFSETS),
            scores=make_scores(
                **{"threshold": measured.threshold, "tuning": measured.tuning, "test": measured.test} | digests | scores
            ),
            operating_points=measured.points,
            reliability=measured.reliability,
            slices=measured.slices,
            floor=measured.floor,
        )
        for name, content in json_files(facts, measured.calibrated.test).items():
            (path / name).write_text(json.dumps(content))
        made = Evaluation.seal(path, facts)
        if model.facts.run.run_id in hollow:
            hollow_predictor(signed_for, model, made, model.facts.run.run_id, tmp_path / "signed")
        return made

    return make


def seal_model(path: Path, architecture: str, weights: bytes | None = None, **facts: Any) -> TrainedModel:
    """A model in a new directory, with what is on a card unless it is given."""
    path.mkdir(parents=True)
    (path / WEIGHTS).write_bytes(architecture.encode() if weights is None else weights)
    (path / CURVES).write_text(
        "epoch,phase,learning_rate,loss,tuning_loss,tuning_auroc\n"
        "1,head,0.001,0.7,0.69,0.6\n2,all,0.0001,0.6,0.65,0.7\n"
    )
    known: dict[str, Any] = {
        "candidate": architecture,
        "architecture": architecture,
        "image_size": 32,
        "parameters": 10,
        "params": {"architecture": architecture, "learning_rate": 0.001, "epochs": 2},
        "seed": 1,
        "precision": "float32",
        "device": "CPU",
        "phases": ("head", "all"),
        "epochs": 2,
        "best_epoch": 2,
        "tuning": {"auroc": 0.7, "loss": 0.65},
        "offsets": NO_OFFSETS,
        "seconds": 12.5,
        "data_digest": "da" * 32,
        "shards_digest": "5a" * 32,
        "code_revision": COMMIT,
        "environment": {"keras": "3.15.1"},
        "run": TrackedRun(run_id="0" * 32, model_uri="models:/m-" + "0" * 32),
    }
    return TrainedModel.seal(path, TrainedModelFacts(**known | facts))


@functools.cache
def scored(auroc: float, pictures: str = "") -> "tuple[pd.DataFrame, BothSplits]":
    """Predictions of a view of each of 300 studies of both splits, and their scores.

    Other `pictures` make other test studies, of the same names and scores. The AUROC on test is exact to 1/2500, that
    on tuning nearly: its probabilities are cross-fitted.
    """
    import numpy as np
    import pandas as pd

    from components.params.protocol import ProtocolParams
    from components.scores.both_splits import BothSplits

    # Of 50 abnormal studies, some are above all normal ones, one is above some, the others are below all.
    above, some = divmod(round(auroc * 2500), 50)
    abnormal = [0.9 + number / 1000 for number in range(above)] + [0.3 + some / 100 - 0.005]
    abnormal = (abnormal + [0.1 + number / 1000 for number in range(50)])[:50]
    probability = [*abnormal, *(0.3 + number / 100 for number in range(50))] * 3
    study = [f"study{number:03d}" for number in range(300)]
    logit = np.log(probability) - np.log1p(-np.array(probability))
    split = {"study": study, "abnormal": ([1] * 50 + [0] * 50) * 3, "logit": logit, "body_part": "wrist"}
    both = [pd.DataFrame(split | {"split": name, "patient": [f"{name} {each}" for each in study]}) for name in
            ("tuning", "test")]  # fmt: skip
    predicted = pd.concat(both, ignore_index=True)
    predicted["study"] = predicted["split"] + "/" + predicted["study"]
    predicted["overlay"] = pd.array([pd.NA] * len(predicted), "Int64")
    predicted["mode"] = ["L", "RGB"] * (len(predicted) // 2)
    predicted["floor"] = [0.4, 0.5, 0.5] * (len(predicted) // 3)
    predicted["image"] = predicted["study"] + "/image1.png"
    shown = predicted["image"].where(predicted["split"] == "tuning", predicted["image"] + pictures)
    predicted["sha256"] = [sha256(each.encode()).hexdigest() for each in shown]
    return predicted, BothSplits.measure(predicted, NO_OFFSETS, ProtocolParams.model_validate(PROTOCOL), 1)


def calibrated_facts(scores: Scores, names: tuple[str, ...] = ("kappa", "sensitivity", "half")) -> dict[str, Any]:
    """What an evaluation with these scores may say of calibration, operating points, groups and the floor."""
    known: dict[str, Any] = {"expected_error_by_chance": 0.06, "intercept": around(0.1)}
    reliability = {
        split: RawAndCalibrated(
            raw=Reliability(brier=scores.of(split).brier, expected_error=0.12, slope=around(0.4), **known),
            calibrated=Reliability(brier=scores.of(split).brier, expected_error=0.04, slope=around(0.9), **known),
        )
        for split in ("tuning", "test")
    }
    points = {
        name: PointScores(threshold=threshold, tuning=scores.tuning, test=scores.test)
        for name, threshold in {"kappa": scores.threshold, "sensitivity": 0.25, "half": 0.5}.items()
        if name in names
    }
    low = FloorScores(auroc=around(0.6), cohen_kappa=around(0.1), auroc_gain=around(0.2), cohen_kappa_gain=around(0.5))
    return {
        "calibration": Calibration(intercept=0.2, slope=0.6, folds=10),
        "operating_points": points,
        "reliability": BothReliabilities(**reliability),
        "slices": Both(tuning={"body_part": {"wrist": scores.tuning}}, test={"body_part": {}}),
        "floor": Floor(threshold=0.4, tuning=low, test=low),
    }
