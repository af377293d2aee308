"""The table on the terminal names candidates, the champion, and where to look further."""

from pathlib import Path
from typing import Any

import pytest
from conftest import make_scores

from components.artifacts.promotion import Decision, Promotion, PromotionFacts
from components.artifacts.registration import RegisteredModel
from components.cli import main, summary


def version(number: int, candidate: str, **changes: Any) -> RegisteredModel:
    facts = {
        "model": "mura",
        "version": number,
        "run_id": "r",
        "candidate": candidate,
        "architecture": "vgg16",
        "model_digest": "a1",
        "evaluation_digest": "b2",
        "data_digest": "c3",
        "code_revision": "d4",
        "training_seconds": 200.0,
        "scores": make_scores(0.8),
    }
    return RegisteredModel(**facts | changes)


def shown(path: Path, outcome: Any, *candidates: RegisteredModel) -> None:
    facts = PromotionFacts(
        alias="champion",
        decision=Decision(outcome=outcome, reasons=("the reason",)),
        challenger=candidates[0],
        previous=None,
        current=candidates[0] if outcome == "promoted" else None,
        candidates=candidates,
    )
    path.mkdir()
    summary.show(Promotion.seal(path, facts))


def test_two_candidates_of_one_architecture_are_two_rows_with_two_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown(tmp_path / "promotion", "promoted", version(1, "vgg16"), version(2, "wide"))
    told = capsys.readouterr().out
    rows = [" ".join(line.split()) for line in told.splitlines()]
    value = "0.800 (0.750 to 0.850) 0.600 (0.550 to 0.650) 3 min 20 s"
    assert f"VGG-16 * mura v1 {value}" in rows
    assert f"wide (VGG-16) mura v2 {value}" in rows
    assert "promoted: VGG-16" in rows
    assert "* holds the alias champion: models:/mura@champion" in rows
    for name in ("vgg16", "wide"):
        assert str(tmp_path / "evaluation" / name / "report.html") in told


def test_a_refused_candidate_alone_has_its_row_and_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    undefined = make_scores().tuning.auroc.model_copy(update={"value": None, "low": None, "high": None})
    tuning = make_scores().tuning.model_copy(update={"auroc": undefined})
    shown(tmp_path / "promotion", "refused", version(1, "wide", scores=make_scores(tuning=tuning)))
    told = capsys.readouterr().out
    assert "refused: wide (VGG-16)" in told
    assert "the reason" in told
    assert "n/a" in told
    assert "holds the alias" not in told


def test_the_stress_tests_that_there_are_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "stress" / "wide" / "report.html"
    report.parent.mkdir(parents=True)
    report.write_text("<p>")
    shown(tmp_path / "promotion", "promoted", version(1, "wide"), version(2, "narrow"))
    told = capsys.readouterr().out
    assert str(report) in told
    assert "stress/narrow" not in told


def test_credentials_of_mlflow_are_not_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ann:secret@mlflow.example.org")
    shown(tmp_path / "promotion", "promoted", version(1, "wide"))
    told = capsys.readouterr().out
    assert "https://mlflow.example.org/#/models/mura/versions/1?workflowType=machine_learning" in told
    assert "secret" not in told


def test_an_experiment_shows_no_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = PromotionFacts(
        alias="champion",
        decision=Decision(outcome="trial", reasons=("puffy-dogs is an experiment",)),
        challenger=None,
        previous=None,
        current=None,
        candidates=(),
    )
    Promotion.seal(tmp_path, facts)
    assert main.run(["summary", "--promotion", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "trial: puffy-dogs is an experiment\n"


def test_a_version_that_is_not_in_the_registry_is_not_shown(
    mlflow_here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown(mlflow_here / "promotion", "promoted", version(1, "wide"))
    capsys.readouterr()
    assert main.run(["summary", "--promotion", "promotion"]) == 2
    told = capsys.readouterr()
    assert "mura version 1 (wide) is not in the registry at sqlite:///" in told.err
    assert told.out == ""
