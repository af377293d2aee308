"""The pipeline in containers of this machine, as far as no container runs. The rest is in tests/container."""

from pathlib import Path

import pytest

from components.cli.main import run
from pipelines.local.containers import Attempt, StepFailed

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("code", "ours"), [(1, 6), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (137, 6)])
def test_the_exit_code_is_the_step_s_where_it_means_something(code: int, ours: int) -> None:
    failed = StepFailed(Attempt("task", code, ("why",)))
    assert failed.exit_code == ours
    assert f"task ended with exit code {code}" in str(failed)
    assert str(failed).endswith(": why")


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (["--archive", "nowhere.zip"], 2, "no such archive"),
        (["--archive", "params.yaml", "--image", "UPPER CASE"], 2, "image"),
        (["--archive", "params.yaml"], 5, "No container engine answers at unix:///nowhere.sock"),
    ],
)
def test_what_is_missing_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    hint: str,
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    assert run(["pipeline", "run-local", "--root", str(tmp_path), *words]) == code
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert hint in line
