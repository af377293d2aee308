"""The compiled pipeline: the same graph as dvc.yaml's, fit for a cluster."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pipelines.compiling import Compiled, compile_pipeline
from pod_security import violations

from components.base.errors import UsageError
from components.cli.main import run
from components.params.document import Params, parse, read_params
from components.params.kubeflow import KubeflowParams, StepProfile, Toleration

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("golden_pipeline.yaml")
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
DEMO = read_params(ROOT / "params.yaml")


def with_profile(params: Params, **changes: Any) -> Params:
    return params.model_copy(update={"kubeflow": params.kubeflow.model_copy(update=changes)})


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    return compile_pipeline(with_profile(DEMO, image="registry.example/mura:golden"), code="c0de")


@pytest.fixture(scope="module")
def spec(compiled: Compiled) -> dict[str, Any]:
    found: dict[str, Any] = next(yaml.safe_load_all(compiled.text))
    return found


def test_the_compiled_pipeline_is_the_golden_one(compiled: Compiled) -> None:
    if os.environ.get("RENEW_GOLDEN"):
        GOLDEN.write_text(compiled.text)
    assert compiled.text == GOLDEN.read_text(), (
        "the compiled pipeline is another: look at the difference after RENEW_GOLDEN=1 pytest tests/test_compiling.py"
    )


def test_compiling_twice_gives_the_same_text(compiled: Compiled) -> None:
    again = compile_pipeline(with_profile(DEMO, image="registry.example/mura:golden"), code="c0de")
    assert again.text == compiled.text


def test_the_defaults_of_the_arguments_are_the_committed_choices(spec: dict[str, Any], compiled: Compiled) -> None:
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    assert {name: each.get("defaultValue", "") for name, each in inputs.items()} == compiled.arguments
    committed = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section in ("seed", "ingest", "validate", "shard", "evaluate", "register", "promote"):
        assert compiled.arguments[section] == committed[section]
    for architecture, choices in committed["train"].items():
        assert compiled.arguments[f"train_{architecture}"] == {"architecture": architecture, **choices}


# A step's command: its name, and what each of its flags is given. An artifact is named by the task that made it.
Command = tuple[str, list[tuple[str, str]]]


def dvc_commands() -> dict[str, Command]:
    """The commands of dvc.yaml by Kubeflow's names of the tasks."""
    stages = {}
    for name, stage in STAGES.items():
        for entry in DEMO.train if "foreach" in stage else [""]:
            words = stage.get("do", stage)["cmd"].replace("${key}", entry).split()
            stages[f"{name}-{entry.replace('_', '-')}" if entry else name] = words
    makers = {words[words.index("--out") + 1]: task for task, words in stages.items()}
    places = {"${archive}": "archive", "${labels.overlay}": "overlay", "${seed}": "seed"}
    commands = {}
    for task, (mura, step, *words) in stages.items():
        assert mura == "mura"
        pairs = list(zip(words[::2], words[1::2], strict=True))
        given = {flag for flag, _ in pairs}
        told = [(flag, places.get(value) or makers.get(value) or value) for flag, value in pairs if flag != "--out"]
        told = [(flag, value.removeprefix("params.yaml:").replace(".", "_")) for flag, value in told]
        # A step that is not told its section takes the one of its name.
        commands[task] = (step, sorted(told + ([] if "--params" in given else [("--params", step)])))
    return commands


def kubeflow_commands(spec: dict[str, Any]) -> dict[str, Command]:
    (inner,) = (each["dag"] for name, each in spec["components"].items() if name.startswith("comp-exit-handler"))
    commands = {}
    for name, task in inner["tasks"].items():
        component = spec["components"][task["componentRef"]["name"]]
        container = spec["deploymentSpec"]["executors"][component["executorLabel"]].get("container")
        if container is None:
            assert name == "importer"
            continue
        mura, step = container["command"]
        assert mura == "mura"
        told = []
        for flag, value in zip(container["args"][::2], container["args"][1::2], strict=True):
            if artifact := re.fullmatch(r"\{\{\$\.inputs\.artifacts\['(\w+)'\]\.path\}\}", value):
                told.append((flag, task["inputs"]["artifacts"][artifact[1]]["taskOutputArtifact"]["producerTask"]))
            elif parameter := re.fullmatch(r"\{\{\$\.inputs\.parameters\['(\w+)'\]\}\}", value):
                source = task["inputs"]["parameters"][parameter[1]]["componentInputParameter"]
                told.append((flag, source.removeprefix("pipelinechannel--")))
            else:
                assert flag in ("--out", "--executor-input")
        commands[name] = (step, sorted(told))
    return commands


