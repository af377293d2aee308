"""Where Kubernetes may be asked: what a step waits for, which step failed, its log and its exit code."""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from kubeflow_api import PIPELINE, WORKFLOW, Fault, KubeflowApi, Mura, executor, recorded
from test_cluster_doctor import Kubernetes, kubeconfig
from test_cluster_doctor import kubernetes as kubernetes  # a fixture

from pipelines.checks.workflow import read

PODS = "/api/v1/namespaces/kubeflow/pods"
WORKFLOWS = "/apis/argoproj.io/v1alpha1/namespaces/kubeflow/workflows"
# As Kubeflow's launcher and Argo print it around the lines of a step.
BEFORE = """\
I1128 15:15:24.580152      16 main.go:80] Setting log level to: '1'
I1128 15:15:24.602911      16 cache.go:116] Connecting to cache endpoint ml-pipeline.kubeflow:8887
I1128 15:15:24.701234      16 launcher_v2.go:209] executorInput={
  "outputs": {
    "parameters": {}
  }
}
time=2026-11-28T15:15:24.812Z level=INFO msg="capturing logs" argo=true
"""
AFTER = """\
I1128 15:15:26.172306      16 launcher_v2.go:193] publish success.
I1128 15:15:26.394021      16 client.go:752] Attempting to update DAG state
F1128 15:15:26.552240      16 main.go:54] failed to execute component: {end}
time=2026-11-28T15:15:27.490Z level=INFO msg="sub-process exited" argo=true error=<nil>
Error: exit status 1
"""
REFUSAL = "INFO ingest: archive bad.zip\nerror: not a readable zip. Is it complete?\n"


@pytest.fixture
def cluster(kubernetes: Kubernetes, mura: Mura, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kubernetes:
    """A cluster that a kubeconfig leads to."""
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path / "kubeconfig", kubernetes.url))
    return kubernetes


def pod(step: str, phase: str, attempt: int = 0, memory: str = "3Gi", **status: Any) -> dict[str, Any]:
    """The pod of a step."""
    node = executor(step, attempt) if "." not in step else step
    name = f"pod-of-{step.rpartition('.')[2]}-{attempt}"
    return {
        "metadata": {
            "name": name,
            "annotations": {"workflows.argoproj.io/node-name": node},
            "creationTimestamp": f"2026-11-02T09:0{attempt}:00Z",
        },
        "spec": {"containers": [{"name": "main", "resources": {"limits": {"memory": memory}}}, {"name": "wait"}]},
        "status": {"phase": phase, **status},
    }


def ended(code: int, reason: str = "Error") -> dict[str, Any]:
    """The status of a pod whose container has ended."""
    end = {
        "exitCode": code,
        "reason": reason,
        "startedAt": "2026-11-02T09:00:10Z",
        "finishedAt": "2026-11-02T09:00:31Z",
    }
    main = {
        "name": "main",
        "image": "i",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"terminated": end},
    }
    return {"containerStatuses": [main]}


def waits(reason: str, message: str) -> dict[str, Any]:
    """The status of a pod whose container does not start."""
    state = {"waiting": {"reason": reason, "message": message}}
    return {
        "containerStatuses": [
            {"name": "main", "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": state}
        ]
    }


UNSCHEDULABLE = {
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient cpu.",
        }
    ]
}


def there(cluster: Kubernetes, run: str, *pods: dict[str, Any]) -> None:
    """These are the pods of the run."""
    cluster.objects[f"{PODS}?labelSelector=pipeline%2Frunid%3D{run}"] = {"items": list(pods)}


def log(cluster: Kubernetes, name: str, text: str) -> None:
    """The log of a pod, by any number of its last lines."""
    for tail in ("", "&tailLines=400"):
        cluster.objects[f"{PODS}/{name}/log?container=main{tail}"] = text


def workflow(cluster: Kubernetes, run: str, *nodes: dict[str, Any], packed: bool = False, **status: Any) -> None:
    """The run's workflow."""
    by_id = {str(number): node for number, node in enumerate(nodes)}
    if packed:
        status["compressedNodes"] = base64.b64encode(gzip.compress(json.dumps(by_id).encode())).decode()
    else:
        status["nodes"] = by_id
    metadata = {"name": WORKFLOW, "labels": {"pipeline/runid": run}, "creationTimestamp": "2026-11-02T09:00:00Z"}
    found = {"items": [{"metadata": metadata, "status": status}]}
    cluster.objects[f"{WORKFLOWS}?labelSelector=pipeline%2Frunid%3D{run}"] = found
    cluster.objects[f"{WORKFLOWS}?labelSelector=pipeline%2Frunid"] = found


