import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from miniature import ROOT, archive, images, lists, manifest, png, use_cores, write_directory, write_zip

from components.archive.archive import Archive
from components.archive.overlay import Overlay
from components.artifacts.manifest import BODY_PARTS, TABLE, Manifest
from components.base.errors import DataRefused
from components.base.words import in_words
from components.ingest import ingest
from components.ingest.contents import tuning_patients
from components.params.ingest import IngestParams
from components.xray.grey_levels import pixels_sha256
from components.xray.png import decode
from components.xray.signature import signature

WRIST = f"{ROOT}/train/XR_WRIST/patient00001"
TRAIN_IMAGES, TRAIN_STUDIES = f"{ROOT}/train_image_paths.csv", f"{ROOT}/train_labeled_studies.csv"
TEXTS = ("image", "study", "patient", "body_part", "source_split", "split", "problem", "sha256", "mode")
TEXTS += ("overlay_source", "overlay_reason")
NUMBERS = ("view", "abnormal", "overlay", "directory_label", "bytes", "width", "height", "channel_difference")
DTYPES = (
    dict.fromkeys((*TEXTS, "pixels_sha256", "phash"), "str")
    | dict.fromkeys((*NUMBERS, "low", "median", "high"), "Int64")
    | dict.fromkeys(("mean", "std", "black", "white", "frame", "rim", "centre"), "Float64")
    | dict.fromkeys(("listed", "found"), "bool")
    | {"spectrum": "object"}
)

Files = dict[str, bytes]
Ingest = Callable[[Files], Manifest]


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    use_cores(1, monkeypatch)


@pytest.fixture
def ingested(tmp_path: Path) -> Ingest:
    """The manifest of a zip of these files."""
    made = iter(range(9))

    def ingested(files: Files) -> Manifest:
        return manifest(write_zip(tmp_path / "MURA-v1.1.zip", files), tmp_path / f"out{next(made)}")

    return ingested


@pytest.fixture
def files() -> Files:
    return archive()


def row(table: pd.DataFrame, image: str) -> dict[str, Any]:
    return dict(table.set_index("image").loc[image])


def first(files: Files) -> str:
    return next(name for name in files if name.endswith(".png"))


def test_every_image_has_one_row_in_ascending_order(ingested: Ingest, files: Files) -> None:
    made = ingested(files)
    assert list(made.table["image"]) == sorted(images())
    assert made.facts.images == len(images())
    assert made.table["listed"].all()
    assert made.table["found"].all()
    assert made.table["problem"].isna().all()


def test_a_row_says_what_the_path_the_csv_and_the_pixels_say(ingested: Ingest) -> None:
    image = f"{ROOT}/valid/XR_FOREARM/patient11203/study3_positive/image12.png"
    pixels = np.full((30, 40), 100, np.uint8)
    pixels[:15] = 200
    read = row(ingested(archive([]) | {image: png(pixels)} | lists([image])).table, image)
    assert len(read.pop("sha256")) == 64
    assert read == {
        "study": f"{ROOT}/valid/XR_FOREARM/patient11203/study3_positive",
        "patient": "patient11203",
        "body_part": "forearm",
        "view": 12,
        "source_split": "valid",
        "split": "test",
        "abnormal": 1,
        "overlay": read["overlay"],
        "overlay_source": read["overlay_source"],
        "overlay_reason": read["overlay_reason"],
        "directory_label": 1,
        "listed": True,
        "found": True,
        "problem": read["problem"],
        "bytes": len(png(pixels)),
        "width": 40,
        "height": 30,
        "mode": "L",
        "channel_difference": 0,
        "pixels_sha256": pixels_sha256(pixels),
        "mean": 150.0,
        "std": 50.0,
        "low": 100,
        "median": 100,
        "high": 200,
        "black": 0.0,
        "white": 0.0,
        "frame": 1.0,
        "rim": 150.0,
        "centre": 150.0,
        "phash": signature(decode(png(pixels)).grey).phash,
        "spectrum": signature(pixels).spectrum,
    }