def test_both_graphs_have_the_same_steps_edges_commands_and_parameters(spec: dict[str, Any]) -> None:
    assert kubeflow_commands(spec) == dvc_commands()


def test_what_dvc_always_runs_kubeflow_does_not_cache(spec: dict[str, Any]) -> None:
    (inner,) = (each["dag"] for name, each in spec["components"].items() if name.startswith("comp-exit-handler"))
    cached = {name: task["cachingOptions"].get("enableCache", False) for name, task in inner["tasks"].items()}
    always = {name for name, stage in STAGES.items() if stage.get("always_changed")}
    assert {name for name, enabled in cached.items() if not enabled} == always


def test_the_cache_knows_each_artifact_by_its_digest(spec: dict[str, Any]) -> None:
    """Kubeflow's key has the names of input artifacts and not what is in them."""
    (inner,) = (each["dag"] for name, each in spec["components"].items() if name.startswith("comp-exit-handler"))
    for name, task in inner["tasks"].items():
        if name in ("importer", "register", "promote"):
            continue
        parameters = task["inputs"]["parameters"]
        assert "code" in parameters
        for artifact, source in task["inputs"].get("artifacts", {}).items():
            maker = {"outputParameterKey": "digest", "producerTask": source["taskOutputArtifact"]["producerTask"]}
            assert parameters[f"{artifact}_digest"]["taskOutputParameter"] == maker
        if "archive" in parameters:
            assert parameters["archive_digest"]["componentInputParameter"] == "pipelinechannel--archive_digest"


def test_only_placeholders_that_every_launcher_fills_are_used(compiled: Compiled) -> None:
    assert "Concat" not in compiled.text
    assert "IfPresent" not in compiled.text
    known = r"\{\{\$(|\.(inputs|outputs)\.(artifacts|parameters)\['\w+'\](\.path)?|\.pipeline_job_uuid)\}\}"
    found = set(re.findall(r"\{\{.*?\}\}", json.dumps(list(yaml.safe_load_all(compiled.text)))))
    assert found
    assert [each for each in found if not re.fullmatch(known, each)] == []


def test_an_overlay_that_no_command_can_take_is_refused(tmp_path: Path) -> None:
    row = "train/XR_WRIST/patient{:05d}/study1_negative,0,1,a reader,{}\n"
    (tmp_path / "overlay.csv").write_text(
        "study,old,new,source,reason\n" + "".join(row.format(i, "x" * 1000) for i in range(100))
    )
    labels = DEMO.labels.model_copy(update={"overlay": str(tmp_path / "overlay.csv")})
    with pytest.raises(UsageError, match=r"overlay\.csv: 1\d\d,\d{3} bytes, more than"):
        compile_pipeline(DEMO.model_copy(update={"labels": labels}))


def pods(text: str) -> dict[str, dict[str, Any]]:
    """The pods that Kubeflow makes of a compiled pipeline, by executor.

    After backend/src/v2/compiler/argocompiler/{container,security_context}.go of Kubeflow Pipelines 2.17: what the
    pipeline says of its containers, between what is added to every one.
    """
    spec, platform = yaml.safe_load_all(text)
    told = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    confined = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    scratch = ["kfp-launcher", "gcs-scratch", "s3-scratch", "minio-scratch"]
    made = {}
    for name, executor in spec["deploymentSpec"]["executors"].items():
        if "container" not in executor:
            continue
        own = told.get(name, {})
        context = {
            key: value if isinstance(value, bool) else int(value) for key, value in own["securityContext"].items()
        }
        volumes: list[dict[str, Any]] = [{"name": each, "emptyDir": {}} for each in scratch]
        volumes += [{"name": each["volumeName"], "emptyDir": {}} for each in own.get("emptyDirMounts", [])]
        volumes += [{"name": "pvc", "persistentVolumeClaim": {}} for _ in own.get("pvcMount", [])]
        made[name] = {
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "initContainers": [{"name": "kfp-launcher", "securityContext": confined | {"runAsNonRoot": True}}],
            "containers": [{"name": "main", "securityContext": confined | context}],
            "volumes": volumes,
        }
    return made


