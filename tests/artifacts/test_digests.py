"""What an attacker changes on a card and in tables, if he writes the checksum anew."""

import contextlib
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import COMMIT, MEASURED_WITH, calibrated_facts, make_scores
from protocols import PROTOCOL

from components.artifacts.artifact import Artifact, File
from components.artifacts.evaluation import (
    METRICS,
    PREDICTIONS,
    STUDIES,
    SUMMARY,
    TEST_METRICS,
    Evaluation,
    EvaluationFacts,
    SecondOpinion,
)
from components.artifacts.manifest import TABLE, Manifest, ManifestFacts, ValidManifest, ValidManifestFacts
from components.artifacts.parts import (
    ManifestOrigin,
    ManifestPart,
    ManifestPartFacts,
    ShardsOrigin,
    ShardsPart,
    ShardsPartFacts,
)
from components.artifacts.promotion import Criterion, Decision, Promotion, PromotionFacts
from components.artifacts.registration import (
    GateFigures,
    Opened,
    OtherProtocol,
    RegisteredModel,
    Registration,
    RegistrationFacts,
)
from components.artifacts.shards import RECORDS, Cohort, PartFacts, Shards, ShardsFacts, SplitFacts
from components.artifacts.trained_model import CURVES, WEIGHTS, Offsets, TrackedRun, TrainedModel, TrainedModelFacts
from components.base.errors import DataRefused
from components.base.files import json_sha256

PROVENANCE = {
    "archive", "archive_md5", "device", "seconds", "code_revision", "environment", "run", "run_id", "training_seconds",
    "opened",
}  # fmt: skip
"""Whoever believes one of these believes the card's checksum alone. Everything else decides."""

