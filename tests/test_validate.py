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

from components.artifacts.archive import Archive
from components.artifacts.artifact import json_sha256
from components.artifacts.manifest import BODY_PARTS, TABLE, Manifest, ManifestFacts, ValidManifest
from components.errors import DataRefused
from components.images import SPECTRUM_SIDE
from components.params.validate import ValidateParams
from components.validate import validate

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
    max_inversion=0,
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
    for split, published in (("train", "train"), ("tuning", "train"), ("test", "valid")):
        for part in BODY_PARTS:
            for label in ("negative", "positive"):
                number += 1
                patient = f"patient{number:05d}"
                study = f"MURA-v1.1/{published}/XR_{part.upper()}/{patient}/study1_{label}"
                rows += [
                    _row(study, view, patient=patient, body_part=part, source_split=published, split=split)
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
    def seal(table: pd.DataFrame, **facts: Any) -> Manifest:
        path = tmp_path / "manifest"
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


def judge(manifest: Manifest, params: ValidateParams, out: Path) -> ValidManifest:
    """Validation beside an archive that holds what the manifest says: of every image its name for a picture."""
    table = manifest.table
    contents = {sha256(name.encode()).hexdigest(): name.encode() for name in {*clean()["image"], *table["image"]}}
    held = table[table["found"] & table["sha256"].notna()].drop_duplicates("image")
    files = {name: contents[digest] for name, digest in zip(held["image"], held["sha256"], strict=True)}
    return validate(Archive.read(write_zip(out.with_name("MURA-v1.1.zip"), files)), manifest, params, out)


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
        "MURA-v1.1/train/XR_ELBOW/image2.png",
    ),
    "body_part": (put(study(NORMAL), body_part="knee"), f"{NORMAL}/image1.png"),
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
    "mode": (put(image(f"{NORMAL}/image2.png"), mode="RGBA"), f"{NORMAL}/image2.png (mode: RGBA)"),
    "min_side": (put(image(f"{NORMAL}/image2.png"), width=150, height=63), f"{NORMAL}/image2.png (shorter side: 63)"),
    "max_side": (put(image(f"{NORMAL}/image2.png"), height=1025), f"{NORMAL}/image2.png (longer side: 1025)"),
    "views": (more_views, f"{NORMAL} (views of the study: 4)"),
    "picture_in_one_split": (twin(f"{NORMAL}/image1.png", TUNING), f"(same picture in another split: {TUNING})"),
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
    "not_inverted": (odd(rim=90.1), f"{NORMAL}/image2.png"),
    "aspect": (odd(height=170), f"{NORMAL}/image2.png"),
    "channels_agree": (odd(mode="RGB", channel_difference=1), f"{NORMAL}/image2.png"),
}


# Of the table's pictures nothing but numbers is there; tests/test_faults.py shows them.
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


def test_empty_table_is_refused(table: pd.DataFrame, seal: Callable[..., Manifest], out: Path) -> None:
    with pytest.raises(DataRefused, match="not_empty: there are images, found 0"):
        judge(seal(table.head(0)), PARAMS, out)
    assert failed(out) == {"not_empty", "splits_present"}


def test_table_cut_short_is_refused(table: pd.DataFrame, seal: Callable[..., Manifest], out: Path) -> None:
    with pytest.raises(DataRefused, match="complete"):
        judge(seal(table, images=len(table) + 1), PARAMS, out)
    assert failed(out) == {"complete"}


def test_archive_of_other_pictures_is_refused(table: pd.DataFrame, seal: Callable[..., Manifest], out: Path) -> None:
    other = write_zip(out.with_name("other.zip"), dict.fromkeys(table["image"], b"another picture"))
    with pytest.raises(DataRefused, match="not the archive that the manifest describes") as refused:
        validate(Archive.read(other), seal(table), PARAMS, out)
    assert refused.value.keep is None


def test_refusal_is_one_line_that_counts_what_it_does_not_name(
    table: pd.DataFrame, seal: Callable[..., Manifest], out: Path
) -> None:
    table["mode"] = "P"
    with pytest.raises(DataRefused) as refused:
        judge(seal(table), PARAMS, out)
    assert refused.value.exit_code == 3
    assert refused.value.keep == out
    assert "\n" not in str(refused.value)
    assert f"and {len(table) - 3} more" in str(refused.value)
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
        "expectations": 39,
        "held": 38,
        "tolerated": 0,
        "failed_gates": 1,
        "failed_warnings": 0,
    }


def test_units_are_counted_not_their_rows(table: pd.DataFrame, seal: Callable[..., Manifest], out: Path) -> None:
    judge(seal(table), PARAMS, out)
    assert entry(out, "mode")["tested"] == len(table)
    assert entry(out, "study_has_one_label")["tested"] == table["study"].nunique()
    assert entry(out, "patient_in_one_split")["tested"] == table["patient"].nunique()
    assert entry(out, "abnormal_share")["tested"] == 3 * len(BODY_PARTS)


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
    assert "knows him again" in page.text
    assert ("truncated at byte 4,096" in page.text) == bool(fault)


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


def test_data_digest_is_of_images_labels_and_splits_in_any_order(
    table: pd.DataFrame, seal: Callable[..., Manifest], out: Path
) -> None:
    valid = judge(seal(table), PARAMS, out)
    rows = table[["image", "sha256", "abnormal", "split"]].itertuples(index=False)
    assert valid.facts.data_digest == json_sha256(sorted([i, s, int(a), p] for i, s, a, p in rows))


def test_one_line_tells_the_verdict(
    table: pd.DataFrame, seal: Callable[..., Manifest], out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    odd(std=1.9)(table)
    judge(seal(table), PARAMS, out)
    assert [message for message in caplog.messages if message.startswith("validate:")] == [
        "validate: 84 images, 39 expectations: gates hold, warnings: not_blank"
    ]


def test_importing_the_step_is_light() -> None:
    code = "import sys, components.validate; print(*{'great_expectations', 'pandas', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""
