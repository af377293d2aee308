"""Submitting and scheduling the pipeline, against servers that speak Kubeflow Pipelines' API, S3 and a registry's."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubeflow_api import PIPELINE, STARTED, ApiError, Fault, KubeflowApi, Mura, check

from components.base.errors import UsageError
from pipelines.client import cron
from pipelines.graph.package import Need, Package

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
CONTENT = b"a zip" * 100
MD5 = hashlib.md5(CONTENT).hexdigest()
OBJECT = f"s3://bucket/dvc/files/md5/{MD5[:2]}/{MD5[2:]}"


def package(image: str = "localhost/mura:cpu-1") -> dict[str, Any]:
    parameters = {
        "archive": {"parameterType": "STRING"},
        "archive_digest": {"parameterType": "STRING", "defaultValue": "", "isOptional": True},
        "seed": {"parameterType": "NUMBER_INTEGER", "defaultValue": 1.0, "isOptional": True},
        "shard": {"parameterType": "STRUCT", "defaultValue": {"image_size": 64.0}, "isOptional": True},
    }
    spec = json.loads(json.dumps(PIPELINE))
    spec["root"]["inputDefinitions"] = {"parameters": parameters}
    gpu = {"resourceCount": "1", "resourceType": "nvidia.com/gpu"}
    container = {"image": image, "command": ["mura"], "resources": {"accelerator": gpu}}
    spec["deploymentSpec"] = {"executors": {"exec-step": {"container": container}}}
    spec["root"]["dag"]["tasks"]["notify"]["cachingOptions"] = {"enableCache": True}
    return spec


PLATFORM = {
    "platforms": {
        "kubernetes": {
            "deploymentSpec": {
                "executors": {
                    "exec-step": {
                        "secretAsEnv": [
                            {
                                "secretName": "mura-s3",
                                "keyToEnv": [{"secretKey": "AWS_ACCESS_KEY_ID", "envVar": "AWS_ACCESS_KEY_ID"}],
                                "optional": True,
                            }
                        ],
                        "configMapAsEnv": [
                            {
                                "configMapNameParameter": {"runtimeValue": {"constant": "mura-places"}},
                                "keyToEnv": [{"configMapKey": "AWS_ENDPOINT_URL", "envVar": "AWS_ENDPOINT_URL"}],
                            }
                        ],
                        "imagePullSecret": [{"secretName": "registry"}],
                    }
                }
            }
        }
    }
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose archive DVC tracks, with a remote on S3, and a compiled pipeline."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n remote = s\n['remote \"s\"']\n url = s3://bucket/dvc\n")
    (tmp_path / "data").mkdir()
    pointer = {"outs": [{"md5": MD5, "size": len(CONTENT), "hash": "md5", "path": "phantom.zip"}]}
    (tmp_path / "data/phantom.zip.dvc").write_text(yaml.safe_dump(pointer))
    (tmp_path / "data/overlay.csv").write_text((ROOT / "data/overlay.csv").read_text())
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "p.yaml").write_text(yaml.safe_dump_all([package(), PLATFORM]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pushed(bucket: Path, content: bytes = CONTENT) -> None:
    """The archive, as `dvc push` leaves it."""
    path = bucket / "dvc/files/md5" / MD5[:2] / MD5[2:]
    path.parent.mkdir(parents=True)
    path.write_bytes(content)


def run_of(api: KubeflowApi) -> dict[str, Any]:
    """The only run."""
    (run,) = api.runs.values()
    return run


def test_a_run_is_made_of_a_version_named_by_its_content_and_of_the_object_that_dvc_pushed(
    api: KubeflowApi, mura: Mura, here: Path, bucket: Path
) -> None:
    pushed(bucket)
    code, out, err = mura("submit", "--package", "p.yaml")
    assert code == 0, err
    run = run_of(api)
    (version,) = api.versions.values()
    (experiment,) = api.experiments.values()
    assert re.fullmatch(r"mura-\d{8}-\d{6}", run["display_name"])
    assert out == f"{run['display_name']}  {api.url}/#/runs/details/{run['run_id']}\n"
    assert run["runtime_config"]["parameters"] == {"archive": OBJECT, "archive_digest": MD5}
    assert run["experiment_id"] == experiment["experiment_id"]
    assert experiment["display_name"] == "mura-demo"
    assert run["pipeline_version_reference"]["pipeline_version_id"] == version["pipeline_version_id"]
    assert version["name"] == "sha256-" + hashlib.sha256((here / "p.yaml").read_bytes()).hexdigest()[:16]
    assert version["pipeline_spec"] == {"pipeline_spec": package(), "platform_spec": PLATFORM}
    assert next(iter(api.pipelines.values()))["name"] == "mura"


def test_submitting_again_uploads_nothing(api: KubeflowApi, mura: Mura, here: Path) -> None:
    for _ in range(2):
        assert mura("submit", "--package", "p.yaml", "--no-check")[0] == 0
    assert api.count("POST", "upload_version") == 1
    assert [len(each) for each in (api.pipelines, api.versions, api.experiments, api.runs)] == [1, 1, 1, 2]
    (here / "p.yaml").write_text(yaml.safe_dump_all([package("localhost/mura:cpu-2"), PLATFORM]))
    assert mura("submit", "--package", "p.yaml", "--no-check")[0] == 0
    assert len(api.versions) == 2
    assert len(api.pipelines) == 1


@pytest.mark.parametrize("what", ["pipelines", "experiments", "versions"])
def test_two_who_submit_at_once_make_one(
    api: KubeflowApi, mura: Mura, here: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mura("submit", "--package", "p.yaml", "--no-check")[0] == 0
    # As seen by one who looked before the other was done: nothing there, and yet it cannot be made.
    path = {"pipelines": "/pipelines/names", "experiments": "/experiments", "versions": "/versions"}[what]
    gone = b'{"error": "x", "code": 5, "message": "Pipeline not found.", "details": []}'
    empty = Fault(path, 404, gone, times=1) if what == "pipelines" else Fault(path, 200, b"{}", times=1, method="GET")
    api.faults.append(empty)
    code, _, err = mura("submit", "--package", "p.yaml", "--no-check")
    assert code == 0, err
    assert [len(each) for each in (api.pipelines, api.versions, api.experiments)] == [1, 1, 1]


def test_once_is_enough(api: KubeflowApi, mura: Mura, here: Path) -> None:
    words = ("submit", "--package", "p.yaml", "--no-check", "--once")
    first = mura(*words, "--name", "first")[1]
    assert mura(*words)[1] == first
    run_of(api)["state"] = "SUCCEEDED"
    code, out, _ = mura(*words, "--wait")
    assert (code, out.startswith(first), out.endswith("first succeeded in 10 min 00 s.\n")) == (0, True, True)
    assert len(api.runs) == 1
    # Other data, other choices, or a run that came to nothing: another run.
    assert mura(*words, "--set", "seed=2")[0] == 0
    pointer = here / "data/phantom.zip.dvc"
    pointer.write_text(pointer.read_text().replace(MD5, "f" * 32))
    assert mura(*words)[0] == 0
    for run in api.runs.values():
        run["state"] = "FAILED"
    assert mura(*words)[0] == 0
    assert len(api.runs) == 4


def test_an_experiment_of_another_case_is_the_same_for_the_server(api: KubeflowApi, mura: Mura, here: Path) -> None:
    words = ("submit", "--package", "p.yaml", "--no-check", "--experiment")
    for name in ("Mine", "mine"):
        assert mura(*words, name)[0] == 0
    assert [each["display_name"] for each in api.experiments.values()] == ["Mine"]
    api.experiments["exact"] = {"experiment_id": "exact", "display_name": "mine"}
    assert mura(*words, "mine")[0] == 0
    assert list(api.runs.values())[-1]["experiment_id"] == "exact"


def test_a_run_that_lost_its_workflow_is_not_enough(api: KubeflowApi, mura: Mura, here: Path) -> None:
    limit = {"platforms": {"kubernetes": {"pipelineConfig": {"activeDeadlineSeconds": 10800}}}}
    (here / "p.yaml").write_text(yaml.safe_dump_all([package(), limit]))
    words = ("submit", "--package", "p.yaml", "--no-check", "--once")
    assert mura(*words)[0] == 0
    run_of(api)["state"] = "RUNNING"
    for hours, count in ((3, 1), (5, 2)):
        api.now = STARTED + timedelta(hours=hours)
        assert mura(*words)[0] == 0
        assert len(api.runs) == count


def test_the_choices_are_compiled_with_the_data_as_defaults(api: KubeflowApi, mura: Mura, here: Path) -> None:
    code, _, err = mura("submit", "--no-check", "--set", 'train_vgg16={"epochs": 1}', "--set", "seed=7")
    assert code == 0, err
    spec = next(iter(api.versions.values()))["pipeline_spec"]["pipeline_spec"]
    defaults = {name: each["defaultValue"] for name, each in spec["root"]["inputDefinitions"]["parameters"].items()}
    assert (defaults["archive"], defaults["archive_digest"]) == (OBJECT, MD5)
    sent = run_of(api)["runtime_config"]["parameters"]
    about_data = {"archive": OBJECT, "archive_digest": MD5, "archive_name": "phantom.zip"}
    assert sent == about_data | {"train_vgg16": {"epochs": 1}, "seed": 7}


def test_shards_are_made_by_a_pipeline_of_their_own_and_begin_another_run(
    api: KubeflowApi, mura: Mura, here: Path
) -> None:
    assert mura("submit", "--no-check", "--parts", "2")[0] == 0
    about_data = {"archive": OBJECT, "archive_digest": MD5, "archive_name": "phantom.zip"}
    assert run_of(api)["runtime_config"]["parameters"] == about_data
    manifest, shards = (f"minio://mlpipeline/v2/artifacts/mura-data/run/{name}" for name in ("manifest", "shards"))
    words = ("submit", "--no-check", "--manifest", f"{manifest}#{'a' * 32}", "--shards", f"{shards}#{'b' * 32}")
    # The archive need not be there any more.
    (here / "data/phantom.zip.dvc").unlink()
    for _ in range(2):
        code, _, err = mura(*words, "--once")
        assert code == 0, err
    assert sorted(each["display_name"] for each in api.pipelines.values()) == ["mura", "mura-data"]
    (_, later) = api.runs.values()
    assert later["runtime_config"]["parameters"] == {
        "manifest": manifest,
        "manifest_digest": "a" * 32,
        "shards": shards,
        "shards_digest": "b" * 32,
    }


def test_a_long_overlay_is_stored_beside_the_archive(api: KubeflowApi, mura: Mura, here: Path, bucket: Path) -> None:
    pushed(bucket)
    row = "train/XR_WRIST/patient{:05d}/study1_negative,0,1,a reader,plate\n"
    text = (here / "data/overlay.csv").read_text() + "".join(row.format(number) for number in range(300))
    (here / "data/overlay.csv").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    parameters = (here / "params.yaml").read_text().replace("image: localhost/mura", "image: localhost/mura:cpu-1")
    (here / "params.yaml").write_text(parameters)
    # Nothing is sent, and so nothing is stored.
    assert mura("submit", "--dry-run")[0] == 0
    assert not (bucket / "dvc/overlays").exists()
    for _ in range(2):
        code, _, err = mura("submit")
        assert code == 0, err
    stored = bucket / f"dvc/overlays/{digest}.csv"
    assert stored.read_text() == text
    (version,) = api.versions.values()
    defaults = version["pipeline_spec"]["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
    assert defaults["overlay"]["defaultValue"] == f"s3://bucket/dvc/overlays/{digest}.csv"


def test_what_is_sent_needs_no_server(mura: Mura, here: Path) -> None:
    """Keys are those of the choices: a mounted secret names none."""
    code, out, err = mura("submit", "--dry-run", "--no-check")
    assert code == 0, err
    assert "secret      mura-s3 (optional): AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY" in out


def test_flags_choose_where_and_as_whom(api: KubeflowApi, mura: Mura, here: Path) -> None:
    api.multi_user = True
    words = ["--name", "night", "--experiment", "mine", "--service-account", "runner", "--pipeline-root", "s3://b/runs"]
    code, _, err = mura("submit", "--package", "p.yaml", "--no-check", "--namespace", "radiology", *words)
    assert code == 0, err
    run = run_of(api)
    assert (run["display_name"], run["service_account"]) == ("night", "runner")
    assert run["runtime_config"]["pipeline_root"] == "s3://b/runs"
    for made in (api.pipelines, api.experiments):
        assert next(iter(made.values()))["namespace"] == "radiology"


def test_a_run_is_looked_for_in_the_namespace_of_its_experiment(api: KubeflowApi, mura: Mura, here: Path) -> None:
    api.multi_user = True
    for _ in range(2):
        assert mura("submit", "--package", "p.yaml", "--no-check", "--namespace", "radiology", "--once")[0] == 0
    assert len(api.runs) == 1


def test_without_the_cache_every_step_runs(api: KubeflowApi, mura: Mura, here: Path) -> None:
    assert mura("submit", "--package", "p.yaml", "--no-check", "--no-cache")[0] == 0
    assert "cachingOptions" not in json.dumps(next(iter(api.versions.values())))


@pytest.mark.parametrize(
    ("end", "code", "words"),
    [("SUCCEEDED", 0, "succeeded in"), ("FAILED", 6, "failed in Ingest"), ("CANCELED", 6, "was cancelled")],
)
def test_waiting_ends_as_the_run_does(
    api: KubeflowApi, mura: Mura, here: Path, end: str, code: int, words: str
) -> None:
    api.story = [("RUNNING", {"ingest": "RUNNING"}), (end, {"ingest": end.replace("CANCELED", "FAILED")})]
    found, out, err = mura("submit", "--package", "p.yaml", "--no-check", "--wait", "--interval", "0")
    assert found == code, err
    assert "Ingest: running" in out
    assert words in out + err


def test_a_dry_run_asks_nobody_and_shows_no_secret(
    api: KubeflowApi, mura: Mura, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KF_PIPELINES_TOKEN", "very-secret")
    code, out, err = mura("submit", "--package", "p.yaml", "--dry-run", "--name", "night", "--set", "seed=3")
    assert code == 0, err
    assert out.splitlines() == [
        f"to          {api.url}",
        "as          token",
        "pipeline    mura, 3 steps, 2 kB",
        f"version     {Package.read(here / 'p.yaml').version}",
        "experiment  mura-demo",
        f"archive     {OBJECT}, 500 bytes, according to data/phantom.zip.dvc",
        "image       localhost/mura:cpu-1",
        "gpu         1 x nvidia.com/gpu, if all steps run at once",
        "config map  mura-places: AWS_ENDPOINT_URL",
        "pull secret registry",
        "secret      mura-s3 (optional): AWS_ACCESS_KEY_ID",
        f'argument    archive = "{OBJECT}"',
        f'argument    archive_digest = "{MD5}"',
        "argument    seed = 3",
        "run         night",
    ]
    assert "very-secret" not in out + err
    assert api.requests == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--set", "sed=1"), "--set sed: mura has no such parameter; it has archive, archive_digest, seed, shard."),
        (("--set", "seed"), "--set seed: expected NAME=VALUE."),
        (("--set", "seed=x"), "--set seed: expected a whole number, found x."),
        (("--set", "seed=true"), "--set seed: expected a whole number, found true."),
        (("--set", "shard=[1]"), "--set shard: expected an object, as JSON, found [1]."),
        (("--package", "none.yaml"), "none.yaml: No such file or directory. `mura pipeline compile` writes"),
        (("--package", "params.yaml"), "params.yaml: expected a compiled pipeline with `pipelineInfo` and `root`."),
        (("--params", "none.yaml"), "none.yaml: no such file"),
        (
            ("--archive", "data/other.zip"),
            "data/other.zip: DVC does not track it (no other.zip.dvc, no dvc.lock with it)",
        ),
        (("--archive", "gs://bucket/x.zip"), "gs://bucket/x.zip: expected s3://bucket/key"),
        (
            ("--archive", "s3://b/x.zip"),
            "--no-check: the digest of s3://b/x.zip is not known, and Kubeflow's cache could",
        ),
        (("--package", "p.yaml", "--set", "archive=data/phantom.zip"), "archive data/phantom.zip: pods cannot read"),
        (("--pipeline-root", "bucket/runs"), "--pipeline-root bucket/runs: expected s3://bucket/prefix."),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anybody_is_asked(
    api: KubeflowApi, mura: Mura, here: Path, words: tuple[str, ...], complaint: str
) -> None:
    code, _, err = mura("submit", "--package", "p.yaml", "--no-check", *words)
    assert code == 2
    assert complaint in err
    assert len(err.splitlines()) == 1
    assert api.requests == []


def test_an_archive_that_was_not_pushed(api: KubeflowApi, mura: Mura, here: Path, bucket: Path) -> None:
    code, _, err = mura("submit", "--package", "p.yaml")
    assert code == 2
    assert f"{OBJECT}: not there on S3" in err
    assert "`dvc push`" in err
    pushed(bucket, CONTENT[:-1])
    code, _, err = mura("submit", "--package", "p.yaml")
    assert code == 2
    assert "499 bytes, data/phantom.zip.dvc says 500" in err
    assert api.requests == []


def test_an_archive_on_s3_is_known_by_its_etag(api: KubeflowApi, mura: Mura, here: Path, bucket: Path) -> None:
    (bucket / "mura.zip").write_bytes(CONTENT)
    code, _, err = mura("submit", "--package", "p.yaml", "--archive", "s3://bucket/mura.zip")
    assert code == 0, err
    sent = run_of(api)["runtime_config"]["parameters"]
    assert sent["archive"] == "s3://bucket/mura.zip"
    assert sent["archive_digest"] == MD5


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({".dvc/config": ""}, "DVC has no default remote"),
        ({".dvc/config": "[core]\n remote = s\n['remote \"s\"']\n url = /mnt/nas\n"}, "is /mnt/nas, which pods cannot"),
        ({".dvc/config": "[core]\n remote = t\n"}, "DVC has no remote of the name t"),
        (
            {".dvc/config": "[core]\n remote = s\n['remote \"s\"']\n url = s3://b\n version_aware = true\n"},
            "is version_aware or worktree",
        ),
        ({"data/phantom.zip.dvc": "outs: [{md5: 0123.dir, path: phantom.zip}]"}, "is a directory for DVC"),
        ({"data/phantom.zip.dvc": "outs: [{path: phantom.zip}]"}, "expected the md5 of phantom.zip, found none"),
        ({"data/phantom.zip.dvc": "outs: ["}, "not readable as YAML"),
    ],
)
def test_what_dvc_cannot_tell_is_said(
    mura: Mura, here: Path, files: dict[str, str], complaint: str, api: KubeflowApi
) -> None:
    for name, text in files.items():
        (here / name).write_text(text)
    code, _, err = mura("submit", "--package", "p.yaml", "--no-check")
    assert code == 2
    assert complaint in err
    assert len(err.splitlines()) == 1


def test_a_drawn_archive_is_found_in_the_lock_of_its_stage(api: KubeflowApi, mura: Mura, here: Path) -> None:
    (here / "data/phantom.zip.dvc").unlink()
    stage = {"cmd": "mura phantom", "wdir": "..", "outs": ["data/phantom.zip"]}
    (here / "data/dvc.yaml").write_text(yaml.safe_dump({"stages": {"phantom": stage}}))
    out = {"path": "data/phantom.zip", "md5": MD5, "hash": "md5", "size": 500}
    (here / "data/dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"phantom": {"outs": [out]}}}))
    assert mura("submit", "--package", "p.yaml", "--no-check")[0] == 0
    assert run_of(api)["runtime_config"]["parameters"]["archive"] == OBJECT


@pytest.fixture
def registry() -> Iterator[tuple[str, dict[str, int], list[str]]]:
    """A registry that hands out tokens: its address, what it answers for a path, who asked."""
    answers: dict[str, int] = {}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"token": "granted"}' if "scope=repository%3Amura%3Apull" in self.path else b"{}"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def do_HEAD(self) -> None:
            asked.append(self.path)
            if self.headers.get("authorization") == "Bearer granted":
                self.send_response(answers.get(self.path, 404))
            else:
                self.send_response(401)
                realm = f"http://{self.headers['host']}/token"
                scope = "repository:mura:pull"
                self.send_header("www-authenticate", f'Bearer realm="{realm}",service="r",scope="{scope}"')
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"127.0.0.1:{server.server_port}", answers, asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_image_has_to_be_in_its_registry(
    api: KubeflowApi,
    mura: Mura,
    here: Path,
    bucket: Path,
    registry: tuple[str, dict[str, int], list[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    at, answers, asked = registry
    pushed(bucket)
    (here / "p.yaml").write_text(yaml.safe_dump(package(f"{at}/mura:cpu-1")))
    code, _, err = mura("submit", "--package", "p.yaml")
    assert code == 2
    assert f"{at}/mura:cpu-1 is not in the registry. Build and push it" in err
    assert api.requests == []
    answers["/v2/mura/manifests/cpu-1"] = 200
    assert mura("submit", "--package", "p.yaml")[0] == 0
    assert f"{at}/mura:cpu-1 is there" in caplog.text
    assert set(asked) == {"/v2/mura/manifests/cpu-1"}
    answers["/v2/mura/manifests/cpu-1"] = 500
    assert mura("submit", "--package", "p.yaml")[0] == 0
    assert f"{at}/mura:cpu-1 cannot be checked: {at} answered 500" in caplog.text


def test_a_server_that_does_not_say_whether_it_started_the_run(api: KubeflowApi, mura: Mura, here: Path) -> None:
    api.faults.append(Fault(r"/runs$", 0, seconds=0.5, method="POST"))
    code, _, err = mura("submit", "--package", "p.yaml", "--no-check", "--name", "night", "--timeout", "0.2")
    assert code == 5
    assert "The run may have started: `mura pipeline watch night` shows it." in err


@pytest.mark.parametrize("words", [("submit",), ("schedule", "--cron", "0 0 3 * * *")])
def test_an_old_server_which_would_drop_secrets_and_limits_is_given_nothing(
    api: KubeflowApi, mura: Mura, here: Path, words: tuple[str, ...]
) -> None:
    api.version = "2.16.1"
    code, _, err = mura(*words, "--package", "p.yaml", "--no-check")
    assert code == 2
    assert "is version 2.16.1: 2.17 or newer is needed" in err
    assert not api.pipelines
    assert not api.runs
    assert not api.recurring


def scheduled(api: KubeflowApi) -> dict[str, Any]:
    """The only schedule."""
    (each,) = api.recurring.values()
    return each


def test_a_schedule_is_made_once_and_replaced_when_something_changed(api: KubeflowApi, mura: Mura, here: Path) -> None:
    words = ("schedule", "--package", "p.yaml", "--no-check", "--cron")
    code, out, err = mura(*words, "0 0 3 * * *")
    assert code == 0, err
    assert out.startswith("mura: made; 0 0 3 * * * (UTC), pipeline sha256-")
    first = scheduled(api)
    assert first["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * *"
    assert first["runtime_config"]["parameters"] == {"archive": OBJECT, "archive_digest": MD5}
    assert (first["max_concurrency"], first["no_catchup"], first["mode"]) == ("1", True, "ENABLE")

    # The server fills in what was not asked for.
    first["service_account"] = "pipeline-runner"
    assert mura(*words, "0 0 3 * * *")[1].startswith("mura: unchanged;")
    assert scheduled(api) is first

    pointer = here / "data/phantom.zip.dvc"
    pointer.write_text(pointer.read_text().replace(MD5, "f" * 32))
    assert mura(*words, "0 0 3 * * *")[1].startswith("mura: replaced;")
    assert scheduled(api)["runtime_config"]["parameters"]["archive_digest"] == "f" * 32
    assert mura(*words, "0 0 4 * * *")[1].startswith("mura: replaced;")
    scheduled(api)["status"] = "DISABLED"
    assert mura(*words, "0 0 4 * * *")[1].startswith("mura: replaced;")
    assert scheduled(api)["status"] == "ENABLED"


def test_schedules_are_listed_and_removed(api: KubeflowApi, mura: Mura, here: Path) -> None:
    assert mura("schedule", "--list") == (0, "No schedules.\n", "")
    for name in ("night", "Night"):
        assert mura("schedule", "--name", name, "--cron", "0 0 3 * * *", "--package", "p.yaml", "--no-check")[0] == 0
    out = mura("schedule", "--list")[1]
    assert out.splitlines()[0] == f"night                     0 0 3 * * *           enabled  data {MD5[:12]}"
    assert mura("schedule", "--remove", "--name", "night")[1] == "night: removed.\n"
    assert scheduled(api)["display_name"] == "Night"
    assert (
        mura("schedule", "--remove", "--name", "night")[1] == "night: there is no such schedule, nothing to remove.\n"
    )


def test_runs_of_a_schedule_go_on_when_it_is_removed_or_replaced(api: KubeflowApi, mura: Mura, here: Path) -> None:
    words = ("schedule", "--package", "p.yaml", "--no-check", "--cron")
    assert mura(*words, "0 0 3 * * *")[0] == 0
    story = (("RUNNING", {}), ("SUCCEEDED", {"ingest": "SUCCEEDED"}))
    for change in ((*words, "0 0 4 * * *"), ("schedule", "--remove")):
        run = api.run("mura1-1", *story, recurring_run_id=scheduled(api)["recurring_run_id"])
        assert mura(*change)[0] == 0
        assert run not in api.lost
        code, out, err = mura("watch", run, "--interval", "0")
        assert (code, err) == (0, ""), out
    assert not api.recurring


def test_schedules_that_others_made_in_the_user_interface(api: KubeflowApi, mura: Mura, here: Path) -> None:
    trigger = {"periodic_schedule": {"interval_second": "3600"}}
    api.recurring = {
        "a": {"recurring_run_id": "a", "display_name": "hourly", "trigger": trigger, "status": "ENABLED"},
        "b": {"recurring_run_id": "b", "display_name": "mura", "status": "DISABLED"},
    }
    out = mura("schedule", "--list")[1]
    assert "hourly                    every 3600 s          enabled\n" in out
    assert "mura                      by hand               disabled\n" in out
    words = ("schedule", "--package", "p.yaml", "--no-check", "--cron", "0 0 3 * * *")
    assert mura(*words)[1].startswith("mura: replaced;")
    assert sorted(each["display_name"] for each in api.recurring.values()) == ["hourly", "mura"]


def test_a_failed_replacement_leaves_the_schedule_that_was_there(api: KubeflowApi, mura: Mura, here: Path) -> None:
    words = ("schedule", "--package", "p.yaml", "--no-check", "--cron")
    assert mura(*words, "0 0 3 * * *")[0] == 0
    api.faults.append(Fault("recurringruns", 500, b'{"message": "x", "code": 13}', method="POST"))
    assert mura(*words, "0 0 4 * * *")[0] == 5
    assert scheduled(api)["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * *"


def test_a_schedule_can_be_looked_at_before_it_is_made(api: KubeflowApi, mura: Mura, here: Path) -> None:
    code, out, err = mura("schedule", "--package", "p.yaml", "--dry-run", "--cron", "0 0 3 * * *")
    assert code == 0, err
    assert out.splitlines()[-1] == "schedule    mura, 0 0 3 * * * (UTC)"
    assert api.requests == []


@pytest.mark.parametrize("words", [("submit",), ("schedule", "--cron", "0 0 3 * * *")])
def test_a_dry_run_needs_no_server(
    api: KubeflowApi, mura: Mura, here: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT")
    code, out, err = mura(*words, "--package", "p.yaml", "--dry-run")
    assert code == 0, err
    assert out.splitlines()[:2] == ["to          no server is named", "as          no login"]
    assert mura(*words, "--package", "p.yaml")[0] == 2
    assert api.requests == []


def test_a_wrong_cron_is_told_before_a_server_is_looked_for(
    mura: Mura, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT", raising=False)
    for text in ("x", ""):
        code, _, err = mura("schedule", "--cron", text)
        assert code == 2
        assert f"--cron {text!r}: expected six fields" in err


@pytest.mark.parametrize("words", [(), ("--list", "--remove"), ("--cron", "0 0 3 * * *", "--list")])
def test_one_thing_at_a_time(mura: Mura, words: tuple[str, ...]) -> None:
    code, _, err = mura("schedule", *words)
    assert code == 2
    assert "expected exactly one of --cron FIELDS, --list and --remove" in err


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("0 0 3 * * *", "0 0 3 * * *"),
        ("30 6 * * 1-5", "0 30 6 * * 1-5"),
        ("0 */15 8-18 ? JAN,jul MON-FRI", "0 */15 8-18 ? JAN,jul MON-FRI"),
        ("0 5/10 * 1 * ?", "0 5/10 * 1 * ?"),
    ],
)
def test_six_fields_or_the_five_of_crontab(text: str, expression: str) -> None:
    read = cron.read(text)
    assert read.expression == expression
    assert bool(read.note) == (len(text.split()) == 5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@daily",
        "* * * *",
        "0 0 24 * * *",
        "60 0 0 * * *",
        "0 0 0 0 * *",
        "0 0 0 * * 7",
        "0 0 5-3 * * *",
        "0 0 1-2-3 * * *",
        "0 */0 * * * *",
        "0 0 x * * *",
        "? * * * * *",
        "0 0 0 * FOO *",
    ],
)
def test_a_schedule_that_the_server_would_misread(text: str) -> None:
    with pytest.raises(UsageError, match="--cron"):
        cron.read(text)


def test_what_a_package_needs_of_a_cluster() -> None:
    found = Package.parse(yaml.safe_dump_all([package(), PLATFORM]).encode())
    assert [step.name for step in found.steps] == ["Ingest", "Train (VGG-16)", "Notify"]
    assert found.needs.gpus == {"nvidia.com/gpu": 1}
    assert found.needs.sources == (
        Need("config map", "mura-places", ("AWS_ENDPOINT_URL",), False),
        Need("pull secret", "registry", (), False),
        Need("secret", "mura-s3", ("AWS_ACCESS_KEY_ID",), True),
    )


@pytest.mark.parametrize(
    ("model", "body"),
    [
        ("V2beta1Run", {"display_name": "x", "pipeline_root": "s3://b"}),
        ("V2beta1Run", {"state": "DONE"}),
        ("V2beta1RecurringRun", {"max_concurrency": 1}),
        ("V2beta1Run", {"runtime_config": {"parameter": {}}}),
    ],
)
def test_the_server_of_these_tests_refuses_what_the_api_does_not_know(model: str, body: dict[str, Any]) -> None:
    with pytest.raises(ApiError, match="proto:"):
        check(model, body)
