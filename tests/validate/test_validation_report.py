"""What people see of a validation: the report with its pictures, and what is said of one image."""

import base64
import io
import json
import re
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from html_page import Page
from miniature import archive, images, manifest, picture, png, use_cores, write_zip
from PIL import Image

from components.archive.archive import Archive
from components.artifacts.manifest import Manifest
from components.base.errors import DataRefused
from components.cli import main
from components.params.validate import ValidateParams
from components.validate import validate

pytestmark = pytest.mark.long

# The miniature's pictures are noise of 64 x 48 pixels.
PARAMS = ValidateParams(
    published="auto",
    pictures=True,
    modes=("L", "RGB"),
    min_side=40,
    max_side=512,
    max_aspect=3,
    max_views=3,
    min_contrast=32,
    max_frame=0.85,
    max_inversion=255,
    abnormal_share=(0.0, 1.0),
    max_label_shift=2.0,
    max_psi=0.2,
    max_ks=0.1,
    expectations={},
)
MEMBERS = images(valid=14)
TRAIN = [name for name in MEMBERS if "/train/" in name]
CUT, MARKED, ORIGINAL, AGAIN = TRAIN[0], TRAIN[3], TRAIN[6], TRAIN[9]
COPY = "MURA-v1.1/valid/XR_HAND/patient20001/study1_negative/image1.png"
OTHER = "MURA-v1.1/train/XR_HAND/patient20002/study1_negative/image1.png"


class Place(NamedTuple):
    """An archive with faults, and its refused validation."""

    path: Path
    archive: Archive
    manifest: Manifest

    @property
    def html(self) -> str:
        return (self.path / "out.refused" / "report.html").read_text()


def large(seed: int) -> np.ndarray:
    return picture(seed, 240, 320)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    path = tmp_path_factory.mktemp("validation")
    files = archive([*MEMBERS, COPY, OTHER])
    files[CUT] = files[CUT][:500]
    marked = np.dstack([large(1)] * 3)
    marked[100:120, 100:120] = (255, 0, 0)
    files[MARKED] = png(marked)
    files[ORIGINAL], files[COPY] = png(large(2)), png(large(2)[:, ::-1])
    files[AGAIN], files[OTHER] = png(large(3)), png(large(3), compress_level=9)
    with pytest.MonkeyPatch.context() as patch:
        use_cores(1, patch)
        made = manifest(write_zip(path / "MURA-v1.1.zip", files), path / "manifest", fraction=0.25)
        found = Place(path, Archive.read(path / "MURA-v1.1.zip"), made)
        (path / "out.refused").mkdir()
        with pytest.raises(DataRefused, match=re.escape(CUT)):
            validate(found.archive, found.manifest, PARAMS, path / "out.refused")
    return found


def failed(report: Path) -> set[str]:
    return {each["name"] for each in json.loads(report.read_text())["expectations"] if not each["success"]}


def section(html: str, name: str) -> str:
    return html.split(f'id="{name}"')[1].split("</section>")[0]


def thumbnails(html: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in found]


def test_each_fault_is_found_by_its_expectation(place: Place) -> None:
    found = failed(place.path / "out.refused" / "validation.json")
    same = {"picture_of_one_patient", "picture_in_one_split"} & found
    assert len(same) == 1
    assert found - same == {"decodes", "channels_agree", "near_picture_in_one_split"}


def test_the_verdict_is_the_heading_and_the_findings_follow(place: Place) -> None:
    words = Page(place.html).words
    assert words.index("MURA-v1.1.zip is refused") < words.index("Every image in the archive decodes")
    assert words.index("Every image in the archive decodes") < words.index("What is there")
    assert "truncated" in section(place.html, "decodes")


def test_what_offends_is_shown_small(place: Place) -> None:
    (marked,) = thumbnails(section(place.html, "channels_agree"))
    assert max(marked.size) == 160
    assert marked.size == (160, 120)
    assert np.abs(np.asarray(marked.convert("L"), float).mean() - large(1).mean()) < 8
    assert MARKED.replace("/", "/<wbr>") in section(place.html, "channels_agree")


def test_what_cannot_be_shown_is_named(place: Place) -> None:
    assert not thumbnails(section(place.html, "decodes"))
    assert CUT in section(place.html, "decodes")


def test_near_duplicates_stand_side_by_side(place: Place) -> None:
    pairs = place.html.split("Near duplicates, side by side")[1].split("<h2>")[0]
    one, other = (np.asarray(thumbnail, float) for thumbnail in thumbnails(pairs))
    assert np.abs(one - other[:, ::-1]).mean() < 6
    assert ", mirrored" in pairs
    assert "splits, patients" in pairs
    found = pd.read_parquet(place.path / "out.refused" / "duplicates.parquet")
    assert {"first": ORIGINAL, "second": COPY, "mirrored": True}.items() <= found.iloc[-1].to_dict().items()


def test_a_near_copy_is_named_with_its_split_and_never_as_equal(place: Place) -> None:
    found = pd.read_parquet(place.path / "out.refused" / "offenders.parquet").set_index("expectation")
    split = place.manifest.table.set_index("image")["split"][ORIGINAL]
    told = f"{ORIGINAL} (split: {split}, near picture in another split: {COPY} in test with similarity 0.999)"
    assert found.loc["near_picture_in_one_split", "told"] == told
    near = pd.read_parquet(place.path / "out.refused" / "duplicates.parquet").query("kind == 'near'")
    assert (near["similarity"] < 1).all()
    assert "similarity <b>0.999</b>" in place.html
    assert any(line.endswith(f"{COPY} in test with similarity 0.999, mirrored") for line in explained(place, ORIGINAL))


