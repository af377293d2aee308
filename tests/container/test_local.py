"""The pipeline in containers of this machine: real ones, of Podman, with the tests' own Python mounted into them."""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import docker
import pytest
import yaml
from kfp.local import docker_task_handler

from components.cli.main import run
from pipelines.local.containers import Containers

ROOT = Path(__file__).parents[2]
IMAGE = "localhost/nothing:1"
# What the image lacks: a system, Python, the packages, and the project.
MOUNTS = dict.fromkeys(Path(place) for place in ("/usr", "/etc", sys.base_prefix, sys.prefix, ROOT))


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    """The address of a Podman of its own, with an image of nothing but places to mount things at."""
    # Not pytest's folder: Podman takes no longer path than 50 characters.
    with tempfile.TemporaryDirectory(prefix="podman") as name:
        yield from serving(Path(name))


def serving(folder: Path) -> Iterator[str]:
    (folder / "containers.conf").write_text(
        '[containers]\ndefault_ulimits=[]\n[engine]\nruntime="runc"\ncgroup_manager="cgroupfs"\nevents_logger="file"\n'
        # The machine's is that of other tests' containers too, and is removed at the end.
        f'tmp_dir="{folder}/tmp"\nlock_type="file"\n'
    )
    podman = ["podman", "--root", str(folder / "storage"), "--runroot", str(folder / "run")]
    environment = os.environ | {"CONTAINERS_CONF": str(folder / "containers.conf")}
    with tarfile.open(folder / "image.tar", "w") as tar:
        for name in ("bin", "lib", "lib64"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(link)
    path = f"PATH={Path(sys.executable).parent}:/usr/bin"
    importing = [*podman, "import", "-q", "--change", f"ENV {path}", "--change", "ENV HOME=/tmp", "--change"]
    subprocess.run(
        [*importing, 'ENTRYPOINT ["false"]', str(folder / "image.tar"), IMAGE], env=environment, check=True, timeout=60
    )
    socket = folder / "podman.sock"
    with (folder / "log").open("w") as log:
        service = subprocess.Popen(
            [*podman, "system", "service", "--time=0", f"unix://{socket}"], env=environment, stdout=log, stderr=log
        )
    deadline = time.monotonic() + 30
    while not socket.exists():
        assert service.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", f"unix://{socket}")
        yield f"unix://{socket}"
    service.terminate()
    service.wait(20)
    subprocess.run([*podman, "unmount", "--all"], env=environment, check=True, capture_output=True, timeout=60)
    subprocess.run(
        [*podman, "system", "reset", "--force"], env=environment, check=True, capture_output=True, timeout=60
    )


def shell(words: str, times: int = 1) -> tuple[list[int], Containers]:
    """Run a command as kfp asks for it, and say with which codes it ended."""
    containers = Containers(dict.fromkeys(MOUNTS, "ro"))
    client = docker.from_env()
    with containers.in_place_of_kfps():
        told = json.dumps({"outputs": {"outputFile": "/root/run/task/executor_output.json"}})
        command = ["sh", "-c", words, "--executor-input", told]
        codes = [
            docker_task_handler.run_docker_container(client, IMAGE, command, {}, network_mode="host")
            for _ in range(times)
        ]
    client.close()
    return codes, containers


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("true", 0, ()),
        ("echo one; printf two", 0, ("one", "two")),
        ("echo expected an archive >&2; exit 3", 3, ("expected an archive",)),
        ("seq 30; exit 1", 1, tuple(str(i) for i in range(11, 31))),
    ],
)
def test_a_container_ends_as_it_ends(engine: str, words: str, code: int, said: tuple[str, ...]) -> None:
    codes, containers = shell(words)
    assert codes == [code]
    (attempt,) = containers.attempts
    assert attempt == ("task", code, said)
    assert containers.failure() == (attempt if code else None)
    with docker.from_env().api as api:
        assert api.containers(all=True) == []


def test_a_quick_failure_is_never_taken_for_success(engine: str) -> None:
    assert shell("exit 1", times=3)[0] == [1] * 3


def test_a_container_that_is_killed_is_told(engine: str, capfd: pytest.CaptureFixture[str]) -> None:
    def kill() -> None:
        with docker.from_env().api as api:
            while not (running := api.containers()):
                time.sleep(0.05)
            api.kill(running[0]["Id"])

    killer = threading.Thread(target=kill)
    killer.start()
    codes, containers = shell("sleep 60")
    killer.join(10)
    assert codes == [137]
    assert containers.failure() is not None
    assert "exit code 137, killed" in capfd.readouterr().err


def test_refused_data_are_not_tried_again_and_a_crash_is(engine: str) -> None:
    assert [len(shell(f"exit {code}", times=2)[1].attempts) for code in (3, 5)] == [1, 2]


class Hook(BaseHTTPRequestHandler):
    heard: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        self.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the project's choices, for one network."""
    choices = yaml.safe_load((ROOT / "params.yaml").read_text())
    choices["ensembles"] = {}
    choices["train"]["candidates"] = {"custom_cnn": choices["train"]["candidates"]["custom_cnn"]}
    choices["labels"]["overlay"] = str(ROOT / choices["labels"]["overlay"])
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(choices))
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "MURA_WEBHOOK_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


RUN = ["pipeline", "run-local", "--image", IMAGE, "--root", "made"]


def test_a_step_that_fails_fails_the_run_and_the_webhook_hears_of_it(
    engine: str, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (place / "half.zip").write_bytes(b"PK\3\4 and no more")
    mounts = [word for path in MOUNTS for word in ("--mount", str(path))]
    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("MURA_WEBHOOK_URL", f"http://127.0.0.1:{server.server_port}/")
        code = run([*RUN, "--archive", "half.zip", *mounts])
        server.shutdown()
    told = capfd.readouterr()
    assert code == 3, told.err
    *before, last = told.err.splitlines()
    assert last.startswith("error: ingest ended with exit code 3: error: ")
    assert "half.zip" in last
    assert before[-1].strip() in last
    assert "attempt 2" not in told.err
    assert "validate" not in told.err
    assert told.out == ""
    (heard,) = Hook.heard
    assert heard["state"] == "FAILED"
    assert not list((place / "made").glob("*/ingest/manifest"))


def test_an_image_that_is_not_here_is_told_in_one_line(
    engine: str, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run([*RUN, "--archive", "params.yaml", "--image", "localhost/other:1"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: No image localhost/other:1 here")
