"""The manifests as they are applied: valid for Kubernetes, restricted, least privileged, and fitting each other."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jobset_rules
import kubernetes_validate
import pytest
import yaml
from pod_security import pods, violations

from components.cli import steps
from components.params.document import read_params
from components.train import tf_config

ROOT = Path(__file__).parents[2]
OVERLAYS = ("kind", "cluster", "serving")
IMAGE = "registry.example/mura:cpu-0123456789abcdef"
SERVER = "registry.example/mura:serve-0123456789abcdef"
# The oldest and the newest that Kubeflow Pipelines 2.17 is tested with.
KUBERNETES = ("1.33", "1.36")
# Of KServe and not of Kubernetes; beside these fields its predictor is a pod's specification.
PREDICTOR = {"minReplicas", "maxReplicas"}

Manifests = list[dict[str, Any]]


@pytest.fixture(scope="module")
def infra(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, to draw secrets in."""
    drawn, folder = shutil.ignore_patterns("drawn.*"), tmp_path_factory.mktemp("rendered")
    shutil.copy(ROOT / "params.yaml", folder)
    return Path(shutil.copytree(ROOT / "infra", folder / "infra", ignore=drawn))


def render(infra: Path, overlay: str) -> str:
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    words = [str(infra / "render.sh"), overlay, IMAGE, SERVER]
    return subprocess.run(words, env={"PATH": path}, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def rendered(infra: Path) -> dict[str, Manifests]:
    """All manifests by overlay."""
    return {name: list(yaml.safe_load_all(render(infra, name))) for name in OVERLAYS}


def every(rendered: Mapping[str, Manifests], kind: str) -> Iterator[dict[str, Any]]:
    return (each for manifests in rendered.values() for each in manifests if each["kind"] == kind)


def started(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


@pytest.mark.long
@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_knows_every_field(rendered: dict[str, Manifests], overlay: str, version: str) -> None:
    for manifest in rendered[overlay]:
        if manifest["kind"] == "InferenceService":
            spec = {key: value for key, value in manifest["spec"]["predictor"].items() if key not in PREDICTOR}
            manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "predictor"}, "spec": spec}
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_passes_the_restricted_standard_and_more(rendered: dict[str, Manifests], overlay: str) -> None:
    found = [(path, pod) for manifest in rendered[overlay] for path, pod in pods(manifest)]
    assert found
    assert {path: violations(pod) for path, pod in found} == {path: [] for path, _ in found}
    for _, pod in found:
        assert pod["automountServiceAccountToken"] is False
        for container in started(pod):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert {"requests", "limits"} <= set(container["resources"])
            assert re.search(r":[^:/]*\d[^:/]*$", container["image"]), container["image"]


