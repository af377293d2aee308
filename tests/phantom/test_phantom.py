"""The phantom archive: MURA's layout and counts, none of its pictures, the same bytes from a seed."""

import csv
import hashlib
import io
import math
import re
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from components.base.errors import UsageError
from components.params.document import PhantomParams, read_params
from components.phantom import anatomy, pathology, truth
from components.phantom.pathology import METAL
from components.phantom.plan import DIFFICULTIES, DIFFICULTY, MURA_STUDIES, PARTS, STUDIES, Study, apportion, plan
from components.phantom.radiograph import View, draw
from components.phantom.sheet import contact_sheet
from components.phantom.truth import Truth
from components.phantom.writing import PhantomSummary, write_phantom

FEW = 160


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PhantomSummary]:
    out = tmp_path_factory.mktemp("phantom") / "phantom.zip"
    return out, write_phantom(out, studies=FEW, seed=3, difficulty=0.25, workers=1)


@pytest.fixture(scope="module")
def archive(written: tuple[Path, PhantomSummary]) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(written[0]) as opened:
        yield opened


@pytest.fixture(scope="module")
def found(written: tuple[Path, PhantomSummary]) -> list[Truth]:
    return truth.read(truth.path_beside(written[0]))


def picture(study: Study, view: int, seed: int, difficulty: float) -> np.ndarray:
    return draw(View(study, view, seed, difficulty))[0]


def read_list(archive: zipfile.ZipFile, name: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(archive.read(f"MURA-v1.1/{name}.csv").decode())))


def images(archive: zipfile.ZipFile) -> list[str]:
    return [row[0] for split in ("train", "valid") for row in read_list(archive, f"{split}_image_paths")]


def test_same_seed_same_bytes_whatever_the_number_of_workers(tmp_path: Path) -> None:
    one = write_phantom(tmp_path / "one.zip", studies=20, seed=1, workers=1)
    two = write_phantom(tmp_path / "two.zip", studies=20, seed=1, workers=2)
    assert one == two
    for name in ("{}.zip", "{}.truth.csv"):
        assert (tmp_path / name.format("one")).read_bytes() == (tmp_path / name.format("two")).read_bytes()


def test_another_seed_or_difficulty_gives_another_picture() -> None:
    study = Study("train", "WRIST", 1, 1, True, 1)
    first = picture(study, 1, 0, 0.2)
    assert np.array_equal(first, picture(study, 1, 0, 0.2))
    assert not np.array_equal(first, picture(study, 1, 1, 0.2))
    assert not np.array_equal(first, picture(study, 1, 0, 0.9))


def test_a_picture_does_not_depend_on_what_was_drawn_before() -> None:
    study = Study("valid", "HAND", 7, 1, True, 2)
    alone = picture(study, 2, 5, 0.3)
    picture(study, 1, 5, 0.3)
    picture(Study("train", "ELBOW", 9, 1, False, 1), 1, 5, 0.3)
    assert np.array_equal(alone, picture(study, 2, 5, 0.3))


def test_the_lists_name_exactly_the_images_of_the_archive(archive: zipfile.ZipFile) -> None:
    pngs = [n for n in archive.namelist() if n.endswith(".png") and "/._" not in n]
    assert sorted(pngs) == sorted(images(archive))
    assert len(set(archive.namelist())) == len(archive.namelist())


def test_studies_agree_between_the_lists(archive: zipfile.ZipFile) -> None:
    for split in ("train", "valid"):
        labels = dict(read_list(archive, f"{split}_labeled_studies"))
        assert {path.rpartition("/")[0] + "/" for path, *_ in read_list(archive, f"{split}_image_paths")} == set(labels)
        assert all(path.endswith("_positive/") == (label == "1") for path, label in labels.items())


def test_names_are_muras(archive: zipfile.ZipFile) -> None:
    parts = "|".join(PARTS)
    pattern = rf"MURA-v1\.1/(train|valid)/XR_({parts})/patient\d{{5}}/study\d_(positive|negative)/image\d+\.png"
    assert all(re.fullmatch(pattern, member) for member in images(archive))


def test_the_summary_counts_what_was_written(written: tuple[Path, PhantomSummary], archive: zipfile.ZipFile) -> None:
    out, summary = written
    assert summary.studies == FEW
    assert summary.images == len(images(archive))
    assert summary.bytes == out.stat().st_size


