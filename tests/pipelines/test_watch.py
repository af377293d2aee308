"""Watching and cancelling runs, against a server that speaks Kubeflow Pipelines' API."""

import contextlib
import json
import os
import pty
import re
import threading
from typing import Any

import pytest
from kubeflow_api import PIPELINE, Fault, KubeflowApi, Mura


def test_a_run_is_followed_to_its_good_end(api: KubeflowApi, mura: Mura) -> None:
    api.run(
        "mura-1",
        ("PENDING", {}),
        ("RUNNING", {"ingest": "RUNNING"}),
        ("RUNNING", {"ingest": "SUCCEEDED", "train-vgg16": "RUNNING"}),
        ("SUCCEEDED", {"ingest": "SUCCEEDED", "train-vgg16": "SUCCEEDED", "notify": "SUCCEEDED"}),
    )
    code, out, err = mura("watch", "mura-1", "--interval", "0")
    assert code == 0, err
    assert [line.split("  ", 1)[1] for line in out.splitlines()[1:-1]] == [
        "run: waiting",
        "Ingest: running",
        "run: running",
        "Ingest: done, 45 s",
        "Train (VGG-16): running",
        "Train (VGG-16): done, 46 s",
        "Notify: done, 47 s",
        "run: done",
    ]
    assert out.splitlines()[-1] == "mura-1 succeeded in 10 min 00 s."


def test_steps_taken_from_the_cache_are_told(api: KubeflowApi, mura: Mura) -> None:
    api.run("mura-1", ("SUCCEEDED", {"ingest": "CACHED", "train-vgg16": "CACHED", "notify": "SUCCEEDED"}))
    code, out, _ = mura("watch", "mura-1")
    assert code == 0
    assert "Ingest: reused\n" in out
    assert out.endswith("succeeded in 10 min 00 s; 2 of 3 steps were there already.\n")


def test_a_failed_run_names_its_steps_and_where_their_logs_are(api: KubeflowApi, mura: Mura) -> None:
    run = api.run("mura-1", ("FAILED", {"ingest": "SUCCEEDED", "train-vgg16": "FAILED"}))
    code, out, err = mura("watch", "mura-1")
    assert code == 6
    assert "Train (VGG-16): failed, 46 s" in out
    assert "Notify" not in out
    assert err == (
        "error: mura-1 failed in Train (VGG-16) after 10 min 00 s. Its logs: `mura pipeline logs mura-1`, "
        f"or {api.url}/#/runs/details/{run}\n"
    )


def test_a_run_that_somebody_cancels_ends_the_watching(api: KubeflowApi, mura: Mura) -> None:
    api.run(
        "mura-1",
        ("RUNNING", {"ingest": "RUNNING"}),
        ("CANCELING", {"ingest": "RUNNING"}),
        ("CANCELED", {"ingest": "FAILED"}),
    )
    code, out, err = mura("watch", "mura-1", "--interval", "0")
    assert code == 6
    assert "run: being cancelled" in out
    assert "mura-1 was cancelled" in err


def test_a_server_in_trouble_does_not_end_the_watching(api: KubeflowApi, mura: Mura) -> None:
    run = api.run("mura-1", ("RUNNING", {"ingest": "RUNNING"}), ("SUCCEEDED", {"ingest": "SUCCEEDED"}))
    # It is asked for once to be found, and once to be shown.
    api.faults.append(Fault(rf"/runs/{run}", 503, b"upstream connect error", "text/plain", after=2, times=3))
    api.story.insert(0, api.story[0])
    code, out, err = mura("watch", run, "--interval", "0")
    assert code == 0, err
    assert out.count("Asking again for ten minutes; the run goes on.") == 1
    assert "(503): upstream connect error" in out


