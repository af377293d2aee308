import json
import logging
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from miniature import write_zip

from components.archive import mura_v1_1
from components.archive.archive import Archive
from components.artifacts.manifest import BODY_PARTS, TABLE, Manifest, ManifestFacts, ValidManifest
from components.base.errors import DataRefused
from components.base.files import json_sha256
from components.params.validate import DEFAULTS, ValidateParams
from components.phantom.plan import plan
from components.validate import validate
from components.validate.faults import FAULTS
from components.xray.signature import SPECTRUM_SIDE

PARAMS = ValidateParams(
    published="auto",
    pictures=True,
    modes=("L", "RGB"),
    min_side=64,
    max_side=1024,
    max_aspect=3,
    max_views=3,
    min_contrast=32,
    max_frame=0.85,
    max_inversion=20,
    abnormal_share=(0.0, 1.0),
    max_label_shift=0.2,
    max_psi=0.2,
    max_ks=0.1,
    expectations={},
)
GREY_LEVELS = {"mean": 51.4, "std": 45.6, "black": 0.3, "white": 0.0, "frame": 0.1, "rim": 20.0, "centre": 90.0}
WHOLE = {"bytes": 90_000, "width": 512, "height": 400, "channel_difference": 0, "low": 2, "median": 40, "high": 180}
READ = [*WHOLE, *GREY_LEVELS, "sha256", "pixels_sha256", "mode", "phash", "spectrum"]
DTYPES = (
    dict.fromkeys(("view", "abnormal", "directory_label", *WHOLE), "Int64")
    | dict.fromkeys(GREY_LEVELS, "Float64")
    | {"problem": "str"}
)
# A patient of each label in the first training studies: elbows, patient00001 normal and patient00002 abnormal.
ROOT = "MURA-v1.1/train/XR_ELBOW"
NORMAL, ABNORMAL = f"{ROOT}/patient00001/study1_negative", f"{ROOT}/patient00002/study1_positive"
OTHER = "MURA-v1.1/train/XR_FINGER/patient00003/study1_negative/image1.png"
TUNING = "MURA-v1.1/train/XR_ELBOW/patient00015/study1_negative/image1.png"

Fault = Callable[[pd.DataFrame], pd.DataFrame | None]


@pytest.fixture
def table() -> pd.DataFrame:
    return clean()


def clean() -> pd.DataFrame:
    """Every split and body part, a normal and an abnormal study, two views each."""
    rows: list[dict[str, Any]] = []
    number = 0
    for split, source in (("train", "train"), ("tuning", "train"), ("test", "valid")):
        for part in BODY_PARTS:
            for label in ("negative", "positive"):
                number += 1
                patient = f"patient{number:05d}"
                study = f"MURA-v1.1/{source}/XR_{part.upper()}/{patient}/study1_{label}"
                rows += [
                    _row(study, view, patient=patient, body_part=part, source_split=source, split=split)
                    for view in (1, 2)
                ]
    return pd.DataFrame(rows).astype(DTYPES)


def _row(study: str, view: int, **others: str) -> dict[str, Any]:
    image, label = f"{study}/image{view}.png", int(study.endswith("positive"))
    return {
        "image": image,
        "study": study,
        "view": view,
        **others,
        "abnormal": label,
        "directory_label": label,
        "listed": True,
        "found": True,
        "problem": None,
        "sha256": sha256(image.encode()).hexdigest(),
        "pixels_sha256": sha256(b"pixels of " + image.encode()).hexdigest(),
        "mode": "L",
        "phash": "0f" * 8,
        # A flat picture is like none.
        "spectrum": bytes(SPECTRUM_SIDE**2),
        **WHOLE,
        **GREY_LEVELS,
    }


@pytest.fixture
def seal(tmp_path: Path) -> Callable[..., Manifest]:
    def seal(table: pd.DataFrame, place: str = "manifest", **facts: Any) -> Manifest:
        path = tmp_path / place
        path.mkdir()
        table.sort_values("image").to_parquet(path / TABLE, index=False)
        counts = {"images": len(table), "studies": table["study"].nunique(), "patients": table["patient"].nunique()}
        counts |= facts
        return Manifest.seal(path, ManifestFacts(archive="MURA-v1.1.zip", sidecars=0, others=(), **counts))

    return seal


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.mkdir()
    return path


def judge(manifest: Manifest, params: ValidateParams, out: Path, reference: Manifest | None = None) -> ValidManifest:
    """Validation beside an archive that holds what the manifest says: of every image its name for a picture."""
    table = manifest.table
    contents = {sha256(name.encode()).hexdigest(): name.encode() for name in {*clean()["image"], *table["image"]}}
    held = table[table["found"] & table["sha256"].notna()].drop_duplicates("image")
    files = {name: contents[digest] for name, digest in zip(held["image"], held["sha256"], strict=True)}
    return validate(Archive.read(write_zip(out.with_name("MURA-v1.1.zip"), files)), manifest, params, out, reference)