def test_positive_is_abnormal_is_one(ingested: Ingest, files: Files) -> None:
    table = ingested(files).table
    positive = table["study"].str.endswith("_positive")
    assert 0 < positive.sum() < len(table)
    assert (table["abnormal"] == positive.astype(int)).all()
    assert (table["directory_label"] == positive.astype(int)).all()


def test_the_label_is_the_csvs_and_the_directorys_is_kept_beside_it(ingested: Ingest) -> None:
    image = f"{WRIST}/study1_negative/image1.png"
    files = archive([image]) | {TRAIN_STUDIES: f"{WRIST}/study1_negative/,1\n".encode()}
    read = row(ingested(files).table, image)
    assert (read["abnormal"], read["directory_label"]) == (1, 0)


def headed(files: Files) -> Files:
    heads = {"image_paths": b"path\n", "labeled_studies": b"study,label\n"}
    return {
        name: heads[name.split("_", 1)[1].removesuffix(".csv")] + content if name.endswith(".csv") else content
        for name, content in files.items()
    }


def rewritten(find: bytes, put: bytes) -> Callable[[Files], Files]:
    return lambda files: {
        name: content.replace(find, put) if name.endswith(".csv") else content for name, content in files.items()
    }


def moved(folder: str) -> Callable[[Files], Files]:
    return lambda files: {f"{folder}{name}": content for name, content in files.items()}


SPELLINGS: dict[str, Callable[[Files], Files]] = {
    "a header": headed,
    "CRLF": rewritten(b"\n", b"\r\n"),
    "CR": rewritten(b"\n", b"\r"),
    "a header and CRLF": lambda files: rewritten(b"\n", b"\r\n")(headed(files)),
    "a byte order mark": lambda f: {n: b"\xef\xbb\xbf" + c if n.endswith(".csv") else c for n, c in f.items()},
    "a byte order mark and quotes": lambda files: {
        name: b"\xef\xbb\xbf" + re.sub(rb"(?m)^([^,\n]+)", rb'"\1"', content) if name.endswith(".csv") else content
        for name, content in files.items()
    },
    "blank lines": rewritten(b"\n", b"\n\n"),
    "no last line ending": lambda f: {n: c.rstrip(b"\n") if n.endswith(".csv") else c for n, c in f.items()},
    "no closing slash": rewritten(b"/,", b","),
    "spaces": rewritten(b",", b" , "),
}


@pytest.mark.long
@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_lists_may_be_spelled_in_several_ways(tmp_path: Path, files: Files, spelling: Callable[[Files], Files]) -> None:
    plain = manifest(write_zip(tmp_path / "a.zip", files), tmp_path / "a")
    other = manifest(write_zip(tmp_path / "b.zip", spelling(files)), tmp_path / "b")
    assert other.digest == plain.digest


@pytest.mark.parametrize("folder", ["", "copy/of/"])
def test_the_archive_may_lie_in_a_folder_of_another_name(ingested: Ingest, files: Files, folder: str) -> None:
    inner = {name.removeprefix(f"{ROOT}/"): content for name, content in files.items()}
    table = ingested(moved(folder)(inner)).table
    assert table["listed"].all()
    assert table["found"].all()
    assert set(table["split"]) == {"train", "tuning", "test"}


def test_zip_and_directory_give_the_same_manifest(tmp_path: Path, files: Files) -> None:
    zipped = manifest(write_zip(tmp_path / "a.zip", files), tmp_path / "a")
    folder = manifest(write_directory(tmp_path / "b.dir", files), tmp_path / "b")
    assert zipped.digest == folder.digest


def test_the_number_of_workers_does_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = archive(images(train=100))
    path = write_zip(tmp_path / "a.zip", files | {first(files): b"no image"})
    tables = []
    for cores in (1, 2):
        use_cores(cores, monkeypatch)
        tables.append((manifest(path, tmp_path / str(cores)).path / TABLE).read_bytes())
    assert tables[0] == tables[1]


