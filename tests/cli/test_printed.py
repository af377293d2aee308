"""What commands print: no secret, and nothing that a terminal obeys."""

import subprocess
import sys
from pathlib import Path

import pytest

from components.base.errors import ExitCode
from components.cli import main

SECRET = "hunter2-hunter2"
SIGNED = f"https://bucket.s3.amazonaws.com/MURA-v1.1.zip?X-Amz-Credential=me&X-Amz-Signature={SECRET}"
INGEST = ["ingest", "--params", "{}", "--seed", "1", "--out", "manifest", "--archive"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "mine", "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "endpoint",
    [
        f"http://me:{SECRET}@127.0.0.1:1",
        f"http://me:{SECRET}@127.0.0.1:1/?token={SECRET}",
        f"http://127.0.0.1:1/?password={SECRET}",
        f"http://me:{SECRET}/x@127.0.0.1:1",
        f"me:{SECRET}@127.0.0.1:1",
    ],
)
def test_an_endpoint_is_told_without_its_password(
    endpoint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    assert main.run([*INGEST, "s3://bucket/x.zip"]) in (ExitCode.OUTSIDE, ExitCode.USAGE)
    assert main.run(["--debug", *INGEST, "s3://bucket/x.zip"]) in (ExitCode.OUTSIDE, ExitCode.USAGE)
    out, err = capsys.readouterr()
    assert "error: " in err
    assert SECRET not in out + err


@pytest.mark.parametrize(
    "words",
    [
        [*INGEST, SIGNED],
        ["import", SIGNED],
        ["remote", f"s3://me:{SECRET}@bucket/x"],
        ["remote", "s3://bucket", "--endpoint", f"http://host:9/?token={SECRET}"],
        ["pipeline", "watch", "--host", f"http://host/?access_token={SECRET}"],
        ["pipeline", "watch", "--host", f"http://me:{SECRET}@host"],
        ["pipeline", "submit", "--pipeline-root", f"s3://me:{SECRET}@bucket/x"],
        ["pipeline", "submit", "--archive", SIGNED],
        ["ingest", f"--no-such={SIGNED}"],
    ],
)
def test_an_address_on_the_command_line_is_told_without_its_secrets(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (Path.cwd() / "params.yaml").write_text((Path(__file__).parents[2] / "params.yaml").read_text())
    assert main.run(words) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert err.startswith("error: ")
    assert SECRET not in out + err


def test_a_name_is_told_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    name = "[red]x[/red]\x1b]0;owned\x07\u202e\x9b31m"
    assert main.run(["shards", "show", name]) == ExitCode.USAGE
    assert main.run(["--debug", "shards", "show", name]) == ExitCode.USAGE
    assert main.run(["shards", name]) == ExitCode.USAGE
    err = capsys.readouterr().err
    assert "[red]x[/red]\\x1b]0;owned\\x07\\u202e\\x9b31m" in err
    assert all(character.isprintable() or character == "\n" for character in err)


def test_a_line_of_the_log_is_harmless_and_without_secrets() -> None:
    script = (
        "import logging; from components.cli import main\n"
        "main.run(['shards', 'nothing'])\n"
        "logging.getLogger('components.x').info('%s', '\\x1b]0;owned\\x07 http://me:' + 'hunter2@host')\n"
        "logging.getLogger('boto').warning('?token=hunter2')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.splitlines()[1:] == ["INFO \\x1b]0;owned\\x07 http://host", "WARNING ?token=***"]
