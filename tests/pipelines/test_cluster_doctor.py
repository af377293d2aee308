"""`mura pipeline doctor`, against servers that speak the APIs of Kubeflow Pipelines, Kubernetes, S3 and MLflow."""

import base64
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubeflow_api import Fault, KubeflowApi, Mura
from servers import free_port

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
SECRET = "do-not-show-me"


class Kubernetes:
    """Objects by path, and what else is answered."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}
        self.denied: set[str] = set()
        self.url = ""

    def put(self, path: str, **content: Any) -> None:
        name = path.rpartition("/")[2]
        self.objects[f"/api/v1/{path}"] = {"metadata": {"name": name}, **content}

    def fill(self, namespace: str = "kubeflow") -> None:
        """All that the runs need."""
        self.put(f"namespaces/{namespace}", metadata={"labels": {"pod-security.kubernetes.io/enforce": "restricted"}})
        self.put(f"namespaces/{namespace}/serviceaccounts/pipeline-runner")
        places = ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "MURA_CHECKPOINTS", "MURA_PATIENCE")
        places += ("KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT")
        values = dict.fromkeys(places, "x") | {"MLFLOW_TRACKING_URI": f"{self.url}/mlflow"}
        self.put(f"namespaces/{namespace}/configmaps/mura-places", data=values)
        self.put(f"namespaces/{namespace}/configmaps/mura-trusted-keys", data={"MURA_TRUSTED_KEYS": "x"})
        for name, keys in {
            "mura-data": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
            "mura-s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
            "mura-mlflow": ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
            "mura-signing": ("MURA_SIGNING_KEY",),
            "mura-webhook": ("MURA_WEBHOOK_URL",),
        }.items():
            data = dict.fromkeys(keys, base64.b64encode(SECRET.encode()).decode())
            self.put(f"namespaces/{namespace}/secrets/{name}", data=data)
        self.objects["/mlflow/health"] = "OK"
        self.nodes({"cpu": "4", "memory": "12000000Ki"})

    def nodes(self, *allocatable: dict[str, str]) -> None:
        self.objects["/api/v1/nodes"] = {"items": [{"status": {"allocatable": each}} for each in allocatable]}

    def gpus(self, hard: int, used: int, nodes: tuple[int, ...]) -> None:
        key = "requests.nvidia.com/gpu"
        status = {"hard": {key: str(hard)}, "used": {key: str(used)}}
        self.objects["/api/v1/namespaces/kubeflow/resourcequotas"] = {"items": [{"status": status}]}
        self.nodes(*({"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": str(count)} for count in nodes))


@pytest.fixture
def kubernetes() -> Iterator[Kubernetes]:
    state = Kubernetes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = state.objects.get(self.path)
            status = 403 if self.path in state.denied else 404 if found is None else 200
            answer = found if status == 200 else {"kind": "Status", "code": status}
            body = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def kubeconfig(path: Path, url: str) -> str:
    """A kubeconfig with one context."""
    document = {
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": SECRET}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
    }
    path.write_text(yaml.safe_dump(document))
    return str(path)


@pytest.fixture
def doctor(mura: Mura, tmp_path: Path, bucket: Path, kubernetes: Kubernetes, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the doctor where everything is there; gives the exit code, its lines by subject, and all it said."""
    (bucket / "mura.zip").write_bytes(b"a zip")
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path / "kubeconfig", kubernetes.url))
    kubernetes.fill()

    def run(*words: str, archive: str = "s3://bucket/mura.zip") -> tuple[int, dict[str, str], str]:
        code, out, err = mura("doctor", "--archive", archive, *words)
        assert SECRET not in out + err
        assert base64.b64encode(SECRET.encode()).decode() not in out + err
        lines = out.splitlines()
        return code, {f"{line[:2]} {line[4:20].strip()}": line[22:] for line in lines}, out + err

    return run


def with_gpus(folder: Path) -> str:
    """The choices, with a GPU for each training."""
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    document["kubeflow"]["steps"]["train"]["gpus"] = 1
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(document))
    return str(path)


