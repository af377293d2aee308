"""The compiled pipeline: the same graph as dvc.yaml's, fit for a cluster."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pod_security import violations

from components.base.errors import UsageError
from components.base.step import ANALYSES, STEPS
from components.cli import steps
from components.cli.main import run
from components.params.document import Params, parse, read_params
from components.params.ensemble import EnsembleParams
from components.params.ingest import IngestParams
from components.params.kubeflow import KubeflowParams, StepProfile, Toleration
from components.params.train import WITHOUT, TrainParams
from pipelines.graph.compiling import compile_pipeline
from pipelines.graph.package import Package

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("golden_pipeline.yaml")
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
DEMO = read_params(ROOT / "params.yaml")


def with_profile(params: Params, **changes: Any) -> Params:
    return params.model_copy(update={"kubeflow": params.kubeflow.model_copy(update=changes)})


def with_candidates(params: Params, **candidates: dict[str, Any]) -> Params:
    """The choices with other candidates, each the custom CNN with some changes."""
    (first, *_) = params.train.candidates.values()
    made = {name: first.model_copy(update={"candidate": name, **changes}) for name, changes in candidates.items()}
    return params.model_copy(update={"train": params.train.model_copy(update={"candidates": made}), "ensembles": {}})


def with_ensembles(params: Params, **members: Any) -> Params:
    """The choices with these ensembles, by name: `all`, or the names of the members."""
    made = {
        name: EnsembleParams(candidate=name, members=each, flips=number % 2 == 0)
        for number, (name, each) in enumerate(members.items())
    }
    return params.model_copy(update={"ensembles": made})


def code(module: str) -> str:
    """Stands for the digest of a step's code."""
    return hashlib.sha256(module.encode()).hexdigest()


def compiled_of(params: Params) -> Package:
    return compile_pipeline(with_profile(params, image="registry.example/mura:golden"), code=code)


@pytest.fixture(scope="module")
def package() -> Package:
    return compiled_of(DEMO)


def tasks_of(package: Package) -> dict[str, dict[str, Any]]:
    """The tasks of the steps by name."""
    components = package.spec["components"].items()
    (inner,) = (each["dag"]["tasks"] for name, each in components if name.startswith("comp-exit-handler"))
    found: dict[str, dict[str, Any]] = inner
    return found


def containers_of(package: Package) -> dict[str, dict[str, Any]]:
    """The containers by executor."""
    executors = package.spec["deploymentSpec"]["executors"]
    return {name: each["container"] for name, each in executors.items() if "container" in each}


def pods_of(package: Package) -> dict[str, dict[str, Any]]:
    """What Kubernetes is told of the pods, by executor."""
    found: dict[str, dict[str, Any]] = package.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return found


def test_the_pipeline_of_one_candidate_is_the_golden_one() -> None:
    text = compiled_of(with_candidates(DEMO, custom_cnn={})).text.decode()
    if os.environ.get("RENEW_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text(), (
        "the compiled pipeline has changed: RENEW_GOLDEN=1 pytest tests/pipelines/test_compiling.py, then read the diff"
    )


def test_each_step_knows_the_profile_that_counts_for_it(package: Package) -> None:
    sections = {step.key: step.section for step in package.steps}
    names = {"custom-cnn": "custom_cnn", "inception-v3": "inception_v3", "vgg16": "vgg16", "vgg19": "vgg19"}
    of_networks = {f"{step}-{key}": f"{step}.{name}" for step in ("train", "evaluate") for key, name in names.items()}
    of_ensembles = {"ensemble": "ensemble.ensemble", "evaluate-ensemble": "evaluate.ensemble"}
    others = ("ingest", "validate", "shard", "register", "promote", "notify")
    assert sections.pop("importer") == "importer"
    assert sections == {**of_networks, **of_ensembles, **{name: name for name in others}}
    # params.yaml may have each of them.
    steps = {section: {"memory": "7Gi"} for section in sections.values()}
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    document["kubeflow"]["steps"] = steps
    profiles = parse(Params, document, "params.yaml").kubeflow
    assert {profiles.step(section).memory for section in sections.values()} == {"7Gi"}


def test_compiling_twice_gives_the_same_text(package: Package) -> None:
    assert compiled_of(DEMO).text == package.text


