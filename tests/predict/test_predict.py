"""A registered version answers for pictures, through the command line."""

import csv
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from radiographs import radiograph, written
from registered import Registered
from tampering import flip

from components.base.errors import ExitCode
from components.cli import main

pytestmark = pytest.mark.long

DEMO = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
Mura = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mura(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Mura:
    """Runs a command: exit code, what it printed, what it logged and complained."""

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        caplog.clear()
        code = main.run(words)
        out, err = capsys.readouterr()
        return code, out, "\n".join([*caplog.messages, err])

    return run


@pytest.fixture
def here(registered: Registered, no_mlflow: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A directory in which one stands, with the archive."""
    no_mlflow.chdir(tmp_path)
    no_mlflow.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{registered.folder}/mlflow.db")
    shutil.copy(registered.folder / "archive.zip", tmp_path)
    return tmp_path


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_same_study_gets_what_evaluate_gave(here: Path, registered: Registered, mura: Mura) -> None:
    code, out, err = mura("predict", "archive.zip", "--json", "--csv", "answers.csv")
    assert code == ExitCode.DONE, err
    answers = {str(each["path"]).removeprefix("archive.zip/"): each for each in lines(out)}
    test = registered.studies[registered.studies["split"] == "test"]
    assert len(test) > 10
    for row in test.itertuples():
        answer = answers[row.study]
        assert answer["probability"] == pytest.approx(row.probability, abs=1e-5)
        assert answer["verdict"] == ("abnormal" if row.probability >= registered.threshold else "normal")
        assert answer["body_part"] == row.body_part
        assert len(answer["views"]) == row.views
        assert (answer["model"], answer["version"], answer["threshold"]) == ("mura", 1, registered.threshold)
    with Path("answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [each["path"] for each in lines(out)]
    assert [float(row["probability"]) for row in rows] == [each["probability"] for each in lines(out)]


@pytest.mark.longest
def test_a_directory_a_zip_and_its_pictures_say_the_same(here: Path, registered: Registered, mura: Mura) -> None:
    with zipfile.ZipFile("archive.zip") as file:
        file.extractall("unpacked")
    study = registered.studies["study"].iloc[0]
    code, out, err = mura("predict", f"unpacked/{study}", "--json")
    assert code == ExitCode.DONE, err
    (alone,) = lines(out)
    assert alone["path"] == f"unpacked/{study}"
    (whole,) = [each for each in lines(mura("predict", "unpacked", "--json")[1]) if each["path"] == f"unpacked/{study}"]
    assert whole == alone
    picture = alone["views"][0]
    (single,) = lines(mura("predict", picture, "--json")[1])
    assert (single["path"], single["views"], single["body_part"]) == (picture, [picture], alone["body_part"])


def test_the_body_part_counts(here: Path, mura: Mura) -> None:
    cv2.imwrite("view.png", np.arange(2400, dtype=np.uint8).reshape(40, 60))
    said = {part: mura("predict", "view.png", "--part", part, "--json")[1] for part in ("wrist", "hand", "chest")}
    said["unknown"] = mura("predict", "view.png", "--json")[1]
    odds = {}
    for part, out in said.items():
        (answer,) = lines(out)
        odds[part] = np.log(answer["probability"] / (1 - answer["probability"]))
    assert odds["wrist"] - odds["hand"] == pytest.approx(1.0 - 0.3, abs=1e-6)
    assert odds["unknown"] == odds["chest"] == pytest.approx(odds["wrist"] + 0.3 + 0.1, abs=1e-6)
    assert lines(said["unknown"])[0]["notes"] == [
        "the body part is not known: it has the offset of all body parts together"
    ]
    assert lines(said["chest"])[0]["notes"] == [
        "the model learned nothing of chest: it has the offset of all body parts together"
    ]
    assert lines(said["wrist"])[0]["notes"] == []


def test_dicom_files_are_grouped_by_study(here: Path, mura: Mura) -> None:
    ramp = np.add.outer(np.arange(48), np.arange(64)).astype(np.uint16)
    for name, uid, part in (("1", "1.2.3.1", "WRIST"), ("2", "1.2.3.2", "HAND"), ("3", "1.2.3.1", "WRIST")):
        folder = here / "disc" / name
        folder.mkdir(parents=True)
        drawn = radiograph(ramp, 12, StudyInstanceUID=uid, BodyPartExamined=part, PatientName="CANARY^ANNA")
        (folder / "IM0001").write_bytes(written(drawn))
    (here / "disc" / "DICOMDIR").write_bytes(b"index")
    code, out, err = mura("predict", "disc", "--json")
    assert code == ExitCode.DONE, err
    assert [(each["path"], each["body_part"], each["views"]) for each in lines(out)] == [
        ("disc/1", "wrist", ["disc/1/IM0001", "disc/3/IM0001"]),
        ("disc/2", "hand", ["disc/2/IM0001"]),
    ]
    code, out, err = mura("predict", "disc")
    for text in (out, err):
        assert "CANARY" not in text
        assert "1.2.3" not in text
    assert "disc/1: grey levels by no window, so the middle 99.8 % of the pixels" in out


def test_what_cannot_be_read_is_named_and_the_others_are_answered(here: Path, mura: Mura) -> None:
    grey = np.arange(2400, dtype=np.uint8).reshape(40, 60)
    folder = here / "study"
    folder.mkdir()
    good = cv2.imencode(".png", grey)[1].tobytes()
    jpeg = BytesIO()
    Image.fromarray(grey).save(jpeg, "JPEG")
    coloured = BytesIO()
    Image.fromarray(np.dstack([grey, grey[::-1], grey])).save(coloured, "JPEG")
    files = {
        "1.png": good,
        "2.jpg": jpeg.getvalue(),
        "3.png": good[:-40],
        "4.jpg": jpeg.getvalue()[:-200],
        "5.jpg": coloured.getvalue(),
        "6.png": b"",
        "7.png": b"<html>",
        "8.dcm": written(radiograph(grey, Modality="CT")),
        "notes.txt": b"no picture",
        "._1.png": b"\0\5\x16\7",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    code, out, err = mura("predict", "study", "--part", "wrist", "--json")
    assert code == ExitCode.DATA
    answer, ct = lines(out)
    assert answer["views"] == ["study/1.png", "study/2.jpg"]
    assert answer["verdict"] in ("normal", "abnormal")
    assert [each["path"] for each in answer["refused"]] == [f"study/{name}" for name in files if name[0] in "34567"]
    assert (ct["path"], ct["verdict"], ct["refused"]) == (
        "study/8.dcm",
        None,
        [{"path": "study/8.dcm", "why": "DICOM of a CT slice, not a radiograph"}],
    )
    for said in (
        "study/3.png: truncated",
        "study/4.jpg: a JPEG that cannot be decoded",
        "study/5.jpg: a JPEG in colour, not a radiograph",
        "study/6.png: an empty file",
        "study/7.png: no PNG, JPEG or DICOM file",
        "study/8.dcm: DICOM of a CT slice, not a radiograph",
        "error: predict: 6 files refused, named above.",
    ):
        assert said in err
    code, out, _ = mura("predict", "study/6.png")
    assert code == ExitCode.DATA
    assert "0 of 1" in out


def test_a_path_that_cannot_be_read_is_named_and_the_others_are_answered(here: Path, mura: Mura) -> None:
    cv2.imwrite("good.png", np.arange(2400, dtype=np.uint8).reshape(40, 60))
    Path("broken.zip").write_bytes(b"no zip")
    code, out, err = mura("predict", "good.png", "broken.zip", "missing.png", "--json")
    assert code == ExitCode.DATA
    good, broken, missing = lines(out)
    assert good["verdict"] in ("normal", "abnormal")
    assert [(each["path"], each["verdict"], each["views"]) for each in (broken, missing)] == [
        ("broken.zip", None, []),
        ("missing.png", None, []),
    ]
    assert "predict: missing.png: no such file or directory" in err
    assert "error: predict: 2 files refused, named above." in err
    assert mura("predict", "broken.zip")[0] == ExitCode.DATA


def test_a_csv_that_cannot_be_written_is_told_before_anything_is_asked(here: Path, mura: Mura) -> None:
    Path("folder.csv").mkdir()
    for name, says in (("nodir/x.csv", "nodir/x.csv: cannot be written (No such"), ("folder.csv", "folder.csv")):
        code, _, err = mura("predict", "view.png", "--model", "models:/mura/7", "--csv", name)
        assert (code, says in err) == (ExitCode.USAGE, True), err


def test_a_path_that_is_not_utf8_comes_into_the_csv(here: Path, mura: Mura) -> None:
    path = os.fsdecode(b"\xff.png")
    Path(path).write_bytes(cv2.imencode(".png", np.arange(2400, dtype=np.uint8).reshape(40, 60))[1].tobytes())
    code, _, err = mura("predict", path, "--csv", "answers.csv")
    assert code == ExitCode.DONE, err
    assert "\\udcff.png" in Path("answers.csv").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nothing.png",), "nothing.png: no such file or directory."),
        (("empty",), "empty: no picture in it. Pictures are PNG, JPEG or DICOM."),
        (("view.png", "--model", "models:/mura@best"), "mura has no version with the alias best."),
        (("view.png", "--model", "models:/mura/7"), "mura has no version 7."),
        (("view.png", "--model", "models:/other@champion"), "other has no version with the alias champion."),
        (
            ("view.png", "--model", "models:/mura"),
            "expected models:/NAME@ALIAS or models:/NAME/VERSION, got models:/mura.",
        ),
        (("view.png", "--model", "mura"), "mura: expected a directory that `mura fetch` wrote, or models:/NAME@ALIAS."),
        (("view.png", "--explain", "full"), "full: not an empty directory."),
    ],
)
def test_wrong_usage_is_told_in_one_line(here: Path, mura: Mura, words: tuple[str, ...], says: str) -> None:
    (here / "empty").mkdir()
    (here / "full").mkdir()
    (here / "full" / "a").write_text("")
    cv2.imwrite("view.png", np.zeros((40, 60), np.uint8))
    code, out, err = mura("predict", *words)
    assert (code, out) == (ExitCode.USAGE, "")
    assert err.splitlines()[-1].startswith(f"error: {says}")


def test_a_version_that_was_changed_does_not_answer(
    registered: Registered, no_mlflow: pytest.MonkeyPatch, tmp_path: Path, mura: Mura
) -> None:
    from mlflow import MlflowClient

    shutil.copy(registered.folder / "mlflow.db", tmp_path / "mlflow.db")
    no_mlflow.chdir(tmp_path)
    no_mlflow.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    cv2.imwrite("view.png", np.zeros((40, 60), np.uint8))
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    client.set_model_version_tag("mura", "1", "test_auroc", "0.999")
    code, _, err = mura("predict", "view.png")
    assert code == ExitCode.DATA
    assert "mura version 1 is not what was registered" in err


def test_a_fetched_version_answers_the_same_without_a_registry(
    here: Path, mura: Mura, monkeypatch: pytest.MonkeyPatch
) -> None:
    cv2.imwrite("view.png", np.arange(2400, dtype=np.uint8).reshape(40, 60))
    registered = lines(mura("predict", "view.png", "--json")[1])
    assert mura("fetch", "--out", "version")[0] == ExitCode.DONE
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "off")
    code, out, err = mura("predict", "view.png", "--json", "--model", "version", "--explain", "maps")
    assert code == ExitCode.DONE, err
    assert lines(out) == registered
    assert Path("maps/001-view.png").is_file()


def test_a_fetched_version_that_was_changed_does_not_answer(here: Path, mura: Mura) -> None:
    cv2.imwrite("view.png", np.zeros((40, 60), np.uint8))
    assert mura("fetch", "--out", "version")[0] == ExitCode.DONE
    flip(Path("version/data/model.keras"))
    code, out, err = mura("predict", "view.png", "--model", "version")
    assert (code, out) == (ExitCode.DATA, "")
    assert "data/model.keras was changed" in err


def test_maps_are_drawn_beside_the_views(here: Path, mura: Mura) -> None:
    for name in ("a", "b"):
        cv2.imwrite(f"{name}.png", np.arange(2400, dtype=np.uint8).reshape(40, 60))
    code, _, err = mura("predict", "a.png", "b.png", "--explain", "maps")
    assert code == ExitCode.DONE, err
    assert sorted(path.name for path in Path("maps").iterdir()) == ["001-a.png", "002-b.png"]
    drawn = cv2.imread("maps/001-a.png")
    assert drawn.shape == (480, 960, 3)
    left = drawn[:, :480].astype(int)
    assert (left[..., 0] == left[..., 2]).all(), "the view itself is grey"


@pytest.mark.longest
def test_what_is_unlike_the_training_data_gets_no_probability(
    wary: Registered, no_mlflow: pytest.MonkeyPatch, tmp_path: Path, mura: Mura
) -> None:
    no_mlflow.chdir(tmp_path)
    no_mlflow.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{wary.folder}/mlflow.db")
    shutil.copy(wary.folder / "archive.zip", tmp_path)
    limit = json.loads((wary.made / "evaluation" / "card.json").read_text())["facts"]["false_alarms"]["threshold"]
    far = pd.read_parquet(wary.made / "evaluation" / "predictions.parquet").groupby("study")["distance"].max()
    answers = {
        each["path"].removeprefix("archive.zip/"): each for each in lines(mura("predict", "archive.zip", "--json")[1])
    }
    for row in wary.studies.itertuples():
        answer = answers[row.study]
        assert answer["distance"] == pytest.approx(far[row.study], abs=1e-3)
        assert answer["unlike_from"] == limit
        if abs(far[row.study] - limit) > 1e-3:
            assert (answer["verdict"] == "unlike") == (answer["probability"] is None) == (far[row.study] > limit)

    (tmp_path / "study").mkdir()
    with zipfile.ZipFile("archive.zip") as file:
        like = min(far.index, key=far.__getitem__)
        view = next(name for name in file.namelist() if name.startswith(like) and name.endswith(".png"))
        (tmp_path / "study" / "1.png").write_bytes(file.read(view))
    cv2.imwrite("study/2.png", np.full((60, 60), 255, np.uint8))
    code, out, err = mura("predict", "study", "--part", "wrist", "--json", "--csv", "answers.csv")
    assert code == ExitCode.DONE, err
    (answer,) = lines(out)
    assert (answer["verdict"], answer["probability"]) == ("unlike", None)
    assert answer["notes"] == ["not like the training data: study/2.png"]
    assert answer["views"] == ["study/1.png", "study/2.png"]
    with Path("answers.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["verdict"], row["probability"]) == ("unlike", "")
    table = mura("predict", "study", "--part", "wrist")[1]
    assert "study/2.png" in table
    assert '"unlike" is said of pictures that are not like its training data.' in table
    (alone,) = lines(mura("predict", "study/1.png", "--part", "wrist", "--json")[1])
    assert alone["verdict"] in ("normal", "abnormal")


@pytest.mark.long
def test_a_fetched_version_measures_the_same_distances(
    wary: Registered, no_mlflow: pytest.MonkeyPatch, tmp_path: Path, mura: Mura
) -> None:
    from components.predict.predictor import Predictor

    no_mlflow.chdir(tmp_path)
    no_mlflow.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{wary.folder}/mlflow.db")
    assert mura("fetch", "--out", "version")[0] == ExitCode.DONE
    pictures = np.random.default_rng(0).integers(0, 256, (5, 32, 32), dtype=np.uint8)
    pictures[0] = 255
    (logits, distances), (by_keras, expected) = (
        each.asked(pictures) for each in (Predictor.read(Path("version")), Predictor.of())
    )
    assert distances is not None
    np.testing.assert_allclose(logits, by_keras, atol=1e-4)
    np.testing.assert_allclose(distances, expected, atol=1e-3)
    found = Predictor.read(Path("version")).study(logits[:1], "wrist", distances[:1])
    assert (found.probability, found.unlike) == (None, (0,))


def test_a_version_that_cannot_tell_says_so_and_answers(here: Path, mura: Mura) -> None:
    cv2.imwrite("view.png", np.full((40, 60), 255, np.uint8))
    code, out, err = mura("predict", "view.png", "--part", "wrist")
    assert code == ExitCode.DONE, err
    assert "It cannot tell a picture that is unlike its training data, and answers about any picture." in out
    (answer,) = lines(mura("predict", "view.png", "--part", "wrist", "--json")[1])
    assert (answer["distance"], answer["unlike_from"]) == (None, None)
    assert answer["verdict"] in ("normal", "abnormal")
