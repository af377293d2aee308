import os
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from miniature import ROOT, archive, images, manifest, use_cores, write_zip

from components.archive.overlay import Overlay
from components.base.errors import DataRefused, UsageError
from components.validate.proof import data_digest

PROJECT = Path(__file__).parents[2]
HEADER = "study,old,new,source,reason\n"
NORMAL, ABNORMAL = (
    next(image.rpartition("/")[0] for image in images() if f"_{label}/" in image) for label in ("negative", "positive")
)
OFFICIAL = {NORMAL: 0, ABNORMAL: 1}


def short(study: str) -> str:
    return study.removeprefix(f"{ROOT}/")


ROW = f"{short(NORMAL)},0,1,second reader,plate\n"


@pytest.fixture
def overlay(tmp_path: Path) -> "Overlay":
    return written(tmp_path, HEADER + ROW)


def written(folder: Path, text: str | bytes) -> Overlay:
    path = folder / "overlay.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Overlay.read(path)


def test_an_opinion_is_found_under_the_archives_name_of_its_study(overlay: Overlay) -> None:
    found = overlay.by_study(OFFICIAL)
    assert list(found) == [NORMAL]
    assert found[NORMAL][2:] == (0, 1, "second reader", "plate")


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER}{NORMAL}/,0,1,second reader,plate\n",
        f"{HEADER}  {short(NORMAL)}/ , normal , Abnormal , second reader , plate \n",
        f"{HEADER}elsewhere/{NORMAL},negative,positive,second reader,plate",
        f"Study,New,Old,Reason,Source\n{NORMAL},1,0,plate,second reader\n",
        f"\ufeff{HEADER}\n,,,,\n{NORMAL},0,1,second reader,plate\n\n".replace("\n", "\r\n"),
        f'{HEADER}"{NORMAL}","0","1","second reader","plate"\n',
    ],
)
def test_an_opinion_may_be_written_in_several_ways(overlay: Overlay, tmp_path: Path, text: str) -> None:
    other = written(tmp_path, text)
    assert other.digest == overlay.digest
    assert list(other.by_study(OFFICIAL)) == [NORMAL]


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    rows = [ROW, f"{ABNORMAL},1,0,second reader,growth plate\n"]
    one, other = (written(tmp_path, HEADER + "".join(each)) for each in (rows, rows[::-1]))
    assert one.digest == other.digest
    assert one.by_study(OFFICIAL).keys() == other.by_study(OFFICIAL).keys() == OFFICIAL.keys()


def test_another_opinion_has_another_digest(overlay: Overlay, tmp_path: Path) -> None:
    texts = (ROW.replace("plate", "screw"), ROW.replace("second", "third"), ROW + f"{ABNORMAL},1,0,me,none\n")
    assert len({overlay.digest, *(written(tmp_path, HEADER + text).digest for text in texts)}) == 4


def test_the_overlay_of_the_project_says_nothing() -> None:
    empty = Overlay.read(PROJECT / "data" / "overlay.csv")
    assert empty.digest is None
    assert empty.by_study(OFFICIAL) == {}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (f"{NORMAL},0,1,me\n", "row 2 has 4 fields, expected 5"),
        (f"{NORMAL},0,1,me,why,more\n", "row 2 has 6 fields, expected 5"),
        (f"{NORMAL},0,2,me,why\n", r"row 2 says '2' under new, expected 0 \(normal\) or 1 \(abnormal\)"),
        (f"{NORMAL},fracture,1,me,why\n", "row 2 says 'fracture' under old"),
        (f"{NORMAL},0,1,,why\n", "row 2 says nothing under source"),
        (f"{NORMAL},0,1,me, \n", "row 2 says nothing under reason"),
        (",0,1,me,why\n", "row 2 says nothing under study"),
        (f"{NORMAL},1,1,me,why\n", "row 2 changes nothing: old and new are both abnormal"),
        (ROW + ROW, f"row 3 names '{short(NORMAL)}' of row 2 again. Correct"),
        (ROW + f"{NORMAL}/,1,0,you,no\n", f"row 3 names '{short(NORMAL)}' of row 2 again, with another label"),
        ("\n" + ROW + f"\n{NORMAL},0,0,me,why\n", "row 5 changes nothing"),
        (f"{NORMAL},0,3,a,b\n" * 7, r"7 rows are refused: row 2 .*row 6 .*; and 2 more\. Correct them or remove them"),
        (f"{NORMAL},1,1,a\x1b[2J,b\n", "row 2 changes nothing"),
    ],
)
def test_rows_that_make_no_sense_are_refused_by_number(tmp_path: Path, rows: str, says: str) -> None:
    with pytest.raises(DataRefused, match=rf"overlay\.csv: .*{says}") as refusal:
        written(tmp_path, HEADER + rows)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "study,old,new\n",
        ROW,
        HEADER.replace("study", "image"),
        f'{HEADER}"open',
        b"\xff\xfe\0",
        b"PK\3\4\0\0",
    ],
)
def test_what_is_no_overlay_is_refused(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(DataRefused, match=r"overlay\.csv: (expected the header study,old,new,source,reason|not a CSV)"):
        written(tmp_path, text)


def test_a_huge_field_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match="not a CSV"):
        written(tmp_path, f"{HEADER}{'x' * 200_000},0,1,me,why\n")