def test_all_is_well(doctor: Any) -> None:
    code, found, said = doctor()
    assert code == 0, said
    assert {subject for subject in found if not subject.startswith("ok")} == {"-- image"}
    assert found["ok API"] == "version 2.17.0, one namespace for all"
    assert found["ok access"] == "0 experiments and 0 runs seen without a login"
    assert found["ok archive"] == "s3://bucket/mura.zip, 5 bytes"
    assert found["ok namespace"] == "kubeflow, Pod Security: restricted"
    assert found["ok service account"] == "pipeline-runner"
    assert "mura-places: 7 of 7 keys" in said
    assert found["ok config map"] == "mura-trusted-keys: 1 of 1 keys"
    assert found["ok secret"] == "mura-webhook: 1 of 1 keys"
    assert found["ok MLflow"].endswith("/mlflow (the config map's) answers")
    assert "17 steps" in found["ok pipeline"]
    assert re.fullmatch(r"about 8\d\d kB at its end, of at most 900 kB", found["ok run"])
    assert found["-- image"].endswith("`localhost` means an image loaded onto the nodes")


def test_a_run_that_kubeflow_would_lose_sight_of(doctor: Any, tmp_path: Path) -> None:
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    candidates = document["train"]["candidates"]
    candidates |= {f"wide_{number}": {"architecture": "custom_cnn"} for number in range(4)}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(document))
    code, found, _ = doctor("--params", str(tmp_path / "params.yaml"))
    assert code == 5
    assert re.match(r"about 1\d{3} kB at its end, of at most 900 kB: .* `train.candidates`", found["no run"])


def test_everything_is_missing(doctor: Any, api: KubeflowApi, kubernetes: Kubernetes) -> None:
    kubernetes.objects.clear()
    kubernetes.put("namespaces/kubeflow")
    kubernetes.nodes()
    api.version = "2.4.0"
    code, found, said = doctor(archive="s3://bucket/none.zip")
    assert code == 5
    assert found["no API"] == "version 2.4.0: 2.17 or newer is needed."
    assert "s3://bucket/none.zip: not there on S3" in found["no archive"]
    assert "pipeline-runner does not exist" in found["no service account"]
    assert "kubectl -n kubeflow apply -f infra/kustomize/runs/account.yaml" in found["no service account"]
    assert (
        "mura-webhook does not exist; steps start without it. To make it: kubectl -n kubeflow create secret generic "
        "mura-webhook --from-literal=MURA_WEBHOOK_URL=..." in found["-- secret"]
    )
    assert found["no MLflow"].startswith(
        "pods are not told where it is, and would not start: MLFLOW_TRACKING_URI is in "
    )
    assert (
        "kubectl -n kubeflow create configmap mura-places --from-literal=MLFLOW_TRACKING_URI=http" in found["no MLflow"]
    )
    assert said.endswith("error: doctor: 5 of 17 checks failed; the lines with `no` say what to do.\n")


def test_what_has_to_be_there_and_is_not(doctor: Any, kubernetes: Kubernetes, tmp_path: Path) -> None:
    path = Path(with_gpus(tmp_path))
    document = yaml.safe_load(path.read_text())
    for source in document["kubeflow"]["environment"]:
        source["optional"] = False
    document["kubeflow"]["pull_secrets"] = ["registry"]
    path.write_text(yaml.safe_dump(document))
    secret = "/api/v1/namespaces/kubeflow/secrets/mura-s3"
    kubernetes.objects[secret]["data"] = {"AWS_ACCESS_KEY_ID": base64.b64encode(b" ").decode()}
    del kubernetes.objects["/api/v1/namespaces/kubeflow/configmaps/mura-places"]
    kubernetes.gpus(hard=2, used=2, nodes=(0, 0))
    code, found, said = doctor("--params", str(path))
    assert code == 5
    assert "mura-places does not exist: kubectl -n kubeflow create configmap mura-places --from-literal" in said
    assert (
        "mura-s3: AWS_SECRET_ACCESS_KEY is missing, AWS_ACCESS_KEY_ID is empty. kubectl -n kubeflow edit secret mura-s3"
        in said
    )
    assert "create secret docker-registry registry" in found["no pull secret"]
    assert found["no quota"].startswith("no nvidia.com/gpu is left: steps would wait until others end.")
    assert found["no GPUs"].startswith("none of 2 has nvidia.com/gpu")


