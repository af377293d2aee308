"""Runs of a real Kubeflow, recorded answer by answer: what `watch`, `cancel` and `notify` tell of them."""

import json
from datetime import timedelta
from typing import Any

import pytest
from kubeflow_api import PIPELINE, STARTED, KubeflowApi, Mura, recorded

from components.kubeflow import notify, pod

REUSED = ["Ingest", "Validate", "Shard"]
REUSED += [
    f"{verb} ({name})" for verb in ("Train", "Evaluate") for name in ("custom CNN", "Inception-v3", "VGG-16", "VGG-19")
]


def told(out: str) -> list[str]:
    """The lines of the steps and of the run, without the time of day."""
    return [line.partition("  ")[2] for line in out.splitlines() if line[2:3] == ":"]


@pytest.mark.long
def test_a_run_with_most_steps_from_the_cache(api: KubeflowApi, mura: Mura) -> None:
    api.replay("run-cached")
    code, out, err = mura("watch", "--interval", "0")
    assert (code, err) == (0, "")
    assert told(out) == [
        "run: waiting",
        "run: running",
        "Archive: starting",
        "Archive: done, 3 s",
        *(f"{name}: reused" for name in REUSED),
        "Register: starting",
        "Register: running",
        "Register: done, 9 s",
        "Promote: starting",
        "Promote: done, 7 s",
        "Notify: starting",
        "Notify: done, 7 s",
        "run: done",
    ]
    assert out.splitlines()[-1] == "mura-20261128-151200 succeeded in 2 min 21 s; 11 of 15 steps were there already."


def test_a_run_whose_archive_is_refused(api: KubeflowApi, mura: Mura) -> None:
    run = api.replay("run-refused")
    code, out, err = mura("watch", "--interval", "0")
    assert code == 6
    # 4 s of work: Argo waits for 46 s more before it gives the step up.
    assert told(out) == [
        "run: waiting",
        "run: running",
        "Archive: starting",
        "Archive: done, 3 s",
        "Ingest: starting",
        "Ingest: running",
        "Ingest: failed, 4 s",
        "Notify: starting",
        "Notify: running",
        "Notify: done, 9 s",
        "run: failed",
    ]
    assert err == (
        "error: mura-20261128-151452 failed in Ingest after 1 min 51 s. Its logs: `mura pipeline logs "
        f"mura-20261128-151452`, or {api.url}/#/runs/details/{run}\n"
    )


def test_a_cancelled_run_ends_as_failed_on_the_server_and_is_told_as_cancelled(api: KubeflowApi, mura: Mura) -> None:
    run = api.replay("run-cancelled")
    code, out, err = mura("watch", "--interval", "0")
    assert code == 6
    assert told(out) == ["Archive: done, 3 s", "Ingest: done, 8 s", "Notify: done, 7 s", "run: cancelled"]
    assert err == "error: mura-20261128-150941 was cancelled after 1 min 21 s.\n"
    assert mura("cancel", run)[1] == "mura-20261128-150941 has ended already: cancelled. Nothing to cancel.\n"
    assert api.count("POST", "terminate") == 0


# The work, without the wait for a node: Evaluate (custom CNN) had 3 min 28 s with it.
WORK = {
    "Archive": "4 s",
    "Ingest": "4 s",
    "Validate": "4 s",
    "Shard": "4 s",
    "Train (custom CNN)": "2 min 14 s",
    "Train (Inception-v3)": "5 min 34 s",
    # Its first pod was deleted.
    "Train (VGG-16)": "attempt 2, 2 min 59 s",
    # It waited for a CPU for 81 s.
    "Train (VGG-19)": "4 min 50 s",
    "Evaluate (custom CNN)": "22 s",
    "Evaluate (Inception-v3)": "19 s",
    "Evaluate (VGG-16)": "19 s",
    "Evaluate (VGG-19)": "25 s",
}