def failed(out: Path) -> set[str]:
    report = json.loads((out / "validation.json").read_text())
    return {entry["name"] for entry in report["expectations"] if not entry["success"]}


def entry(out: Path, name: str) -> dict[str, Any]:
    report = json.loads((out / "validation.json").read_text())
    return next(entry for entry in report["expectations"] if entry["name"] == name)


def put(select: Callable[[pd.DataFrame], Any], **values: Any) -> Fault:
    """A fault that puts values into the rows selected."""

    def fault(table: pd.DataFrame) -> None:
        rows = select(table)
        for column, value in values.items():
            table.loc[rows, column] = value

    return fault


def image(name: str) -> Callable[[pd.DataFrame], Any]:
    return lambda table: table["image"] == name


def study(name: str) -> Callable[[pd.DataFrame], Any]:
    return lambda table: table["study"] == name


def split(name: str) -> Callable[[pd.DataFrame], Any]:
    return lambda table: table["split"] == name


def lost(table: pd.DataFrame) -> None:
    row = image(f"{NORMAL}/image2.png")(table)
    table.loc[row, ["found", "problem"]] = [False, "missing from the archive"]
    table.loc[row, READ] = None


def damaged(table: pd.DataFrame) -> None:
    row = image(f"{NORMAL}/image2.png")(table)
    table.loc[row, "problem"] = "truncated at byte 4,096"
    table.loc[row, [column for column in READ if column not in ("bytes", "sha256")]] = None


def more_views(table: pd.DataFrame) -> pd.DataFrame:
    others = table.loc[study(NORMAL)(table), ["patient", "body_part", "source_split", "split"]].iloc[0].to_dict()
    return pd.concat([table, pd.DataFrame([_row(NORMAL, view, **others) for view in (3, 4)]).astype(DTYPES)])


def both_labels(table: pd.DataFrame) -> None:
    negative = ABNORMAL.replace("positive", "negative")
    moved = {"image": f"{negative}/image2.png", "study": negative, "abnormal": 0, "directory_label": 0}
    put(image(f"{ABNORMAL}/image2.png"), **moved)(table)


def odd(**values: Any) -> Fault:
    return put(image(f"{NORMAL}/image2.png"), **values)


def shifted(table: pd.DataFrame) -> pd.DataFrame:
    """Sixty more patients with wrists: in training all are normal, in test all abnormal."""
    rows = []
    for number in range(60):
        split, published, label = ("train", "train", "negative") if number < 30 else ("test", "valid", "positive")
        patient = f"patient{1000 + number:05d}"
        where = f"MURA-v1.1/{published}/XR_WRIST/{patient}/study1_{label}"
        rows.append(_row(where, 1, patient=patient, body_part="wrist", source_split=published, split=split))
    return pd.concat([table, pd.DataFrame(rows).astype(DTYPES)], ignore_index=True)


def twin(of: str, is_also: str) -> Fault:
    def fault(table: pd.DataFrame) -> None:
        table.loc[image(is_also)(table), "pixels_sha256"] = table.loc[image(of)(table), "pixels_sha256"].item()

    return fault


