"""`mura import` of somebody's own files: what comes into the archive, what is left out, and what is refused."""

import csv
import gzip
import hashlib
import io
import os
import shutil
import signal
import sqlite3
import subprocess
import time
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import hospital
import numpy as np
import pandas as pd
import pytest
from dvc_project import BIN
from miniature import picture, png, use_cores
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from radiographs import radiograph, written
from unprivileged import permissions_hold

from components.artifacts.manifest import KEPT
from components.base.errors import ExitCode
from components.cli import main

PROJECT = Path(__file__).parents[2]
Mura = Callable[..., tuple[int, str]]


def make_project(here: Path, patch: pytest.MonkeyPatch) -> Path:
    """A repository of DVC with choices, in which one stands; nothing there is a worker process."""
    (here / ".dvc").mkdir(parents=True)
    (here / ".dvc" / "config").write_text(
        "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n"
    )
    shutil.copy(PROJECT / "params.yaml", here)
    patch.chdir(here)
    patch.setenv("DVC_SITE_CACHE_DIR", str(here.parent / "site"))
    patch.setenv("DVC_NO_ANALYTICS", "1")
    use_cores(1, patch)
    return here


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    hospital.key_file(tmp_path / "key")
    return make_project(tmp_path / "project", monkeypatch)


@pytest.fixture
def mura(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Mura:
    """Runs a command: exit code, and all that it said."""

    def run(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        caplog.clear()
        code = main.run(words)
        return code, "".join([*capsys.readouterr(), *caplog.messages])

    return run


def own(form: str, *words: str) -> list[str]:
    """The command for what lies beside the project."""
    return ["import", f"--{form}", "../in", "--labels", "../labels.csv", "--key", "../key", *words]


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rows_of(content: bytes | str) -> list[dict[str, str]]:
    text = content.decode() if isinstance(content, bytes) else content
    return list(csv.DictReader(io.StringIO(text)))


class Imported(NamedTuple):
    project: Path
    said: str

    @property
    def files(self) -> dict[str, bytes]:
        return members(self.project / "data/own.zip")

    @property
    def left_out(self) -> list[dict[str, str]]:
        return rows_of((self.project / "data/own.left_out.csv").read_text())


ODD: dict[str, tuple[int, dict[str, Any], str]] = {
    # By name: patient, what its file says otherwise, why it is left out.
    "ct": (1, {"Modality": "CT"}, "DICOM of a CT slice, not a radiograph"),
    "copy": (2, {}, "a copy: another file has its SOPInstanceUID"),
    "raw": (3, {"PresentationIntentType": "FOR PROCESSING"}, "DICOM for processing: the detector's raw picture."),
    "stranger": (900, {}, "no row of the labels is about it"),
    "nobody": (4, {"PatientID": None, "SOPInstanceUID": "1.2.9"}, "it names no patient or no study"),
    "broken": (5, {"BitsStored": 30, "SOPInstanceUID": "1.2.8"}, "DICOM of 30 bits in 16"),
    "burned": (6, {"BurnedInAnnotation": "YES", "SOPInstanceUID": "1.2.7"}, "its file says that the picture may show"),
}


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Imported:
    """A directory with all kinds of files, imported."""
    beside = tmp_path_factory.mktemp("hospital")
    hospital.draw(beside / "in", range(24))
    for name, (patient, elements, _) in ODD.items():
        (beside / "in" / f"{hospital.CANARY}-{name}").write_bytes(hospital.file(patient, **elements))
    # Two body parts in one study, two patients in one, and words that no map has.
    (beside / "in/part").write_bytes(hospital.file(8, SOPInstanceUID="1.2.6", BodyPartExamined="WRIST"))
    (beside / "in/two").write_bytes(hospital.file(9, SOPInstanceUID="1.2.5", PatientID=f"{hospital.CANARY}other"))
    for patient in range(10, 16):
        said = f"{hospital.CANARY} MEIER".upper() if patient == 10 else "KNIE LI"
        (beside / "in" / hospital.name(patient)).write_bytes(hospital.file(patient, BodyPartExamined=said))
    (beside / "in/notes.txt").write_text(hospital.CANARY)
    (beside / "in/.DS_Store").write_text(hospital.CANARY)
    os.mkfifo(beside / "in/pipe")
    (beside / "labels.csv").write_text(hospital.rows(range(26)))
    hospital.key_file(beside / "key")
    with pytest.MonkeyPatch.context() as patch:
        project = make_project(beside / "project", patch)
        words = own("dicom", "--without-burned-in", "--keep", ",".join(KEPT))
        environment = os.environ | {"PYTHONPATH": str(PROJECT)}
        done = subprocess.run([BIN / "mura", *words], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return Imported(project, done.stdout + done.stderr)


@pytest.mark.long
def test_what_is_left_out_is_in_a_table_with_its_reason(imported: Imported) -> None:
    reasons = [row["why"] for row in imported.left_out]
    for _, _, why in ODD.values():
        assert sum(reason.startswith(why) for reason in reasons) == 1, why
    assert reasons.count("its study has pictures of several body parts: give `part` in the labels") == 2
    assert reasons.count("its study has files of several patients") == 2
    assert reasons.count("its body part is not known") == 6 + 2
    assert reasons.count("no DICOM file") == 1
    # Rows of patients 24 and 25, who have no file, are rows 26 and 27 of the CSV.
    assert [row["row"] for row in imported.left_out if row["why"] == "no file is there for it"] == ["26", "27"]
    for reason in set(reasons):
        assert f"left out: {reasons.count(reason)} x {reason}" in imported.said
    assert "body parts without a name: 'KNIE LI' of 5 patients, rare words or none of 1 patient. A map" in imported.said


def test_what_is_taken_has_muras_layout(imported: Imported) -> None:
    files = imported.files
    pictures = [name for name in files if name.endswith(".png")]
    listed = files["own/train_image_paths.csv"] + files["own/valid_image_paths.csv"]
    assert sorted(listed.decode().split()) == pictures == sorted(pictures)
    # Without patients 8, 9 and 10 to 15; their label is that of the CSV.
    studies = (files["own/train_labeled_studies.csv"] + files["own/valid_labeled_studies.csv"]).decode().split()
    assert len(studies) == 24 - 8
    assert sum(line.endswith(",1") for line in studies) == sum(map(hospital.label, [*range(8), *range(16, 24)]))
    assert all(("_positive/" in line) == line.endswith(",1") for line in studies)
    about = rows_of(files["own/about_images.csv"])
    assert [row["image"] for row in about] == pictures
    assert {row["manufacturer"] for row in about} == {"ACME INC", "other"}
    assert {(row["body_part"], row["sex"]) for row in about} == {("hand", "female"), ("knee", "male")}
    assert "params.yaml: protocol.slices: add view_position, manufacturer, sex, age" in imported.said
    with Image.open(io.BytesIO(files[pictures[0]])) as image:
        assert (image.mode, image.size, image.info) == ("L", (96, 80), {})


def test_nothing_of_it_says_whose_it_is(imported: Imported) -> None:
    made = hospital.written_at(imported.project)
    assert imported.project / "data/own.zip" in made
    assert hospital.traces(made, [imported.said], range(24)) == []
    assert (imported.project.parent / "key").read_text().strip() == hospital.KEY


def test_the_search_finds_what_is_hidden(tmp_path: Path) -> None:
    secret = f"{hospital.CANARY}Pid0009"
    digest = hashlib.sha256(secret.encode()).hexdigest()
    pd.DataFrame({"a": [1, 2], "b": [secret, digest]}).to_parquet(tmp_path / "a.parquet", compression="zstd")
    text = PngInfo()
    text.add_text("Comment", secret, zip=True)
    Image.new("L", (2, 2)).save(tmp_path / "b.png", pnginfo=text)
    with closing(sqlite3.connect(tmp_path / "c.db")) as database:
        database.execute("CREATE TABLE t (a BLOB)")
        database.execute("INSERT INTO t VALUES (?)", (gzip.compress(secret.encode()),))
        database.commit()
    with zipfile.ZipFile(tmp_path / "d.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("inner", (tmp_path / "b.png").read_bytes())
    (tmp_path / "e.gz").write_bytes(gzip.compress(hospital.BORN.encode()))
    (tmp_path / "f.bin").write_bytes(b"x" + bytes.fromhex(digest))
    hospital.draw(tmp_path / "g", [9])
    named = "".join(hospital.traces(hospital.written_at(tmp_path)))
    for name in ("a.parquet", "b.png", "c.db", "d.zip", "e.gz", "f.bin", "g"):
        assert name in named


@pytest.mark.long
def test_the_same_data_give_the_same_archive_whatever_its_files_are_called(
    project: Path, tmp_path: Path, mura: Mura, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital.draw(tmp_path / "in", range(12))
    (tmp_path / "labels.csv").write_text(hospital.rows(range(12)))
    assert mura(*own("dicom"))[0] == ExitCode.DONE
    first = (project / "data/own.zip").read_bytes()
    for number, path in enumerate(sorted(tmp_path.glob("in/*/*"), reverse=True)):
        path.rename(tmp_path / "in" / f"{number:03}")
    use_cores(2, monkeypatch)
    # With semicolons, as spreadsheets write it, and other line ends.
    (tmp_path / "labels.csv").write_text(hospital.rows(range(12)).replace(",", ";").replace("\n", "\r\n"))
    code, said = mura(*own("dicom", "--out", "data/again.zip"))
    assert code == ExitCode.DONE, said
    assert (project / "data/again.zip").read_bytes() == first

    # With more data, a patient keeps the pseudonym and the split. With another key, nobody has the same.
    hospital.draw(tmp_path / "in", range(12, 16))
    (tmp_path / "labels.csv").write_text(hospital.rows(range(16)))
    assert mura(*own("dicom", "--out", "data/more.zip"))[0] == ExitCode.DONE
    assert set(members(project / "data/own.zip")) < set(members(project / "data/more.zip"))
    (tmp_path / "key").unlink()
    assert mura(*own("dicom", "--out", "data/other.zip"))[0] == ExitCode.DONE
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    patients = [
        {name.split("/")[3] for name in members(project / f"data/{zipped}.zip") if name.endswith(".png")}
        for zipped in ("own", "other")
    ]
    assert not patients[0] & patients[1]

    # Another archive is not overwritten.
    code, said = mura(*own("dicom"))
    assert code == ExitCode.USAGE
    assert "another file is there" in said
    assert (project / "data/own.zip").read_bytes() == first


def draw_pictures(folder: Path) -> str:
    """PNG and JPEG files, and their CSV."""
    folder.mkdir()
    rows = ["patient,study,part,label,split,file,sex"]
    text = PngInfo()
    text.add_text("Comment", hospital.CANARY, zip=True)
    for patient in range(12):
        grey = picture(patient, 90, 700)
        name = f"{hospital.CANARY}{patient}" + (".png", ".jpeg")[patient % 2]
        if patient % 2:
            Image.fromarray(grey).save(folder / name, "JPEG", quality=95, comment=hospital.CANARY.encode())
        else:
            (folder / name).write_bytes(png(np.dstack([grey] * 3), pnginfo=text))
        split = "test" if patient >= 8 else "train"
        rows.append(f"{hospital.CANARY}{patient},1,Lower leg,{patient // 2 % 2},{split},{name},{'MF'[patient % 2]}")
    return "\n".join(rows) + "\n"


def test_pictures_and_a_csv_become_an_archive(project: Path, tmp_path: Path, mura: Mura) -> None:
    (tmp_path / "labels.csv").write_text(draw_pictures(tmp_path / "in"))
    (tmp_path / "in/beside.dcm").write_bytes(hospital.file(1))
    code, said = mura(*own("pictures", "--keep", "sex,age", "--longest-side", "300"))
    assert code == ExitCode.DONE, said
    files = members(project / "data/own.zip")
    pictures = [name for name in files if name.endswith(".png")]
    assert len(pictures) == 12
    assert sum(name.startswith("own/valid/XR_LOWER_LEG/") for name in pictures) == 4
    for name in pictures:
        with Image.open(io.BytesIO(files[name])) as image:
            assert (image.mode, image.size, image.info) == ("L", (300, 39), {})
    assert {row["sex"] for row in rows_of(files["own/about_images.csv"])} == {"male", "female"}
    assert {row["age"] for row in rows_of(files["own/about_images.csv"])} == {""}
    assert "left out: 1 x no row of the labels is about it" in said
    assert hospital.traces(hospital.written_at(project), [said]) == []


def test_a_map_names_body_parts_and_the_csv_counts_before_the_files(project: Path, tmp_path: Path, mura: Mura) -> None:
    hospital.draw(tmp_path / "in", range(12), BodyPartExamined="KNIE LI")
    (tmp_path / "parts.yaml").write_text("Knie li: knee\nFuss: foot\n")
    rows = [line.split(",") for line in hospital.rows(range(12)).splitlines()]
    told = [("part", "age"), *((("Fuss" if n < 4 else ""), str(20 + 10 * (n % 2))) for n in range(12))]
    (tmp_path / "labels.csv").write_text(
        "".join(f"{study},{label},{part},{age}\n" for (study, label, _), (part, age) in zip(rows, told, strict=True))
    )
    code, said = mura(*own("dicom", "--parts", "../parts.yaml", "--keep", "age,sex"))
    assert code == ExitCode.DONE, said
    assert "body parts: foot 4, knee 8" in said
    about = rows_of(members(project / "data/own.zip")["own/about_images.csv"])
    assert {row["age"] for row in about} == {"20-29", "30-39"}
    assert {row["sex"] for row in about} == {"male", "female"}


REFUSED: dict[str, tuple[str, str]] = {
    "no label": ("study\n1.2.3\n", "--labels: label is missing in the header"),
    "nothing to find it by": ("label\n1\n", "--labels: study or file is missing in the header"),
    "a column twice": ("study,label,label\n1.2.3,0,0\n", "--labels: label is there twice in the header"),
    "no row": ("study,label\n", "--labels: no row"),
    "an empty file": ("", "--labels: no row"),
    "another word": ("study,label\n{0},broken\n", "one row is refused: row 2 has no label of 0 (normal)"),
    "too few fields": ("study,label\n{0}\n", "row 2 has 1 fields, the header has 2"),
    "a study twice": ("study,label\n{0},1\n{1},0\n{0},1\n", "row 4 is about the study of row 2"),
    "by both numbers": ("study,label\n{0},1\n{0a},1\n", "rows 2 and 3 are about one study"),
    "a study with two labels": (
        "file,study,label\n{f0},{0},1\n{f1},{0},0\n", "rows 2 and 3 give one study another label",
    ),
    "a patient in two splits": (
        "study,patient,label,split\n{0},x,1,train\n{1},x,0,test\n", "rows 2 and 3 put one patient into two splits",
    ),
    "validation": ("study,label,split\n{0},1,valid\n", "row 2 has no split of train or test"),
    "no UTF-8": ("study,label\n\udcff,1\n", "not a CSV in UTF-8"),
    "nobody found": ("study,label\n9.9,1\n", "--dicom: no study of 1 row and 4 files could be taken: 4 x no row"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "told"), REFUSED.values(), ids=REFUSED)
def test_labels_that_are_wrong_are_refused_by_row(
    project: Path, tmp_path: Path, mura: Mura, text: str, told: str
) -> None:
    hospital.draw(tmp_path / "in", range(3))
    said_of = {f"{n}": f"{hospital.ROOT_UID}.{n}" for n in range(3)} | {f"f{n}": hospital.name(n) for n in range(3)}
    text = text.format(*(said_of[f"{n}"] for n in range(3)), **said_of | {"0a": f"{hospital.CANARY}A0000"})
    (tmp_path / "labels.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    code, said = mura(*own("dicom"))
    assert code == ExitCode.DATA
    assert told in said
    assert not (project / "data/own.zip").exists()
    assert hospital.traces(hospital.written_at(project), [said], range(3)) == []


def test_two_rows_of_pictures_are_of_one_file(project: Path, tmp_path: Path, mura: Mura) -> None:
    rows = draw_pictures(tmp_path / "in").splitlines()
    (tmp_path / "labels.csv").write_text("\n".join([*rows, rows[1], rows[2].replace("Lower leg", "knee")]))
    code, said = mura(*own("pictures"))
    assert code == ExitCode.DATA
    assert "2 rows are refused: row 14 is about the file of row 2; row 15 is about the file of row 3." in said
    assert hospital.CANARY not in said


USAGE: dict[str, tuple[list[str], str]] = {
    "nothing named": (["import"], "Name one of PATH, --dicom DIR and --pictures DIR"),
    "two forms": ([*own("dicom"), "--pictures", "../in"], "Name one of PATH"),
    "a choice for another form": (["import", "a.zip", "--longest-side", "3"], "--longest-side is for --dicom"),
    "no key": (own("dicom")[:-2], "--key is missing"),
    "no labels": (own("dicom")[:3] + own("dicom")[5:], "--labels is missing"),
    "an unknown fact": (own("dicom", "--keep", "name"), "--keep: name is not one of view_position"),
    "a key that git would take": (own("dicom", "--key", "key"), "--key: the file must lie outside of this repository"),
    "a key that others read": (own("dicom", "--key", "../open"), "--key: others may read the file"),
    "no key in it": (own("dicom", "--key", "../labels.csv"), "--key: expected 64 hexadecimal digits"),
    "no directory": (own("dicom", "--dicom", "../none"), "--dicom: no such directory"),
    "no such labels": (own("dicom", "--labels", "../none"), "--labels: cannot be read"),
    "no such map": (own("dicom", "--parts", "../none"), "--parts: cannot be read"),
    "no map": (own("dicom", "--parts", "../labels.csv"), "--parts: expected a map"),
    "a bad name": (own("dicom", "--parts", "../bad.yaml"), "--parts: entry 2: expected a name such as lower_leg"),
    "no word": (own("dicom", "--parts", "../no.yaml"), "--parts: entry 1: expected a word"),
    "no zip": (own("dicom", "--out", "data/own.tar"), "--out: expected a name that ends with .zip"),
    "outside": (own("dicom", "--out", "../own.zip"), "that is not in"),
}


@pytest.mark.parametrize(("words", "told"), USAGE.values(), ids=USAGE)
def test_what_cannot_be_asked_is_told(project: Path, tmp_path: Path, mura: Mura, words: list[str], told: str) -> None:
    hospital.draw(tmp_path / "in", range(2))
    (tmp_path / "labels.csv").write_text(hospital.rows(range(2)))
    (tmp_path / "open").write_text(hospital.KEY)
    (tmp_path / "bad.yaml").write_text("A: wrist\nB: Lower Leg\n")
    (tmp_path / "no.yaml").write_text("NO: wrist\n")
    code, said = mura(*words)
    assert (code, told in said) == (ExitCode.USAGE, True), said
    assert not (project / "data/own.zip").exists()


def test_every_fact_that_can_be_kept_is_told(mura: Mura) -> None:
    assert f"Some of {', '.join(KEPT)}." in " ".join(mura("import", "--help")[1].split())


def test_what_a_body_part_and_a_burned_in_name_are_is_told(project: Path, tmp_path: Path, mura: Mura) -> None:
    hospital.draw(tmp_path / "in", range(8))
    for patient in (0, 1):
        pixels = picture(patient, 80, 96)
        elements = hospital.identity(patient) | {"SOPInstanceUID": "1.2.9", "BodyPartExamined": None}
        burned = {"BurnedInAnnotation": "YES" if patient else None}
        (tmp_path / f"in/{patient}").write_bytes(written(radiograph(pixels, **elements | burned)))
    (tmp_path / "labels.csv").write_text(hospital.rows(range(8)))
    code, said = mura(*own("dicom"))
    assert code == ExitCode.DONE, said
    assert "WARNING: 1 picture may show the patient's name: their files say so." in said
    assert "no word on whether it shows a name: 1 picture." in said


def test_labels_in_the_repository_are_told(project: Path, tmp_path: Path, mura: Mura) -> None:
    hospital.draw(tmp_path / "in", range(2))
    (project / "labels.csv").write_text("study,label\n")
    code, said = mura(*own("dicom", "--labels", "labels.csv"))
    assert code == ExitCode.DATA
    assert "--labels lies inside of this repository: see that nobody commits it" in said


@pytest.mark.parametrize("what", ["a link without end", "a closed directory"])
def test_a_file_that_cannot_be_looked_at_is_not_named(project: Path, tmp_path: Path, mura: Mura, what: str) -> None:
    hospital.draw(tmp_path / "in", range(2))
    (tmp_path / "labels.csv").write_text(hospital.rows(range(2)))
    closed = tmp_path / "in/closed"
    closed.mkdir()
    if what == "a closed directory":
        (closed / f"{hospital.CANARY}.dcm").write_bytes(hospital.file(3))
        closed.chmod(0o644)
    else:
        (closed / f"{hospital.CANARY}.dcm").symlink_to("x" * 300)
    try:
        with permissions_hold():
            code, said = mura(*own("dicom"))
    finally:
        closed.chmod(0o755)
    assert code == ExitCode.USAGE
    assert "--dicom: a file in it cannot be looked at (" in said
    assert hospital.CANARY not in said


@pytest.mark.parametrize("flag", ["--dicom", "--labels", "--key"])
def test_a_circle_of_links_is_told_without_its_name(project: Path, tmp_path: Path, mura: Mura, flag: str) -> None:
    hospital.draw(tmp_path / "in", range(2))
    (tmp_path / "labels.csv").write_text(hospital.rows(range(2)))
    (tmp_path / hospital.CANARY).symlink_to(hospital.CANARY)
    code, said = mura(*own("dicom", flag, f"../{hospital.CANARY}"))
    assert code == ExitCode.USAGE, said
    assert (flag == "--key") or hospital.CANARY not in said


@pytest.mark.long
def test_more_data_for_an_archive_that_is_there_are_refused_before_their_pictures_are_read(
    project: Path, tmp_path: Path, mura: Mura
) -> None:
    hospital.draw(tmp_path / "in", range(12))
    (tmp_path / "labels.csv").write_text(hospital.rows(range(13)))
    assert mura(*own("dicom"))[0] == ExitCode.DONE
    made = {name: (project / "data" / name).read_bytes() for name in ("own.zip", "own.left_out.csv")}
    assert made["own.left_out.csv"].count(b"\n") == 2
    # What is there whole is no other archive; a zip that is begun cannot be put here.
    assert mura(*own("dicom"))[0] == ExitCode.DONE
    (project / "data/.own.zip.partial").mkdir()
    labels = (tmp_path / "labels.csv").read_text()
    for more in ("files", "facts", "pictures", "labels"):
        if more == "files":
            hospital.draw(tmp_path / "in", [13])
        (tmp_path / "labels.csv").write_text(
            hospital.rows(range(14)) if more == "files" else hospital.rows(range(1, 12)) if more == "labels" else labels
        )
        words = {"facts": ["--keep", "sex"], "pictures": ["--longest-side", "40"]}.get(more, [])
        code, said = mura(*own("dicom", *words))
        assert (code, "another file is there" in said) == (ExitCode.USAGE, True), (more, said)
    assert {name: (project / "data" / name).read_bytes() for name in made} == made


def test_what_is_no_archive_of_ours_is_not_replaced(project: Path, tmp_path: Path, mura: Mura) -> None:
    hospital.draw(tmp_path / "in", range(12))
    (tmp_path / "labels.csv").write_text(hospital.rows(range(12)))
    (project / "data").mkdir()
    for content in (b"", b"no zip", b"PK\5\6" + bytes(18)):
        (project / "data/own.zip").write_bytes(content)
        code, said = mura(*own("dicom"))
        assert (code, "another file is there" in said) == (ExitCode.USAGE, True), said
        assert [path.name for path in (project / "data").iterdir()] == ["own.zip"]


@pytest.mark.long
def test_a_killed_import_leaves_no_archive_and_can_be_done_again(project: Path, tmp_path: Path, mura: Mura) -> None:
    hospital.draw(tmp_path / "in", range(48))
    (tmp_path / "labels.csv").write_text(hospital.rows())
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    partial = project / "data/.own.zip.partial"
    for sent in (signal.SIGKILL, signal.SIGTERM):
        running = subprocess.Popen([BIN / "mura", *own("dicom")], env=environment)
        while not (partial.exists() and partial.stat().st_size):
            assert running.poll() is None
            time.sleep(0.001)
        running.send_signal(sent)
        running.wait(60)
        assert not (project / "data/own.zip").exists()
        partial.unlink(missing_ok=sent is signal.SIGTERM)
    assert mura(*own("dicom"))[0] == ExitCode.DONE
    assert not partial.exists()
    assert len(members(project / "data/own.zip")) == 64 + 5
