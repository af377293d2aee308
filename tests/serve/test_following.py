"""`mura serve --model models:/NAME@ALIAS` beside a real registry: it follows the alias."""

import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from lying_proxy import LyingProxy, lying, unheard
from miniature import picture, png
from mlflow import MlflowClient
from registered import register_each
from serving import Served, serving

from components.artifacts.predictor import ONNX

pytestmark = pytest.mark.longest

NAME, ALIAS = "followed", "champion"
VIEW = png(picture(1, 90, 70))


class Registry(NamedTuple):
    client: MlflowClient
    proxy: LyingProxy
    """Between the server of the test and MLflow."""
    files: Path
    """Where MLflow keeps artifacts."""

    def move(self, version: int) -> None:
        self.client.set_registered_model_alias(NAME, ALIAS, str(version))

    def network(self, version: int) -> Path:
        """The file of a version's network, where MLflow keeps it."""
        source = self.client.get_model_version(NAME, str(version)).source
        (found,) = self.files.glob(f"**/{source.removeprefix('models:/')}/artifacts/{ONNX}")
        return found


@pytest.fixture(scope="module")
def registry(
    mlflow_server: str, mlflow_server_files: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registry]:
    """Three versions, of different weights."""
    with pytest.MonkeyPatch.context() as patch, lying(mlflow_server) as proxy:
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
        folder = tmp_path_factory.mktemp("versions")
        patch.chdir(folder)
        _, versions = register_each(folder, NAME, (1, 2, 3))
        assert [each.version for each in versions] == [1, 2, 3]
        yield Registry(MlflowClient(mlflow_server, mlflow_server), proxy, mlflow_server_files / "artifacts")


@pytest.fixture
def served(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    registry.proxy.honest()
    registry.move(1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.proxy.address)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with serving(tmp_path, f"models:/{NAME}@{ALIAS}", "--follow", "0.5") as running:
        yield running
        assert running.process.poll() is None
        assert not [line for line in running.said if "a bug" in line]
    assert list(tmp_path.glob("mura-serve-*")) == []


def ask(served: Served) -> tuple[str, float]:
    answer = httpx.post(f"{served.url}/predict", files={"view": VIEW}, timeout=60).raise_for_status().json()
    return answer["version"], answer["probability"]


def until(served: Served, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What the server says of itself, as soon as something holds."""
    deadline = time.monotonic() + 240
    while not holds(about := httpx.get(f"{served.url}/about", timeout=60).json()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert holds(about), (about, served.said)
    return about


def test_a_promotion_is_noticed_and_after_a_rollback_the_old_answer_comes(registry: Registry, served: Served) -> None:
    first = ask(served)
    answers = {first}
    with ThreadPoolExecutor(4) as pool:
        for version in (2, 1):
            registry.move(version)
            deadline = time.monotonic() + 240
            last: set[tuple[str, float]] = set()
            while str(version) not in {name for name, _ in last} and time.monotonic() < deadline:
                last = set(pool.map(lambda _: ask(served), range(8)))
                answers |= last
    assert sorted(name for name, _ in answers) == ["1", "2"]
    assert ask(served) == first


def test_a_version_whose_files_were_changed_does_not_answer(registry: Registry, served: Served) -> None:
    network = registry.network(3)
    whole = network.read_bytes()
    network.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        registry.move(3)
        about = until(served, lambda about: about["follows"]["not_taken"] == 3)
        assert (about["version"], ask(served)[0]) == ("1", "1")
        (line,) = [line for line in served.said if "version 3 is not taken" in line]
        assert "network.onnx" in line
        registry.move(1)
        until(served, lambda about: about["follows"]["not_taken"] is None)
    finally:
        network.write_bytes(whole)


def test_without_mlflow_it_goes_on_and_follows_again_afterwards(registry: Registry, served: Served) -> None:
    registry.proxy.when("", unheard, times=None)
    assert until(served, lambda about: not about["follows"]["answered"])["version"] == "1"
    registry.move(2)
    assert ask(served)[0] == "1"
    registry.proxy.honest()
    assert until(served, lambda about: about["version"] == "2")["follows"]["answered"]


def test_without_the_alias_it_goes_on(registry: Registry, served: Served) -> None:
    registry.client.delete_registered_model_alias(NAME, ALIAS)
    assert until(served, lambda about: not about["follows"]["answered"])["version"] == "1"
    assert any("names no version" in line for line in served.said)


def test_the_process_that_follows_ends_with_the_server(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    registry.move(1)
    with serving(tmp_path, f"models:/{NAME}@{ALIAS}", "--follow", "0.5") as running:
        (follower,) = [pid for pid in children_of(running.process.pid) if "--follow" in command_of(pid)]
        running.process.kill()
        running.process.wait()
        deadline = time.monotonic() + 60
        while command_of(follower) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert command_of(follower) == ""


def children_of(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [int(line) for line in found.split()]


def command_of(pid: int) -> str:
    """Empty if there is no such process, or it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode()
    except FileNotFoundError:
        return ""
