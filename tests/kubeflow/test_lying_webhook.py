"""A webhook, Kubeflow's API and the server of a TrainJob that answer without end: nobody waits for them."""

import lying_proxy as lie
import pytest
from lying_proxy import Fault, lying

from components.base import answers
from components.cli.main import run
from components.kubeflow import notify, pod, train_job

LIES: dict[str, Fault] = {
    "a body without end": lie.endless(200),
    "an error without end": lie.endless(500),
    "100 Continue for ever": lie.continues(),
    "100 Continue now and then": lie.continues(0.02),
    "headers without end": lie.endless_headers(),
    "no HTTP": lie.garbage,
    "nothing": lie.unheard,
    "lists in lists": lie.made(lambda _: lie.Answer(200, (), b"[" * 200_000)),
}


@pytest.mark.long
@pytest.mark.parametrize("kind", LIES)
def test_nobody_waits_for_who_answers_without_end(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "WINDOW", 0.5)
    # Nobody is behind the proxy, and nobody is asked.
    with lying("http://127.0.0.1:1") as proxy:
        proxy.when("", LIES[kind], times=None)
        monkeypatch.setenv(notify.WEBHOOK, f"{proxy.address}/secret-path")
        monkeypatch.setenv(pod.API, proxy.address)
        monkeypatch.setenv(train_job.URL, proxy.address)
        assert run(["notify", "--status", '{"state": "FAILED"}', "--run", "r1"]) == 0
        train_job.tell(1, 9, 60.0, {"loss": 0.5})
        assert len(proxy.requests) == 3
        assert proxy.sent < 64_000_000
