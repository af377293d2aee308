"""The server of these tests against a real one: the same request has the same answer."""

import base64
import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from kubeflow_api import KubeflowApi, recorded, whole_pipeline

ANSWERS = recorded("answers.json.gz")
LISTS = ("runs", "experiments", "pipelines", "pipeline_versions", "recurringRuns")
# What a server chooses itself, and what the recording leaves out.
ITS_OWN = {
    "recurring_run_id", "created_at", "updated_at", "last_run_created_at", "next_page_token", "pipeline_spec",
    "description", "run_details",
}  # fmt: skip
# Contents that were uploaded are not recorded: nothing, nonsense, a pipeline that is there.
UPLOADED = iter([b"", b"nonsense", b"pipelineInfo: {name: mura}\nroot: {}", b"pipelineInfo: {name: mura}\nroot: {}"])


def answer_to(path: str) -> dict[str, Any]:
    """What was answered to a recorded GET."""
    answer: dict[str, Any] = next(each["answer"] for each in ANSWERS if each["path"] == f"/apis/v2beta1/{path}")
    return answer


@pytest.fixture
def filled(api: KubeflowApi) -> KubeflowApi:
    """The server with the things that the real one had."""
    runs = answer_to("runs?namespace=other")["runs"]
    api.runs = {run["run_id"]: {key: each for key, each in run.items() if key != "run_details"} for run in runs}
    api.lost = set(api.runs)
    api.experiments = {each["experiment_id"]: each for each in answer_to("experiments")["experiments"]}
    (pipeline,) = answer_to("pipelines")["pipelines"]
    api.pipelines[pipeline["pipeline_id"]] = pipeline
    versions = answer_to(f"pipelines/{pipeline['pipeline_id']}/versions")["pipeline_versions"]
    api.versions = {each["pipeline_version_id"]: each | {"pipeline_spec": whole_pipeline()} for each in versions}
    return api


def ask(url: str, method: str, body: bytes | None, kind: str) -> tuple[int, str, Any]:
    """Status, content type and answer."""
    request = urllib.request.Request(url, body, {"content-type": kind}, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers["content-type"], json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.headers["content-type"], json.load(error)


def body_of(each: dict[str, Any]) -> tuple[bytes | None, str]:
    if "/upload" in each["path"]:
        head = b'--x\r\ncontent-disposition: form-data; name="uploadfile"; filename="p.yaml"\r\n\r\n'
        return head + next(UPLOADED) + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"
    if each["method"] == "POST" and each["request"] is None:
        return b"{nonsense", "application/json"
    return None if each["request"] is None else json.dumps(each["request"]).encode(), "application/json"


def compared(answer: dict[str, Any]) -> dict[str, Any]:
    """The part of an answer that has to be the same."""
    found = {name: value for name, value in answer.items() if name not in ITS_OWN}
    for key in LISTS:
        if key in found:
            found[key] = [compared(each) for each in found[key]]
    return found | {"more": "next_page_token" in answer}


def test_every_request_is_answered_as_the_real_server_did(filled: KubeflowApi) -> None:
    names: dict[str, str] = {}
    for number, each in enumerate(ANSWERS):
        path, expected = each["path"], json.dumps(each["answer"])
        for theirs, ours in names.items():
            path, expected = path.replace(theirs, ours), expected.replace(theirs, ours)
        status, kind, answer = ask(filled.url + path, each["method"], *body_of(each))
        where = f"{number}: {each['method']} {each['path']}"
        assert (status, kind) == (each["status"], each["content_type"]), where
        if each["path"].endswith("healthz"):
            assert set(answer) == set(each["answer"]), where
            continue
        assert compared(answer) == compared(json.loads(expected)), where
        # Names that each server chooses.
        for name in ("recurring_run_id", "next_page_token"):
            if name in answer:
                names |= {each["answer"][name]: answer[name]}


def test_a_page_token_leads_through_the_list(filled: KubeflowApi) -> None:
    seen: list[str] = []
    token = ""
    while True:
        path = f"/apis/v2beta1/runs?page_size=4&sort_by=created_at%20desc&page_token={token}"
        answer = ask(filled.url + path, "GET", None, "application/json")[2]
        seen += [run["run_id"] for run in answer["runs"]]
        if not (token := answer.get("next_page_token", "")):
            break
        assert json.loads(base64.b64decode(token))
    assert seen == list(reversed([run["run_id"] for run in answer_to("runs?namespace=other")["runs"]]))


def test_the_recording_has_all_kinds_of_requests() -> None:
    assert len(ANSWERS) == 46
    asked = {(each["method"], urlsplit(each["path"]).path.split("/")[3].partition(":")[0]) for each in ANSWERS}
    assert asked >= {(m, p) for m in ("GET", "POST", "DELETE") for p in ("runs", "recurringruns")}
    assert {"filter", "page_token", "namespace"} <= {
        k for each in ANSWERS for k in parse_qs(urlsplit(each["path"]).query)
    }