def lines(out: str) -> list[str]:
    return [line.partition("  ")[2] for line in out.splitlines() if line[2:3] == ":"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (UNSCHEDULABLE, "waiting for a node (0/1 nodes are available: 1 Insufficient cpu.)"),
        (waits("ImagePullBackOff", "Back-off pulling image x"), "waiting (ImagePullBackOff: Back-off pulling image x)"),
        (
            waits("CreateContainerConfigError", 'secret "mura-s3" not found'),
            'waiting (CreateContainerConfigError: secret "mura-s3" not found)',
        ),
        (waits("ContainerCreating", ""), "starting"),
        ({}, "starting"),
    ],
)
def test_what_a_pending_step_waits_for(
    api: KubeflowApi, mura: Mura, cluster: Kubernetes, status: dict[str, Any], words: str
) -> None:
    run = api.run(
        "mura-1",
        ("RUNNING", {"ingest": "SUCCEEDED", "train-vgg16": "RUNNING"}),
        ("SUCCEEDED", {"ingest": "SUCCEEDED", "train-vgg16": "SUCCEEDED", "notify": "SUCCEEDED"}),
    )
    there(cluster, run, pod("ingest", "Succeeded", **ended(0, "Completed")), pod("train-vgg16", "Pending", **status))
    workflow(cluster, run)
    code, out, err = mura("watch", "mura-1", "--interval", "0")
    assert code == 0, err
    # The time is that of the container, not of the node.
    assert lines(out)[0] == "Ingest: done, 21 s"
    assert f"Train (VGG-16): {words}" in lines(out)


def test_a_driver_that_waits_is_its_steps(api: KubeflowApi, mura: Mura, cluster: Kubernetes) -> None:
    run = api.run("mura-1", ("RUNNING", {"ingest": "SUCCEEDED"}), ("SUCCEEDED", {"ingest": "SUCCEEDED"}))
    driver = executor("train-vgg16").replace("(0).executor(0)", "-driver(0)")
    there(cluster, run, pod("ingest", "Succeeded"), pod(driver, "Pending", **UNSCHEDULABLE))
    out = mura("watch", "mura-1", "--interval", "0")[1]
    assert "Train (VGG-16): waiting for a node (0/1 nodes are available: 1 Insufficient cpu.)" in lines(out)


INVALID = (
    'Pod "mura-abcde-system-container-impl-1" is invalid: env[1].valueFrom may not be specified when value is not empty'
)


@pytest.mark.parametrize("packed", [False, True])
def test_why_a_pod_cannot_be_made(api: KubeflowApi, mura: Mura, cluster: Kubernetes, packed: bool) -> None:
    run = api.run(
        "mura-1", ("RUNNING", {"ingest": "RUNNING"}), ("FAILED", {"ingest": "FAILED", "train-vgg16": "FAILED"})
    )
    there(cluster, run)
    nodes = [
        {"type": "Pod", "phase": "Error", "name": executor("ingest"), "message": INVALID},
        {"type": "Retry", "phase": "Error", "name": executor("ingest")[:-3], "message": "No more retries left"},
        {"type": "Pod", "phase": "Error", "name": executor("train-vgg16"), "message": "exceeded quota"},
        {"type": "Pod", "phase": "Failed", "name": executor("train-vgg16", 1), "message": "main: Error (exit code 1)"},
        {"type": "Pod", "phase": "Failed", "name": executor("notify"), "message": "main: Error (exit code 1)"},
    ]
    workflow(cluster, run, *nodes, packed=packed)
    code, out, err = mura("watch", "mura-1", "--interval", "0")
    assert code == 6
    assert f"Ingest: waiting ({INVALID})" in lines(out)
    assert f"failed in Ingest, Train (VGG-16) after 10 min 00 s. Ingest: {INVALID}. Its logs:" in err