def test_the_images_of_this_code_are_put_where_they_belong(rendered: dict[str, Manifests]) -> None:
    ours = {
        (container["name"], container["image"])
        for manifests in rendered.values()
        for manifest in manifests
        for _, pod in pods(manifest)
        for container in started(pod)
        if container["image"] in (IMAGE, SERVER)
    }
    assert ours == {("mlflow", IMAGE), ("buckets", IMAGE), ("follow", IMAGE), ("kserve-container", SERVER)}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_a_pod_refers_to_is_there(rendered: dict[str, Manifests], overlay: str) -> None:
    # The champion is served beside the services of a cluster, which are applied before.
    applied = rendered[overlay] + (rendered["cluster"] if overlay == "serving" else [])
    there = {(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in applied}
    for manifest in rendered[overlay]:
        text = json.dumps(manifest.get("spec", {}))
        names = re.findall(r'"secret(?:KeyRef|Ref)": \{[^}]*"name": "([^"]+)"', text)
        names += re.findall(r'"secretName": "([^"]+)"', text)
        for name in names:
            assert ("Secret", manifest["metadata"]["namespace"], name) in there


def test_a_service_finds_its_pods(rendered: dict[str, Manifests]) -> None:
    labels = [
        each["spec"]["template"]["metadata"]["labels"]
        for kind in ("Deployment", "StatefulSet")
        for each in every(rendered, kind)
    ]
    for service in every(rendered, "Service"):
        assert any(service["spec"]["selector"].items() <= of.items() for of in labels)


def test_the_role_can_read_by_name_only_and_change_nothing_but_its_results(rendered: dict[str, Manifests]) -> None:
    for role in every(rendered, "Role"):
        for rule in role["rules"]:
            if set(rule["resources"]) & {"secrets", "configmaps"}:
                assert rule["resourceNames"]
                assert rule["verbs"] == ["get"]
            elif rule["resources"] == ["serviceaccounts"]:
                assert (rule["resourceNames"], rule["verbs"]) == (["mura-runner"], ["use"])
                # Who runs pods does not submit any.
                assert role["metadata"]["name"] not in [b["roleRef"]["name"] for b in every(rendered, "RoleBinding")]
            elif rule["resources"] != ["workflowtaskresults"]:
                assert rule["verbs"] == ["get"]
    assert list(every(rendered, "ClusterRole")) == list(every(rendered, "ClusterRoleBinding")) == []


def test_the_namespace_refuses_what_is_not_restricted(rendered: dict[str, Manifests]) -> None:
    for namespace in every(rendered, "Namespace"):
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def is_of_places(config_map: dict[str, Any]) -> bool:
    """Whether it says where things are; the others have public keys."""
    return bool(config_map["metadata"]["name"] == "mura-places")


def test_mlflow_answers_to_the_name_it_is_called_by(rendered: dict[str, Manifests]) -> None:
    (places,) = {each["data"]["MLFLOW_TRACKING_URI"] for each in every(rendered, "ConfigMap") if is_of_places(each)}
    host = places.removeprefix("http://").partition(":")[0]
    for deployment in every(rendered, "Deployment"):
        (allowed,) = (
            word.partition("=")[2]
            for word in deployment["spec"]["template"]["spec"]["containers"][0]["args"]
            if word.startswith("--allowed-hosts=")
        )
        assert {host, f"{host}:*"} <= set(allowed.split(","))


def test_mlflow_offers_files_at_an_address_that_the_runs_know(rendered: dict[str, Manifests]) -> None:
    (known,) = {each["data"]["AWS_ENDPOINT_URL"] for each in every(rendered, "ConfigMap") if is_of_places(each)}
    for deployment in every(rendered, "Deployment"):
        variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
        (offered,) = (each["value"] for each in variables if each["name"] == "MLFLOW_S3_ENDPOINT_URL")
        assert offered == known


@pytest.mark.parametrize("params", ["params.yaml", "params.mura.yaml"])
def test_the_runs_find_what_the_parameters_promise(rendered: dict[str, Manifests], params: str) -> None:
    there: dict[tuple[str, str], set[str]] = {}
    for each in (*every(rendered, "ConfigMap"), *every(rendered, "Secret")):
        there.setdefault((each["kind"], each["metadata"]["name"]), set()).update(each["data"])
    for source in read_params(ROOT / params).kubeflow.environment:
        kind, name = ("Secret", source.secret) if source.secret else ("ConfigMap", source.config_map)
        assert name
        if not source.optional:
            assert set(source.keys) <= there[kind, name]
        elif (kind, name) in there:
            assert there[kind, name] <= set(source.keys)


def test_secrets_are_drawn_once(infra: Path) -> None:
    first = render(infra, "kind")
    assert render(infra, "kind") == first


@pytest.fixture(scope="module")
def of_team(infra: Path) -> Manifests:
    """What a training by several workers needs, and such a training."""
    return [*yaml.safe_load_all(render(infra, "team")), yaml.safe_load(render(infra, "team/job.yaml"))]


@pytest.fixture(scope="module")
def of_job(infra: Path) -> Manifests:
    """What the candidates need, each in a pod of its own, and the Job that starts them."""
    return [each for name in ("volume", "job") for each in yaml.safe_load_all(render(infra, name))]


def the(kind: str, manifests: Manifests) -> dict[str, Any]:
    (found,) = (each for each in manifests if each["kind"] == kind)
    return found


def test_trainer_knows_every_field_of_a_team(of_team: Manifests) -> None:
    from kubeflow_trainer_api import models

    kinds = {"TrainingRuntime": models.TrainerV1alpha1TrainingRuntime, "TrainJob": models.TrainerV1alpha1TrainJob}
    for kind, model in kinds.items():
        manifest = the(kind, of_team)
        assert manifest["apiVersion"] == "trainer.kubeflow.org/v1alpha1"
        # What a model does not know it drops.
        assert model.from_dict(manifest).to_dict() == manifest


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_field_of_a_team(of_team: Manifests, version: str) -> None:
    (job,) = the("TrainingRuntime", of_team)["spec"]["template"]["spec"]["replicatedJobs"]
    started = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "node"}, "spec": job["template"]["spec"]}
    for manifest in (started, *(the(kind, of_team) for kind in ("PersistentVolumeClaim", "Pod", "NetworkPolicy"))):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_pods_of_a_team_pass_the_restricted_standard_and_more(of_team: Manifests) -> None:
    for kind in ("TrainingRuntime", "Pod"):
        ((_, pod),) = pods(the(kind, of_team))
        (container,) = pod["containers"]
        assert violations(pod) == []
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["image"] == IMAGE
        (claim,) = (
            each["persistentVolumeClaim"]["claimName"] for each in pod["volumes"] if "persistentVolumeClaim" in each
        )
        assert claim == the("PersistentVolumeClaim", of_team)["metadata"]["name"]