GATES: dict[str, tuple[Fault, str]] = {
    "found": (lost, f"{NORMAL}/image2.png"),
    "listed": (put(image(f"{NORMAL}/image2.png"), listed=False, abnormal=None), f"{NORMAL}/image2.png"),
    "image_once": (lambda table: pd.concat([table, table.head(1)]), f"{NORMAL}/image1.png"),
    "path": (
        put(
            image(f"{NORMAL}/image2.png"),
            image="MURA-v1.1/train/XR_ELBOW/image2.png",
            study="MURA-v1.1/train/XR_ELBOW",
            patient=None,
            body_part=None,
            view=None,
            directory_label=None,
        ),
        "MURA-v1.1/train/XR_ELBOW/image2.png (fault of the path: expected {train,valid}/XR_<PART>/patient<ID>/",
    ),
    "body_part": (
        lambda table: table.assign(body_part=table["body_part"].replace("elbow", "knee")),
        f"{NORMAL}/image1.png (body_part: knee)",
    ),
    "place_once": (
        lambda table: table.assign(
            image=table["image"].replace(f"{NORMAL}/image2.png", f"{NORMAL}/image01.png"),
            view=table["view"].mask(image(f"{NORMAL}/image2.png")(table), 1),
        ),
        f"{NORMAL}/image01.png",
    ),
    "decodes": (damaged, f"{NORMAL}/image2.png (problem: truncated at byte 4,096)"),
    "recorded": (put(image(f"{NORMAL}/image2.png"), split=None, std=None), "(not recorded: split, std)"),
    "labelled": (put(study(NORMAL), abnormal=None), f"{NORMAL}/image1.png"),
    "label": (put(study(ABNORMAL), abnormal=2, directory_label=2), f"{ABNORMAL}/image1.png (abnormal: 2)"),
    "label_agrees": (put(study(NORMAL), abnormal=1), f"{NORMAL}/image1.png (abnormal: 1, directory_label: 0)"),
    "study_has_one_label": (both_labels, "(label of the study: 0 and 1)"),
    "study_has_one_patient": (
        put(image(f"{NORMAL}/image2.png"), patient="patient00002"),
        f"{NORMAL} (patient of the study: patient00001 and patient00002)",
    ),
    "study_has_one_body_part": (put(image(f"{NORMAL}/image2.png"), body_part="wrist"), f"{NORMAL} (body part"),
    "patient_in_one_split": (
        lambda table: table.assign(patient=table["patient"].replace("patient00015", "patient00001")),
        "patient00001 (splits of the patient: train and tuning)",
    ),
    "split_agrees": (put(study(NORMAL), split="test"), f"{NORMAL}/image1.png"),
    "splits_present": (lambda table: table[~split("tuning")(table)], "tuning"),
    "split_has_both_labels": (put(split("tuning"), abnormal=0, directory_label=0), "tuning (labels of the split: 0)"),
    "body_part_is_trained": (
        lambda table: table[~((table["body_part"] == "wrist") & split("train")(table))],
        "wrist (splits of the body part: test and tuning)",
    ),
    "mode": (put(image(f"{NORMAL}/image2.png"), mode="RGBA"), f"{NORMAL}/image2.png (mode: RGBA)"),
    "min_side": (put(image(f"{NORMAL}/image2.png"), width=150, height=63), f"{NORMAL}/image2.png (shorter side: 63)"),
    "max_side": (put(image(f"{NORMAL}/image2.png"), height=1025), f"{NORMAL}/image2.png (longer side: 1025)"),
    "views": (more_views, f"{NORMAL} (views of the study: 4)"),
    "picture_in_one_split": (
        twin(f"{NORMAL}/image1.png", TUNING),
        f"{NORMAL}/image1.png (split: train, same picture in another split: {TUNING} in tuning)",
    ),
}


WARNINGS: dict[str, tuple[Fault, str]] = {
    "picture_has_one_label": (twin(f"{NORMAL}/image1.png", f"{ABNORMAL}/image1.png"), f"{NORMAL}/image1.png"),
    "picture_once": (twin(f"{NORMAL}/image1.png", f"{NORMAL}/image2.png"), f"{NORMAL}/image1.png"),
    "picture_of_one_patient": (twin(f"{NORMAL}/image1.png", OTHER), OTHER),
    "abnormal_share": (put(study(ABNORMAL), abnormal=0, directory_label=0), "train elbow"),
    "label_shift": (shifted, "wrist"),
    "not_blank": (odd(std=1.9, low=40, high=44, frame=1.0), f"{NORMAL}/image2.png"),
    "contrast": (odd(low=40, high=71, frame=0.9), f"{NORMAL}/image2.png"),
    "not_mostly_frame": (odd(frame=0.86, rim=99.0), f"{NORMAL}/image2.png"),
    "not_inverted": (odd(rim=110.1), f"{NORMAL}/image2.png"),
    "aspect": (odd(height=170), f"{NORMAL}/image2.png"),
    "channels_agree": (odd(mode="RGB", channel_difference=11), f"{NORMAL}/image2.png"),
}


# Of the table's pictures nothing but numbers is there; `python -m benchmarks.planted` shows them.
NEAR = {"near_picture_in_one_split", "near_picture_has_one_label", "near_picture_of_one_patient"}


def test_clean_manifest_becomes_valid(table: pd.DataFrame, seal: Callable[..., Manifest], out: Path) -> None:
    manifest = seal(table)
    judge(manifest, PARAMS, out)
    valid = ValidManifest.read(out)
    assert valid.facts.warnings == ()
    assert valid.facts.expectations == len(GATES) + len(WARNINGS) + len({"not_empty", "complete"} | NEAR)
    assert valid.facts.manifest_digest == manifest.digest
    assert (out / TABLE).read_bytes() == (manifest.path / TABLE).read_bytes()
    assert json.loads((out / "validation.json").read_text())["verdict"] == "accepted"


@pytest.mark.long
@pytest.mark.parametrize("gate", GATES)
def test_fault_breaks_its_gate_alone_and_is_named(
    gate: str, table: pd.DataFrame, seal: Callable[..., Manifest], out: Path
) -> None:
    fault, member = GATES[gate]
    changed = fault(table)
    with pytest.raises(DataRefused) as refused:
        judge(seal(table if changed is None else changed), PARAMS, out)
    assert failed(out) == {gate}
    assert member in str(refused.value)