REAL = read_params(ROOT / "params.mura.yaml")


@pytest.mark.parametrize("params", [DEMO, REAL], ids=["demo", "mura"])
def test_attempts_may_take_as_long_as_the_run(params: Params) -> None:
    spec = next(yaml.safe_load_all(compile_pipeline(params, code="c0de").text))
    (inner,) = (each["dag"] for name, each in spec["components"].items() if name.startswith("comp-exit-handler"))
    policies = [task["retryPolicy"] for task in inner["tasks"].values() if "retryPolicy" in task]
    # Counted from the first attempt's beginning, not the pause before one.
    assert {policy["backoffMaxDuration"] for policy in policies} == {f"{params.kubeflow.hours * 3600}s"}
    assert len(policies) == 5 + 2 * len(params.train)


@pytest.mark.parametrize("params", [DEMO, with_profile(REAL, shards="workspace")], ids=["demo", "mura"])
def test_every_pod_passes_the_restricted_standard(params: Params) -> None:
    made = pods(compile_pipeline(with_profile(params, image="registry.example/mura:golden"), code="c0de").text)
    assert len(made) == 14
    assert {name: found for name, pod in made.items() if (found := violations(pod))} == {}


def test_a_profile_of_root_is_refused() -> None:
    with pytest.raises(UsageError, match="user: Input should be greater than 0"):
        parse(KubeflowParams, DEMO.kubeflow.model_dump() | {"user": 0}, "params.yaml")


def test_no_place_and_no_secret_is_compiled_in(compiled: Compiled) -> None:
    assert not re.search(r"(https?|s3|sqlite|postgresql)://", compiled.text)
    keys = {key for source in DEMO.kubeflow.environment for key in source.keys}
    _, platform = yaml.safe_load_all(compiled.text)
    for executor in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        names = [each for source in executor["secretAsEnv"] + executor["configMapAsEnv"] for each in source["keyToEnv"]]
        assert {each["envVar"] for each in names} == keys
    executors = next(yaml.safe_load_all(compiled.text))["deploymentSpec"]["executors"].values()
    # Environment variables with a value would be one.
    assert all("env" not in executor.get("container", {}) for executor in executors)


def test_the_workflow_fits_into_kubernetes(compiled: Compiled) -> None:
    """Argo's workflow has about three times the pipeline's size (kubeflow/pipelines#13738), an object 1.5 MiB."""
    assert len(json.dumps(list(yaml.safe_load_all(compiled.text)))) * 3 < 1.5 * 2**20 / 4