def test_gpus_that_are_there(doctor: Any, kubernetes: Kubernetes, tmp_path: Path) -> None:
    kubernetes.gpus(hard=4, used=1, nodes=(4, 0))
    code, found, said = doctor("--params", with_gpus(tmp_path))
    assert code == 0, said
    assert found["ok quota"] == "3 x nvidia.com/gpu left, 4 wanted at once: the others wait"
    assert found["ok GPUs"] == "4 x nvidia.com/gpu on 1 of 2 nodes"
    assert found["ok nodes"] == "2, and every step fits on one that is empty"


@pytest.mark.parametrize("allocatable", [{"cpu": "400m", "memory": "64Gi"}, {"cpu": "64", "memory": "3500Mi"}])
def test_a_step_that_fits_on_no_node(doctor: Any, kubernetes: Kubernetes, allocatable: dict[str, str]) -> None:
    kubernetes.nodes(allocatable, {"cpu": "200m", "memory": "1Gi"})
    code, found, said = doctor()
    assert code == 5, said
    assert "None of 2 nodes has that: the step would never start." in found["no nodes"]


def test_what_we_may_not_look_at_is_no_fault(doctor: Any, kubernetes: Kubernetes, tmp_path: Path) -> None:
    kubernetes.gpus(hard=4, used=0, nodes=(4,))
    kubernetes.denied = set(kubernetes.objects) - {"/mlflow/health"}
    code, found, said = doctor("--params", with_gpus(tmp_path))
    assert code == 0, said
    assert found["-- namespace"] == "not checked, Kubernetes does not allow it (403)"
    assert found["-- nodes"] == "not checked, Kubernetes does not allow it (403)"
    assert found["-- secret"] == "mura-webhook: not checked, Kubernetes does not allow it (403)"


def test_a_namespace_for_each_user(doctor: Any, api: KubeflowApi, kubernetes: Kubernetes) -> None:
    api.multi_user = True
    code, found, _ = doctor()
    assert code == 5
    assert "name yours with --namespace" in found["no access"]
    kubernetes.fill("radiology")
    kubernetes.put("namespaces/radiology/serviceaccounts/default-editor")
    code, found, said = doctor("--namespace", "radiology")
    assert code == 0, said
    assert found["ok service account"] == "default-editor"
    code, found, _ = doctor("--namespace", "cardiology")
    assert code == 5
    assert "cardiology does not exist: kubectl create namespace cardiology" in found["no namespace"]


def test_nobody_answers(
    doctor: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path / "other", nowhere))
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", nowhere)
    monkeypatch.setenv("AWS_ENDPOINT_URL", nowhere)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", nowhere)
    code, found, said = doctor()
    assert code == 5
    assert "connection refused" in found["no API"]
    assert found["-- namespace"] == "not checked: the API does not answer"
    assert found["-- archive"].startswith("not checked: ")
    assert found["-- Kubernetes"].startswith("does not answer (")
    assert found["-- MLflow"] == f"{nowhere} (ours) cannot be reached from here (ConnectionError)"
    assert "1 of 8 checks failed" in said


