"""What Kubeflow is told: strictly what its launcher parses, and what its user interface shows."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from conftest import MEASURED_WITH
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from miniature import archive, images, manifest, pack, prove, use_cores, write_zip
from protocols import PROTOCOL
from servers import free_port

from components.artifacts.artifact import Artifact
from components.artifacts.evaluation import SUMMARY, Evaluation
from components.artifacts.manifest import ValidManifest
from components.artifacts.promotion import Decision, Promotion, PromotionFacts
from components.artifacts.registration import Opened, RegisteredModel
from components.artifacts.shards import Shards
from components.artifacts.trained_model import TrackedRun, TrainedModel
from components.base import code
from components.base.errors import DataRefused, UsageError
from components.cli.main import run
from components.kubeflow import notify, pod
from components.kubeflow.executor import VIEWS, ExecutorInput, brought, mounted, noun, passed_on


def handed(folder: Path, *outputs: str, **parameters: Any) -> str:
    """What Kubeflow hands to a step of these outputs."""
    artifacts = {
        name: {"artifacts": [{"name": name, "type": {"schemaTitle": "x"}, "uri": str(folder / name)}]}
        for name in outputs
    }
    document = {
        "inputs": {"parameterValues": parameters},
        "outputs": {"artifacts": artifacts, "outputFile": str(folder / "deep" / "output_metadata.json")},
    }
    return json.dumps(document)


def told(folder: Path, artifact: Artifact[Any], **inputs: Any) -> dict[str, Any]:
    """What is reported of an artifact, parsed as the launcher does: by protobuf, and nothing unknown in it."""
    kind = type(artifact)
    ExecutorInput(handed(folder, noun(kind), *VIEWS.get(kind, {}))).report(artifact, inputs)
    text = (folder / "deep" / "output_metadata.json").read_text()
    parsed = json_format.Parse(text, pipeline_spec_pb2.ExecutorOutput())
    assert parsed.parameter_values["digest"].string_value == artifact.digest[:32]

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    document: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return {name: each["artifacts"][0] for name, each in document["artifacts"].items()}


@pytest.fixture
def model(make_model: Callable[..., TrainedModel]) -> TrainedModel:
    return make_model()


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ValidManifest, Shards]:
    use_cores(1, monkeypatch)
    path = write_zip(tmp_path / "MURA-v1.1.zip", archive(images(train=10, valid=3)))
    valid = prove(manifest(path, tmp_path / "manifest"), tmp_path / "valid")
    return valid, pack(path, valid, tmp_path / "shards")


@pytest.fixture
def evaluation(model: TrainedModel, make_evaluation: Callable[..., Evaluation]) -> Evaluation:
    made = make_evaluation(model)
    plots = made.path / "plots"
    plots.mkdir()
    rows = "".join(f"{i / 200},{min(1, i / 100)},{1 - i / 200}\n" for i in range(1, 200))
    (plots / "roc.csv").write_text(f"false_positive_rate,sensitivity,threshold\n0,0,inf\n{rows}")
    (made.path / SUMMARY).write_text('{"tuning_auroc": 0.8, "tuning_cohen_kappa": null}')
    return made


def test_an_evaluation_is_shown_as_numbers_a_curve_a_matrix_and_a_page(
    tmp_path: Path, evaluation: Evaluation, model: TrainedModel
) -> None:
    shown = told(tmp_path, evaluation, model=model)
    assert shown["metrics"]["metadata"] == {"tuning_auroc": 0.8}
    roc = shown["roc"]["metadata"]
    assert len(roc["confidenceMetrics"]) == 200
    assert set(roc["confidenceMetrics"][0]) == {"confidenceThreshold", "falsePositiveRate", "recall"}
    assert roc["confusionMatrix"]["rows"] == [{"row": [150, 0]}, {"row": [30, 120]}]
    assert (tmp_path / "report").read_text() == evaluation.report.read_text()


def test_the_curve_begins_where_nothing_is_called_abnormal(
    tmp_path: Path, evaluation: Evaluation, model: TrainedModel
) -> None:
    """JSON has no infinity, which is the threshold there."""
    first, second, *_ = told(tmp_path, evaluation, model=model)["roc"]["metadata"]["confidenceMetrics"]
    assert (first["falsePositiveRate"], first["recall"]) == (0, 0)
    assert first["confidenceThreshold"] > second["confidenceThreshold"]


def test_the_next_steps_are_told_nothing_that_they_do_not_read(
    tmp_path: Path, evaluation: Evaluation, model: TrainedModel
) -> None:
    """It would stand six times in the state of each step that reads the artifact. Left out, Kubeflow adds the store."""
    for number, artifact in enumerate((evaluation, model)):
        metadata = told(tmp_path / str(number), artifact, model=model)[noun(type(artifact))]["metadata"]
        # A store that is none, as in a run on this machine.
        assert metadata == {}
    for scheme in ("minio", "s3", "gs"):
        told_of_the_store = passed_on(f"{scheme}://bucket/v2/artifacts/mura/run/shard/0/shards")
        assert json.loads(told_of_the_store.pop("store_session_info"))["Provider"] == scheme
        assert told_of_the_store == {}


def test_an_evaluation_brings_its_model_along(tmp_path: Path, evaluation: Evaluation, model: TrainedModel) -> None:
    faults = Evaluation.faults(evaluation.path)
    for _ in range(2):
        told(tmp_path, evaluation, model=model)
        assert Evaluation.faults(evaluation.path) == faults
        assert TrainedModel.read(brought(evaluation.path, "model")).digest == model.digest


def test_shards_bring_their_manifest_along(tmp_path: Path, packed: tuple[ValidManifest, Shards]) -> None:
    valid, shards = packed
    faults = Shards.faults(shards.path)
    told(tmp_path, shards, manifest=valid)
    assert Shards.faults(shards.path) == faults
    assert ValidManifest.read(brought(shards.path, "manifest")).digest == valid.digest
    # Those that were merged of parts bring none.
    shutil.rmtree(brought(shards.path, "manifest"))
    told(tmp_path, shards)
    assert not brought(shards.path, "manifest").exists()


def test_evaluate_finds_the_manifest_in_the_shards(
    tmp_path: Path, packed: tuple[ValidManifest, Shards], make_model: Callable[..., TrainedModel],
    capfd: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    valid, shards = packed
    told(tmp_path, shards, manifest=valid)
    document = json.loads(handed(tmp_path, "evaluation"))
    places = {"shards": shards.path, "model": make_model().path}
    chosen: dict[str, Any] = {"params": MEASURED_WITH, "protocol": PROTOCOL, "seed": 1.0}

    def evaluate(digest: str) -> tuple[int, str]:
        document["inputs"] = {
            "artifacts": {name: {"artifacts": [{"uri": str(path)}]} for name, path in places.items()},
            "parameterValues": chosen | {"manifest_digest": digest},
        }
        code = run(["evaluate", "--executor-input", json.dumps(document)])
        return code, capfd.readouterr().err

    # It is read and compared; this model is of other data.
    code, said = evaluate(valid.digest[:32])
    assert (code, "expected a model trained on data set" in said) == (3, True)
    code, said = evaluate("f" * 32)
    assert (code, "expected the ValidManifest of digest ffffffffffff, which the step before made" in said) == (3, True)
    shutil.rmtree(brought(shards.path, "manifest"))
    code, said = evaluate(valid.digest[:32])
    assert (code, "error: shards: the cache's artifact is gone from the bucket" in said) == (5, True)


def test_the_log_links_a_model_to_its_run_without_the_password(
    tmp_path: Path, model: TrainedModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://anna:secret@mlflow.example:5000/")
    metrics = told(tmp_path, model)["metrics"]["metadata"]
    assert f"MLflow at https://mlflow.example:5000/#/runs/{'0' * 32}?workflowType=machine_learning" in caplog.text
    assert metrics["best_tuning_auroc"] == 0.7
    # Kubeflow takes metrics for numbers, also when it moves them to another database.
    assert all(isinstance(value, int | float) for value in metrics.values())
    caplog.clear()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    told(tmp_path, model)
    assert caplog.text == ""


@pytest.fixture
def version(evaluation: Evaluation) -> RegisteredModel:
    return RegisteredModel(
        model="mura",
        version=3,
        run_id="0" * 32,
        candidate="wide",
        architecture="vgg16",
        model_digest="0d" * 32,
        evaluation_digest=evaluation.digest,
        data_digest="da" * 32,
        code_revision="c0de",
        training_seconds=1.0,
        scores=evaluation.facts.scores,
    )


def test_a_model_that_was_trained_without_mlflow_has_no_link(
    tmp_path: Path,
    make_model: Callable[..., TrainedModel],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example:5000")
    told(tmp_path, make_model(run=TrackedRun(run_id="", model_uri="")))
    assert caplog.text == ""


def test_the_champion_is_a_model_at_its_place_in_the_registry(tmp_path: Path, version: RegisteredModel) -> None:
    path = tmp_path / "promotion"
    path.mkdir()
    (path / "report.html").write_text("<p>promoted</p>")
    facts = PromotionFacts(
        alias="champion",
        decision=Decision(outcome="promoted", reasons=("It is good.",)),
        challenger=version,
        previous=None,
        current=version,
        candidates=(version, version.model_copy(update={"version": 4, "candidate": "narrow"})),
        opened=Opened(models=5, protocols=()),
    )
    shown = told(tmp_path / "told", Promotion.seal(path, facts))
    assert shown["champion"]["metadata"]["version"] == "models:/mura/3"
    assert shown["champion"]["metadata"]["candidate"] == "wide"
    assert shown["champion"]["metadata"]["alias"] == "models:/mura@champion"
    links = {name: shown["champion"]["metadata"][name] for name in ("wide", "narrow")}
    assert links == {"wide": "models:/mura/3", "narrow": "models:/mura/4"}
    # The test split is opened by the last steps.
    assert shown["champion"]["metadata"]["narrow_test_auroc"] == str(version.scores.test.auroc)
    assert shown["champion"]["metadata"]["models_measured_on_test"] == "5"


@pytest.mark.parametrize("scheme", ["s3", "minio", "gs"])
def test_pages_go_where_the_launcher_takes_them_from(scheme: str) -> None:
    assert str(mounted(f"{scheme}://bucket/a/report")) == f"/{'gcs' if scheme == 'gs' else scheme}/bucket/a/report"


def test_what_goes_by_a_volume_is_no_output_of_kubeflow(
    tmp_path: Path, make_model: Callable[..., TrainedModel]
) -> None:
    ExecutorInput(handed(tmp_path)).report(make_model(), {})
    document = json.loads((tmp_path / "deep" / "output_metadata.json").read_text())
    assert document["artifacts"] == {}
    assert list(document["parameterValues"]) == ["digest"]


def test_another_artifact_than_the_one_announced_is_refused(
    tmp_path: Path, make_model: Callable[..., TrainedModel]
) -> None:
    model = make_model()
    ExecutorInput(handed(tmp_path, model_digest=model.digest)).check({"model": model}, "components.evaluate")
    with pytest.raises(DataRefused, match="digest 0badc0de"):
        ExecutorInput(handed(tmp_path, model_digest="0badc0de")).check({"model": model}, "components.evaluate")


def test_an_image_of_other_code_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shard, train = (code.digest(f"components.{step}") for step in ("shard", "train"))
    ExecutorInput(handed(tmp_path, code=shard)).check({}, "components.shard")
    assert caplog.text == ""
    ExecutorInput(handed(tmp_path, code=train)).check({}, "components.shard")
    assert f"compiled for code {train[:12]}, this image contains {shard[:12]}" in caplog.text
    ExecutorInput(handed(tmp_path, code="0badc0de")).check({}, "components.shard")
    assert "compiled for code 0badc0de" in caplog.text


@pytest.mark.parametrize("text", ["{{$}}", "[]", "{}", '{"outputs": 1}'])
def test_what_kubeflow_does_not_hand_over_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="--executor-input"):
        ExecutorInput(text)


class Hook(BaseHTTPRequestHandler):
    """A webhook that answers as it is told and remembers what it heard."""

    heard: ClassVar[list[dict[str, Any]]]
    asked: ClassVar[list[tuple[str, str | None]]]
    """Which paths, and with which Authorization."""
    status: int
    runs: ClassVar[dict[str, Any]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Authorization"]))
        found = self.runs.get(self.path)
        self.send_response(403 if found is None else 302 if isinstance(found, str) else 200)
        if isinstance(found, str):
            self.send_header("Location", found)
        self.end_headers()
        self.wfile.write(json.dumps(found).encode())

    def do_POST(self) -> None:
        self.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hook]]:
    class Mine(Hook):
        heard: ClassVar[list[dict[str, Any]]] = []
        asked: ClassVar[list[tuple[str, str | None]]] = []
        runs: ClassVar[dict[str, Any]] = {}
        status = 200

    with HTTPServer(("127.0.0.1", 0), Mine) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv(notify.WEBHOOK, f"http://127.0.0.1:{server.server_port}/secret-path")
        monkeypatch.setenv(pod.API, f"http://127.0.0.1:{server.server_port}/")
        yield Mine
        server.shutdown()


FAILED = json.dumps(
    {
        "state": "FAILED",
        "error": {"message": "task validate\nfailed"},
        "pipelineJobResourceName": "mura-7",
        "pipelineTaskName": "training",
    }
)


@pytest.mark.long
def test_the_webhook_hears_what_failed_and_where_to_look(hook: type[Hook], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(pod.UI, "https://kubeflow.example/pipeline/")
    assert run(["notify", "--status", FAILED, "--run", "r1"]) == 0
    (heard,) = hook.heard
    link = "https://kubeflow.example/pipeline/#/runs/details/r1"
    assert heard["text"] == f"mura mura-7: failed, task validate failed {link}"
    assert (heard["state"], heard["run_id"], heard["url"]) == ("FAILED", "r1", link)


@pytest.mark.parametrize("status", ["{}", "no JSON", "[]", '{"state": null, "error": null}', '{"state": "RUNNING"}'])
def test_a_status_that_says_little_is_passed_on(hook: type[Hook], status: str) -> None:
    assert run(["notify", "--status", status, "--run", "r1"]) == 0
    assert hook.heard[0]["text"] == "mura r1: ended, and Kubeflow does not say how"


@pytest.mark.parametrize("state", ["COMPLETE", "CACHED", "SUCCEEDED"])
def test_a_run_that_succeeded_is_told_in_the_same_words_everywhere(hook: type[Hook], state: str) -> None:
    # As Kubeflow's server puts it, and kfp.local.
    status = {"error": {}, "pipelineJobResourceName": "mura-7", "pipelineTaskName": "exit-handler-1", "state": state}
    assert run(["notify", "--status", json.dumps(status), "--run", "r1"]) == 0
    assert (hook.heard[0]["text"], hook.heard[0]["state"]) == ("mura mura-7: succeeded", "SUCCEEDED")


@pytest.mark.parametrize("state", ["FAILED", "RUNNING"])
def test_which_steps_failed_is_asked_of_the_server(hook: type[Hook], state: str) -> None:
    ended = {
        **dict.fromkeys(("mura-7-x2x4f", "exit-handler-1", "train-vgg16", "executor", "executor(0)"), "FAILED"),
        "train-vgg16-driver": "SUCCEEDED",
        "shard": "SUCCEEDED",
        "notify": "RUNNING",
        "validate": "FAILED",
    }
    tasks = [{"display_name": name, "state": found} for name, found in ended.items()]
    hook.runs["/apis/v2beta1/runs/r%2F1"] = {"run_details": {"task_details": tasks}}
    assert run(["notify", "--status", json.dumps({"state": state, "error": {}}), "--run", "r/1"]) == 0
    (heard,) = hook.heard
    assert heard["text"] == "mura r/1: failed in train-vgg16, validate"
    assert (heard["state"], heard["failed"]) == ("FAILED", ["train-vgg16", "validate"])


def test_the_server_is_shown_the_pods_token_and_nobody_else(
    hook: type[Hook], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(pod.TOKEN_PATH, str(tmp_path / "token"))
    assert run(["notify", "--status", '{"state": "FAILED"}', "--run", "r1"]) == 0
    (tmp_path / "token").write_text("secret\n")
    hook.runs["/apis/v2beta1/runs/r1"] = "/login"
    assert run(["notify", "--status", '{"state": "FAILED"}', "--run", "r1"]) == 0
    (tmp_path / "token").write_bytes(b"\xff")
    assert run(["notify", "--status", '{"state": "FAILED"}', "--run", "r1"]) == 0
    path = "/apis/v2beta1/runs/r1"
    assert hook.asked == [(path, None), (path, "Bearer secret"), ("/login", None)]
    assert [heard["text"] for heard in hook.heard] == ["mura r1: failed"] * 3


@pytest.mark.parametrize(
    "answer", [{}, [], {"run_details": {"task_details": None}}, {"run_details": {"task_details": [1]}}]
)
def test_a_server_that_does_not_tell_what_failed_does_no_harm(hook: type[Hook], answer: Any) -> None:
    hook.runs["/apis/v2beta1/runs/r1"] = answer
    assert run(["notify", "--status", '{"state": "FAILED", "error": {}}', "--run", "r1"]) == 0
    assert hook.heard[0]["text"] == "mura r1: failed"


def test_a_webhook_that_refuses_is_told_without_its_address(hook: type[Hook], caplog: pytest.LogCaptureFixture) -> None:
    hook.status = 500
    assert run(["notify", "--status", FAILED, "--run", "r1"]) == 0
    assert "not sent to 127.0.0.1 (HTTP 500)" in caplog.text
    assert "secret-path" not in caplog.text


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("<!channel> <!here> <@U1>", "&lt;!channel&gt; &lt;!here&gt; &lt;@ U1&gt;"),
        ("<https://evil.example|your bank>", "&lt;https://evil.example|your bank&gt;"),
        ("@channel @here, @all: a@b", "@ channel @ here, @ all: a@b"),
        ("[look](https://evil.example) ![x](https://evil.example/x.png)", "[look] (https://evil.example) ![x] (https://evil.example/x.png)"),
        ("R&D &lt;!here&gt;", "R&amp;D &amp;lt;!here&amp;gt;"),
        ("\x1b]0;x\x07 \u202e", "\\x1b]0;x\\x07 \\u202e"),
        ("http://me:hunter2-hunter2@host/?token=hunter2", "http://host/?token=***"),
    ],
)  # fmt: skip
def test_a_webhook_calls_nobody_and_hides_no_link(hook: type[Hook], said: str, told: str) -> None:
    # The name of a run and the error of a step are written by others.
    hook.runs = {"/apis/v2beta1/runs/r1": {"display_name": said}}
    status = {"state": "FAILED", "error": {"message": said}, "pipelineJobResourceName": "mura-7"}
    assert run(["notify", "--status", json.dumps(status), "--run", "r1"]) == 0
    (heard,) = hook.heard
    assert heard["text"] == f"mura {told}: failed, {told}"


def test_a_link_has_no_credentials(hook: type[Hook], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(pod.UI, "https://me:hunter2@kubeflow.example/")
    assert run(["notify", "--status", FAILED, "--run", "r 1<x>"]) == 0
    (heard,) = hook.heard
    assert heard["text"].endswith("failed https://kubeflow.example/#/runs/details/r%201%3Cx%3E")
    monkeypatch.setenv("KFP_RUN_ID", "r1")
    assert "hunter2" not in json.dumps([heard["url"], pod.page("r1"), pod.tags()])


@pytest.mark.parametrize("url", ["nonsense", "file:///etc/passwd", "http://a b/", "closed"])
def test_a_webhook_that_is_not_there_does_no_harm(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(notify.WEBHOOK, f"http://127.0.0.1:{free_port()}/" if url == "closed" else url)
    assert run(["notify", "--status", FAILED, "--run", "r1"]) == 0
    assert "not sent to" in caplog.text