def test_losing_the_right_to_ask_says_that_the_run_goes_on(api: KubeflowApi, mura: Mura) -> None:
    api.run("mura-1", ("RUNNING", {"ingest": "RUNNING"}))
    api.faults.append(Fault(r"/runs/[0-9a-f]", 401, b"Jwt is expired", "text/plain"))
    code, _, err = mura("watch", "mura-1", "--interval", "0")
    assert code == 5
    assert "does not accept our login" in err
    assert "The run goes on: `mura pipeline watch" in err


def test_the_beginning_of_a_name_or_an_id_is_enough(api: KubeflowApi, mura: Mura) -> None:
    run = api.run("mura-20261102-090000")
    api.run("other-20261102-mura-2026")
    for wanted in ("mura-2026", "mura-20261102-090000", run, run[:8]):
        code, out, err = mura("watch", wanted)
        assert (code, err) == (0, ""), wanted
        assert out.startswith(f"mura-20261102-090000  {api.url}/#/runs/details/{run}")


@pytest.mark.parametrize("name", ["100 % + more", "a%20b", 'q"uote', "Größe"])
def test_a_name_may_hold_any_character(api: KubeflowApi, mura: Mura, name: str) -> None:
    api.run(name)
    api.run(name + " 2")
    assert mura("watch", name)[1].startswith(f"{name}  ")


def test_a_run_is_found_on_any_page(api: KubeflowApi, mura: Mura) -> None:
    api.page_size = 2
    names = [api.run(f"mura-{number}") for number in range(7)]
    assert mura("watch", names[0][:13])[0] == 0
    assert mura("watch", "mura-0")[0] == 0


def test_which_of_several_runs_is_asked_back(api: KubeflowApi, mura: Mura) -> None:
    for number in range(7):
        api.run(f"mura-{number}")
    code, _, err = mura("watch", "mura-")
    assert code == 2
    assert err.startswith("error: mura-: 7 runs begin so: mura-6 (")
    assert "and 2 more" in err


@pytest.mark.parametrize("wanted", ["nothing", "deadbeef", "12345678-1234-1234-1234-123456789abc"])
def test_a_run_that_is_not_there(mura: Mura, wanted: str) -> None:
    code, _, err = mura("watch", wanted)
    assert code == 2
    assert wanted in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("spec", [PIPELINE, {"pipeline_spec": PIPELINE, "platform_spec": {}}])
def test_the_pipeline_is_looked_up_where_the_run_only_refers_to_it(
    api: KubeflowApi, mura: Mura, spec: dict[str, Any]
) -> None:
    api.run("mura-1", ("SUCCEEDED", {"ingest": "SUCCEEDED"}))
    api.versions["v"]["pipeline_spec"] = spec
    assert "Ingest: done" in mura("watch", "mura-1")[1]


def test_a_pipeline_that_was_deleted_has_steps_without_titles(api: KubeflowApi, mura: Mura) -> None:
    api.run("mura-1", ("SUCCEEDED", {"ingest": "SUCCEEDED", "notify": "SUCCEEDED"}))
    api.versions.clear()
    code, out, err = mura("watch", "mura-1")
    assert code == 0, err
    assert [line.split("  ")[1] for line in out.splitlines()[1:-1]] == [
        "ingest: done, 45 s",
        "notify: done, 46 s",
        "run: done",
    ]


def test_a_server_that_does_not_tell_of_tasks(api: KubeflowApi, mura: Mura) -> None:
    run = api.run("mura-1", ("RUNNING", {}), ("SUCCEEDED", {}))
    silent = {"run_id": run, "display_name": "mura-1", "state": "SUCCEEDED", "pipeline_spec": PIPELINE}
    api.faults.append(Fault(f"/runs/{run}", 200, json.dumps(silent).encode()))
    code, out, err = mura("watch", run, "--interval", "0")
    assert code == 0, err
    assert "Ingest" not in out
    assert "run: done" in out