def test_sidecars_are_counted_and_left_out_and_other_files_are_named(ingested: Ingest, files: Files) -> None:
    beside = {
        f"{WRIST}/study1_negative/._image1.png": b"\0\5\x16\7",
        f"{ROOT}/._train_image_paths.csv": b"\0\5\x16\7",
        f"__MACOSX/{ROOT}/train/image1.png": b"\0\5\x16\7",
        f"{ROOT}/__MACOSX/image2.png": b"\0\5\x16\7",
    }
    others = {f"{ROOT}/README.txt": b"", f"{ROOT}/notes.csv": b"a,b\n", f"{ROOT}/.DS_Store": b""}
    facts = ingested(files | beside | others).facts
    assert (facts.images, facts.sidecars) == (len(images()), 4)
    assert facts.others == tuple(sorted(others))


def test_a_listed_image_that_is_missing_has_a_row_that_says_so(ingested: Ingest, files: Files) -> None:
    gone = first(files)
    read = row(ingested({name: content for name, content in files.items() if name != gone}).table, gone)
    assert (read["listed"], read["found"], read["problem"]) == (True, False, "missing from the archive")
    assert pd.isna([read[name] for name in ("bytes", "sha256", "width", "mean", "rim", "phash")]).all()
    assert (read["patient"], read["body_part"]) == ("patient00001", "elbow")


def test_an_image_that_no_list_names_has_a_row_that_says_so(ingested: Ingest, files: Files) -> None:
    stray = f"{WRIST}/study9_positive/image1.png"
    read = row(ingested(files | {stray: files[first(files)]}).table, stray)
    assert (read["listed"], read["found"], read["split"]) == (False, True, read["split"])
    assert read["split"] in ("train", "tuning")
    assert pd.isna(read["abnormal"])
    assert read["directory_label"] == 1


def test_a_picture_at_an_odd_place_has_a_row_without_a_patient(ingested: Ingest, files: Files) -> None:
    odd = (f"{ROOT}/preview.png", f"{ROOT}/train/XR_WRIST/patient00001/study1_positive/picture1.png")
    table = ingested(files | dict.fromkeys(odd, files[first(files)])).table
    for image in odd:
        assert pd.isna([row(table, image)[name] for name in ("patient", "body_part", "view", "split")]).all()


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "not a PNG"), (b"\xff\xd8\xff JPEG", "not a PNG"), (None, "truncated after")],
    ids=["empty", "a JPEG", "truncated"],
)
def test_an_image_that_cannot_be_decoded_has_a_row_that_says_why(
    ingested: Ingest, files: Files, content: bytes | None, problem: str
) -> None:
    bad = first(files)
    content = files[bad][:-40] if content is None else content
    read = row(ingested(files | {bad: content}).table, bad)
    assert read["problem"].startswith(problem)
    assert (read["found"], read["bytes"]) == (True, len(content))
    assert not pd.isna(read["sha256"])
    assert pd.isna([read[name] for name in ("width", "height", "mode", "mean", "std", "phash")]).all()


def test_a_member_that_the_zip_cannot_give_has_a_row_that_names_it(tmp_path: Path, files: Files) -> None:
    bad, path = first(files), write_zip(tmp_path / "a.zip", files)
    path.write_bytes(path.read_bytes().replace(files[bad], files[bad][:-1] + b"?"))
    read = row(manifest(path, tmp_path / "out").table, bad)
    assert "CRC" in read["problem"]
    assert bad in read["problem"]


@pytest.mark.parametrize("of", ["whole", "unreadable", "unparsable"])
def test_columns_have_their_types_even_if_all_values_are_missing(ingested: Ingest, files: Files, of: str) -> None:
    if of == "unreadable":
        files = {name: content if name.endswith(".csv") else b"" for name, content in files.items()}
    if of == "unparsable":
        files = lists([]) | {"MURA-v1.1/a.png": b"", "MURA-v1.1/b.png": b""}
    table = ingested(files).table
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == DTYPES
    assert list(table)[:5] == ["image", "study", "patient", "body_part", "view"]


def test_an_archive_without_images_has_an_empty_table(ingested: Ingest) -> None:
    made = ingested(lists([]))
    assert (made.facts.images, made.facts.studies, made.facts.patients) == (0, 0, 0)
    assert {name: str(dtype) for name, dtype in made.table.dtypes.items()} == DTYPES