@pytest.mark.parametrize(
    ("uri", "mark", "words"),
    [
        ("sqlite:///mlflow.db", "no", "sqlite:///mlflow.db (the config map's): pods need a server"),
        ("{url}/broken", "no", "answers 500."),
        ("http://ada:hunter22@127.0.0.1:1", "--", "http://127.0.0.1:1 (the config map's) cannot be reached from here"),
    ],
)
def test_mlflow_is_asked_where_pods_look_for_it(
    doctor: Any, kubernetes: Kubernetes, api: KubeflowApi, uri: str, mark: str, words: str
) -> None:
    api.faults.append(Fault("/broken/health", 500))
    places = kubernetes.objects["/api/v1/namespaces/kubeflow/configmaps/mura-places"]["data"]
    places["MLFLOW_TRACKING_URI"] = uri.format(url=api.url)
    _, found, said = doctor()
    assert words in found[f"{mark} MLflow"]
    assert "hunter22" not in said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"MLFLOW_TRACKING_URI": " "}, "kubectl -n kubeflow edit configmap mura-places"),
        ({"AWS_ENDPOINT_URL": "x"}, "kubectl -n kubeflow edit configmap mura-places"),
        ({"MLFLOW_TRACKING_URI": "off"}, "MLFLOW_TRACKING_URI is off in mura-places, and register and promote need"),
    ],
)
def test_pods_that_are_not_told_where_mlflow_is(
    doctor: Any, kubernetes: Kubernetes, content: dict[str, str], words: str
) -> None:
    kubernetes.objects["/api/v1/namespaces/kubeflow/configmaps/mura-places"]["data"] = content
    code, found, _ = doctor()
    assert code == 5
    assert words in found["no MLflow"]


def test_a_secret_may_say_where_mlflow_is(doctor: Any, kubernetes: Kubernetes, tmp_path: Path) -> None:
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    document["kubeflow"]["environment"] = [{"secret": "all", "keys": ["MLFLOW_TRACKING_URI"]}]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(document))
    value = base64.b64encode(SECRET.encode()).decode()
    kubernetes.put("namespaces/kubeflow/secrets/all", data={"MLFLOW_TRACKING_URI": value})
    _, found, _ = doctor("--params", str(tmp_path / "params.yaml"))
    assert "no MLflow" not in found


def with_environment(folder: Path, *sources: dict[str, Any]) -> str:
    """The choices, with other secrets and config maps."""
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    document["kubeflow"]["environment"] = list(sources)
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(document))
    return str(path)


KEYS = ["MLFLOW_TRACKING_URI"]


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        (
            [{"config_map": "ours", "keys": KEYS}],
            "pods are not told where it is, and would not start: MLFLOW_TRACKING_URI is in none of ours in kubeflow. "
            "kubectl -n kubeflow create configmap ours --from-literal=MLFLOW_TRACKING_URI=http://...",
        ),
        (
            [{"secret": "ours", "keys": KEYS}],
            "kubectl -n kubeflow create secret generic ours --from-literal=MLFLOW_TRACKING_URI=http://...",
        ),
        (
            [{"config_map": "told", "keys": KEYS, "steps": ["train"]}],
            "pods of register and promote are not told where it is, and would not start: MLFLOW_TRACKING_URI is in "
            "none of the config maps in kubeflow. Add register and promote to `steps` of told in "
            "`kubeflow.environment` of params.yaml.",
        ),
        (
            [
                {"config_map": "told", "keys": KEYS, "steps": ["train", "register"]},
                {"config_map": "ours", "keys": KEYS, "steps": ["promote"]},
            ],
            "pods of promote are not told where it is, and would not start: MLFLOW_TRACKING_URI is in none of ours in "
            "kubeflow. kubectl -n kubeflow create configmap ours --from-literal=MLFLOW_TRACKING_URI=http://...",
        ),
        (
            [{"config_map": "ours", "keys": ["AWS_ENDPOINT_URL"]}],
            "Name a config map with this key in `kubeflow.environment` of params.yaml. "
            "kubectl -n kubeflow create configmap mura-places --from-literal=MLFLOW_TRACKING_URI=http://...",
        ),
    ],
)
def test_each_step_is_told_where_mlflow_is_by_the_config_map_of_the_choices(
    doctor: Any, kubernetes: Kubernetes, tmp_path: Path, sources: list[dict[str, Any]], words: str
) -> None:
    kubernetes.put("namespaces/kubeflow/configmaps/told", data={"MLFLOW_TRACKING_URI": "http://mlflow"})
    del kubernetes.objects["/api/v1/namespaces/kubeflow/configmaps/mura-places"]
    code, found, _ = doctor("--params", with_environment(tmp_path, *sources))
    assert code == 5
    assert words in found["no MLflow"]