@pytest.mark.long
@pytest.mark.parametrize("warning", WARNINGS)
def test_warning_is_reported_and_does_not_refuse(
    warning: str, table: pd.DataFrame, seal: Callable[..., Manifest], out: Path
) -> None:
    fault, member = WARNINGS[warning]
    changed = fault(table)
    balanced = PARAMS.model_copy(update={"abnormal_share": (0.2, 0.8)}) if warning == "abnormal_share" else PARAMS
    valid = judge(seal(table if changed is None else changed), balanced, out)
    assert valid.facts.warnings == (warning,)
    assert failed(out) == {warning}
    assert member in json.dumps(entry(out, warning)["members"])


@pytest.mark.long
def test_empty_table_is_refused(table: pd.DataFrame, seal: Callable[..., Manifest], out: Path) -> None:
    with pytest.raises(DataRefused, match="not_empty is broken: the manifest has no images"):
        judge(seal(table.head(0)), PARAMS, out)
    assert failed(out) == {"not_empty", "splits_present"}


@pytest.mark.long
def test_table_cut_short_is_refused(table: pd.DataFrame, seal: Callable[..., Manifest], out: Path) -> None:
    with pytest.raises(DataRefused, match="complete"):
        judge(seal(table, images=len(table) + 1), PARAMS, out)
    assert failed(out) == {"complete"}


def test_archive_of_other_pictures_is_refused(table: pd.DataFrame, seal: Callable[..., Manifest], out: Path) -> None:
    other = write_zip(out.with_name("other.zip"), dict.fromkeys(table["image"], b"another picture"))
    with pytest.raises(DataRefused, match="not the archive that the manifest describes") as refused:
        validate(Archive.read(other), seal(table), PARAMS, out)
    assert refused.value.keep is None


@pytest.mark.long
def test_refusal_is_one_line_that_counts_what_it_does_not_name(
    table: pd.DataFrame, seal: Callable[..., Manifest], out: Path
) -> None:
    table["mode"] = "P"
    with pytest.raises(DataRefused) as refused:
        judge(seal(table), PARAMS, out)
    assert refused.value.exit_code == 3
    assert refused.value.keep == out
    assert "\n" not in str(refused.value)
    named = str(refused.value).count("(mode: P)")
    assert f" and {len(table) - named} more: convert the file" in str(refused.value)
    assert entry(out, "mode")["unexpected"] == len(table)
    assert len(entry(out, "mode")["members"]) == 20


def test_refusal_leaves_the_reports_and_no_manifest(
    table: pd.DataFrame, seal: Callable[..., Manifest], out: Path
) -> None:
    lost(table)
    with pytest.raises(DataRefused):
        judge(seal(table), PARAMS, out)
    assert {path.name for path in out.iterdir()} == {
        "validation.json",
        "data_docs.html",
        "report.html",
        "offenders.parquet",
        "duplicates.parquet",
    }
    assert json.loads((out / "validation.json").read_text())["counts"] == {
        "expectations": 40,
        "held": 39,
        "tolerated": 0,
        "failed_gates": 1,
        "failed_warnings": 0,
    }


@pytest.mark.long
def test_units_are_counted_not_their_rows(table: pd.DataFrame, seal: Callable[..., Manifest], out: Path) -> None:
    judge(seal(table), PARAMS, out)
    assert entry(out, "mode")["tested"] == len(table)
    assert entry(out, "study_has_one_label")["tested"] == table["study"].nunique()
    assert entry(out, "patient_in_one_split")["tested"] == table["patient"].nunique()
    assert entry(out, "abnormal_share")["tested"] == 3 * len(BODY_PARTS)


@pytest.mark.long
def test_expectation_that_cannot_be_evaluated_does_not_hold(
    table: pd.DataFrame, seal: Callable[..., Manifest], out: Path
) -> None:
    table["channel_difference"] = "none"
    valid = judge(seal(table), PARAMS, out)
    assert valid.facts.warnings == ("channels_agree",)
    assert entry(out, "channels_agree")["error"]
    assert entry(out, "channels_agree")["members"] == []
    page = Page(out / "data_docs.html").text
    assert "channels_agree could not be evaluated" in page
    assert "Traceback" not in page


@pytest.mark.parametrize("change", [lambda t: t.drop(columns="width"), lambda t: t.assign(width="wide", height=1)])
def test_table_that_no_manifest_promises_is_refused(
    change: Callable[[pd.DataFrame], pd.DataFrame], table: pd.DataFrame, seal: Callable[..., Manifest], out: Path
) -> None:
    with pytest.raises(DataRefused, match="not the table that a Manifest promises") as refused:
        judge(seal(change(table)), PARAMS, out)
    assert "\n" not in str(refused.value)