BAD_LISTS = {
    "an image twice": (TRAIN_IMAGES, lambda text: text + text.split("\n")[0], r"row \d+: .*listed twice"),
    "a study twice": (
        TRAIN_STUDIES,
        lambda text: text + text.split("\n")[0],
        r"row \d+: .*labelled twice, [01] and [01]",
    ),
    "a study with both labels": (
        TRAIN_STUDIES,
        lambda text: text + text.split("\n")[0].replace(",0", ",1"),
        r"row \d+: .*labelled twice, 0 and 1",
    ),
    "backslashes": (
        TRAIN_IMAGES,
        lambda text: text.replace("/image", "\\image", 1),
        "row 1: expected a path with single",
    ),
    "a way up": (
        TRAIN_IMAGES,
        lambda text: text.replace("/image", "/../image", 1),
        "row 1: expected a path with single",
    ),
    "two slashes": (
        TRAIN_IMAGES,
        lambda text: text.replace("/image", "//image", 1),
        "row 1: expected a path with single",
    ),
    "a long path": (TRAIN_IMAGES, lambda text: text.replace("image", "i" * 100_000, 1), "row 1: .* 100,0.. characters"),
    "a NUL": (TRAIN_IMAGES, lambda text: text.replace("image", "im\0ge", 1), "row 1: .*unprintable"),
    "a colour of the terminal": (
        TRAIN_IMAGES,
        lambda text: text.replace("image", "\x1b[2J", 1),
        "row 1: .*unprintable",
    ),
    "another label": (TRAIN_STUDIES, lambda text: text.replace(",0", ",2", 1), r"row \d+: .*label 0 or 1, found"),
    "a word as label": (TRAIN_STUDIES, lambda text: text.replace(",1", ",positive", 1), r"row \d+: .*label 0 or 1"),
    "no label": (TRAIN_STUDIES, lambda text: text.replace(",0\n", "\n", 1), r"row \d+: .*label 0 or 1, found"),
    "too many fields": (TRAIN_STUDIES, lambda text: text.replace(",0\n", ",0,0\n", 1), r"row \d+: .*label 0 or 1"),
    "no PNG": (TRAIN_IMAGES, lambda text: text.replace(".png", ".jpg", 1), "row 1: expected the path of a PNG"),
    "two columns": (TRAIN_IMAGES, lambda text: text.replace(".png", ".png,0", 1), "row 1: expected the path of a PNG"),
    "another split": (
        TRAIN_IMAGES,
        lambda text: text.replace("/train/", "/valid/", 1),
        r"row 1: .*below MURA-v1\.1/train/",
    ),
    "a study of another split": (TRAIN_STUDIES, lambda text: text.replace("/train/", "/valid/", 1), "row 1: expected"),
    "no path": (TRAIN_STUDIES, lambda text: text + ",1\n", r"row \d+: expected a path below"),
    "no path in the first row": (TRAIN_STUDIES, lambda text: "1,1\n" + text, "row 1: expected a path below"),
    "a row that is no path": (TRAIN_IMAGES, lambda text: text + "image1.png\n", r"row \d+: expected a path below"),
    "an open quote": (TRAIN_IMAGES, lambda text: text + '"' + "x" * 200_000, "not a CSV"),
}


@pytest.mark.parametrize(("name", "change", "reason"), BAD_LISTS.values(), ids=BAD_LISTS)
def test_a_bad_row_is_refused_by_file_and_row(
    ingested: Ingest, files: Files, name: str, change: Callable[[str], str], reason: str
) -> None:
    files[name] = change(files[name].decode()).encode()
    with pytest.raises(DataRefused, match=f"{name.removeprefix(ROOT)[1:]}.*{reason}") as refusal:
        ingested(files)
    assert "\n" not in str(refusal.value)


def test_a_list_that_is_not_utf8_is_refused_by_name(ingested: Ingest, files: Files) -> None:
    files[TRAIN_IMAGES] = files[TRAIN_IMAGES].decode().encode("utf-16")
    with pytest.raises(DataRefused, match=r"train_image_paths\.csv, row 1: not UTF-8"):
        ingested(files)