def test_the_defaults_of_the_arguments_are_the_committed_choices(package: Package) -> None:
    defaults = {name: each.default for name, each in package.parameters.items()}
    committed = yaml.safe_load((ROOT / "params.yaml").read_text())
    train = committed.pop("train")
    for section in ("archive", "seed", "ingest", "validate", "shard", "protocol", "evaluate", "register", "promote"):
        assert defaults.pop(section) == committed[section]
    for name, choices in train["candidates"].items():
        every = {"candidate": name, **train["default"], **choices}
        assert parse(TrainParams, defaults[f"train_{name}"], "--params") == DEMO.train.candidates[name]
        # Zeros that leave a part of the training out need not be said.
        assert defaults.pop(f"train_{name}") == {
            choice: value for choice, value in every.items() if value or choice not in WITHOUT
        }
    for name, choices in committed["ensembles"].items():
        assert defaults.pop(f"ensemble_{name}") == {"candidate": name, **choices}
    overlay = (ROOT / DEMO.labels.overlay).read_text()
    assert defaults == {"archive_digest": "", "archive_name": "", "overlay": overlay}


@pytest.mark.long
def test_chosen_body_parts_are_a_default_that_the_step_reads() -> None:
    ingest = IngestParams(tuning_fraction=0.25, body_parts=("wrist", "elbow"))
    some = with_candidates(DEMO, custom_cnn={}).model_copy(update={"ingest": ingest})
    default = compiled_of(some).parameters["ingest"].default
    assert default == {"tuning_fraction": 0.25, "body_parts": ["elbow", "wrist"]}
    assert parse(IngestParams, default, "--params") == ingest


# A step's command: its name, and what each of its flags is given. An artifact is named by the task that made it.
Command = tuple[str, list[tuple[str, str]]]


def dvc_commands(params: Params) -> dict[str, Command]:
    """The commands of dvc.yaml by Kubeflow's names of the tasks, with what their settings stand for."""
    names = {"${train.candidates}": list(params.train.candidates), "${ensembles}": list(params.ensembles)}
    stages = {}
    for name, stage in STAGES.items():
        if name in ANALYSES:
            continue
        step = name.removesuffix("_ensemble")
        for entry in names[stage["matrix"]["candidate"]] if "matrix" in stage else [""]:
            text = stage["cmd"].replace("${item}", f"--candidate {entry}")
            words = text.split()
            if entry:
                # Of an ensemble, all but the result is of its members.
                own = [-1] if step == "ensemble" else range(len(words))
                for place in own:
                    words[place] = words[place].replace("{candidate}", entry)
            task = step if entry == step else f"{step}-{entry}"
            stages[task.replace("_", "-").rstrip("-")] = words
    # Kubeflow knows choices and code when the pipeline is compiled.
    del stages["settings"]
    makers = {words[words.index("--out") + 1]: task for task, words in stages.items()}
    commands = {}
    for task, (mura, step, *words) in stages.items():
        assert mura == "mura"
        pairs = list(zip(words[::2], words[1::2], strict=True))
        entry = dict(pairs).get("--candidate", "")
        own = f"{step}_{entry}" if step in ("train", "ensemble") else step
        of = params.ensembles[entry].chosen(params.train.candidates) if step == "ensemble" else params.train.candidates
        told = [
            (flag, makers[each])
            for flag, value in pairs
            if flag not in ("--out", "--settings", "--candidate")
            for each in filled_in(value, {"{candidate}": of, "{ensemble}": params.ensembles})
        ]
        told += [
            (each.flag, own if each.name == "params" else each.name)
            for each in steps.inputs_of(steps.step_function(step))
            if not each.is_artifact
        ]
        commands[task] = (step, sorted(told))
    return commands


def filled_in(value: str, names: Mapping[str, Iterable[str]]) -> list[str]:
    """A path for each name that a word in it stands for."""
    found = [(word, each) for word, each in names.items() if word in value]
    return [value.replace(word, name) for word, each in found for name in each] if found else [value]