def test_clusters_differ_by_values_only(compiled: Compiled) -> None:
    other = compile_pipeline(
        with_profile(
            DEMO,
            image="registry.example/mura:golden",
            pull_secrets=("registry",),
            labels={"team": "radiology"},
            steps={
                "default": StepProfile(cpu="500m", memory="1Gi"),
                "train": StepProfile(gpus=1, gpu_type="amd.com/gpu", shared_memory="1Gi", retries=2),
                "train.vgg19": StepProfile(
                    gpus=2, node_selector={"zone": "a"}, tolerations=(Toleration(key="gpu", effect="NoSchedule"),)
                ),
            },
        ),
        code="c0de",
    )
    spec, platform = yaml.safe_load_all(other.text)
    assert spec["root"] == next(yaml.safe_load_all(compiled.text))["root"] | {"dag": spec["root"]["dag"]}
    assert kubeflow_commands(spec) == dvc_commands()
    executors = spec["deploymentSpec"]["executors"]
    told = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    resources = executors["exec-train-vgg19"]["container"]["resources"]
    assert (resources["resourceCpuLimit"], resources["resourceMemoryLimit"]) == ("500m", "1Gi")
    assert resources["accelerator"]["resourceType"] == "amd.com/gpu"
    assert resources["accelerator"]["resourceCount"] == "2"
    # A pod that was given a GPU ends where TensorFlow does not see it.
    assert {"name": "MURA_REQUIRE_GPU", "value": "1"} in executors["exec-train-vgg19"]["container"]["env"]
    assert "env" not in executors["exec-shard"]["container"]
    assert told["exec-train-vgg19"]["nodeSelector"] == {"labels": {"zone": "a"}}
    assert told["exec-train-vgg19"]["tolerations"] == [{"effect": "NoSchedule", "key": "gpu", "operator": "Exists"}]
    assert told["exec-train-vgg19"]["emptyDirMounts"][0]["mountPath"] == "/dev/shm"
    assert "accelerator" not in executors["exec-shard"]["container"]["resources"]
    assert told["exec-shard"]["imagePullSecret"][0]["secretName"] == "registry"
    assert told["exec-shard"]["podMetadata"]["labels"] == {"team": "radiology"}


def test_gpu_steps_run_the_gpu_image() -> None:
    spec = next(yaml.safe_load_all(compile_pipeline(REAL, code="c0de").text))
    images = {
        name: each["container"]["image"]
        for name, each in spec["deploymentSpec"]["executors"].items()
        if "container" in each
    }
    assert re.fullmatch(r"localhost/mura:gpu-[0-9a-f]{16}", images["exec-train-vgg16"])
    assert re.fullmatch(r"localhost/mura:cpu-[0-9a-f]{16}", images["exec-ingest"])


def test_shards_on_a_volume_are_no_artifact_and_still_known_by_their_digest() -> None:
    changed = with_profile(DEMO, image="registry.example/mura:golden", shards="workspace", workspace_class="nfs")
    spec, platform = yaml.safe_load_all(compile_pipeline(changed, code="c0de").text)
    workspace = platform["platforms"]["kubernetes"]["pipelineConfig"]["workspace"]
    assert workspace["size"] == "20Gi"
    assert workspace["kubernetes"]["pvcSpecPatch"] == {"accessModes": ["ReadWriteMany"], "storageClassName": "nfs"}
    (inner,) = (each["dag"] for name, each in spec["components"].items() if name.startswith("comp-exit-handler"))
    shard, train = inner["tasks"]["shard"], inner["tasks"]["train-vgg16"]
    # A volume is new in every run: what was written on the one before is gone.
    assert not shard["cachingOptions"].get("enableCache")
    assert shard["inputs"]["parameters"]["out"]["runtimeValue"]["constant"] == "{{$.workspace_path}}/shards"
    assert train["inputs"]["parameters"]["shards"]["runtimeValue"]["constant"] == "{{$.workspace_path}}/shards"
    assert train["inputs"]["parameters"]["shards_digest"]["taskOutputParameter"]["producerTask"] == "shard"
    assert train["dependentTasks"] == ["shard"]


def test_without_kfp_one_line_says_how_to_install_it() -> None:
    script = (
        "import sys; sys.modules['kfp'] = None; sys.modules['kfp.compiler'] = None; "
        "from components.cli.main import run; sys.exit(run(['pipeline', 'compile']))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "pip install 'mura-pipeline[pipelines]'" in line


def test_the_command_writes_what_is_compiled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    words = ["pipeline", "compile", "--archive", "s3://bucket/phantom.zip", "--archive-digest", "md5:0"]
    assert run([*words, "--out", str(tmp_path / "deep" / "mura.yaml")]) == 0
    inputs = next(yaml.safe_load_all((tmp_path / "deep" / "mura.yaml").read_text()))["root"]["inputDefinitions"]
    assert inputs["parameters"]["archive"]["defaultValue"] == "s3://bucket/phantom.zip"
    assert inputs["parameters"]["archive_digest"]["defaultValue"] == "md5:0"
    capsys.readouterr()
    assert run(words) == 0
    assert capsys.readouterr().out == (tmp_path / "deep" / "mura.yaml").read_text()
