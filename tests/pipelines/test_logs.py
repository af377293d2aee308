"""`mura pipeline logs`: the log of a step, from its pod or from what Argo kept."""

import json

import pytest
from kubeflow_api import Fault, KubeflowApi, Mura, executor, node_id, recorded
from test_cluster_doctor import Kubernetes
from test_cluster_doctor import kubernetes as kubernetes  # a fixture
from test_in_cluster import AFTER, BEFORE, REFUSAL, log, pod, there, workflow
from test_in_cluster import cluster as cluster  # a fixture

LOG = BEFORE + REFUSAL + AFTER.format(end="exit status 3")


@pytest.fixture
def failed(api: KubeflowApi) -> str:
    """A run that failed in its first step."""
    run = api.run("mura-1", ("FAILED", {"ingest": "FAILED", "notify": "SUCCEEDED"}))
    api.logs[node_id(executor("ingest"))] = LOG
    api.logs[node_id(executor("notify"))] = "INFO notify: told\n"
    return run


def test_the_step_that_failed_is_shown_without_being_named(failed: str, mura: Mura) -> None:
    assert mura("logs") == (0, f"Ingest of mura-1, failed:\n{REFUSAL}", "")
    assert mura("logs", failed[:8])[1] == f"Ingest of mura-1, failed:\n{REFUSAL}"


@pytest.fixture
def unprepared(api: KubeflowApi) -> str:
    """A run whose Validate failed in its driver, and so has no pod of its own."""
    run = api.replay("run-cancelled", last=True)
    answer = api.timelines[run][0]["answer"]
    answer["state_history"] = [each for each in answer["state_history"] if each["state"] != "CANCELING"]
    return run


def test_a_step_that_could_not_be_prepared_is_not_taken_for_the_last_one_that_worked(
    unprepared: str, mura: Mura
) -> None:
    code, out, err = mura("logs", unprepared)
    assert (code, out) == (2, "")
    assert "error: Validate has no log in mura-20261128-150941: it failed before it began. " in err
    assert f"kubectl -n kubeflow get pods -l pipeline/runid={unprepared}" in err


def test_the_log_of_the_pod_that_could_not_prepare_a_step_is_that_of_the_step(
    unprepared: str, mura: Mura, cluster: Kubernetes
) -> None:
    driver = executor("validate").replace("(0).executor(0)", "-driver(0)")
    made = pod(driver, "Failed")
    made["metadata"]["name"] = "the-driver"
    there(cluster, unprepared, made)
    log(cluster, "the-driver", "driver: no such image\n")
    told = "Validate of mura-20261128-150941, failed:\ndriver: no such image\n"
    assert mura("logs", unprepared) == (0, told, "")


def test_of_several_failed_steps_those_with_a_log_are_shown(api: KubeflowApi, mura: Mura) -> None:
    api.run("mura-1", ("FAILED", {"ingest": "FAILED", "train-vgg16": "FAILED"}))
    api.logs[node_id(executor("train-vgg16"))] = "error: no place\n"
    code, out, err = mura("logs")
    assert (code, out) == (2, "Train (VGG-16) of mura-1, failed:\nerror: no place\n")
    assert "error: Ingest has no log in mura-1: its pod is gone or cannot be read" in err


def test_a_run_that_failed_nobody_knows_where_shows_no_other_step(api: KubeflowApi, mura: Mura) -> None:
    api.run("mura-1", ("FAILED", {"ingest": "SUCCEEDED"}))
    api.logs[node_id(executor("ingest"))] = LOG
    code, out, err = mura("logs")
    assert (code, out) == (2, "")
    assert err.startswith("error: mura-1 failed, and nothing says in which step. ")


@pytest.mark.parametrize("step", ["ingest", "Ingest", "ing"])
def test_a_step_is_shown_by_name(failed: str, mura: Mura, step: str) -> None:
    assert mura("logs", "mura-1", step) == (0, REFUSAL, "")
    assert mura("logs", "mura-1", step, "--whole")[1] == LOG
    assert failed