def kubeflow_commands(package: Package) -> dict[str, Command]:
    """The same from the inputs of the tasks, which a step reads from `--executor-input`."""
    tasks, commands = tasks_of(package), {}
    for name, task in tasks.items():
        component = package.spec["components"][task["componentRef"]["name"]]
        container = containers_of(package).get(component["executorLabel"])
        if container is None:
            assert name == "importer"
            continue
        mura, step = container["command"]
        assert mura == "mura"
        told = []
        for each in steps.inputs_of(steps.step_function(step)):
            if each.is_artifact:
                # Those of a list are numbered.
                word = each.flag.removeprefix("--").replace("-", "_")
                artifacts = task["inputs"]["artifacts"].items()
                makers = [
                    source["taskOutputArtifact"]["producerTask"]
                    for key, source in artifacts
                    if key == each.name or (each.many and key.startswith(f"{word}_"))
                ]
                if each.many and word == "model":
                    # Each lies in its evaluation.
                    evaluated = [s["taskOutputArtifact"]["producerTask"] for _, s in artifacts]
                    models = [tasks[maker]["inputs"]["artifacts"]["model"] for maker in evaluated]
                    makers = [model["taskOutputArtifact"]["producerTask"] for model in models]
                if (step, word) == ("evaluate", "manifest"):
                    # It lies in the shards.
                    (shard,) = [s["taskOutputArtifact"]["producerTask"] for key, s in artifacts if key == "shards"]
                    makers = [tasks[shard]["inputs"]["artifacts"]["manifest"]["taskOutputArtifact"]["producerTask"]]
                told += [(each.flag, maker) for maker in makers]
            else:
                source = task["inputs"]["parameters"][each.name]
                told.append((each.flag, source["componentInputParameter"].removeprefix("pipelinechannel--")))
        commands[name] = (step, sorted(told))
    return commands


def test_a_step_is_told_everything_once(package: Package) -> None:
    """What a pod is told stands six times in the state of a run, so no flag says it again."""
    for name, container in containers_of(package).items():
        args = container["args"]
        if name == "exec-notify":
            continue
        assert args == ["--executor-input", "{{$}}"]


@pytest.mark.long
def test_the_inputs_of_a_list_have_its_order() -> None:
    tasks = tasks_of(compiled_of(with_ensembles(with_candidates(DEMO, b={}, a={}, c={}), both=("c", "a"))))
    for name, expected in (("ensemble-both", ["c", "a"]), ("register", ["b", "a", "c", "both"])):
        made = tasks[name]["inputs"]["artifacts"]
        makers = [
            made[f"evaluation_{number}"]["taskOutputArtifact"]["producerTask"] for number in range(1, 1 + len(made))
        ]
        assert makers == [f"evaluate-{each}" for each in expected]


@pytest.mark.long
@pytest.mark.parametrize(
    "params",
    [
        DEMO,
        with_candidates(DEMO, vgg19={"architecture": "vgg19"}, custom_cnn={}),
        with_candidates(DEMO, only={}),
        with_candidates(DEMO, vgg16={"architecture": "vgg16"}, wide={"architecture": "vgg16", "dropout": 0.5}),
        with_ensembles(DEMO, ensemble="all", two=("vgg19", "custom_cnn")),
    ],
    ids=["all", "a subset", "one", "one architecture twice", "two ensembles"],
)
def test_both_graphs_have_the_same_steps_edges_commands_and_parameters(params: Params) -> None:
    assert kubeflow_commands(compiled_of(params)) == dvc_commands(params)


def test_analyses_are_in_the_graph_of_dvc_alone_and_nothing_is_made_of_them(package: Package) -> None:
    commands = kubeflow_commands(package)
    assert {step for step, _ in commands.values()} == set(STEPS)
    made = {out for name in ANALYSES for out in STAGES[name]["outs"]}
    assert not [name for name, stage in STAGES.items() if any(dep in made for dep in stage["deps"])]


@pytest.mark.long
def test_a_candidate_has_its_own_argument_name_and_resources() -> None:
    params = with_candidates(DEMO, vgg16={"architecture": "vgg16"}, wide={"architecture": "vgg16", "dropout": 0.5})
    steps = {"train": StepProfile(memory="4Gi"), "train.wide": StepProfile(memory="9Gi")}
    package = compiled_of(with_profile(params, steps=steps))
    assert [package.parameters[f"train_{name}"].default["dropout"] for name in ("vgg16", "wide")] == [0.2, 0.5]
    names = {name: task["taskInfo"]["name"] for name, task in tasks_of(package).items()}
    assert (names["train-vgg16"], names["train-wide"]) == ("Train (VGG-16)", "Train wide (VGG-16)")
    assert (names["evaluate-vgg16"], names["evaluate-wide"]) == ("Evaluate (VGG-16)", "Evaluate wide (VGG-16)")
    memory = {room.step: room.memory for room in package.needs.rooms}
    assert (memory["train-vgg16"], memory["train-wide"]) == ("4Gi", "9Gi")