def test_images_are_grey_or_rgb_with_equal_channels_and_512_long(archive: zipfile.ZipFile) -> None:
    modes: Counter[str] = Counter()
    for member in images(archive)[::4]:
        with Image.open(io.BytesIO(archive.read(member))) as image:
            modes[image.mode] += 1
            pixels = np.asarray(image)
            assert max(image.size) == 512
            assert min(image.size) >= 170
            assert pixels.ndim == 2 or (pixels == pixels[..., :1]).all()
    assert set(modes) == {"L", "RGB"}
    assert 0.35 < modes["L"] / modes.total() < 0.75


def test_four_appledouble_files_lie_about_three_in_wrist(archive: zipfile.ZipFile) -> None:
    doubles = [name for name in archive.namelist() if "/._" in name]
    assert len(doubles) == 4
    assert sum("XR_WRIST" in name for name in doubles) == 3
    assert all(archive.read(name).startswith(b"\x00\x05\x16\x07") for name in doubles)
    assert all(name.replace("/._", "/") in archive.namelist() for name in doubles)


def test_entries_are_stored_with_one_date(archive: zipfile.ZipFile) -> None:
    assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
    assert len({entry.date_time for entry in archive.infolist()}) == 1


@pytest.mark.parametrize("studies", [14, 28, 100, 600, 2_000, MURA_STUDIES])
def test_no_patient_is_in_two_splits(studies: int) -> None:
    dealt = plan(studies, 0)
    of_split = {s: {x.patient for x in dealt.studies if x.split == s} for s in ("train", "valid")}
    assert not of_split["train"] & of_split["valid"]
    assert sorted(of_split["train"] | of_split["valid"]) == list(range(1, dealt.patients + 1))
    assert max(of_split["train"]) < min(of_split["valid"])


@pytest.mark.parametrize("studies", [28, 100, 600, 1_999, 2_000])
def test_every_part_has_both_labels_in_both_splits(studies: int) -> None:
    dealt = plan(studies, 0)
    assert len(dealt.studies) == studies
    assert len({(s.split, s.part, s.abnormal) for s in dealt.studies}) == 2 * len(PARTS) * 2


def test_a_small_archive_has_enough_test_studies_and_few_views() -> None:
    dealt = plan(600, 0)
    assert 0.2 <= sum(s.split == "valid" for s in dealt.studies) / 600 <= 0.25
    assert dealt.images / 600 < 2.2


def test_the_full_archive_has_muras_counts() -> None:
    dealt = plan(MURA_STUDIES, 0)
    studies = Counter(s.split for s in dealt.studies)
    pictures = Counter[tuple[str, str, bool]]()
    for study in dealt.studies:
        pictures[study.split, study.part, study.abnormal] += study.views
    assert studies == {"train": 13_457, "valid": 1_199}
    assert dealt.images == 40_005
    assert dealt.patients == 11_967
    assert pictures["train", "WRIST", False] == 5_765
    assert pictures["valid", "FOREARM", True] == 151
    views = Counter(s.views for s in dealt.studies if s.split == "train")
    assert views == {1: 1131, 2: 3733, 3: 6466, 4: 1887, 5: 197, 6: 27, 7: 13, 8: 2, 11: 1}
    several = Counter(Counter(s.patient for s in dealt.studies if s.split == "valid").values())
    assert sum(n for size, n in several.items() if size > 1) == 268


def test_study_numbers_start_at_one_and_have_no_gaps() -> None:
    numbers: dict[tuple[int, str], list[int]] = {}
    for study in plan(3_000, 1).studies:
        numbers.setdefault((study.patient, study.part), []).append(study.number)
    assert all(sorted(found) == list(range(1, len(found) + 1)) for found in numbers.values())
    assert any(len(found) > 1 for found in numbers.values())


def test_apportion_gives_everything_away_and_no_less_than_the_least() -> None:
    given = apportion({"a": 1, "b": 1, "c": 1000}, 10, least=1)
    assert sum(given.values()) == 10
    assert min(given.values()) == 1


def test_a_failure_half_way_leaves_nothing(tmp_path: Path) -> None:
    def fail(done: int, total: int) -> None:
        if done > total / 2:
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_phantom(tmp_path / "phantom.zip", studies=14, seed=0, workers=1, progress=fail)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_never_lies_beside_the_truth_of_another_that_was_drawn_at_the_same_time(tmp_path: Path) -> None:
    refused = []

    def begin_another(*_: int) -> None:
        with pytest.raises(UsageError, match="another process is writing it") as told:
            write_phantom(tmp_path / "phantom.zip", studies=14, seed=1, workers=1)
        refused.append(told)

    summary = write_phantom(tmp_path / "phantom.zip", studies=14, seed=0, workers=1, progress=begin_another)
    assert refused
    assert hashlib.sha256((tmp_path / "phantom.zip").read_bytes()).hexdigest() == summary.sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["phantom.truth.csv", "phantom.zip"]