def test_a_run_is_cancelled_once(api: KubeflowApi, mura: Mura) -> None:
    run = api.run("mura-1", ("RUNNING", {"ingest": "RUNNING"}))
    assert mura("cancel", "mura-1") == (0, "mura-1: being cancelled.\n", "")
    assert api.cancelled == {run}
    mura("watch", "mura-1", "--interval", "0")
    assert mura("cancel", "mura-1") == (0, "mura-1 has ended already: cancelled. Nothing to cancel.\n", "")
    assert api.count("POST", ":terminate") == 1


def test_cancelling_waits_when_asked(api: KubeflowApi, mura: Mura) -> None:
    api.run("mura-1", ("RUNNING", {"ingest": "RUNNING"}))
    assert mura("cancel", "mura-1", "--wait", "--interval", "0") == (0, "mura-1: cancelled.\n", "")


def test_a_run_that_ends_while_it_is_being_cancelled(api: KubeflowApi, mura: Mura) -> None:
    run = api.run("mura-1", ("RUNNING", {}), ("SUCCEEDED", {}))
    api.faults.append(Fault(":terminate", 500, b'{"message": "Row not found", "code": 13}'))
    code, out, _ = mura("cancel", run)
    assert (code, out) == (0, "mura-1 has ended already: done. Nothing to cancel.\n")


HOSTILE = "[bold]mura[/bold] \x1b]0;owned\x07 \x9b31m \u202e :bone:"
HARMLESS = "[bold]mura[/bold] \\x1b]0;owned\\x07 \\x9b31m \\u202e :bone:"


def test_a_name_of_a_run_is_not_obeyed_by_the_terminal(
    api: KubeflowApi, mura: Mura, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = api.run(HOSTILE, ("SUCCEEDED", {"ingest": "SUCCEEDED", "train-vgg16": "SUCCEEDED", "notify": "SUCCEEDED"}))
    code, out, err = mura("watch", run)
    assert code == 0, err
    assert out.splitlines()[0].startswith(HARMLESS)
    assert f"{HARMLESS} succeeded in" in out
    assert HARMLESS in mura("logs", run)[2]
    seen = on_a_terminal(mura, monkeypatch, run)
    # The table's title is broken where the terminal's line ends.
    assert HARMLESS[:30] in seen
    assert not re.search("\x1b]|[\x07\x9b\u202e]", seen)
    api.run(f"{HOSTILE} 2", ("FAILED", {"ingest": "FAILED"}))
    assert HARMLESS in mura("watch", f"{HOSTILE} 2")[2]


def test_on_a_terminal_the_table_is_redrawn(api: KubeflowApi, mura: Mura, monkeypatch: pytest.MonkeyPatch) -> None:
    api.run(
        "mura-1",
        ("RUNNING", {"ingest": "RUNNING"}),
        ("SUCCEEDED", {"ingest": "SUCCEEDED", "train-vgg16": "SUCCEEDED", "notify": "SUCCEEDED"}),
    )
    seen = on_a_terminal(mura, monkeypatch, "mura-1")
    assert "Train (VGG-16)" in seen
    assert "\x1b[1A" in seen  # the cursor goes back up
    assert seen.rstrip().endswith("mura-1 succeeded in 10 min 00 s.")


def on_a_terminal(mura: Mura, monkeypatch: pytest.MonkeyPatch, run: str) -> str:
    """What a terminal gets when a run is watched on it."""
    for name, value in {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"}.items():
        monkeypatch.setenv(name, value)
    ours, theirs = pty.openpty()
    pieces: list[bytes] = []

    def read() -> None:
        # Linux says with an error that nobody writes to the terminal any more.
        with contextlib.suppress(OSError):
            while piece := os.read(ours, 1 << 12):
                pieces.append(piece)

    reading = threading.Thread(target=read)
    reading.start()
    with os.fdopen(theirs, "w") as terminal, contextlib.redirect_stdout(terminal):
        code, _, err = mura("watch", run, "--interval", "0")
    reading.join()
    os.close(ours)
    assert code == 0, err
    return b"".join(pieces).decode()