@pytest.mark.long
def test_an_ensemble_has_tasks_of_its_own() -> None:
    profiles = {"ensemble": StepProfile(memory="4Gi"), "evaluate.two": StepProfile(memory="9Gi")}
    package = compiled_of(with_profile(with_ensembles(DEMO, ensemble="all", two=("vgg16", "vgg19")), steps=profiles))
    names = {name: task["taskInfo"]["name"] for name, task in tasks_of(package).items()}
    assert (names["ensemble"], names["evaluate-ensemble"]) == ("Ensemble", "Evaluate (ensemble)")
    assert (names["ensemble-two"], names["evaluate-two"]) == ("Ensemble two (ensemble)", "Evaluate two (ensemble)")
    memory = {room.step: room.memory for room in package.needs.rooms}
    assert (memory["ensemble"], memory["ensemble-two"], memory["evaluate-two"]) == ("4Gi", "4Gi", "9Gi")
    # The numbers of a training are not among its outputs.
    made = {name: each["outputDefinitions"]["artifacts"] for name, each in package.spec["components"].items() if
            name in ("comp-ensemble", "comp-train-vgg16")}  # fmt: skip
    assert [set(each) for each in made.values()] == [{"trained_model"}, {"trained_model", "metrics"}]


def test_what_dvc_always_runs_kubeflow_does_not_cache(package: Package) -> None:
    cached = {name: task["cachingOptions"].get("enableCache", False) for name, task in tasks_of(package).items()}
    always = {name for name, stage in STAGES.items() if stage.get("always_changed")} - {"settings"}
    assert {name for name, enabled in cached.items() if not enabled} == always


def test_each_artifact_comes_with_its_digest(package: Package) -> None:
    """Kubeflow's key has the names of input artifacts and not what is in them, and a step compares what it reads."""
    for name, task in tasks_of(package).items():
        if name == "importer":
            continue
        parameters = task["inputs"]["parameters"]
        if name.startswith("evaluate"):
            # It lies in the shards, which do not change when second opinions do.
            assert parameters["manifest_digest"]["taskOutputParameter"]["producerTask"] == "validate"
        for artifact, source in task["inputs"].get("artifacts", {}).items():
            maker = {"outputParameterKey": "digest", "producerTask": source["taskOutputArtifact"]["producerTask"]}
            assert parameters[f"{artifact}_digest"]["taskOutputParameter"] == maker
        if "archive" in parameters:
            assert parameters["archive_digest"]["componentInputParameter"] == "pipelinechannel--archive_digest"


@pytest.mark.long
def test_a_candidate_may_be_called_like_the_digest_of_another() -> None:
    params = with_candidates(DEMO, wide={}, wide_digest={})
    assert kubeflow_commands(compiled_of(params)) == dvc_commands(params)


def test_the_cache_knows_the_code_of_each_step(package: Package) -> None:
    """Also if the image has a tag of its own: a change of `train` computes no shards anew."""
    found = {name: task["inputs"]["parameters"].get("code") for name, task in tasks_of(package).items()}
    digests = {name: each["runtimeValue"]["constant"] for name, each in found.items() if each}
    assert digests == {
        task: code(f"components.{step}")[:16]
        for task, (step, _) in kubeflow_commands(package).items()
        if step not in ("register", "promote")
    }
    assert len(set(digests.values())) == 6
    assert "code" not in package.parameters


def test_only_placeholders_that_every_launcher_fills_are_used(package: Package) -> None:
    assert b"Concat" not in package.text
    assert b"IfPresent" not in package.text
    known = r"\{\{\$(|\.(inputs|outputs)\.(artifacts|parameters)\['\w+'\](\.path)?|\.pipeline_job_uuid)\}\}"
    found = set(re.findall(r"\{\{.*?\}\}", json.dumps([package.spec, package.platform])))
    assert found
    assert [each for each in found if not re.fullmatch(known, each)] == []