OF_MANIFEST: dict[str, Any] = {
    "archive": "MURA-v1.1.zip", "archive_md5": "a5" * 16, "images": 5, "studies": 4, "patients": 3, "sidecars": 1,
    "others": ("notes.txt",), "overlay_digest": "0e" * 32, "overlay_studies": 2, "body_parts": ("wrist",),
    "empty_studies": 1, "left_out_images": 7, "left_out_studies": {"hand": 6},
}  # fmt: skip
MANIFEST = ManifestFacts(**OF_MANIFEST)
SPLIT = SplitFacts(
    images=2,
    studies=2,
    patients=2,
    abnormal=1,
    abnormal_studies=1,
    body_parts={"wrist": Cohort(images=2, studies=2, abnormal_studies=1, patients=2)},
    files=("train.tfrecord",),
    records=(2,),
    digest="d1" * 32,
)
SHARDS = ShardsFacts(
    image_size=32,
    data_digest="da" * 32,
    archive_md5="a5" * 16,
    splits={"train": SPLIT},
    train_images={"wrist": PartFacts(normal=1, abnormal=1)},
)
CALIBRATED = calibrated_facts(make_scores(0.8), ("half",))
OFFSETS = Offsets(body_part={"wrist": 0.3}, pooled=0.1)
REGISTERED = RegisteredModel(
    model="mura", version=3, run_id="4" * 32, candidate="wide", architecture="vgg16", model_digest="0d" * 32,
    evaluation_digest="e7" * 32, data_digest="da" * 32, body_parts=("wrist",), code_revision=COMMIT,
    training_seconds=12.5, protocol=PROTOCOL, calibration=CALIBRATED["calibration"], offsets=OFFSETS,
    scores=make_scores(0.8),
    gate=GateFigures(
        abnormal_patients=31, normal_patients=32, parts={"wrist": 90}, expected_error=0.1, expected_error_by_chance=0.2
    ),
)  # fmt: skip
ASKED = Criterion(name="Golden set", passed=True, words="as before", split="test")
OPENED = Opened(
    models=5, protocols=(OtherProtocol(versions=("mura 1", "mura 2"), differences=("min_auroc 0.8, now 0.6",)),)
)
ORIGIN: dict[str, Any] = {"code": "c0" * 32, "contents": "c7" * 32, "params": {"max_members": 9}, "parts": 2}
FACTS: dict[type[Artifact[Any]], Any] = {
    Manifest: MANIFEST,
    ValidManifest: ValidManifestFacts(
        **OF_MANIFEST, manifest_digest="0a" * 32, data_digest="da" * 32, expectations=40, warnings=("mode",)
    ),
    ManifestPart: ManifestPartFacts(part=1, rows=3, origin=ManifestOrigin(**ORIGIN, seed=1, manifest=MANIFEST)),
    Shards: SHARDS,
    ShardsPart: ShardsPartFacts(
        part=1,
        files={"train.tfrecord": File(bytes=4, sha256="0f" * 32)},
        origin=ShardsOrigin(**ORIGIN, manifest_digest="0a" * 32, shards=SHARDS),
    ),
    TrainedModel: TrainedModelFacts(
        candidate="wide", architecture="vgg16", image_size=32, parameters=10,
        params={"weights": "none", "learning_rate": 0.001, "flip": True}, seed=1, precision="float32", device="CPU",
        phases=("all",), epochs=2, best_epoch=2, tuning={"auroc": 0.7, "loss": 0.65}, seconds=12.5,
        data_digest="da" * 32, archive_md5="a5" * 16, shards_digest="5a" * 32, code_revision=COMMIT,
        environment={"keras": "3.15.1"}, offsets=Offsets(body_part={"wrist": 0.2}, pooled=0.3),
        run=TrackedRun(run_id="4" * 32, model_uri="models:/m-1"),
    ),
    Evaluation: EvaluationFacts(
        candidate="wide", architecture="vgg16", model_digest="0d" * 32, data_digest="da" * 32,
        shards_digest="5a" * 32, code_revision=COMMIT, body_parts=("wrist",), params=MEASURED_WITH, protocol=PROTOCOL,
        seed=1, scores=make_scores(0.8), **CALIBRATED,
        second_opinion=SecondOpinion(overlay_digest="0e" * 32, studies=2, test=make_scores(0.7).test),
    ),
    Registration: RegistrationFacts(versions=(REGISTERED,), opened=OPENED, trial="puffy-dogs"),
    Promotion: PromotionFacts(
        alias="champion", decision=Decision(
            outcome="promoted", reasons=("better",), on_test=("better there",), criteria=(ASKED,)
        ),
        challenger=REGISTERED,
        previous=REGISTERED.model_copy(update={"version": 2}), current=REGISTERED, candidates=(REGISTERED,),
        opened=OPENED,
    ),
}  # fmt: skip

FILES: dict[type[Artifact[Any]], tuple[str, ...]] = {
    Manifest: (TABLE,),
    ValidManifest: (TABLE,),
    ManifestPart: (TABLE,),
    Shards: (RECORDS, "train.tfrecord"),
    ShardsPart: (RECORDS, "train.tfrecord"),
    TrainedModel: (WEIGHTS, CURVES),
    Evaluation: (PREDICTIONS, STUDIES, METRICS, TEST_METRICS, SUMMARY, "plots/roc.csv"),
    Registration: ("wide.json",),
}
"""Files that decide, by the kind of artifact. A promotion is its facts; its page is for people."""


def kind_name(kind: object) -> str:
    return getattr(kind, "__name__", str(kind))


