"""Every hostile kind through the door: noticed, named, in little time and memory, and nothing written elsewhere."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hostile import ARCHIVES, BAD_ENTRIES, BAD_PLACES, BAD_PNGS, ESCAPE, LARGE, LARGE_SAID, SOUND_KIND, Came

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
MEMBERS = {f"image: {name}": said for name, (said, _) in BAD_PNGS.items()}
MEMBERS |= {f"entry: {name}": said for name, (said, _) in BAD_ENTRIES.items()} | {LARGE: LARGE_SAID[0]}
MEMBERS |= {f"place: {name}": expectation for name, (expectation, _) in BAD_PLACES.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def came(folder: Path) -> dict[str, Came]:
    """What came of every kind, run in one process of its own."""
    inner = folder / "inner"
    inner.mkdir()
    shutil.copy(ROOT / "params.yaml", inner)
    done = subprocess.run([sys.executable, ROOT / "tests" / "hostile.py", inner], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    every = [Came(**json.loads(line)) for line in done.stdout.splitlines()]
    return {one.kind: one for one in every}


def test_there_are_many_kinds() -> None:
    assert len(ARCHIVES) + len(MEMBERS) >= 100


def test_the_archive_to_which_it_is_done_is_accepted(came: dict[str, Came]) -> None:
    assert (came[SOUND_KIND].code, came[SOUND_KIND].told) == (0, "")


@pytest.mark.parametrize("kind", ARCHIVES)
def test_a_hostile_archive_is_refused_in_one_line(came: dict[str, Came], kind: str) -> None:
    one = came[kind]
    lines = one.told.splitlines()
    assert (one.code, len(lines)) == (3, 1), one.told
    assert re.match(rf"error: .*(?:{ARCHIVES[kind].told})", lines[0]), one.told
    assert lines[0].isprintable()
    assert len(lines[0]) < 2000


@pytest.mark.parametrize("kind", MEMBERS)
def test_a_hostile_image_has_a_row_that_says_so_and_validation_refuses_the_archive_and_names_it(
    came: dict[str, Came], kind: str
) -> None:
    one = came[kind]
    assert one.code == 3
    assert re.search(MEMBERS[kind], one.told), one.told
    assert one.told.isprintable()


def test_none_takes_a_gigabyte_or_does_not_end(came: dict[str, Came]) -> None:
    """Of the images the time is that of all together, and a busy machine doubles it: a limit for what does not end."""
    assert max(one.peak for one in came.values()) < 2**30
    assert [one.kind for one in came.values() if one.kind not in MEMBERS and one.seconds > 10] == []
    assert [one.kind for one in came.values() if one.seconds > 60] == []


def test_nothing_is_written_elsewhere(came: dict[str, Came], folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"inner"}
    assert {path.name for path in (folder / "inner").iterdir()} == {"params.yaml", "made", "out"}
    assert not Path("/tmp", ESCAPE).exists()
    assert not [path for path in (folder / "inner" / "out").rglob("*") if ESCAPE in path.name]
    assert {path.suffix for path in (folder / "inner" / "out").iterdir()} <= {"", ".refused", ".partial"}
