"""An archive says which body parts it has, and what else it knows of its images."""

from collections.abc import Callable
from pathlib import Path

import pytest
from miniature import ROOT, images, lists, manifest, picture, png, use_cores, write_zip

from components.archive.about_images import FILE, MOST_VALUES
from components.artifacts.manifest import BODY_PARTS
from components.base.errors import DataRefused

NAMES = [name.replace("XR_WRIST", "XR_LOWER_LEG_2") for name in images(train=12, valid=4)]
PNG = png(picture(1))
HEADER = "image,body_part,view_position,sex"


def part_of(name: str) -> str:
    return name.split("/")[2].removeprefix("XR_").lower()


def about(change: Callable[[list[str]], list[str]] = list) -> str:
    rows = [
        f"{name},{part_of(name)},{('AP', '')[n % 2]},{'male' if n % 2 else 'female'}" for n, name in enumerate(NAMES)
    ]
    return "\n".join(change([HEADER, *rows])) + "\n"


@pytest.fixture(autouse=True)
def _one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    use_cores(1, monkeypatch)


def archive(path: Path, text: str | None) -> Path:
    files = dict.fromkeys(NAMES, PNG) | lists(NAMES)
    return write_zip(path, files | ({f"{ROOT}/{FILE}": text.encode()} if text is not None else {}))


def test_what_is_said_becomes_columns(tmp_path: Path) -> None:
    made = manifest(archive(tmp_path / "a.zip", about()), tmp_path / "manifest")
    parts = tuple(sorted({*BODY_PARTS} - {"wrist"} | {"lower_leg_2"}))
    assert made.facts.archive_parts == parts == made.facts.known_parts
    assert made.facts.kept == ("view_position", "sex")
    assert made.facts.others == ()
    table = made.table.set_index("image")
    assert list(table.columns)[-2:] == ["view_position", "sex"]
    assert table.loc[NAMES[2], "sex"] == "female"
    assert table["view_position"].isna().sum() == len(NAMES) // 2
    assert type(made).read(made.path).digest == made.digest


def test_an_archive_that_says_nothing_has_the_columns_and_the_digest_of_before(tmp_path: Path) -> None:
    made = manifest(archive(tmp_path / "a.zip", None), tmp_path / "manifest")
    assert "archive_parts" not in (made.path / "card.json").read_text()
    assert not {"archive_parts", "kept"} & made.facts.deciding().keys()
    assert made.facts.known_parts == BODY_PARTS
    assert "sex" not in made.table


BAD: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "another header": (lambda rows: ["image,body_part,name", *rows[1:]], r"row 1: expected the header"),
    "no header": (lambda rows: rows[1:], r"row 1: expected the header"),
    "another order": (lambda rows: ["image,body_part,sex,view_position", *rows[1:]], r"row 1: expected the header"),
    "a missing row": (lambda rows: rows[:-1], r"1 listed images have no row in it, such as .*image\d\.png"),
    "a row twice": (lambda rows: [*rows, rows[-1]], r"an image that has a row already"),
    "an image that is not there": (lambda rows: [*rows, f"{ROOT}/train/x.png,hand,AP,male"], "that is not listed"),
    "another body part": (lambda rows: [rows[0], rows[1].replace(",elbow", ",knee"), *rows[2:]], "says otherwise"),
    "too few fields": (lambda rows: [rows[0], rows[1].rpartition(",")[0], *rows[2:]], r"row 2: expected 4 fields"),
    "no word": (lambda rows: [rows[0], rows[1].replace("female", "<b>"), *rows[2:]], "a word under sex"),
    "nothing": (lambda rows: [], r"row 1: expected the header"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "told"), BAD.values(), ids=BAD)
def test_what_is_damaged_is_refused(tmp_path: Path, change: Callable[[list[str]], list[str]], told: str) -> None:
    with pytest.raises(DataRefused, match=told) as error:
        manifest(archive(tmp_path / "a.zip", about(change)), tmp_path / "manifest")
    assert FILE in str(error.value)


def test_values_are_few(tmp_path: Path) -> None:
    names = images(train=60, valid=4)
    rows = [f"{name},{part_of(name)},s{number}" for number, name in enumerate(names)]
    text = "\n".join(["image,body_part,sex", *rows])
    path = write_zip(tmp_path / "a.zip", dict.fromkeys(names, PNG) | lists(names) | {f"{ROOT}/{FILE}": text.encode()})
    with pytest.raises(DataRefused, match=rf"row {MOST_VALUES + 2}: sex has more than {MOST_VALUES} values"):
        manifest(path, tmp_path / "manifest")