def test_a_killed_run_leaves_no_archive(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, sys; from components.phantom.writing import write_phantom\n"
        "out = pathlib.Path(sys.argv[1])\n"
        "write_phantom(out, studies=14, seed=0, workers=1, progress=lambda *_: os._exit(9))"
    )
    out = tmp_path / "phantom.zip"
    killed = subprocess.run([sys.executable, "-c", script, str(out)], cwd=Path(__file__).parents[2], check=False)
    assert killed.returncode == 9
    assert not out.exists()
    assert not truth.path_beside(out).exists()


def test_progress_ends_with_all_images(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    summary = write_phantom(
        tmp_path / "phantom.zip", studies=14, seed=0, workers=1, progress=lambda *call: calls.append(call)
    )
    assert calls[-1] == (summary.images, summary.images)
    assert calls == sorted(calls)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"studies": 13}, "studies"),
        ({"difficulty": 1.01}, "difficulty"),
        ({"difficulty": -0.51}, "difficulty"),
        ({"difficulty": math.nan}, "difficulty"),
        ({"workers": 0}, "workers"),
    ],
)
def test_bad_arguments_are_named(tmp_path: Path, arguments: dict[str, float], word: str) -> None:
    wanted = {"studies": 14, "seed": 0} | arguments
    with pytest.raises(ValueError, match=word):
        write_phantom(tmp_path / "phantom.zip", **wanted)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_importing_the_archive_loads_no_array_library() -> None:
    script = "import sys, components.phantom.writing; sys.exit(bool({'numpy', 'cv2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], check=False).returncode == 0


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_drawn_at_both_ends_of_difficulty(part: str, difficulty: float) -> None:
    for abnormal in (False, True):
        drawn = picture(Study("train", part, 3, 1, abnormal, 1), 1, 0, difficulty)
        assert drawn.dtype == np.uint8
        assert max(drawn.shape) == 512
        assert drawn.max() > 60


def test_a_contact_sheet_shows_every_part(written: tuple[Path, PhantomSummary], tmp_path: Path) -> None:
    sheet = cv2.imread(str(contact_sheet(written[0], tmp_path / "sheet.png")), cv2.IMREAD_GRAYSCALE)
    assert sheet is not None
    assert sheet.shape[0] > 7 * 150
    with pytest.raises(ValueError, match="split"):
        contact_sheet(written[0], tmp_path / "sheet.png", split="test")


def test_every_abnormal_study_has_a_finding_and_no_normal_one(
    archive: zipfile.ZipFile, found: list[Truth], written: tuple[Path, PhantomSummary]
) -> None:
    studies = {row.member.rpartition("/")[0] for row in found}
    assert studies == {path.rpartition("/")[0] for path in images(archive) if "positive" in path}
    assert {row.member for row in found} <= set(images(archive))
    assert written[1].findings == len(found)


def test_boxes_lie_in_their_pictures(archive: zipfile.ZipFile, found: list[Truth]) -> None:
    for row in found:
        with Image.open(io.BytesIO(archive.read(row.member))) as image:
            width, height = image.size
        assert 0 <= row.left < row.right <= width, row
        assert 0 <= row.top < row.bottom <= height, row


def test_metal_is_told_by_kind_and_in_no_more_than_half_of_the_abnormal_studies(found: list[Truth]) -> None:
    assert all(row.metal == (row.kind in METAL) for row in found)
    for split in ("train", "valid"):
        metal: Counter[str] = Counter()
        for row in found:
            if f"/{split}/" in row.member:
                metal[row.member.rpartition("/")[0]] += row.metal
        assert 0 < sum(n > 0 for n in metal.values()) / len(metal) <= 0.5


@pytest.mark.long
@pytest.mark.parametrize("studies", [28, 600, MURA_STUDIES])
def test_the_plan_gives_metal_to_abnormal_studies_and_to_no_more_than_half(studies: int) -> None:
    for split in ("train", "valid"):
        dealt = [study for study in plan(studies, 0).studies if study.split == split]
        metal = [study for study in dealt if study.metal]
        assert all(study.abnormal for study in metal)
        assert 0 < len(metal) <= sum(study.abnormal for study in dealt) / 2