def test_trainer_finds_the_workers_of_a_team_and_they_each_other(
    of_team: Manifests, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, job = the("TrainingRuntime", of_team), the("TrainJob", of_team)
    (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    (container,) = replicated["template"]["spec"]["template"]["spec"]["containers"]
    # By these names Trainer's controller looks for what it starts.
    assert (replicated["name"], container["name"]) == ("node", "node")
    assert replicated["template"]["metadata"]["labels"] == {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
    assert job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    assert job["metadata"]["namespace"] == runtime["metadata"]["namespace"]
    name, workers = job["metadata"]["name"], runtime["spec"]["mlPolicy"]["numNodes"]
    text = {each["name"]: each.get("value", "") for each in container["env"]}["TF_CONFIG"]
    # JobSet's name of a pod, and of the service of all.
    hosts = [f"{name}-node-0-{rank}.{name}:2222" for rank in range(workers)]
    for rank in range(workers):
        monkeypatch.setenv("TF_CONFIG", text.replace("$(TEAM)", name).replace("$(RANK)", str(rank)))
        assert tf_config.place() == (rank, workers)
        assert json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"] == hosts


def as_jobset(manifests: Manifests) -> tuple[str, dict[str, Any]]:
    """Name and specification of the JobSet that Trainer makes of a training."""
    runtime, job = the("TrainingRuntime", manifests)["spec"], the("TrainJob", manifests)
    spec = copy.deepcopy(runtime["template"]["spec"])
    for each in spec["replicatedJobs"]:
        workers = job["spec"]["trainer"].get("numNodes", runtime["mlPolicy"]["numNodes"])
        each["template"]["spec"] |= {"completions": workers, "parallelism": workers}
    return job["metadata"]["name"], spec


def test_jobset_takes_what_trainer_makes_of_a_team(of_team: Manifests) -> None:
    name, spec = as_jobset(of_team)
    assert jobset_rules.faults(name, spec) == []
    # Trainer's webhook wants one Job of each kind, and makes as many pods of it as there are workers.
    assert [each["replicas"] for each in spec["replicatedJobs"]] == [1]


def changed(spec: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with another value at a path such as `replicatedJobs.0.replicas`."""
    copied = copy.deepcopy(spec)
    *way, last = [int(word) if word.isdigit() else word for word in path.split(".")]
    place: Any = copied
    for word in way:
        place = place[word] if isinstance(place, list) else place.setdefault(word, {})
    place[last] = value
    return copied


RULE = {"name": "itWouldComeAgain", "action": "FailJobSet"}


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("failurePolicy.rules.0.name", "it-would-come-again", "it-would-come-again is no name of a rule"),
        ("failurePolicy.rules.0.name", "again:", "again: is no name of a rule"),
        ("failurePolicy.rules.0.name", "2nd", "2nd is no name of a rule"),
        ("failurePolicy.rules.0.name", "a" * 129, "is no name of a rule"),
        ("failurePolicy.rules", [RULE, RULE], "two rules are called itWouldComeAgain"),
        ("failurePolicy.rules.0.action", "Fail", "action Fail"),
        ("failurePolicy.rules.0.action", "RestartJob", "action RestartJob"),
        ("failurePolicy.rules.0.onJobFailureReasons", ["Evicted"], "reason Evicted"),
        ("failurePolicy.rules.0.onJobFailureMessagePatterns", ["("], "pattern ("),
        ("failurePolicy.rules.0.targetReplicatedJobs", ["trainer"], "no replicated job trainer"),
        ("failurePolicy.restartStrategy", "InPlaceRestart", "restart strategy InPlaceRestart"),
        ("successPolicy", {"operator": "All", "targetReplicatedJobs": ["trainer"]}, "successPolicy: no replicated job"),
        ("successPolicy", {"operator": "Most"}, "successPolicy: operator Most"),
        ("startupPolicy", {"startupPolicyOrder": "Later"}, "startupPolicy: order Later"),
        ("replicatedJobs.0.name", "Node", "a Job's name is mura-vgg16-Node-0"),
        ("replicatedJobs.0.name", "n" * 51, "of 64 characters"),
        # Not the Job's name is too long, but that of its last pod.
        ("replicatedJobs.0.name", "n" * 44, "a pod's name is mura-vgg16-"),
        ("replicatedJobs.0.groupName", "my_group", "a group's name is my_group"),
        ("replicatedJobs.0.dependsOn", [{"name": "node", "status": "Ready"}], "the first replicated job"),
        ("network.subdomain", "a.b", "the subdomain is a.b"),
        ("coordinator", {"replicatedJob": "chief"}, "coordinator: no replicated job chief"),
        ("coordinator", {"replicatedJob": "node", "jobIndex": 1}, "coordinator: no job 1"),
        ("coordinator", {"replicatedJob": "node", "podIndex": 2}, "coordinator: no pod 2"),
        ("managedBy", "somebody", "managedBy: somebody"),
        ("ttlSecondsAfterFinished", -1, "ttlSecondsAfterFinished is negative"),
        ("volumeClaimPolicies", [{"templates": [{"metadata": {"name": "work"}}]}], "volumeClaimPolicies: work"),
    ],
)
def test_what_jobset_refuses_is_found(of_team: Manifests, path: str, value: Any, fault: str) -> None:
    name, spec = as_jobset(of_team)
    assert any(fault in each for each in jobset_rules.faults(name, changed(spec, path, value)))


def test_jobset_refuses_a_training_whose_name_leaves_no_room_for_its_pods(of_team: Manifests) -> None:
    _, spec = as_jobset(of_team)
    assert jobset_rules.faults("m" * 46, spec) == []
    assert any("a pod's name" in each for each in jobset_rules.faults("m" * 49, spec))
    assert any("small letters" in each for each in jobset_rules.faults("mura.vgg16", spec))


def test_a_team_is_given_places_and_keys_like_every_run_and_words_that_mura_knows(of_team: Manifests) -> None:
    ((_, pod),) = pods(the("TrainingRuntime", of_team))
    given = {name for source in pod["containers"][0]["envFrom"] for name in [next(iter(source.values()))["name"]]}
    known = {source.secret or source.config_map for source in read_params(ROOT / "params.yaml").kubeflow.environment}
    assert given <= known
    step, *words = the("TrainJob", of_team)["spec"]["trainer"]["args"]
    flags = {word.partition("=")[0] for word in words}
    assert flags == {each.flag for each in steps.inputs_of(steps.step_function(step))} - {"--seed"} | {"--out"}


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_field_of_the_candidates_job(of_job: Manifests, version: str) -> None:
    for manifest in of_job:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_pods_of_the_candidates_job_pass_the_restricted_standard_and_more(of_job: Manifests) -> None:
    ((_, pod),) = pods(the("Job", of_job))
    assert violations(pod) == []
    assert pod["automountServiceAccountToken"] is False
    for container in started(pod):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["image"] == IMAGE
        assert {"requests", "limits"} <= set(container["resources"])
        given = {next(iter(source.values()))["name"] for source in container["envFrom"]}
        sources = read_params(ROOT / "params.yaml").kubeflow.environment
        assert given <= {source.secret or source.config_map for source in sources}
    claims = [each["persistentVolumeClaim"]["claimName"] for each in pod["volumes"] if "persistentVolumeClaim" in each]
    assert claims == [the("PersistentVolumeClaim", of_job)["metadata"]["name"]]


def test_the_candidates_job_has_a_pod_for_each_and_words_that_mura_knows(of_job: Manifests) -> None:
    spec = the("Job", of_job)["spec"]
    assert spec["completions"] == len(read_params(ROOT / "params.yaml").train.candidates)
    ((_, pod),) = pods(the("Job", of_job))
    assert [each["name"] for each in started(pod)] == ["train", "evaluate"]
    for container in started(pod):
        step, *words = container["args"]
        assert container["name"] == step
        given = dict(word.partition("=")[::2] for word in words)
        artifacts = {each.flag for each in steps.inputs_of(steps.step_function(step)) if each.is_artifact}
        assert set(given) == artifacts | {"--settings", "--index", "--once", "--out"}
        assert given["--index"] == "$(JOB_COMPLETION_INDEX)"
        # Each candidate by its name: no two pods write to one place.
        assert given["--out"].endswith("/{candidate}")
    # A rule of failures names containers that there are.
    named = {
        rule["onExitCodes"]["containerName"] for rule in spec["podFailurePolicy"]["rules"] if "onExitCodes" in rule
    }
    assert named == {"train", "evaluate"}
    assert pod["restartPolicy"] == "Never"


@pytest.mark.parametrize("name", ["team/job.yaml", "job"])
def test_trainings_wait_in_the_queue_of_the_choices(infra: Path, name: str) -> None:
    file = infra.parent / "params.yaml"
    text = file.read_text()
    document = yaml.safe_load(text)
    document["train"]["candidates"].pop("vgg19")
    document["kubeflow"]["queue"] = "research"
    try:
        file.write_text(yaml.safe_dump(document))
        (queued,) = yaml.safe_load_all(render(infra, name))
    finally:
        file.write_text(text)
    (plain,) = yaml.safe_load_all(render(infra, name))
    assert queued["metadata"]["labels"].pop("kueue.x-k8s.io/queue-name") == "research"
    if name == "job":
        assert (queued["spec"].pop("completions"), plain["spec"].pop("completions")) == (3, 4)
    labels = queued["metadata"].pop("labels")
    assert labels == plain["metadata"].pop("labels", {})
    assert queued == plain


GOOD: dict[str, Any] = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "one",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
    ],
}


def in_container(**changes: Any) -> dict[str, Any]:
    one = GOOD["containers"][0]
    return {**GOOD, "containers": [{**one, "securityContext": {**one["securityContext"], **changes}}]}


def test_a_restricted_pod_passes() -> None:
    assert violations(GOOD) == []


@pytest.mark.parametrize(
    "pod",
    [
        {**GOOD, "hostNetwork": True},
        {**GOOD, "hostPID": True},
        {**GOOD, "volumes": [{"name": "host", "hostPath": {"path": "/"}}]},
        {**GOOD, "securityContext": {"runAsNonRoot": True}},
        {**GOOD, "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}},
        {**GOOD, "securityContext": {**GOOD["securityContext"], "runAsUser": 0}},
        {**GOOD, "securityContext": {**GOOD["securityContext"], "sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
        {**GOOD, "initContainers": [{"name": "first"}]},
        in_container(allowPrivilegeEscalation=None),
        in_container(capabilities={"drop": ["NET_RAW"]}),
        in_container(capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
        in_container(privileged=True),
        in_container(runAsNonRoot=False),
        in_container(runAsUser=0),
        in_container(seccompProfile={"type": "Unconfined"}),
        in_container(procMount="Unmasked"),
        in_container(seLinuxOptions={"type": "spc_t"}),
        {**GOOD, "containers": [{**GOOD["containers"][0], "ports": [{"containerPort": 80, "hostPort": 80}]}]},
    ],
)
def test_a_pod_that_is_not_restricted_is_found(pod: dict[str, Any]) -> None:
    assert violations(pod) != []


def test_a_laptop_has_the_same_servers_as_a_cluster(rendered: dict[str, Manifests]) -> None:
    services = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())["services"]
    of_cluster = {
        container["name"]: container
        for manifest in rendered["kind"]
        for _, pod in pods(manifest)
        for container in started(pod)
    }
    assert set(services) == set(of_cluster)
    for name, service in services.items():
        there = of_cluster[name]
        assert service["image"] == there["image"] or (service["image"][:12], there["image"]) == ("${MURA_IMAGE", IMAGE)
        if "args" in there and name != "mlflow":
            assert [word.strip() for word in service["command"]] == [word.strip() for word in there["args"]]
    words = services["mlflow"]["command"][0].split()
    for word in of_cluster["mlflow"]["args"]:
        assert word in words or word.startswith("--allowed-hosts=")