def test_a_missing_overlay_is_a_wrong_path(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(UsageError, match=r"cannot be read .* data/overlay\.csv is one without rows"):
            Overlay.read(path)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (f"{NORMAL},1,0,me,why\n", f"row 2 says that '{short(NORMAL)}' is abnormal, officially it is normal"),
        ("train/XR_HAND/patient99999/study1_negative,0,1,me,why\n", "which is not in the archive. Correct"),
        (
            f"{NORMAL.replace('negative', 'positive')},0,1,me,why\n",
            f"which is not in the archive; {short(NORMAL)} is. Correct",
        ),
        ("nonsense,0,1,me,why\n", "row 2 names 'nonsense', which is not in the archive"),
    ],
)
def test_rows_that_do_not_match_the_archive_are_refused_by_number(tmp_path: Path, row: str, says: str) -> None:
    with pytest.raises(DataRefused, match=rf"overlay\.csv: one row is refused: .*{says}"):
        written(tmp_path, HEADER + row).by_study(OFFICIAL)


@given(st.binary(max_size=200))
def test_whatever_is_read_is_an_overlay_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    for text in (content, HEADER.encode() + content):
        with suppress(DataRefused):
            written(folder, text)


def test_the_manifest_has_opinions_beside_the_official_labels(
    overlay: Overlay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_cores(1, monkeypatch)
    path = write_zip(tmp_path / "MURA-v1.1.zip", archive())
    plain, told = manifest(path, tmp_path / "plain"), manifest(path, tmp_path / "told", overlay=overlay)
    mine = told.table["study"] == NORMAL
    opinions = told.table.loc[mine, ["overlay", "overlay_source", "overlay_reason"]].drop_duplicates()
    assert opinions.to_numpy().tolist() == [[1, "second reader", "plate"]]
    assert told.table.loc[~mine, ["overlay", "overlay_source", "overlay_reason"]].isna().all(axis=None)
    columns = ["overlay", "overlay_source", "overlay_reason"]
    pd.testing.assert_frame_equal(told.table.drop(columns=columns), plain.table.drop(columns=columns))
    assert data_digest(told.table) == data_digest(plain.table)
    assert (told.facts.overlay_digest, told.facts.overlay_studies) == (overlay.digest, 1)
    assert (plain.facts.overlay_digest, plain.facts.overlay_studies) == (None, 0)
    assert told.digest != plain.digest


def test_an_overlay_of_another_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_cores(1, monkeypatch)
    path = write_zip(tmp_path / "MURA-v1.1.zip", archive())
    stranger = written(tmp_path, f"{HEADER}train/XR_HAND/patient99999/study1_negative,0,1,me,why\n")
    with pytest.raises(DataRefused, match="patient99999"):
        manifest(path, tmp_path / "out", overlay=stranger)


def test_an_overlay_is_the_same_as_a_file_and_as_text(tmp_path: Path) -> None:
    text = "study,old,new,source,reason\ntrain/XR_WRIST/patient00006/study1_negative/,0,1,a reader,plate\n"
    (tmp_path / "overlay.csv").write_text(text)
    assert Overlay.read(text).opinions == Overlay.read(tmp_path / "overlay.csv").opinions
    with pytest.raises(DataRefused, match="the overlay: expected the header"):
        Overlay.read("patient,label\n")


def test_a_pipe_is_no_overlay_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "overlay.csv")
    with pytest.raises(DataRefused, match="no file"):
        Overlay.read(tmp_path / "overlay.csv")