def with_overlay(folder: Path, rows: int) -> Params:
    """The choices with an overlay of so many opinions."""
    row = "train/XR_WRIST/patient{:05d}/study1_negative,0,1,a reader,{}\n"
    text = "".join(row.format(i, "x" * 50) for i in range(rows))
    (folder / "overlay.csv").write_text(f"study,old,new,source,reason\n{text}")
    return DEMO.model_copy(update={"labels": DEMO.labels.model_copy(update={"overlay": str(folder / "overlay.csv")})})


STORED = "s3://bucket/dvc/files/md5/e5/0d747f6ee29ffaf42a833de877896f"


@pytest.mark.long
@pytest.mark.parametrize(
    ("archive", "folder"),
    [
        (STORED, "s3://bucket/dvc"),
        ("s3://bucket/e5/0d747f6ee29ffaf42a833de877896f", "s3://bucket"),
        ("s3://bucket/deep/mura.zip", "s3://bucket/deep"),
        # Not into the archive itself.
        ("s3://bucket/mura/", "s3://bucket"),
    ],
)
def test_a_long_overlay_is_an_address_that_its_content_decides(tmp_path: Path, archive: str, folder: str) -> None:
    params = with_overlay(tmp_path, 300)
    given = compile_pipeline(params, archive=archive, code=code).parameters["overlay"].default
    digest = hashlib.sha256((tmp_path / "overlay.csv").read_bytes()).hexdigest()
    assert given == f"{folder}/overlays/{digest}.csv"
    other = compile_pipeline(with_overlay(tmp_path, 301), archive=archive, code=code).parameters["overlay"].default
    assert other != given


@pytest.mark.long
def test_a_short_overlay_is_seen_and_changed_as_text(tmp_path: Path) -> None:
    params = with_overlay(tmp_path, 3)
    given = compile_pipeline(params, archive=STORED, code=code).parameters["overlay"].default
    assert given == (tmp_path / "overlay.csv").read_text()


@pytest.mark.long
@pytest.mark.parametrize("archive", ["data/phantom.zip", "s3://bucket/"])
def test_a_long_overlay_without_a_place_is_refused(tmp_path: Path, archive: str) -> None:
    with pytest.raises(UsageError, match=r"overlay\.csv: 3\d,\d{3} bytes, more than the 1,000 .*--overlay s3://"):
        compile_pipeline(with_overlay(tmp_path, 300), archive=archive, code=code)


def pods(package: Package) -> dict[str, dict[str, Any]]:
    """The pods that Kubeflow makes of a compiled pipeline, by executor.

    After backend/src/v2/compiler/argocompiler/{container,security_context}.go of Kubeflow Pipelines 2.17: what the
    pipeline says of its containers, between what is added to every one.
    """
    confined = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    scratch = ["kfp-launcher", "gcs-scratch", "s3-scratch", "minio-scratch"]
    made = {}
    for name in containers_of(package):
        own = pods_of(package).get(name, {})
        context = {
            key: value if isinstance(value, bool) else int(value) for key, value in own["securityContext"].items()
        }
        volumes: list[dict[str, Any]] = [{"name": each, "emptyDir": {}} for each in scratch]
        volumes += [{"name": each["volumeName"], "emptyDir": {}} for each in own.get("emptyDirMounts", [])]
        volumes += [{"name": each["secretName"], "secret": {}} for each in own.get("secretAsVolume", [])]
        volumes += [{"name": each["configMapName"], "configMap": {}} for each in own.get("configMapAsVolume", [])]
        volumes += [{"name": "pvc", "persistentVolumeClaim": {}} for _ in own.get("pvcMount", [])]
        made[name] = {
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "initContainers": [{"name": "kfp-launcher", "securityContext": confined | {"runAsNonRoot": True}}],
            "containers": [{"name": "main", "securityContext": confined | context}],
            "volumes": volumes,
        }
    return made


REAL = read_params(ROOT / "params.mura.yaml")


@pytest.mark.long
@pytest.mark.parametrize("params", [DEMO, REAL], ids=["demo", "mura"])
def test_attempts_may_take_as_long_as_the_run(params: Params) -> None:
    tasks = tasks_of(compiled_of(params)).values()
    policies = [task["retryPolicy"] for task in tasks if "retryPolicy" in task]
    # Counted from the first attempt's beginning, not the pause before one.
    assert {policy["backoffMaxDuration"] for policy in policies} == {f"{params.kubeflow.hours * 3600}s"}
    assert len(policies) == 5 + 2 * len([*params.train.candidates, *params.ensembles])