@pytest.mark.long
def test_same_manifest_gives_the_same_reports(table: pd.DataFrame, seal: Callable[..., Manifest], out: Path) -> None:
    damaged(table)
    both_labels(table)
    manifest, again = seal(table), out.with_name("again")
    again.mkdir()
    for place in (out, again):
        with pytest.raises(DataRefused):
            judge(manifest, PARAMS, place)
    for name in ("validation.json", "data_docs.html", "report.html", "offenders.parquet", "duplicates.parquet"):
        assert (out / name).read_bytes() == (again / name).read_bytes()


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.text = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "data", "action", "srcset")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.long
@pytest.mark.parametrize("fault", [None, damaged], ids=["accepted", "refused"])
def test_page_needs_nothing_but_itself(
    fault: Fault | None, table: pd.DataFrame, seal: Callable[..., Manifest], out: Path
) -> None:
    if fault:
        fault(table)
        with pytest.raises(DataRefused):
            judge(seal(table), PARAMS, out)
    else:
        judge(seal(table), PARAMS, out)
    page = Page(out / "data_docs.html")
    assert not page.tags & {"script", "link", "img", "iframe", "object"}
    assert all(link.startswith("#section-") for link in page.links)
    assert "url(" not in (out / "data_docs.html").read_text()
    assert "No patient is in two splits" in page.text
    assert "recognise bones or hardware" in page.text
    assert ("truncated at byte 4,096" in page.text) == bool(fault)


@pytest.mark.long
def test_hostile_names_stay_text(table: pd.DataFrame, seal: Callable[..., Manifest], out: Path) -> None:
    name = "MURA-v1.1/<script src='http://example.org/x.js'></script>$HOME\n\x1b[31m.png"
    # No archive that can be opened holds such a name; a manifest may.
    put(image(f"{NORMAL}/image2.png"), image=name, sha256=None)(table)
    with pytest.raises(DataRefused) as refused:
        judge(seal(table), PARAMS, out)
    assert str(refused.value).isprintable()
    for name in ("data_docs.html", "report.html"):
        page = Page(out / name)
        assert "script" not in page.tags
        assert "<script src='http://example.org/x.js'></script>$HOME" in page.text


@pytest.mark.long
def test_data_digest_is_of_images_labels_and_splits_in_any_order(
    table: pd.DataFrame, seal: Callable[..., Manifest], out: Path
) -> None:
    valid = judge(seal(table), PARAMS, out)
    rows = table[["image", "sha256", "abnormal", "split"]].itertuples(index=False)
    assert valid.facts.data_digest == json_sha256(sorted([i, s, int(a), p] for i, s, a, p in rows))


@pytest.mark.long
def test_only_copies_in_another_split_are_named_as_such(
    table: pd.DataFrame, seal: Callable[..., Manifest], out: Path
) -> None:
    twin(f"{NORMAL}/image1.png", f"{NORMAL}/image2.png")(table)
    twin(f"{NORMAL}/image1.png", TUNING)(table)
    with pytest.raises(DataRefused, match="picture_in_one_split") as refused:
        judge(seal(table), PARAMS, out)
    assert f"another split: {TUNING} in tuning)" in str(refused.value)


def test_a_label_is_the_csvs_where_copies_have_two(
    table: pd.DataFrame, seal: Callable[..., Manifest], out: Path
) -> None:
    twin(f"{NORMAL}/image1.png", f"{ABNORMAL}/image1.png")(table)
    judge(seal(table), PARAMS, out)
    (member,) = entry(out, "picture_has_one_label")["members"]
    assert member["label"] == "normal"
    assert member["same picture with another label"] == f"{ABNORMAL}/image1.png, abnormal"


MISNAMED = {
    "image2.PNG": (f"{NORMAL}/image2.PNG", "rename image2.PNG to image2.png, in the archive and in its lists"),
    "the body part": (f"{NORMAL}/image2.png".replace("XR_ELBOW", "XR_elbow"), "rename XR_elbow to XR_ELBOW"),
    "several": (
        f"{NORMAL}/image2.png".replace("train/", "Train/").replace("patient", "PATIENT"),
        "rename Train to train and PATIENT00001 to patient00001, in the archive",
    ),
    "no label": (f"{NORMAL}/image2.png".replace("_negative", ""), "found study1)"),
    "another split": (f"{NORMAL}/image2.png".replace("train/", "test/"), "expected train or valid, found test"),
}


@pytest.mark.long
@pytest.mark.parametrize("name", MISNAMED)
def test_a_wrong_path_says_what_to_do(name: str, table: pd.DataFrame, seal: Callable[..., Manifest], out: Path) -> None:
    # Without digest: no file of that name is in the archive of these tests.
    put(image(f"{NORMAL}/image2.png"), image=MISNAMED[name][0], sha256=None)(table)
    with pytest.raises(DataRefused, match="1 of 26 gates does not hold: path is broken: ") as refused:
        judge(seal(table), PARAMS, out)
    assert MISNAMED[name][1] in str(refused.value)


SAYS_THE_FAULT = {
    "found": f"found is broken: the CSV names {NORMAL}/image2.png, and the archive lacks it: add the file",
    "listed": f"listed is broken: no CSV names {NORMAL}/image2.png: add its row to train_image_paths.csv",
}