def test_a_step_that_is_none(failed: str, mura: Mura) -> None:
    code, _, err = mura("logs", "mura-1", "polish")
    assert code == 2
    assert err == "error: mura-1 has no step polish; it has ingest, train-vgg16, notify.\n"
    code, _, err = mura("logs", "mura-1", "train")
    assert code == 2
    assert err == "error: Train (VGG-16) has no log in mura-1: it was not started.\n"
    assert failed


def test_several_steps_begin_so(api: KubeflowApi, mura: Mura) -> None:
    api.replay("run-over-1MB")
    code, _, err = mura("logs", "mura-2", "train")
    assert code == 2
    assert "4 steps begin so: train-custom-cnn, train-inception-v3, train-vgg16, train-vgg19." in err


def test_a_reused_step_says_why_it_has_no_log(api: KubeflowApi, mura: Mura) -> None:
    api.replay("run-cached", last=True)
    code, _, err = mura("logs", "mura-2", "Train (VGG-19)")
    assert code == 2
    assert "it was not run: its result is that of an earlier run, from Kubeflow's cache." in err


# As the recorded workflow says where Argo put the log of the second pod of this step.
KEY = "private-artifacts/kubeflow/mura-wfcm5/2026/11/28/mura-wfcm5-retry-system-container-impl-3082262811/main.log"


def test_the_log_of_a_run_past_1_mib_is_read_by_its_place_in_the_bucket(api: KubeflowApi, mura: Mura) -> None:
    nodes = json.dumps(recorded("workflow-nodes.json.gz"))
    assert KEY in nodes
    api.replay("run-over-1MB")
    api.objects[f"minio://mlpipeline/{KEY}"] = "INFO train: epoch 5\n"
    assert mura("logs", "mura-2", "train-vgg16") == (0, "INFO train: epoch 5\n", "")


def test_where_argo_keeps_no_logs_the_launcher_s_is_shown(api: KubeflowApi, mura: Mura, cluster: Kubernetes) -> None:
    run = api.replay("run-over-1MB")
    there(cluster, run)
    workflow(cluster, run, *recorded("workflow-nodes.json.gz").values(), packed=True, phase="Succeeded")
    place = f"minio://mlpipeline/v2/artifacts/mura/{run}/train-vgg16/ddc78728-e519-489c-8570-ac95382bacd3/executor-logs"
    api.objects[place] = "INFO train: epoch 5\n"
    assert mura("logs", run, "train-vgg16") == (0, "INFO train: epoch 5\n", "")


def test_an_address_that_is_not_the_user_interface_gives_no_page_as_a_log(api: KubeflowApi, mura: Mura) -> None:
    api.replay("run-over-1MB")
    api.faults.append(Fault("/artifacts/get", 200, b"<!doctype html><title>Kubeflow</title>", "text/html"))
    code, _, err = mura("logs", "mura-2", "train-vgg16")
    assert code == 2
    assert "Train (VGG-16) has no log in mura-20261128-143554: its pod is gone or cannot be read" in err


def test_a_pod_that_is_there_is_read_itself(failed: str, mura: Mura, cluster: Kubernetes) -> None:
    there(cluster, failed, pod("ingest", "Failed", 0), pod("ingest", "Failed", 1))
    log(cluster, "pod-of-ingest-1", "error: the second attempt\n")
    assert mura("logs", "mura-1", "ingest")[1] == "error: the second attempt\n"
    del cluster.objects["/api/v1/namespaces/kubeflow/pods/pod-of-ingest-1/log?container=main"]
    assert mura("logs", "mura-1", "ingest")[1] == REFUSAL


def test_a_step_at_work_needs_a_kubeconfig(api: KubeflowApi, mura: Mura) -> None:
    run = api.run("mura-1", ("RUNNING", {"ingest": "RUNNING"}))
    code, _, err = mura("logs", "mura-1")
    assert code == 2
    assert "Ingest is still running: its log is in its pod until then, which needs a kubeconfig. " in err
    assert f"kubectl -n kubeflow get pods -l pipeline/runid={run}" in err
    api.story = [("PENDING", {})]
    assert mura("logs", "mura-1")[2] == "error: mura-1: no step has a log yet.\n"