def test_a_run_whose_last_steps_kubeflow_lost_is_told_as_it_ended(api: KubeflowApi, mura: Mura) -> None:
    api.replay("run-over-1MB")
    code, out, err = mura("watch", "--interval", "0")
    assert (code, err) == (0, "")
    known = [f"{name}: done, {took}" for name, took in WORK.items()]
    assert told(out) == [*known, "Register: done", "Promote: done", "Notify: done", "run: done"]
    assert out.splitlines()[-2:] == [
        "Kubeflow has not told of the end of Register, Promote, Notify. It stops telling of steps when the workflow of "
        "a run grows past 1 MiB.",
        "mura-20261128-143554 succeeded in 12 min 05 s.",
    ]


def test_a_step_that_is_tried_again_says_so(api: KubeflowApi, mura: Mura) -> None:
    run = api.replay("run-over-1MB")
    (last,) = api.timelines[run]
    early = json.loads(json.dumps(last))
    early["answer"] |= {"state": "RUNNING", "finished_at": "1970-01-01T00:00:00Z"}
    for task in early["answer"]["run_details"]["task_details"]:
        mine = {child["pod_name"] for child in task.get("child_tasks", ())} & {
            "mura-wfcm5-1122435953",
            "mura-wfcm5-4163024200",
            "mura-wfcm5-3082262811",
        }
        if mine or task.get("display_name") == "executor(1)":
            task |= {"state": "RUNNING", "end_time": "0001-01-01T00:00:00Z"}
    api.timelines[run] = [early, last]
    out = mura("watch", "--interval", "0")[1]
    assert [line for line in told(out) if "VGG-16" in line and "Train" in line] == [
        "Train (VGG-16): running, attempt 2",
        "Train (VGG-16): done, attempt 2, 2 min 59 s",
    ]


def failed_over_1_mb(api: KubeflowApi) -> str:
    """The same run, had it failed at its end."""
    run = api.replay("run-over-1MB")
    api.timelines[run][0]["answer"]["state"] = "FAILED"
    return run


def test_a_failure_that_kubeflow_lost_is_told_as_nearly_as_it_is_known(api: KubeflowApi, mura: Mura) -> None:
    failed_over_1_mb(api)
    code, out, err = mura("watch", "--interval", "0")
    assert code == 6
    assert told(out)[-4:] == [
        "Register: running when last heard of",
        "Promote: not heard of",
        "Notify: not heard of",
        "run: failed",
    ]
    assert err.startswith("error: mura-20261128-143554 failed in or after Register, after 12 min 05 s. Its logs: ")


def test_what_the_server_tells_late_is_asked_for_once_more(api: KubeflowApi, mura: Mura) -> None:
    timeline = recorded("run-refused.json.gz")
    run = api.replay("run-refused")
    # As the server writes it: first the end of the run, then those of its steps.
    early = json.loads(json.dumps(timeline[-3]["answer"])) | {
        key: timeline[-1]["answer"][key] for key in ("state", "finished_at", "state_history")
    }
    api.timelines[run] = [timeline[0] | {"answer": early}, timeline[-1]]
    code, out, _ = mura("watch", "--interval", "0")
    assert code == 6
    assert told(out)[-1] == "Notify: done, 9 s"
    assert "not told" not in out


def waiting(api: KubeflowApi, seconds: float, *pods: str) -> str:
    """The run when four networks train: the pods of the four, and so long after they were made."""
    run = api.replay("run-over-1MB")
    answer = api.timelines[run][0]["answer"]
    answer |= {"state": "RUNNING", "finished_at": "1970-01-01T00:00:00Z"}
    began = "2026-11-28T14:39:29Z"
    tasks = [task for task in answer["run_details"]["task_details"] if task["start_time"] <= began]
    tasks = [task for task in tasks if task.get("display_name")]
    states = iter(pods)
    for task in tasks:
        if task["start_time"] == began:
            task |= {"end_time": "0001-01-01T00:00:00Z", "state": "RUNNING"}
            if task["display_name"] == "executor(0)":
                task["state"] = next(states)
                task["state_history"] = [{"update_time": began, "state": task["state"]}]
            if task["display_name"] == "executor":
                # The first pod of each.
                task["child_tasks"] = task["child_tasks"][-1:] if len(task["child_tasks"]) == 1 else [
                    {"pod_name": "mura-wfcm5-465204510"}
                ]  # fmt: skip
    answer["run_details"]["task_details"] = tasks
    api.timelines[run][0]["seconds"] = 215 + seconds
    done = json.loads(json.dumps(answer)) | {"state": "SUCCEEDED", "finished_at": "2026-11-28T14:47:59Z"}
    api.timelines[run].append({"seconds": 725, "answer": done})
    return run


