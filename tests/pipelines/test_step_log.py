"""A step's own lines among those of Kubeflow's launcher and of Argo."""

import pytest

from components.base.errors import ExitCode
from pipelines.client import step_log

GLOG = "I1128 15:15:24.580152      16 "


@pytest.mark.parametrize(
    "line",
    [
        f"{GLOG}main.go:80] Setting log level to: '1'",
        "E0101 00:00:00.000000       1 backend/src/v2/client.go:7] lost",
        "W1128 15:15:24.580152   16382 cache.go:116]",
        'time="2025-11-28T15:21:23.490Z" level=info msg="sub-process exited" argo=true error="<nil>"',
        'time=2026-11-28T15:21:23.490Z level=INFO msg="capturing logs" argo=true',
        '{"time":"2026-11-28T15:21:23Z","level":"INFO","msg":"sub-process exited","argo":true}',
        "Error: exit status 1",
        f"{GLOG}launcher_v2.go:209] ExecutorOutput: {{\n  \"parameterValues\": {{\n    \"digest\": \"x\"\n  }}\n}}",
        f"{GLOG}main.go:3] panic\ngoroutine 1 [running]:\n\t/go/src/main.go:54",
    ],
)  # fmt: skip
def test_lines_of_others_are_left_out(line: str) -> None:
    assert step_log.read(f"INFO before\n{line}\nINFO after\n").lines == ("INFO before", "INFO after")


@pytest.mark.parametrize(
    "line",
    [
        "error: exit status of gzip: 1",
        "Error: exit status 1 of a tool that we call",
        "I0000 00:00:1732806924.580152      16 cpu_feature_guard.cc:210] This TensorFlow binary is optimized",
        "time to train: 3 min",
        '{"epoch": 1}',
        "  File \"/app/components/train/__init__.py\", line 3, in train",
        "}",
        "goroutine 1 [running]:",
    ],
)  # fmt: skip
def test_lines_of_the_step_are_kept(line: str) -> None:
    assert step_log.read(f"{line}\n").lines == (line,)


def test_what_looks_like_the_beginning_of_json_hides_nothing() -> None:
    assert step_log.read(f"{GLOG}main.go:1] odd {{\nINFO train: epoch 1\n").lines == ("INFO train: epoch 1",)


def test_a_progress_bar_is_shown_once() -> None:
    assert step_log.read(" 10 %\r 50 %\r100 %\r\nINFO done\n").lines == ("100 %", "INFO done")


FATAL = "F1128 15:15:26.552240      16 main.go:54] "


@pytest.mark.parametrize(
    ("end", "code", "killed", "launcher"),
    [
        (f"{FATAL}failed to execute component: exit status 3", ExitCode.DATA, False, ""),
        (
            f"{FATAL}failed to publish execution with error x after execution failed: exit status 4",
            ExitCode.GATE, False, "",
        ),
        (f"{FATAL}failed to execute component: exit status 120", None, False, ""),
        (f"{FATAL}failed to execute component: signal: killed", None, True, ""),
        ("Error: exit status 137", None, True, ""),
        (f"{FATAL}failed to execute component: failed to upload: 403", None, False, "failed to upload: 403"),
        ("", None, False, ""),
        # Said by the step, not by its launcher.
        ("error: gzip: exit status 3", None, False, ""),
        ("INFO signal: killed", None, False, ""),
    ],
)  # fmt: skip
def test_how_a_step_ended(end: str, code: ExitCode | None, killed: bool, launcher: str) -> None:
    read = step_log.read(f"INFO begin\n{end}\nError: exit status 1\n" if "137" not in end else f"INFO begin\n{end}\n")
    assert (read.code, read.killed, read.launcher) == (code, killed, launcher)
