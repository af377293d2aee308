"""The probabilities of a version's studies travel without names, and come back as they were stored."""

import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import scored

from components.artifacts.evaluation import STUDIES, Evaluation
from components.artifacts.registration import RegisteredModel
from components.artifacts.trained_model import TrackedRun, TrainedModel
from components.signing import keys
from components.tracking import evidence_files, model_registry, stored_studies


@pytest.fixture(params=["database", "server"])
def name(request: pytest.FixtureRequest, no_mlflow: pytest.MonkeyPatch) -> str:
    """A name nobody has used, in the registry of a local database and of a server."""
    if request.param == "database":
        request.getfixturevalue("mlflow_here")
    else:
        no_mlflow.setenv("MLFLOW_TRACKING_URI", request.getfixturevalue("mlflow_server"))
    return f"mura-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def model(make_model: Callable[..., TrainedModel]) -> TrainedModel:
    return make_model("vgg16", uuid.uuid4().bytes)


@pytest.fixture
def evaluation(model: TrainedModel, make_evaluation: Callable[..., Evaluation]) -> Evaluation:
    return make_evaluation(model, 0.8)


def fetched(version: RegisteredModel) -> stored_studies.Stored:
    return model_registry.holder(version.model, version.version, ("champion",)).studies


@pytest.mark.long
def test_what_was_stored_comes_back_and_has_no_names(
    name: str,
    model: TrainedModel,
    evaluation: Evaluation,
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Callable[..., RegisteredModel],
) -> None:
    version = register_hollow(name, model, evaluation, make_tracked())
    found = fetched(version)
    assert found.missing == ""
    expected = stored_studies.nameless(pd.read_parquet(evaluation.path / STUDIES))
    assert found.table is not None
    pd.testing.assert_frame_equal(found.table, expected)
    table = scored(0.8)[1].table
    assert found.table["probability"].tolist() == table["probability"].tolist()
    assert found.table["abnormal"].tolist() == table["abnormal"].tolist()
    words = {str(each) for column in found.table for each in found.table[column]}
    assert not words & {*table["study"], *table["patient"]}


def test_ids_of_studies_are_keyed(evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    one, again = (stored_studies.keyed(evaluation)[stored_studies.ID] for _ in range(2))
    assert one.tolist() == again.tolist()
    assert one.is_unique
    monkeypatch.setenv(keys.SIGNING_KEY, (pem := keys.drawn()).decode())
    monkeypatch.setenv(keys.TRUSTED_KEYS, keys.public_of(pem, "").pem.decode())
    assert not set(one) & set(stored_studies.keyed(evaluation)[stored_studies.ID])


def test_a_table_of_other_columns_or_rows_is_told(evaluation: Evaluation, model: TrainedModel, tmp_path: Path) -> None:
    version = evidence_files.facts(model, evaluation, "mura", "r1")
    table, file = stored_studies.keyed(evaluation), tmp_path / "studies.parquet"
    digest = stored_studies.sha256(table)
    assert stored_studies.of_evidence(file, version, digest).missing == "is lost from its evidence"
    table.to_parquet(file, index=False)
    found = stored_studies.of_evidence(file, version, digest).table
    assert found is not None
    pd.testing.assert_frame_equal(found, stored_studies.nameless(pd.read_parquet(evaluation.path / STUDIES)))
    for other in (
        table.assign(probability=table["probability"] / 2),
        table.drop(columns="study"),
        pd.concat([table] * 3),
        table.assign(body_part="wrist" * 100_000),
    ):
        other.to_parquet(file, index=False, use_dictionary=False)
        assert stored_studies.of_evidence(file, version, digest).missing == "is not that of its evidence"
    file.write_bytes(b"PAR1 and no more")
    assert stored_studies.of_evidence(file, version, digest).missing == "is not that of its evidence"


@pytest.mark.long
def test_aliases_are_told_by_version(
    name: str,
    model: TrainedModel,
    evaluation: Evaluation,
    make_tracked: Callable[[], TrackedRun],
    register_hollow: Callable[..., RegisteredModel],
) -> None:
    assert model_registry.aliases(name) == {}
    version = register_hollow(name, model, evaluation, make_tracked())
    assert model_registry.aliases(name) == {}
    for alias in ("staging", "champion"):
        model_registry.set_alias(version, alias)
    assert model_registry.aliases(name) == {1: ("champion", "staging")}


def test_patients_are_counted_in_each_split_and_rows_keep_their_order() -> None:
    studies = pd.DataFrame(
        {
            "split": ["tuning", "tuning", "tuning", "test", "test"],
            "patient": ["z", "a", "z", "a", "b"],
            "study": list("abcde"),
            "body_part": ["wrist"] * 5,
            "abnormal": np.array([0, 1, 0, 1, 1], np.int32),
            "probability": [0.1, 0.2, 0.3, 0.4, 0.5],
        }
    )
    found = stored_studies.nameless(studies)
    assert found["patient"].tolist() == [0, 1, 0, 0, 1]
    assert list(found) == ["split", "patient", "body_part", "abnormal", "probability"]
    # The types of another library say the same.
    assert stored_studies.sha256(found) == stored_studies.sha256(stored_studies.nameless(studies.convert_dtypes()))
    assert stored_studies.sha256(found) != stored_studies.sha256(found.assign(probability=[0.1, 0.2, 0.3, 0.4, 0.6]))