@pytest.mark.long
@pytest.mark.parametrize(
    ("seconds", "pods", "words"),
    [
        (5, ["PENDING"] * 4, "starting"),
        (60, ["RUNNING"] * 4, "running"),
        (60, ["PENDING"] * 4, "waiting for a node"),
        # The server does not say which of them waits.
        (60, ["RUNNING", "RUNNING", "PENDING", "RUNNING"], "running or waiting for a node"),
        (5, ["RUNNING", "RUNNING", "PENDING", "RUNNING"], "running"),
    ],
)
def test_a_step_that_waits_is_not_told_as_running(
    api: KubeflowApi, mura: Mura, seconds: float, pods: list[str], words: str
) -> None:
    waiting(api, seconds, *pods)
    code, out, err = mura("watch", "--interval", "0")
    assert code == 0, err
    trainings = [line for line in told(out) if line.startswith("Train")][:4]
    assert {line.partition(": ")[2] for line in trainings} == {words}


def test_the_newest_run_is_watched_whatever_its_schedule_called_it(api: KubeflowApi, mura: Mura) -> None:
    api.replay("run-over-1MB")
    api.replay("run-cancelled", last=True)
    run = api.run("murap6dtk-1-3535497311", ("SUCCEEDED", {"ingest": "SUCCEEDED"}), created_at="2026-11-29T00:00:00Z")
    api.runs[run]["created_at"] = "2026-11-29T00:00:00Z"
    assert mura("watch")[1].startswith("murap6dtk-1-3535497311  ")
    assert "No run whose name or id begins with nothing" in mura("watch", "nothing")[2]


def test_there_is_no_run_yet(mura: Mura) -> None:
    code, _, err = mura("watch")
    assert code == 2
    assert err == "error: There is no run yet: `mura pipeline submit` starts one.\n"


def test_a_run_that_may_have_lost_its_workflow_with_its_schedule_says_so(api: KubeflowApi, mura: Mura) -> None:
    api.recurring["there"] = {"recurring_run_id": "there", "display_name": "mura"}
    for schedule, warned in (("there", False), ("removed", True)):
        run = api.run("m-1", ("RUNNING", {}), ("RUNNING", {}), ("SUCCEEDED", {}), recurring_run_id=schedule)
        out = mura("watch", run, "--interval", "0")[1]
        assert ("The schedule that started this run was removed" in out) == warned


def test_a_run_past_its_own_limit_is_not_watched_for_ever(api: KubeflowApi, mura: Mura) -> None:
    run = api.run("mura-1", ("RUNNING", {"ingest": "RUNNING"}))
    platform = {"platforms": {"kubernetes": {"pipelineConfig": {"activeDeadlineSeconds": 10800}}}}
    api.versions["v"]["pipeline_spec"] = {"pipeline_spec": PIPELINE, "platform_spec": platform}
    # Three hours that it may take, and one for its last steps.
    api.now = STARTED + timedelta(hours=4, minutes=1)
    code, _, err = mura("watch", run, "--interval", "0")
    assert code == 6
    assert "mura-1 does not run any more, although Kubeflow lists it as running for ever" in err
    api.story = [("RUNNING", {}), ("RUNNING", {}), ("SUCCEEDED", {})]
    api.asked.clear()
    api.now = STARTED + timedelta(hours=3, minutes=59)
    assert mura("watch", run, "--interval", "0")[0] == 0


@pytest.fixture
def inside(api: KubeflowApi, monkeypatch: pytest.MonkeyPatch) -> KubeflowApi:
    """The surroundings of the exit handler."""
    monkeypatch.setenv(pod.API, api.url)
    monkeypatch.setenv(pod.UI, "https://kubeflow.example/pipeline")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    return api