def test_the_report_says_which_copies_are_missed(place: Place) -> None:
    assert "magnified parts may be missed" in Page(place.html).words


def renamed(old: str, new: str) -> dict[str, bytes]:
    """An archive with another spelling in all names and lists."""
    return {
        name.replace(old, new): content.replace(old.encode(), new.encode()) if name.endswith(".csv") else content
        for name, content in archive([*MEMBERS, OTHER]).items()
    }


@pytest.mark.parametrize(
    ("old", "new", "advice"),
    [
        (".png", ".PNG", "rename image1.PNG to image1.png"),
        ("XR_", "Xr_", "rename Xr_ELBOW to XR_ELBOW"),
        ("patient", "Patient", "rename Patient00001 to patient00001"),
        ("_negative", "_Negative", "rename study1_Negative to study1_negative"),
    ],
)
def test_names_in_another_case_break_one_gate_which_says_what_to_do(
    old: str, new: str, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_cores(1, monkeypatch)
    made = manifest(write_zip(tmp_path / "a.zip", renamed(old, new)), tmp_path / "manifest")
    (tmp_path / "out").mkdir()
    with pytest.raises(DataRefused, match=advice):
        validate(Archive.read(tmp_path / "a.zip"), made, PARAMS, tmp_path / "out")
    assert failed(tmp_path / "out" / "validation.json") == {"path"}


def test_the_page_needs_nothing_but_itself(place: Place) -> None:
    page = Page(place.html)
    assert all(source.startswith(("data:image/jpeg;base64,", "#")) for source in page.sources)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert not re.search(r"https?:|url\(|@import", place.html)
    links = re.findall(r'href="([^"]*)"', place.html)
    assert links
    assert all(link.startswith("#") and f'id="{link[1:]}"' in place.html for link in links)


def test_the_page_says_that_it_shows_pictures(place: Place) -> None:
    assert "keep it where the archive may be kept" in Page(place.html).words


def test_without_pictures_there_are_none(place: Place, tmp_path: Path) -> None:
    with pytest.raises(DataRefused):
        validate(place.archive, place.manifest, PARAMS.model_copy(update={"pictures": False}), tmp_path)
    html = (tmp_path / "report.html").read_text()
    assert "<img" not in html
    assert MARKED in html
    assert "Made without pictures" in html


def test_a_page_of_many_offenders_stays_small(place: Place, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as many:
        names = [f"MURA-v1.1/train/XR_HAND/patient{n:05d}/study1_negative/image1.png" for n in range(1, 400)]
        for name, content in archive(names).items():
            many.writestr(name, content)
    # Everything is wrong with every picture.
    wrong = {"modes": ("P",), "min_side": 500, "max_side": 510, "max_views": 1, "min_contrast": 255, "max_aspect": 1}
    made = manifest(tmp_path / "many.zip", tmp_path / "manifest", fraction=0.1)
    (tmp_path / "out").mkdir()
    with pytest.raises(DataRefused):
        validate(Archive.read(tmp_path / "many.zip"), made, PARAMS.model_copy(update=wrong), tmp_path / "out")
    html = (tmp_path / "out" / "report.html").read_text()
    assert len(html) < 5_000_000
    assert len(thumbnails(section(html, "mode"))) == 12
    assert "And 337 more, in" in section(html, "mode")


# One image


def explained(place: Place, member: str) -> list[str]:
    from components.validate.explanation import explain

    return explain(member, place.manifest, place.path / "out").splitlines()


def test_an_image_is_explained_by_all_or_part_of_its_name(place: Place) -> None:
    lines = explained(place, MARKED)
    assert lines[0] == MARKED
    assert lines == explained(place, MARKED.removeprefix("MURA-v1.1/train/"))
    text = "\n".join(lines)
    assert "320 x 240 pixels, RGB" in text
    assert f"refused, {place.path}/out.refused" in text
    assert "channels_agree (warn): channel_difference: 255" in text


def test_copies_of_an_image_are_told(place: Place) -> None:
    assert any(ORIGINAL in line and "near copy" in line for line in explained(place, COPY))
    assert any(AGAIN in line and "same pixels" in line for line in explained(place, OTHER))
    assert explained(place, MEMBERS[-1])[-1].split() == ["offends", "nothing"]


def test_an_image_that_does_not_decode_is_explained(place: Place) -> None:
    text = "\n".join(explained(place, CUT))
    assert "truncated" in text
    assert "decodes (gate)" in text


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("patient20001/study1_positive/image1.png", COPY),
        ("XR_HAND/patient", "images have 'XR_HAND/patient' in their names, such as"),
        ("\x1b[31m", "nearest"),
    ],
)
def test_a_name_that_is_not_one_image_gets_one_line_with_names(
    place: Place, asked: str, hint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.path)
    assert main.run(["validate", "--manifest", "manifest", "--out", "out", "--explain", asked]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert hint in line
    assert line.isprintable()


def test_the_question_needs_no_other_flag(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.path)
    (place.path / "artifacts").mkdir()
    (place.path / "artifacts" / "manifest").symlink_to(place.path / "manifest")
    assert main.run(["validate", "--explain", COPY]) == 0
    assert "none in artifacts/valid_manifest yet: run `mura validate`" in capsys.readouterr().out