@pytest.mark.long
@pytest.mark.parametrize("params", [DEMO, with_profile(REAL, shards="workspace")], ids=["demo", "mura"])
def test_every_pod_passes_the_restricted_standard(params: Params) -> None:
    made = pods(compiled_of(params))
    assert len(made) == 16
    assert {name: found for name, pod in made.items() if (found := violations(pod))} == {}


def test_a_profile_of_root_is_refused() -> None:
    with pytest.raises(UsageError, match="user: should be greater than 0"):
        parse(KubeflowParams, DEMO.kubeflow.model_dump() | {"user": 0}, "params.yaml")


def test_no_place_and_no_secret_is_compiled_in(package: Package) -> None:
    assert not re.search(rb"(https?|s3|sqlite|postgresql)://", package.text)
    # Environment variables with a value would be one.
    assert all("env" not in container for container in containers_of(package).values())


def test_places_and_keys_are_files_of_the_steps_that_need_them(package: Package) -> None:
    """As variables they would clash with those of Kubeflow's own MLflow integration: the pod would be invalid."""
    given = {}
    for executor, pod in pods_of(package).items():
        assert not {"secretAsEnv", "configMapAsEnv"} & pod.keys()
        # MLflow is told the id of the run.
        telling = executor.startswith(("exec-train", "exec-register", "exec-promote", "exec-notify"))
        assert [each["name"] for each in pod.get("fieldPathAsEnv", ())] == (["KFP_RUN_ID"] if telling else [])
        mounted = [*pod.get("secretAsVolume", []), *pod.get("configMapAsVolume", [])]
        names = {each.get("secretName") or each["configMapName"]: each for each in mounted}
        assert {each["mountPath"] for each in mounted} == {f"/etc/mura/{name}" for name in names}
        assert all(each["optional"] for each in mounted)
        given[executor.removeprefix("exec-")] = set(names)
    assert given["ingest"] == given["shard"] == {"mura-places", "mura-data"}
    assert given["train-vgg16"] == {"mura-places", "mura-s3", "mura-mlflow"}
    # These sign, and verify what others signed.
    assert given["register"] == given["promote"] == given["train-vgg16"] | {"mura-signing", "mura-trusted-keys"}
    # It reads artifacts, and nothing else.
    assert given["evaluate-vgg16"] == set()
    assert given["notify"] == {"mura-places", "mura-mlflow", "mura-webhook"}


def test_a_finished_workflow_is_kept_as_long_as_it_is_said(package: Package) -> None:
    """Argo's own config map has an hour for success and for failure, and these win over the time of any end."""
    config = package.platform["platforms"]["kubernetes"]["pipelineConfig"]
    kinds = ("resourceTtlOnCompletion", "resourceTtlOnSuccess", "resourceTtlOnFailure")
    assert [config.get(kind) for kind in kinds] == [DEMO.kubeflow.keep_hours * 3600] * 3


@pytest.mark.long
def test_clusters_differ_by_values_only(package: Package) -> None:
    other = compiled_of(
        with_profile(
            DEMO,
            pull_secrets=("registry",),
            labels={"team": "radiology"},
            queue="research",
            steps={
                "default": StepProfile(cpu="500m", memory="1Gi"),
                "train": StepProfile(gpus=1, gpu_type="amd.com/gpu", shared_memory="1Gi", retries=2),
                "train.vgg19": StepProfile(
                    gpus=2, node_selector={"zone": "a"}, tolerations=(Toleration(key="gpu", effect="NoSchedule"),)
                ),
            },
        )
    )
    assert other.parameters == package.parameters
    assert kubeflow_commands(other) == kubeflow_commands(package)
    train, shard = (containers_of(other)[f"exec-{name}"] for name in ("train-vgg19", "shard"))
    assert (train["resources"]["resourceCpuLimit"], train["resources"]["resourceMemoryLimit"]) == ("500m", "1Gi")
    assert train["resources"]["accelerator"]["resourceType"] == "amd.com/gpu"
    assert train["resources"]["accelerator"]["resourceCount"] == "2"
    # A pod that was given a GPU ends where TensorFlow does not see it.
    assert {"name": "MURA_REQUIRE_GPU", "value": "1"} in train["env"]
    assert "env" not in shard
    assert "accelerator" not in shard["resources"]
    train, shard = (pods_of(other)[f"exec-{name}"] for name in ("train-vgg19", "shard"))
    assert train["nodeSelector"] == {"labels": {"zone": "a"}}
    assert train["tolerations"] == [{"effect": "NoSchedule", "key": "gpu", "operator": "Exists"}]
    assert train["emptyDirMounts"][0]["mountPath"] == "/dev/shm"
    assert shard["imagePullSecret"][0]["secretName"] == "registry"
    assert shard["podMetadata"]["labels"] == {"team": "radiology", "kueue.x-k8s.io/queue-name": "research"}