def leaves(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every single value in JSON."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves(value[key], (*place, key))
    else:
        yield place


def changed(value: Any) -> Any:
    """Another value of its type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1e-9 if isinstance(value, float) else value + 1
    return "kept" if value == "promoted" else f"{value}x"


def put(value: Any, place: tuple[Any, ...]) -> None:
    """Change the value at a place of JSON."""
    for key in place[:-1]:
        value = value[key]
    value[place[-1]] = changed(value[place[-1]])


def seal(kind: type[Artifact[Any]], path: Path) -> Artifact[Any]:
    path.mkdir()
    for name in FILES.get(kind, ()):
        (path / name).parent.mkdir(exist_ok=True)
        write(path / name, 0.5)
    (path / "report.html").write_text("<p>report</p>")
    return kind.seal(path, FACTS[kind])


def write(file: Path, value: float) -> None:
    """A file that holds a value."""
    if file.suffix == ".parquet":
        pd.DataFrame({"image": ["a", "b"], "offset": [1, 2], "logit": [0.25, value]}).to_parquet(file, index=False)
    elif file.suffix == ".json":
        file.write_text(json.dumps({"auroc": value}))
    elif file.suffix == ".csv":
        with file.open("w", newline="") as text:
            csv.writer(text).writerows([["epoch", "auroc"], [1, value]])
    else:
        file.write_bytes(repr(value).encode())


def forge(kind: type[Artifact[Any]], path: Path, place: tuple[Any, ...] = ()) -> None:
    """Write the card of a directory anew: one fact changed, the files as they are, and a checksum that fits."""
    card = json.loads((path / kind.CARD).read_text())
    if place:
        put(card["facts"], place)
    card["files"] = {name: File.of(path / name).model_dump() for name in card["files"]}
    del card["checksum"]
    text = json.dumps(card | {"checksum": json_sha256(card)}, indent=2, ensure_ascii=False)
    (path / kind.CARD).write_text(text + "\n")


@pytest.mark.long
@pytest.mark.parametrize("kind", FACTS, ids=kind_name)
def test_every_fact_that_is_not_provenance_is_in_the_digest(kind: type[Artifact[Any]], tmp_path: Path) -> None:
    path = tmp_path / "made"
    made = seal(kind, path)
    card = (path / kind.CARD).read_text()
    places = list(leaves(json.loads(card)["facts"]))
    believed = []
    for place in places:
        (path / kind.CARD).write_text(card)
        forge(kind, path, place)
        with contextlib.suppress(DataRefused):
            assert kind.read(path).digest == made.digest
            believed.append(place)
    assert believed == [place for place in places if PROVENANCE & set(place)]


DECISIVE = [(kind, name) for kind, names in FILES.items() for name in names]


@pytest.mark.parametrize(("kind", "name"), DECISIVE, ids=kind_name)
def test_every_file_that_decides_is_in_the_digest(kind: type[Artifact[Any]], name: str, tmp_path: Path) -> None:
    path = tmp_path / "made"
    seal(kind, path)
    write(path / name, 0.75)
    forge(kind, path)
    with pytest.raises(DataRefused, match=r"its digest does not belong to its facts and files.*Run `mura"):
        kind.read(path)


@pytest.mark.parametrize("kind", FACTS, ids=kind_name)
def test_pages_for_people_are_under_the_checksum_alone(kind: type[Artifact[Any]], tmp_path: Path) -> None:
    path = tmp_path / "made"
    digest = seal(kind, path).digest
    (path / "report.html").write_text("<p>another day</p>")
    with pytest.raises(DataRefused, match=r"report\.html: changed"):
        kind.read(path)
    forge(kind, path)
    assert kind.read(path).digest == digest


TABLES = [(kind, name) for kind, name in DECISIVE if name.endswith(".parquet")]


@pytest.mark.parametrize(("kind", "name"), TABLES, ids=kind_name)
def test_another_writer_of_parquet_makes_equal_artifacts(kind: type[Artifact[Any]], name: str, tmp_path: Path) -> None:
    made = seal(kind, tmp_path / "made")
    table = pd.read_parquet(made.path / name)
    table.to_parquet(made.path / name, index=False, compression="gzip", row_group_size=1)
    assert kind.seal(made.path, made.facts).digest == made.digest


@pytest.mark.parametrize(("kind", "name"), TABLES, ids=kind_name)
def test_a_table_that_is_none_is_named(kind: type[Artifact[Any]], name: str, tmp_path: Path) -> None:
    made = seal(kind, tmp_path / "made")
    (made.path / name).write_bytes(b"PAR1 and no more PAR1")
    forge(kind, made.path)
    with pytest.raises(DataRefused, match=rf"{name}: not the table or JSON of its name") as refusal:
        kind.read(made.path)
    assert "\n" not in str(refusal.value)