def heard(run: str, state: str) -> dict[str, Any]:
    """What the webhook is told."""
    status = {
        "error": {},
        "pipelineJobResourceName": "mura-zjd7p",
        "pipelineTaskName": "exit-handler-1",
        "state": state,
    }
    return notify.message(json.dumps(status), run)


@pytest.mark.parametrize(
    ("name", "state", "text", "end", "failed"),
    [
        ("run-cached", "COMPLETE", "mura-20261128-151200: succeeded", "SUCCEEDED", []),
        ("run-refused", "FAILED", "mura-20261128-151452: failed in Ingest", "FAILED", ["ingest"]),
        ("run-cancelled", "FAILED", "mura-20261128-150941: cancelled", "CANCELED", []),
        ("run-over-1MB", "COMPLETE", "mura-20261128-143554: succeeded", "SUCCEEDED", []),
        ("run-over-1MB", "FAILED", "mura-20261128-143554: failed in or after Register", "FAILED", []),
    ],
)
def test_the_webhook_hears_names_that_people_know(
    inside: KubeflowApi, name: str, state: str, text: str, end: str, failed: list[str]
) -> None:
    run = inside.replay(name, last=True)
    found = heard(run, state)
    link = f"https://kubeflow.example/pipeline/#/runs/details/{run}"
    assert found["text"] == f"mura {text} {link}"
    assert (found["state"], found["failed"], found["url"], found["run_id"]) == (end, failed, link, run)


def test_a_pipeline_that_cannot_be_read_leaves_the_names_of_the_graph(inside: KubeflowApi) -> None:
    run = inside.replay("run-refused", last=True)
    inside.versions.clear()
    assert heard(run, "FAILED")["text"].startswith("mura mura-20261128-151452: failed in ingest https://")


def test_a_step_that_could_not_be_prepared_has_failed(inside: KubeflowApi, mura: Mura) -> None:
    run = inside.replay("run-cancelled", last=True)
    # Not cancelled: the driver of Validate failed by itself.
    answer = inside.timelines[run][0]["answer"]
    answer["state_history"] = [each for each in answer["state_history"] if each["state"] != "CANCELING"]
    assert heard(run, "FAILED")["failed"] == ["validate"]
    assert "failed in Validate after 1 min 21 s" in mura("watch", run)[2]


def test_a_run_that_was_cancelled_and_failed_when_it_was_tried_again_has_failed(
    inside: KubeflowApi, mura: Mura
) -> None:
    run = inside.replay("run-cancelled", last=True)
    history = inside.timelines[run][0]["answer"]["state_history"]
    assert [each["state"] for each in history] == ["PENDING", "RUNNING", "CANCELING", "FAILED"]
    history += [{**history[-1], "state": state} for state in ("RUNNING", "FAILED")]
    assert heard(run, "FAILED")["state"] == "FAILED"
    assert "failed in Validate after 1 min 21 s" in mura("watch", run)[2]
    # Cancelled again.
    history[-1:] = [{**history[-1], "state": state} for state in ("CANCELING", "FAILED")]
    assert heard(run, "FAILED")["state"] == "CANCELED"
    assert "was cancelled after 1 min 21 s" in mura("watch", run)[2]


@pytest.mark.parametrize(
    ("api_address", "link"),
    [
        ("http://ml-pipeline.kubeflow.svc:8888", ""),
        ("http://ml-pipeline.kubeflow:8888", ""),
        ("http://10.0.0.7:8888", ""),
        ("https://kubeflow.example/pipeline/", "https://kubeflow.example/pipeline/#/runs/details/r1"),
    ],
)
def test_the_link_is_one_that_people_can_open(monkeypatch: pytest.MonkeyPatch, api_address: str, link: str) -> None:
    monkeypatch.setenv(pod.API, api_address)
    monkeypatch.delenv(pod.UI, raising=False)
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    assert heard("r1", "COMPLETE")["url"] == link


def refuse(*_: Any, **__: Any) -> None:
    raise OSError("nobody there")