@pytest.mark.parametrize("name", SAYS_THE_FAULT)
def test_a_refusal_says_the_fault_and_what_to_do(
    name: str, table: pd.DataFrame, seal: Callable[..., Manifest], out: Path
) -> None:
    # Only a file that is read has a digest to compare.
    put(image(f"{NORMAL}/image2.png"), **{name: False, "sha256": None})(table)
    with pytest.raises(DataRefused) as refused:
        judge(seal(table), PARAMS, out)
    assert SAYS_THE_FAULT[name] in str(refused.value)


def test_every_expectation_has_a_fault_to_tell() -> None:
    assert set(FAULTS) == set(DEFAULTS)


@pytest.mark.long
def test_many_misnamed_images_are_one_fault_that_comes_first(
    table: pd.DataFrame, seal: Callable[..., Manifest], out: Path
) -> None:
    wrong = table["image"].str.contains("XR_WRIST")
    table["image"] = table["image"].str.replace("XR_WRIST", "XR_wrist")
    table.loc[wrong, ["found", "listed"]] = False
    table.loc[wrong, "sha256"] = None
    with pytest.raises(DataRefused) as refused:
        judge(seal(table), PARAMS, out)
    told = str(refused.value)
    assert f"hold: path is broken: misnamed: {wrong.sum()} images, such as " in told
    assert told.count("rename XR_wrist to XR_WRIST") == 1
    assert "also broken: found" in told
    assert len(told) < 340


@pytest.mark.long
def test_a_problem_with_brackets_gets_no_second_pair(
    table: pd.DataFrame, seal: Callable[..., Manifest], out: Path
) -> None:
    damaged(table)
    put(image(f"{NORMAL}/image2.png"), problem="damaged (CRC)")(table)
    with pytest.raises(DataRefused) as refused:
        judge(seal(table), PARAMS, out)
    assert str(refused.value).endswith(
        f"decodes is broken: damaged: {NORMAL}/image2.png: problem: damaged (CRC): replace the file."
    )


@pytest.mark.long
@pytest.mark.parametrize(("column", "value"), [("channel_difference", 10), ("rim", 110.0)])
def test_what_is_within_the_limit_is_let_pass(
    column: str, value: float, table: pd.DataFrame, seal: Callable[..., Manifest], out: Path
) -> None:
    odd(**{column: value})(table)
    assert judge(seal(table), PARAMS, out).facts.warnings == ()


@pytest.mark.long
def test_a_body_part_of_the_test_alone_is_refused(
    table: pd.DataFrame, seal: Callable[..., Manifest], out: Path
) -> None:
    with pytest.raises(
        DataRefused, match=r"body_part_is_trained is broken: .*: wrist \(splits of the body part: test\)"
    ):
        judge(seal(table[(table["body_part"] != "wrist") | (table["split"] == "test")]), PARAMS, out)


def test_without_training_images_the_split_is_missing_and_not_every_body_part(
    table: pd.DataFrame, seal: Callable[..., Manifest], out: Path
) -> None:
    with pytest.raises(DataRefused):
        judge(seal(table[table["split"] != "train"]), PARAMS, out)
    assert failed(out) == {"splits_present"}


def test_chosen_body_parts_are_named(table: pd.DataFrame, seal: Callable[..., Manifest], out: Path) -> None:
    some = table[table["body_part"].isin(["elbow", "wrist"])]
    facts = {"body_parts": ("elbow", "wrist"), "left_out_images": 60, "left_out_studies": {"hand": 29, "finger": 1}}
    judge(seal(some, **facts), PARAMS, out)
    report = json.loads((out / "validation.json").read_text())
    assert report["manifest"]["body_parts"] == ["elbow", "wrist"]
    page = Page(out / "report.html").text
    assert "elbow and wrist of MURA-v1.1.zip is accepted" in page
    assert "30 studies with 60 images of hand and finger were left out" in page
    assert "humerus" not in page
    assert ValidManifest.read(out).facts.body_parts == ("elbow", "wrist")