def test_a_run_that_fails_before_its_first_step_says_why(api: KubeflowApi, mura: Mura, cluster: Kubernetes) -> None:
    run = api.run("mura-1", ("FAILED", {}))
    api.story = [("FAILED", {"ingest": "RUNTIME_STATE_UNSPECIFIED"})]
    there(cluster, run)
    # As it is in the recorded workflow.
    message = (
        "wait: Error (exit code 64): timed out waiting for the condition: failed to put file: We encountered an error"
    )
    workflow(
        cluster, run, {"type": "Pod", "phase": "Error", "name": f"{WORKFLOW}(0).root-driver(2)", "message": message}
    )
    code, _, err = mura("watch", "mura-1")
    assert code == 6
    assert f"mura-1 failed after 10 min 00 s. root: {message}." in err


def test_a_failure_that_kubeflow_lost_is_found_by_its_pod(api: KubeflowApi, mura: Mura, cluster: Kubernetes) -> None:
    run = api.replay("run-over-1MB")
    api.timelines[run][0]["answer"]["state"] = "FAILED"
    nodes = [node["name"] for node in recorded("workflow-nodes.json.gz").values() if node["type"] == "Pod"]
    mine = {step: next(n for n in nodes if f".{step}(0).executor" in n) for step in ("register", "promote", "notify")}
    phases = {"register": "Succeeded", "promote": "Failed", "notify": "Succeeded"}
    pods = [pod(mine[step], phase, **ended(int(phase == "Failed"))) for step, phase in phases.items()]
    for made, name in zip(pods, mine, strict=True):
        made["metadata"]["name"] = f"pod-of-{name}"
    there(cluster, run, *pods)
    log(cluster, "pod-of-promote", BEFORE + "error: this test set is another\n" + AFTER.format(end="exit status 4"))
    code, out, err = mura("watch", "--interval", "0")
    assert code == 4
    assert lines(out)[-4:] == ["Register: done, 21 s", "Promote: failed, 21 s", "Notify: done, 21 s", "run: failed"]
    assert "\nThe last lines of Promote:\n  error: this test set is another\n" in out
    assert "failed in Promote after" in err


