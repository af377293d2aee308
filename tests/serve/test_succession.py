"""A server of a directory where an alias is followed: another version takes the place of the one that answers."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from miniature import picture, png
from serving import DrawnAlias, Served, serving

from components.artifacts.followed import Behind
from components.artifacts.predictor import ONNX
from components.signing.directory import SIGNATURE

pytestmark = pytest.mark.long

VIEW = png(picture(1))


@pytest.fixture
def alias(tmp_path: Path) -> DrawnAlias:
    return DrawnAlias(tmp_path / "followed")


@pytest.fixture
def served(alias: DrawnAlias, tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path, alias.folder, "--follow", "1") as running:
        yield running
        assert running.process.poll() is None
        assert not [line for line in running.said if "a bug" in line]


def ask(served: Served) -> tuple[str, float]:
    answer = httpx.post(f"{served.url}/predict", files={"view": VIEW}, timeout=60).raise_for_status().json()
    return answer["version"], answer["probability"]


def until(served: Served, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What the server says of itself, as soon as something holds."""
    deadline = time.monotonic() + 120
    while not holds(about := httpx.get(f"{served.url}/about", timeout=60).json()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert holds(about), (about, served.said)
    return about


def answers(version: int) -> Callable[[dict[str, Any]], bool]:
    return lambda about: about["version"] == str(version)


def test_the_answer_follows_the_alias_and_its_way_back(alias: DrawnAlias, served: Served) -> None:
    first = ask(served)
    alias.move(4)
    until(served, answers(4))
    second = ask(served)
    alias.move(3)
    until(served, answers(3))
    assert (first[0], second[0]) == ("3", "4")
    assert second[1] > first[1] + 0.05
    assert ask(served) == first


def test_the_protocol_tells_the_present_version(alias: DrawnAlias, served: Served) -> None:
    def status(version: int) -> int:
        return httpx.get(f"{served.url}/v2/models/mura/versions/{version}/ready", timeout=60).status_code

    assert (status(3), status(4)) == (200, 404)
    alias.move(4)
    until(served, answers(4))
    assert (status(3), status(4)) == (404, 200)
    metadata = httpx.get(f"{served.url}/v2/models/mura", timeout=60).json()
    assert (metadata["versions"], metadata["parameters"]["follows"]["uri"]) == (["4"], "models:/mura@champion")


def test_no_request_is_lost_and_each_has_the_answer_of_the_version_that_it_names(
    alias: DrawnAlias, served: Served
) -> None:
    expected = dict([ask(served)])
    with ThreadPoolExecutor(4) as pool:
        for version in (4, 5, 3):
            alias.move(version)
            found = []
            deadline = time.monotonic() + 120
            while str(version) not in {each[0] for each in found} and time.monotonic() < deadline:
                found += pool.map(lambda _: ask(served), range(8))
            expected[str(version)] = expected.get(str(version)) or ask(served)[1]
            assert {each[1] for each in found if each[0] == str(version)} == {expected[str(version)]}
            assert all(expected[each[0]] == each[1] for each in found)
    assert set(expected) == {"3", "4", "5"}


def changed(folder: Path) -> None:
    with (folder / ONNX).open("ab") as file:
        file.write(b"0")


def unsigned(folder: Path) -> None:
    (folder / SIGNATURE).unlink()


def enlarged(folder: Path) -> None:
    (folder / "code").mkdir()
    (folder / "code" / "loader.py").write_text("raise SystemExit")


@pytest.mark.parametrize(
    ("change", "told"),
    [(changed, "network.onnx was changed"), (unsigned, "not signed"), (enlarged, "code/loader.py was added")],
)
def test_a_version_that_is_not_as_it_was_signed_does_not_answer(
    alias: DrawnAlias, served: Served, change: Callable[[Path], None], told: str
) -> None:
    alias.move(4, change)
    about = until(served, lambda about: about["follows"]["not_taken"] == 4)
    assert (about["version"], ask(served)[0]) == ("3", "3")
    assert [told in line and "Version 3 stays" in line for line in served.said if "WARNING" in line] == [True]
    alias.move(5)
    assert until(served, answers(5))["follows"]["not_taken"] is None


def test_what_the_follower_could_not_do_is_told(alias: DrawnAlias, served: Served) -> None:
    behind = Behind(version=4, why="its files are lost")
    alias.tell(3, "000001", behind=behind, away="MLflow does not answer")
    follows = until(served, lambda about: about["follows"]["not_taken"] == 4)["follows"]
    assert follows["answered"] is False
    assert "lost" not in str(follows)


def test_a_directory_that_is_damaged_does_not_end_the_server(alias: DrawnAlias, served: Served) -> None:
    (alias.folder / "followed.json").write_text("{")
    deadline = time.monotonic() + 120
    while not (told := [line for line in served.said if "followed.json" in line]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(told) == 1
    assert ask(served)[0] == "3"