def test_one_line_tells_the_verdict(
    table: pd.DataFrame, seal: Callable[..., Manifest], out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    odd(std=1.9)(table)
    judge(seal(table), PARAMS, out)
    assert [message for message in caplog.messages if message.startswith("validate:")] == [
        "validate: 84 images, 40 expectations: gates hold, warnings: not_blank"
    ]


def test_importing_the_step_is_light() -> None:
    code = "import sys, components.validate; print(*{'great_expectations', 'pandas', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""


# Severity and tolerance


def judged(**changes: Any) -> ValidateParams:
    return ValidateParams.model_validate(PARAMS.model_dump() | changes)


@pytest.mark.long
@pytest.mark.parametrize(
    ("change", "accepted", "warned"),
    [
        ({}, False, ()),
        ({"severity": "warn"}, True, ("mode",)),
        ({"severity": "skip"}, True, ()),
        ({"tolerance": 2 / 84}, True, ()),
        ({"tolerance": 1.9 / 84}, False, ()),
        ({"tolerance": 2}, True, ()),
        ({"tolerance": 1}, False, ()),
        ({"severity": "warn", "tolerance": 1}, True, ("mode",)),
    ],
    ids=str,
)
def test_severity_and_tolerance_decide(
    change: dict[str, Any],
    accepted: bool,
    warned: tuple[str, ...],
    table: pd.DataFrame,
    seal: Callable[..., Manifest],
    out: Path,
) -> None:
    put(study(NORMAL), mode="RGBA")(table)
    params = judged(expectations={"mode": change})
    if accepted:
        assert judge(seal(table), params, out).facts.warnings == warned
    else:
        with pytest.raises(DataRefused, match="1 of 26 gates does not hold: mode is broken: "):
            judge(seal(table), params, out)


def test_what_is_tolerated_is_still_told(table: pd.DataFrame, seal: Callable[..., Manifest], out: Path) -> None:
    put(study(NORMAL), mode="RGBA")(table)
    judge(seal(table), judged(expectations={"mode": {"tolerance": 2}}), out)
    report = json.loads((out / "validation.json").read_text())
    assert report["counts"]["tolerated"] == 1
    assert entry(out, "mode")["success"]
    assert [member["member"] for member in entry(out, "mode")["members"]] == [
        f"{NORMAL}/image1.png",
        f"{NORMAL}/image2.png",
    ]
    assert "tolerated" in Page(out / "report.html").text


def test_what_is_skipped_says_why(table: pd.DataFrame, seal: Callable[..., Manifest], out: Path) -> None:
    judge(seal(table), judged(expectations={"aspect": {"severity": "skip"}}), out)
    skipped = json.loads((out / "validation.json").read_text())["skipped"]
    assert skipped["aspect"] == "skipped by params.yaml"
    assert skipped["drift_modes"] == "no --reference given"
    assert skipped["published_images"] == "not the published MURA v1.1"
    assert len(skipped) == 1 + 5 + 5


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"expectations": {"not_blanc": {"severity": "gate"}}}, "not_blank"),
        ({"expectations": {"decodes": {"severity": "warn"}}}, "decodes is always a gate"),
        ({"expectations": {"mode": {"severity": "error"}}}, "'gate', 'warn' or 'skip'"),
        ({"expectations": {"mode": {"tolerance": -1}}}, "greater than or equal to 0"),
        ({"expectations": {"mode": {"tolerate": 1}}}, "tolerate"),
        ({"abnormal_share": (0.8, 0.2)}, "ascending"),
        ({"min_side": 2_000}, "max_side"),
    ],
)
def test_choices_that_make_no_sense_are_refused(changes: dict[str, Any], hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        judged(**changes)


def test_every_expectation_has_a_default_and_every_default_an_expectation() -> None:
    facts = ManifestFacts(archive="MURA-v1.1.zip", images=1, studies=1, patients=1, sidecars=0, others=())
    from components.validate.expectations import expectations

    tables = dict.fromkeys(("images", "groups", "shifts", "counts", "patients", "drifts"), pd.DataFrame())
    names = [one.meta["name"] for one in expectations(facts, PARAMS, tables)]
    assert sorted(names) == sorted(DEFAULTS)


def test_every_offender_is_in_the_table_of_offenders(
    table: pd.DataFrame, seal: Callable[..., Manifest], out: Path
) -> None:
    table["mode"] = "P"
    put(image(f"{NORMAL}/image2.png"), channel_difference=11)(table)
    with pytest.raises(DataRefused):
        judge(seal(table), PARAMS, out)
    offenders = pd.read_parquet(out / "offenders.parquet")
    assert set(offenders.loc[offenders["expectation"] == "mode", "key"]) == set(table["image"])
    other = offenders[offenders["expectation"] == "channels_agree"].to_dict("records")
    assert other == [
        {
            "expectation": "channels_agree",
            "severity": "warn",
            "holds": False,
            "unit": "image",
            "key": f"{NORMAL}/image2.png",
            "member": f"{NORMAL}/image2.png",
            "told": f"{NORMAL}/image2.png (channel_difference: 11)",
        }
    ]


# Drift

DRIFTS: dict[str, Fault] = {
    "drift_body_parts": lambda table: table.assign(body_part="wrist"),
    "drift_labels": lambda table: table.assign(abnormal=0).astype({"abnormal": "Int64"}),
    "drift_modes": lambda table: table.assign(mode="RGB"),
    "drift_sizes": lambda table: table.assign(width=300, height=260).astype({"width": "Int64", "height": "Int64"}),
    "drift_grey_levels": lambda table: table.assign(mean=table["mean"] + 40),
}


@pytest.mark.long
@pytest.mark.parametrize("name", [None, *DRIFTS])
def test_what_has_moved_since_a_reference_is_told(
    name: str | None, table: pd.DataFrame, seal: Callable[..., Manifest], out: Path
) -> None:
    before = DRIFTS[name](table) if name else table.sample(frac=1, random_state=1)
    assert before is not None
    reference = seal(before, place="reference")
    valid = judge(seal(table), PARAMS, out, reference)
    assert valid.facts.warnings == ((name,) if name else ())
    report = json.loads((out / "validation.json").read_text())
    assert report["reference"]["digest"] == reference.digest
    assert "Since the reference" in Page(out / "report.html").text


@pytest.mark.long
def test_few_studies_do_not_drift_by_chance(table: pd.DataFrame, seal: Callable[..., Manifest], out: Path) -> None:
    few = table[table["patient"].isin([f"patient{n:05d}" for n in (1, 2, 3, 5)])]
    assert judge(seal(table), PARAMS, out, seal(few, place="reference")).facts.warnings == ()


# The published archive


@pytest.fixture(scope="module")
def mura() -> pd.DataFrame:
    """A table with the counts of the published MURA v1.1."""
    rows: list[dict[str, Any]] = []
    for one in plan(mura_v1_1.STUDIES, seed=1).studies:
        patient, part = f"patient{one.patient:05d}", one.part.lower()
        split = "test" if one.split == "valid" else "tuning" if one.patient % 10 == 0 else "train"
        known = {"patient": patient, "body_part": part, "source_split": one.split, "split": split}
        rows += [_row(one.path.rstrip("/"), view, **known) for view in range(1, one.views + 1)]
    return pd.DataFrame(rows).astype(DTYPES)


PUBLISHED = judged(published="mura-v1.1", max_views=16, pictures=False)


@pytest.mark.long
def test_the_published_counts_are_recognised(mura: pd.DataFrame, seal: Callable[..., Manifest], out: Path) -> None:
    valid = judge(seal(mura), judged(max_views=16, pictures=False), out)
    # Hands, fingers and forearms shift between MURA's own splits.
    assert valid.facts.warnings == ("label_shift",)
    assert {member["member"] for member in entry(out, "label_shift")["members"]} == {"hand", "finger", "forearm"}
    assert entry(out, "published_images")["tested"] == 28
    assert "held against the published MURA v1.1" in Page(out / "report.html").text


@pytest.mark.long
def test_what_differs_from_the_published_counts_is_named(
    mura: pd.DataFrame, seal: Callable[..., Manifest], out: Path
) -> None:
    # A study of one view goes with it.
    hand = mura[(mura["body_part"] == "hand") & (mura["split"] == "test") & (mura["abnormal"] == 1)]
    lone = hand[hand.groupby("patient")["study"].transform("size") == 1].iloc[0]
    changed = mura[mura["image"] != lone["image"]]
    with pytest.raises(DataRefused) as refused:
        judge(seal(changed), PUBLISHED, out)
    assert failed(out) >= {"published_images", "published_studies"}
    assert "valid hand abnormal (images: 188, published images: 189)" in str(refused.value)
    assert not failed(out) & {"published_views", "published_longest_side"}


@pytest.mark.long
@pytest.mark.parametrize("published", ["auto", "mura-v1.1"])
def test_chosen_body_parts_are_held_against_their_published_counts(
    published: str, mura: pd.DataFrame, seal: Callable[..., Manifest], out: Path
) -> None:
    parts = ("elbow", "humerus", "wrist")
    some = mura[mura["body_part"].isin(parts)]
    judge(seal(some, body_parts=parts), judged(published=published, max_views=16, pictures=False), out)
    assert entry(out, "published_images")["tested"] == 4 * len(parts)
    assert (
        "all body parts together" in json.loads((out / "validation.json").read_text())["skipped"]["published_patients"]
    )


@pytest.mark.long
def test_a_chosen_body_part_that_differs_from_the_published_counts_is_named(
    mura: pd.DataFrame, seal: Callable[..., Manifest], out: Path
) -> None:
    wrists = mura[mura["body_part"] == "wrist"]
    with pytest.raises(
        DataRefused,
        match=r"published_images is broken: .*: train wrist (?:ab)?normal \(images: ",
    ):
        judge(seal(wrists.iloc[1:], body_parts=("wrist",)), PUBLISHED, out)


@pytest.mark.long
def test_another_archive_is_not_held_against_the_published_counts_unless_it_is_said_to_be_it(
    table: pd.DataFrame, seal: Callable[..., Manifest], out: Path
) -> None:
    manifest = seal(table)
    judge(manifest, PARAMS, out)
    assert "published_images" not in {
        each["name"] for each in json.loads((out / "validation.json").read_text())["expectations"]
    }
    with pytest.raises(DataRefused, match="published_images"):
        judge(manifest, judged(published="mura-v1.1"), out)