@pytest.mark.long
@pytest.mark.parametrize(("phase", "mark", "words"), [("Running", "no", "cannot"), ("Failed", "--", "could not")])
def test_the_doctor_says_why_the_newest_run_has_no_pod(
    mura: Mura, cluster: Kubernetes, monkeypatch: pytest.MonkeyPatch, phase: str, mark: str, words: str
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    cluster.fill()
    node = {"type": "Pod", "phase": "Error", "name": executor("ingest"), "message": INVALID}
    workflow(cluster, "r", node, phase=phase)
    what = ". Change what it names." if mark == "no" else ""
    line = f"{mark}  pods              the newest run, mura-abcde, {words} start ingest: {INVALID}{what}"
    assert line in mura("doctor", "--archive", "s3://bucket/x.zip")[1].splitlines()
    workflow(cluster, "r", node, phase="Succeeded")
    assert "pods " not in mura("doctor", "--archive", "s3://bucket/x.zip")[1]


def test_steps_that_kubeflow_has_stopped_to_tell_of_go_on(api: KubeflowApi, mura: Mura, cluster: Kubernetes) -> None:
    lost = {"ingest": "RUNNING"}
    run = api.run("mura-1", ("RUNNING", lost), ("RUNNING", lost), ("SUCCEEDED", lost))
    there(cluster, run, pod("ingest", "Succeeded", **ended(0, "Completed")), pod("train-vgg16", "Running"))
    workflow(cluster, run)
    code, out, err = mura("watch", "mura-1", "--interval", "0")
    assert code == 0, err
    assert lines(out)[:3] == ["Ingest: done, 21 s", "Train (VGG-16): running", "run: running"]


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_the_watching_ends_with_the_steps_own_code(
    api: KubeflowApi, mura: Mura, cluster: Kubernetes, number: int
) -> None:
    run = api.run("mura-1", ("FAILED", {"ingest": "FAILED"}))
    there(cluster, run, pod("ingest", "Failed", **ended(1)))
    log(cluster, "pod-of-ingest-0", BEFORE + REFUSAL + AFTER.format(end=f"exit status {number}"))
    code, out, err = mura("watch", "mura-1")
    assert code == number
    assert out.endswith(
        "\nThe last lines of Ingest:\n  INFO ingest: archive bad.zip\n  error: not a readable zip. Is it complete?\n"
    )
    assert err.count("failed in Ingest") == 1


@pytest.mark.parametrize("end", ["exit status 139", "exit status 6000", "context deadline exceeded"])
def test_a_code_that_is_none_of_ours_is_a_failed_run(
    api: KubeflowApi, mura: Mura, cluster: Kubernetes, end: str
) -> None:
    run = api.run("mura-1", ("FAILED", {"ingest": "FAILED"}))
    there(cluster, run, pod("ingest", "Failed", **ended(1)))
    log(cluster, "pod-of-ingest-0", BEFORE + AFTER.format(end=end))
    assert mura("watch", "mura-1")[0] == 6


def test_a_traceback_is_kept(api: KubeflowApi, mura: Mura, cluster: Kubernetes) -> None:
    run = api.run("mura-1", ("FAILED", {"ingest": "FAILED"}))
    there(cluster, run, pod("ingest", "Failed", **ended(1)))
    trace = 'Traceback (most recent call last):\n  File "/app/x.py", line 1, in <module>\n    {\nKeyError: 1\n'
    log(cluster, "pod-of-ingest-0", BEFORE + trace + AFTER.format(end="exit status 1"))
    code, out, _ = mura("watch", "mura-1")
    assert code == 1
    assert out.endswith("".join(f"  {line}\n" for line in trace.splitlines()))


def test_a_launcher_that_fails_after_the_step_says_why(api: KubeflowApi, mura: Mura, cluster: Kubernetes) -> None:
    run = api.run("mura-1", ("FAILED", {"ingest": "FAILED"}))
    there(cluster, run, pod("ingest", "Failed", **ended(1)))
    why = 'failed to upload output artifact "manifest": 403'
    log(cluster, "pod-of-ingest-0", BEFORE + "INFO ingest: done\n" + AFTER.format(end=why))
    code, _, err = mura("watch", "mura-1")
    assert code == 6
    assert f"Ingest: Kubeflow's launcher failed ({why})." in err


@pytest.mark.parametrize(
    ("status", "text"),
    [
        # The kernel killed the step, and its launcher saw it.
        (ended(1), BEFORE + "INFO train: epoch 1\n" + AFTER.format(end="signal: killed")),
        # It killed both.
        (ended(137, "OOMKilled"), BEFORE + "INFO train: epoch 1\n"),
    ],
)
def test_a_step_without_memory_says_its_limit_and_the_line_that_raises_it(
    api: KubeflowApi, mura: Mura, cluster: Kubernetes, status: dict[str, Any], text: str
) -> None:
    run = api.run("mura-1", ("FAILED", {"ingest": "SUCCEEDED", "train-vgg16": "FAILED"}))
    there(cluster, run, pod("train-vgg16", "Failed", memory="4Gi", **status))
    log(cluster, "pod-of-train-vgg16-0", text)
    code, out, err = mura("watch", "mura-1")
    assert code == 6
    assert out.endswith("  INFO train: epoch 1\n")
    assert (
        "Train (VGG-16) needed more memory than its limit of 4Gi and was killed. Give it more in params.yaml, "
        "`kubeflow.steps.train.memory`, and submit again." in err
    )


def test_the_line_that_raises_the_memory_is_the_candidate_s_own(
    api: KubeflowApi, mura: Mura, cluster: Kubernetes
) -> None:
    """`kubeflow.steps.train` has no effect where the candidate has a profile."""
    run = api.run("mura-1", ("FAILED", {"ingest": "SUCCEEDED", "train-vgg16": "FAILED"}))
    spec = json.loads(json.dumps(PIPELINE))
    parameters = {name: {"parameterType": "STRUCT"} for name in ("train_vgg16", "train_vgg19", "ensemble_ensemble")}
    spec["root"]["inputDefinitions"] = {"parameters": parameters}
    api.versions["v"]["pipeline_spec"] = spec
    there(cluster, run, pod("train-vgg16", "Failed", memory="4Gi", **ended(137, "OOMKilled")))
    assert "`kubeflow.steps.train.vgg16.memory`, and submit again." in mura("watch", "mura-1")[2]


def test_the_limit_is_known_without_kubernetes_too(api: KubeflowApi, mura: Mura) -> None:
    api.replay("run-refused", last=True)
    api.logs["mura-zjd7p-655633401"] = BEFORE + AFTER.format(end="signal: killed")
    code, _, err = mura("watch")
    assert code == 6
    assert "Ingest needed more memory than its limit of 3Gi and was killed." in err
    assert "`kubeflow.steps.ingest.memory`" in err


def test_a_run_whose_workflow_is_gone_is_not_watched_for_ever(
    api: KubeflowApi, mura: Mura, cluster: Kubernetes
) -> None:
    run = api.run("mura-1", ("RUNNING", {"ingest": "RUNNING"}))
    there(cluster, run)
    # The cluster is Kubeflow's: it has the workflow of another run.
    other = api.run("mura-0", ("RUNNING", {"ingest": "RUNNING"}))
    workflow(cluster, other)
    cluster.objects[f"{WORKFLOWS}?labelSelector=pipeline%2Frunid%3D{run}"] = {"items": []}
    code, _, err = mura("watch", run, "--interval", "0")
    assert code == 6
    assert "mura-1 does not run any more, although Kubeflow lists it as running for ever" in err


def test_the_kubeconfig_of_another_cluster_ends_no_watching(api: KubeflowApi, mura: Mura, cluster: Kubernetes) -> None:
    run = api.run("mura-1", ("RUNNING", {}), ("RUNNING", {}), ("SUCCEEDED", {"ingest": "SUCCEEDED"}))
    workflow(cluster, "00000000-0000-0000-0000-000000000000")
    cluster.objects[f"{WORKFLOWS}?labelSelector=pipeline%2Frunid%3D{run}"] = {"items": []}
    there(cluster, run)
    assert mura("watch", run, "--interval", "0")[0] == 0


@pytest.mark.parametrize("denied", [True, False])
def test_what_kubernetes_does_not_tell_is_not_asked_again(
    api: KubeflowApi, mura: Mura, cluster: Kubernetes, denied: bool
) -> None:
    run = api.run("mura-1", ("RUNNING", {"ingest": "RUNNING"}), ("FAILED", {"ingest": "FAILED"}))
    if denied:
        there(cluster, run)
        cluster.denied = set(cluster.objects)
    else:
        cluster.objects.clear()
    code, out, err = mura("watch", "mura-1", "--interval", "0")
    assert code == 6
    assert "Ingest: failed, 45 s" in lines(out)
    assert "failed in Ingest" in err


def test_a_pod_that_does_not_name_its_node_shows_its_log_too(api: KubeflowApi, mura: Mura, cluster: Kubernetes) -> None:
    run = api.run("mura-1", ("FAILED", {"ingest": "FAILED"}))
    pods = [
        {"metadata": {"name": name}, "status": {"phase": phase}}
        for name, phase in (("a", "Succeeded"), ("b", "Failed"))
    ]
    there(cluster, run, *pods)
    log(cluster, "b", REFUSAL)
    assert mura("watch", "mura-1")[1].endswith(
        "\nThe last lines of b:\n  INFO ingest: archive bad.zip\n  error: not a readable zip. Is it complete?\n"
    )


def test_without_kubernetes_the_log_is_the_one_that_argo_kept(api: KubeflowApi, mura: Mura) -> None:
    from kubeflow_api import node_id

    api.run("mura-1", ("FAILED", {"ingest": "FAILED"}))
    api.logs[node_id(executor("ingest"))] = BEFORE + REFUSAL + AFTER.format(end="exit status 3")
    code, out, _ = mura("watch", "mura-1")
    assert code == 3
    assert out.endswith("  error: not a readable zip. Is it complete?\n")
    api.faults.append(Fault("main-logs", 500, b"{}"))
    assert mura("watch", "mura-1")[0] == 6


def test_nodes_that_expand_without_end_are_none() -> None:
    bomb = gzip.compress(b"[" + b" " * (64 << 20) + b"]")
    status = {"compressedNodes": base64.b64encode(bomb).decode()}
    assert read({"status": status}).troubles == ()