STOCK = "templateDefaults: {retryStrategy: {limit: 2, retryPolicy: OnError}}"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"workflowDefaults": f"spec: {{{STOCK}}}"}, "OnError in workflow-controller-configmap: a pod that is deleted"),
        ({"config": f"workflowDefaults: {{spec: {{{STOCK}}}}}"}, "whatever `retries` says"),
        ({"config": "parallelism: 4"}, "OnFailure in workflow-controller-configmap: a step that ends with a code"),
        ({"config": "["}, "OnFailure"),
        ({"workflowDefaults": f"spec: {{{STOCK.replace('OnError', 'Always')}}}"}, "Always"),
    ],
)
def test_what_the_cluster_retries_is_said(
    doctor: Any, kubernetes: Kubernetes, content: dict[str, str], words: str
) -> None:
    kubernetes.put("namespaces/kubeflow/configmaps/workflow-controller-configmap", data=content)
    code, found, said = doctor()
    assert code == 0, said
    assert words in found["ok retries"]


def test_who_may_not_read_it_is_not_told_what_is_retried(doctor: Any, kubernetes: Kubernetes) -> None:
    path = "/api/v1/namespaces/kubeflow/configmaps/workflow-controller-configmap"
    kubernetes.put(path.removeprefix("/api/v1/"), data={})
    kubernetes.denied = {path}
    code, found, said = doctor()
    assert code == 0, said
    assert not [subject for subject in found if subject.endswith("retries")]


@pytest.fixture
def submit(mura: Mura, tmp_path: Path, bucket: Path, kubernetes: Kubernetes, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Submits where everything is there."""
    (bucket / "mura.zip").write_bytes(b"a zip")
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path / "kubeconfig", kubernetes.url))
    kubernetes.fill()
    return lambda command, *words: mura(command, "--archive", "s3://bucket/mura.zip", *words)


@pytest.mark.parametrize("command", [("submit",), ("schedule", "--cron", "0 0 3 * * *")])
def test_a_run_is_refused_whose_pods_would_not_know_where_mlflow_is(
    submit: Any, api: KubeflowApi, kubernetes: Kubernetes, command: tuple[str, ...]
) -> None:
    assert submit(*command)[0] == 0
    before = len(api.runs)
    del kubernetes.objects["/api/v1/namespaces/kubeflow/configmaps/mura-places"]
    code, _, err = submit(*command)
    assert code == 2
    assert "error: MLflow: pods are not told where it is, and would not start" in err
    assert len(api.runs) == before
    assert submit(*command, "--no-check", "--no-cache")[0] == 0


def test_a_run_is_submitted_where_we_may_not_see_what_its_pods_are_told(submit: Any, kubernetes: Kubernetes) -> None:
    kubernetes.denied = {"/api/v1/namespaces/kubeflow/configmaps/mura-places"}
    assert submit("submit")[0] == 0
    kubernetes.denied = set()
    # Of another cluster than the one that runs are sent to.
    kubernetes.objects.clear()
    assert submit("submit")[0] == 0


def test_without_a_kubeconfig_the_rest_is_checked(doctor: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    code, found, said = doctor()
    assert code == 0, said
    assert found["-- Kubernetes"].startswith("no kubeconfig (Invalid kube-config file.")
    assert "ok archive" in found
    _, found, _ = doctor("--kube-context", "elsewhere")
    assert found["-- Kubernetes"].startswith("no kubeconfig (")


def test_a_login_that_is_refused(doctor: Any, api: KubeflowApi) -> None:
    api.faults.append(Fault("/runs", 403, b"RBAC: access denied", "text/plain"))
    code, found, _ = doctor()
    assert code == 5
    assert "does not allow listing runs (403): RBAC: access denied" in found["no access"]


def test_a_build_without_a_version(doctor: Any, api: KubeflowApi) -> None:
    api.version = "unknown"
    code, found, said = doctor()
    assert code == 0, said
    assert found["-- API"] == "version unknown, 2.17 or newer is needed; one namespace for all"


def test_choices_that_cannot_be_compiled(doctor: Any, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("kubeflow: {}")
    code, _, said = doctor("--params", str(path))
    assert code == 2
    assert "is missing; add it" in said