@pytest.mark.long
@pytest.mark.parametrize("difficulty", [*DIFFICULTIES, 0.0])
@pytest.mark.parametrize("part", PARTS)
def test_inside_each_box_the_picture_differs_from_the_same_one_without_findings(part: str, difficulty: float) -> None:
    for patient in range(1, 7):
        view = View(Study("train", part, patient, 1, True, 1, metal=patient % 2 == 0), 1, 0, difficulty)
        ill, rows = draw(view)
        well, none = draw(view, healthy=True)
        assert rows
        assert not none
        for row in rows:
            inside = np.s_[row.top : row.bottom, row.left : row.right]
            difference = np.abs(ill[inside].astype(int) - well[inside])
            # A swelling is as wide as its bulge, and much of its middle stays as bright as it was.
            assert (difference > 3).mean() > 0.02, row


def test_metal_and_lesions_change_nothing_outside_their_boxes() -> None:
    local = METAL | {"lytic lesion", "sclerotic lesion"}
    seen = set()
    for patient in range(1, 40):
        view = View(Study("valid", "FOREARM", patient, 1, True, 1, metal=patient % 2 == 0), 1, 4, 0.0)
        ill, rows = draw(view)
        if not {row.kind for row in rows} <= local:
            continue
        seen |= {row.kind for row in rows}
        changed = np.abs(ill.astype(int) - draw(view, healthy=True)[0]) > 12
        for row in rows:
            # Blurred edges, and the callus of a healed fracture beneath its plate.
            changed[max(0, row.top - 24) : row.bottom + 24, max(0, row.left - 24) : row.right + 24] = False
        assert not changed.any(), rows
    assert {"lytic lesion", "sclerotic lesion", "old hardware"} <= seen


@pytest.mark.parametrize("name", ["params.yaml", "params.mura.yaml"])
def test_the_demonstration_has_the_archive_that_the_command_line_draws_unless_told(name: str) -> None:
    phantom = read_params(Path(__file__).parents[2] / name).phantom
    assert (phantom.studies, phantom.difficulty) == (STUDIES, DIFFICULTY)


def test_params_take_the_difficulties_that_can_be_drawn() -> None:
    low, high = DIFFICULTIES
    for difficulty in DIFFICULTIES:
        PhantomParams(studies=STUDIES, difficulty=difficulty)
    for difficulty in (low - 0.01, high + 0.01):
        with pytest.raises(ValidationError, match="difficulty"):
            PhantomParams(studies=STUDIES, difficulty=difficulty)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_of_no_bone_more_is_gone_than_there_was(part: str, difficulty: float) -> None:
    lesions = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        whole = anatomy.PARTS[part].build(rng, rng)
        findings = pathology.choose_findings(rng, whole, False, difficulty)
        lesions += pathology.afflict(whole, findings, difficulty).lesions
    assert lesions
    assert all(0 <= each.depth <= 1 for each in lesions)


def test_the_brightest_pixel_of_a_thumbnail_does_not_give_the_label_away(archive: zipfile.ZipFile) -> None:
    members = images(archive)
    brightest = [thumbnail(archive, member).max() for member in members]
    _, study = np.unique([member.rpartition("/")[0] for member in members], return_inverse=True)
    abnormal = np.array(["positive" in member for member in members])
    auroc = roc_auc_score(np.bincount(study, abnormal) > 0, np.bincount(study, brightest) / np.bincount(study))
    assert 0.25 < auroc < 0.75


def thumbnail(archive: zipfile.ZipFile, member: str) -> np.ndarray:
    grey = cv2.imdecode(np.frombuffer(archive.read(member), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert grey is not None
    height, width = grey.shape
    square = np.zeros((512, 512), np.uint8)
    top, left = (512 - height) // 2, (512 - width) // 2
    square[top : top + height, left : left + width] = grey
    return cv2.resize(square, (16, 16), interpolation=cv2.INTER_AREA)


def test_thumbnails_do_not_give_the_label_away(archive: zipfile.ZipFile) -> None:
    """A linear model of 16x16 pixels stays poor: brightness and position alone tell little."""
    members = images(archive)
    thumbnails = [thumbnail(archive, member).ravel() for member in members]
    abnormal = np.array(["positive" in member for member in members])
    patient = np.array([member.split("/")[3] for member in members])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    score = cross_val_predict(
        model,
        np.array(thumbnails, float),
        abnormal,
        groups=patient,
        cv=GroupKFold(5),
        method="decision_function",
    )
    _, study = np.unique([member.rpartition("/")[0] for member in members], return_inverse=True)
    views = np.bincount(study)
    auroc = roc_auc_score(np.bincount(study, abnormal) > 0, np.bincount(study, score) / views)
    assert auroc < 0.7