@pytest.mark.long
def test_gpu_steps_run_the_gpu_image() -> None:
    images = {name: each["image"] for name, each in containers_of(compile_pipeline(REAL, code=code)).items()}
    assert re.fullmatch(r"localhost/mura:gpu-[0-9a-f]{16}", images["exec-train-vgg16"])
    assert re.fullmatch(r"localhost/mura:cpu-[0-9a-f]{16}", images["exec-ingest"])


@pytest.mark.long
def test_shards_on_a_volume_are_no_artifact_and_still_known_by_their_digest() -> None:
    package = compiled_of(with_profile(DEMO, shards="workspace", workspace_class="nfs"))
    workspace = package.platform["platforms"]["kubernetes"]["pipelineConfig"]["workspace"]
    assert workspace["size"] == "20Gi"
    assert workspace["kubernetes"]["pvcSpecPatch"] == {"accessModes": ["ReadWriteMany"], "storageClassName": "nfs"}
    shard, train = (tasks_of(package)[name] for name in ("shard", "train-vgg16"))
    # A volume is new in every run: what was written on the one before is gone.
    assert not shard["cachingOptions"].get("enableCache")
    assert shard["inputs"]["parameters"]["out"]["runtimeValue"]["constant"] == "{{$.workspace_path}}/shards"
    assert train["inputs"]["parameters"]["shards"]["runtimeValue"]["constant"] == "{{$.workspace_path}}/shards"
    assert train["inputs"]["parameters"]["shards_digest"]["taskOutputParameter"]["producerTask"] == "shard"
    assert train["dependentTasks"] == ["shard"]


def test_without_kfp_one_line_says_how_to_install_it() -> None:
    script = (
        "import sys; sys.modules['kfp'] = None; sys.modules['kfp.compiler'] = None; "
        "from components.cli.main import run; sys.exit(run(['pipeline', 'compile', '--archive', 's3://b/k']))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "pip install 'mura-pipeline[pipelines]'" in line


@pytest.mark.long
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


def test_an_archive_of_this_machine_is_refused_before_it_fails_in_a_pod(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    for words in ([], ["--archive", "data/phantom.zip"], ["--archive", "file:///data/phantom.zip"]):
        assert run(["pipeline", "compile", *words]) == 2
        out, err = capfd.readouterr()
        assert out == ""
        (line,) = err.splitlines()
        assert "pods cannot read a file of this machine" in line


@pytest.mark.long
def test_the_resources_for_servers_that_keep_pipelines_in_kubernetes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    words = ["pipeline", "compile", "--archive", STORED]
    assert run([*words, "--out", str(tmp_path / "mura.yaml")]) == 0
    plain = Package.read(tmp_path / "mura.yaml")
    words += ["--kubernetes-manifest", "--out", str(tmp_path / "resources.yaml")]
    assert run([*words, "--namespace", "team"]) == 0
    pipeline, version = yaml.safe_load_all((tmp_path / "resources.yaml").read_text())
    assert (pipeline["kind"], pipeline["metadata"]) == ("Pipeline", {"name": "mura", "namespace": "team"})
    assert (version["kind"], version["metadata"]) == ("PipelineVersion", {"name": plain.version, "namespace": "team"})
    assert {each["apiVersion"] for each in (pipeline, version)} == {"pipelines.kubeflow.org/v2beta1"}
    assert version["spec"]["pipelineName"] == "mura"
    assert (version["spec"]["pipelineSpec"], version["spec"]["platformSpec"]) == (plain.spec, plain.platform)
    assert run(words) == 0
    made = yaml.safe_load_all((tmp_path / "resources.yaml").read_text())
    assert all("namespace" not in each["metadata"] for each in made)
    assert run(["pipeline", "compile", "--namespace", "team"]) == 2
    assert "--kubernetes-manifest" in capfd.readouterr().err