@pytest.mark.parametrize("split", ["train", "valid"])
@pytest.mark.parametrize("what", ["image_paths", "labeled_studies"])
def test_a_missing_list_is_refused_by_name(ingested: Ingest, files: Files, split: str, what: str) -> None:
    name = f"{split}_{what}.csv"
    del files[f"{ROOT}/{name}"]
    with pytest.raises(DataRefused, match=rf"expected one {name}, found 0\. Is this MURA v1\.1"):
        ingested(files)


def test_a_list_that_lies_there_twice_is_refused(ingested: Ingest, files: Files) -> None:
    files["copy/train_image_paths.csv"] = files[TRAIN_IMAGES]
    with pytest.raises(DataRefused, match=r"expected one train_image_paths\.csv, found 2"):
        ingested(files)


def test_a_labelled_study_without_images_is_told(
    ingested: Ingest, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    files[TRAIN_STUDIES] += f"{WRIST}/study7_positive/,1\n".encode()
    with caplog.at_level(logging.WARNING):
        assert ingested(files).facts.empty_studies == 1
    assert f"1 labelled study without an image, such as {WRIST}/study7_positive" in caplog.text


def test_a_patient_goes_to_one_split_over_all_body_parts(ingested: Ingest) -> None:
    table = ingested(archive(images(train=40))).table
    assert table[table["split"] == "tuning"]["patient"].nunique() == 10
    assert table.groupby("patient")["split"].nunique().max() == 1
    assert table.groupby("patient")["body_part"].nunique().max() == 2


def test_the_published_valid_is_the_test_split_and_nothing_else_is(ingested: Ingest, files: Files) -> None:
    table = ingested(files).table
    assert (table["split"].eq("test") == table["source_split"].eq("valid")).all()
    assert set(table["split"]) == {"train", "tuning", "test"}


def test_rows_without_a_patient_do_not_touch_the_choice(tmp_path: Path, files: Files) -> None:
    odd = f"{ROOT}/train/preview.png"
    listed = files | {odd: files[first(files)], TRAIN_IMAGES: files[TRAIN_IMAGES] + f"{odd}\n".encode()}
    chosen = []
    for name, content in {"a": files, "b": listed}.items():
        table = manifest(write_zip(tmp_path / f"{name}.zip", content), tmp_path / name).table
        chosen.append(set(table[table["split"] == "tuning"]["patient"]))
    assert chosen[0] == chosen[1]


def patients(count: int) -> pd.DataFrame:
    """Rows of patients of uneven strata; every sixth has two body parts."""
    rows = []
    for number in range(count):
        for part in range(1 + (number % 6 == 0)):
            place = BODY_PARTS[(number * number + part) % len(BODY_PARTS)]
            rows.append((f"patient{number:05d}", place, int(number % 3 == 0)))
    return pd.DataFrame(rows, columns=["patient", "body_part", "directory_label"])


def rows_of(train: pd.DataFrame) -> Iterable[tuple[str, str, int | None]]:
    return train[["patient", "body_part", "directory_label"]].itertuples(index=False, name=None)


def strata(train: pd.DataFrame) -> dict[str, str]:
    kinds = train["body_part"] + train["directory_label"].astype(str)
    return dict(kinds.groupby(train["patient"]).agg(lambda each: " ".join(sorted(set(each)))))


@settings(deadline=None)
@given(count=st.integers(1, 300), fraction=st.floats(0.05, 0.45), seed=st.integers(0, 2**32))
def test_tuning_takes_its_share_overall_and_of_every_stratum(count: int, fraction: float, seed: int) -> None:
    train = patients(count)
    chosen = tuning_patients(rows_of(train), fraction, seed)
    assert abs(len(chosen) - count * fraction) < 1
    kind = strata(train)
    whole, taken = Counter(kind.values()), Counter(kind[patient] for patient in chosen)
    assert all(abs(taken[stratum] - size * fraction) < 1 + 1e-9 for stratum, size in whole.items())


@settings(deadline=None)
@given(order=st.integers(), seed=st.integers(0, 1000))
def test_the_choice_does_not_depend_on_the_order_of_rows(order: int, seed: int) -> None:
    train = patients(60)
    shuffled = train.sample(frac=1, random_state=Random(order).randrange(2**32))
    assert tuning_patients(rows_of(train), 0.25, seed) == tuning_patients(rows_of(shuffled), 0.25, seed)


def test_the_choice_is_the_seeds() -> None:
    train = patients(200)
    choices = [frozenset(tuning_patients(rows_of(train), 0.2, seed)) for seed in range(10)]
    assert len(set(choices)) == 10
    assert tuning_patients(rows_of(train), 0.2, 3) == choices[3]


def test_the_choice_is_that_of_every_release() -> None:
    """Results of one release compare with those of another only if they tune on the same patients."""
    assert sorted(tuning_patients(rows_of(patients(12)), 0.25, 1)) == ["patient00002", "patient00008", "patient00010"]


def test_no_test_patient_is_chosen(ingested: Ingest, files: Files) -> None:
    """Not even one whom the archive has in both of its splits, which validation will refuse."""
    both = f"{ROOT}/valid/XR_HAND/patient00001/study1_negative/image1.png"
    names = [*images(), both]
    table = ingested(archive(names)).table
    assert set(table[table["source_split"] == "valid"]["split"]) == {"test"}


# Some body parts only


Choose = Callable[..., Manifest]


@pytest.fixture
def chosen(tmp_path: Path) -> Choose:
    """The manifest of some body parts of a zip of these files."""

    def chosen(files: Files, *parts: str, overlay: Overlay | None = None) -> Manifest:
        place = tmp_path / "-".join(parts)
        place.mkdir()
        path = write_zip(tmp_path / f"{place.name}.zip", files)
        params = IngestParams(tuning_fraction=0.25, body_parts=parts)
        return ingest(Archive.read(path), overlay, params, 1, place)

    return chosen


def of_part(table: pd.DataFrame, *parts: str) -> pd.DataFrame:
    return table[table["body_part"].isin(parts)].reset_index(drop=True)


@pytest.mark.parametrize("parts", [("wrist",), ("elbow", "wrist"), ("shoulder", "elbow", "wrist")])
def test_only_chosen_body_parts_are_in_the_manifest(
    ingested: Ingest, chosen: Choose, files: Files, parts: tuple[str, ...]
) -> None:
    whole, some = ingested(files), chosen(files, *parts)
    facts = some.facts
    rows = of_part(whole.table, *parts)
    # The tuning split may be another: whole patients of the rows that are there.
    pd.testing.assert_frame_equal(some.table.drop(columns="split"), rows.drop(columns="split"))
    assert set(some.table["split"]) == {"train", "tuning", "test"}
    assert facts.body_parts == tuple(sorted(parts))
    assert (facts.images, facts.studies) == (len(rows), rows["study"].nunique())
    others = whole.table[~whole.table["body_part"].isin(parts)]
    assert facts.left_out_images == len(others)
    assert facts.left_out_studies == others.groupby("body_part")["study"].nunique().to_dict()
    assert facts.others == ()
    assert facts.what == f"{in_words(sorted(parts))} of {facts.archive}"


def test_the_whole_archive_has_nothing_left_out(ingested: Ingest, chosen: Choose, files: Files) -> None:
    whole, seven = ingested(files), chosen(files, *BODY_PARTS)
    pd.testing.assert_frame_equal(whole.table, seven.table)
    for each in (whole, seven):
        assert (each.facts.left_out_images, each.facts.left_out_studies) == (0, {})
    assert whole.facts.body_parts is None
    assert whole.facts.what == "MURA-v1.1.zip"


def test_pictures_of_other_body_parts_are_not_read(chosen: Choose, files: Files) -> None:
    broken = {name: b"" if name.endswith(".png") and "/XR_WRIST/" not in name else each for name, each in files.items()}
    assert chosen(broken, "wrist").table["problem"].isna().all()


def test_a_body_part_that_the_archive_lacks_is_refused_by_name(chosen: Choose) -> None:
    names = [name for name in images() if "/XR_HAND/" in name or "/XR_WRIST/" in name]
    with pytest.raises(DataRefused, match=r"no image of elbow and humerus, .*: hand and wrist\.") as error:
        chosen(archive(names), "wrist", "humerus", "elbow")
    assert "\n" not in str(error.value)


def test_a_body_part_that_is_listed_and_lost_is_not_lacking(chosen: Choose, files: Files) -> None:
    lost = {name: each for name, each in files.items() if not (name.endswith(".png") and "/XR_WRIST/" in name)}
    assert not chosen(lost, "wrist").table["found"].any()


def test_what_has_no_body_part_stays_for_validation(chosen: Choose, files: Files) -> None:
    picture = files[first(files)]
    odd = [f"{ROOT}/preview.png", f"{WRIST}/study1_positive/picture1.png"]
    gone = f"{ROOT}/train/XR_HAND/patient00001/study1_positive/picture1.png"
    names = list(chosen(files | dict.fromkeys([*odd, gone], picture), "wrist").table["image"])
    assert set(odd) < set(names)
    assert gone not in names


def test_lists_are_read_whole_whatever_is_chosen(chosen: Choose, files: Files) -> None:
    files[TRAIN_IMAGES] += f"{ROOT}/train/XR_HAND/../image1.png\n".encode()
    with pytest.raises(DataRefused, match=r"row \d+: expected a path with single"):
        chosen(files, "wrist")


def test_second_opinions_on_other_body_parts_are_not_counted(chosen: Choose, files: Files, tmp_path: Path) -> None:
    studies = {name.rpartition("/")[0] for name in files if name.endswith(".png")}
    rows = []
    for part in ("WRIST", "HAND"):
        study = min(each for each in studies if f"XR_{part}" in each)
        old = int(study.endswith("positive"))
        rows.append(f"{study},{old},{1 - old},reader,plate\n")
    (tmp_path / "overlay.csv").write_text("study,old,new,source,reason\n" + "".join(rows))
    made = chosen(files, "wrist", overlay=Overlay.read(tmp_path / "overlay.csv"))
    assert made.facts.overlay_studies == 1
    assert made.table.groupby("study")["overlay"].first().notna().sum() == 1


def test_what_is_left_out_is_told(chosen: Choose, files: Files, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        facts = chosen(files, "wrist").facts
    studies = sum(facts.left_out_studies.values())
    assert f"ingest: {studies} studies of elbow, finger, forearm, hand, humerus, shoulder left out" in caplog.text
    assert "have no image" not in caplog.text
    assert "without an image" not in caplog.text


# Names in another case


@pytest.mark.parametrize(
    ("old", "new"),
    [("image1.png", "image1.PNG"), ("XR_", "xr_"), ("patient", "Patient"), ("_positive", "_Positive")],
)
def test_a_name_in_another_case_says_where_it_belongs(ingested: Ingest, files: Files, old: str, new: str) -> None:
    other = {
        name.replace(old, new): content.replace(old.encode(), new.encode()) if name.endswith(".csv") else content
        for name, content in files.items()
    }
    plain, odd = ingested(files).table, ingested(other).table
    columns = ["patient", "body_part", "view", "split", "directory_label"]
    assert odd[columns].notna().all(axis=None)
    assert sorted(odd[columns].itertuples(index=False)) == sorted(plain[columns].itertuples(index=False))


def test_a_list_in_another_case_is_named(ingested: Ingest, files: Files) -> None:
    files[TRAIN_IMAGES.replace("train_", "Train_")] = files.pop(TRAIN_IMAGES)
    with pytest.raises(DataRefused, match=r"expected one train_image_paths\.csv, found .*Train_.* instead: rename it"):
        ingested(files)


def test_a_row_below_another_case_of_the_split_says_that_case_counts(ingested: Ingest, files: Files) -> None:
    files[TRAIN_IMAGES] = files[TRAIN_IMAGES].replace(b"/train/", b"/Train/")
    with pytest.raises(DataRefused, match=r"row 1: expected a path below .*Upper and lower case count"):
        ingested(files)


def test_a_picture_that_is_no_png_says_what_to_do(ingested: Ingest, files: Files) -> None:
    files[first(files)] = b"\xff\xd8\xff JPEG"
    assert row(ingested(files).table, first(files))["problem"] == "not a PNG, but a JPEG: convert it to PNG"
