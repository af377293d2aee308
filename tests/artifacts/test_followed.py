from pathlib import Path

import pytest

from components.artifacts.followed import FOLLOWED, Behind, Followed
from components.base.errors import DataRefused

FACTS = Followed(uri="models:/mura@champion", model="mura", version=3, made=7, directory="000001")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    behind = FACTS.model_copy(update={"behind": Behind(version=4, why="its files are lost"), "away": "no answer"})
    for facts in (FACTS, behind):
        facts.write(tmp_path)
        assert Followed.read(tmp_path) == facts


def test_before_the_first_version_there_is_none(tmp_path: Path) -> None:
    assert Followed.read(tmp_path) is None
    assert Followed.read(tmp_path / "nowhere") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"uri": "models:/mura@champion"}'])
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / FOLLOWED).write_text(text)
    with pytest.raises(DataRefused, match=r"followed\.json"):
        Followed.read(tmp_path)
