"""A registered version on another labelled archive, through the command line."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import pytest
import yaml
from miniature import ROOT, archive, images, lists, manifest, png, prove, use_cores, write_directory, write_zip
from registered import Registered

from components.archive.archive import Archive
from components.artifacts.external_validation import ExternalValidation
from components.base.errors import DataChanged, ExitCode
from components.cli import main
from components.external import picture_answers
from components.predict.predictor import Predictor

pytestmark = pytest.mark.long

DEMO = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
CHAMPION = "models:/mura@champion"
Mura = Callable[..., tuple[int, str]]


@pytest.fixture
def mura(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Mura:
    """Runs a command: exit code, what it said."""

    def run(*words: str) -> tuple[int, str]:
        caplog.clear()
        code = main.run(words)
        return code, "\n".join([*caplog.messages, *capsys.readouterr()])

    return run


@pytest.fixture
def here(registered: Registered, no_mlflow: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A directory in which one stands."""
    no_mlflow.chdir(tmp_path)
    no_mlflow.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{registered.folder}/mlflow.db")
    use_cores(1, no_mlflow)
    return tmp_path


def others() -> dict[str, bytes]:
    """Another archive: its pictures are none of the first one's."""
    files = archive(images(train=28, valid=14))
    rng = np.random.default_rng(7)
    return {
        name: png(rng.integers(0, 255, (50, 40), dtype=np.uint8)) if name.endswith(".png") else content
        for name, content in files.items()
    }


def test_at_home_it_finds_what_evaluate_found(here: Path, registered: Registered, mura: Mura) -> None:
    code, said = mura(
        "evaluate", "--model", CHAMPION, "--archive", f"{registered.folder}/archive.zip", "--out", "external"
    )
    assert code == ExitCode.DONE, said
    found = pd.read_parquet("external/studies.parquet").set_index("study")
    test = registered.studies[registered.studies["split"] == "test"].set_index("study")
    assert len(test) > 10
    assert np.allclose(found.loc[test.index, "probability"], test["probability"], atol=1e-5)
    assert (found.loc[test.index, "views"] == test["views"]).all()
    facts = ExternalValidation.read(Path("external")).facts
    assert facts.version.scores.threshold == registered.threshold
    assert facts.scores.n_studies == len(found)
    assert set(facts.pooled_parts) == {"elbow", "finger", "forearm", "humerus", "shoulder"}
    assert "not known whether the model was made with some of these pictures" in said
    # The version's own scores stay what they were.
    assert json.loads(Path("external/metrics.json").read_text())["home"]["n_studies"] == len(test)


def test_the_models_own_pictures_are_left_out(here: Path, registered: Registered, mura: Mura) -> None:
    own = archive(images(train=56, valid=28))
    mixed = others()
    taken = [name for name in sorted(mixed) if name.endswith(".png")][:3]
    mixed |= {name: own[name] for name in taken}
    write_zip(here / "other.zip", mixed)
    words = ("evaluate", "--model", CHAMPION, "--archive", "other.zip", "--manifest", f"{registered.folder}/valid")
    code, said = mura(*words, "--out", "external")
    assert code == ExitCode.DONE, said
    refused = pd.read_csv("external/refused.csv")
    assert sorted(refused["image"]) == taken
    assert set(refused["why"]) == {"the model was made with the same file"}
    assert "3 pictures without an answer: the model was made with the same file" in said
    assert "give --manifest" not in said
    # Nothing else is left of an archive that is the model's own.
    code, said = mura(*words[:4], f"{registered.folder}/archive.zip", *words[5:], "--out", "own")
    assert code == ExitCode.DATA
    assert "the model was made with the same file" in said


@pytest.mark.longest
def test_what_has_no_answer_is_counted_beside_the_figures(here: Path, registered: Registered, mura: Mura) -> None:
    files = others()
    studies = sorted({name.rpartition("/")[0] for name in files if name.endswith(".png")})
    cut, lost, grey = studies[0], studies[1], studies[2]
    rng = np.random.default_rng(3)
    for name in [each for each in files if each.endswith(".png")]:
        if name.startswith(f"{cut}/"):
            files[name] = files[name][:60]
        elif name.startswith(f"{lost}/"):
            del files[name]
        elif name.startswith(f"{grey}/"):
            files[name] = png(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8))
    files |= lists(images(train=28, valid=14))
    files[f"{ROOT}/train/XR_HAND/patient99999/study1_positive/image1.png"] = next(
        content for name, content in files.items() if name.endswith(".png") and len(content) > 100
    )
    write_directory(here / "other", files)
    code, said = mura("evaluate", "--model", CHAMPION, "--archive", "other", "--out", "external")
    assert code == ExitCode.DONE, said
    facts = ExternalValidation.read(Path("external")).facts
    assert facts.counts.unanswered_normal + facts.counts.unanswered_abnormal == 3
    reasons = {each.why: each.images for each in facts.counts.refused}
    assert reasons["listed, and not in the archive"] >= 1
    assert reasons["its study has no label"] == 1
    assert reasons["a PNG in colour, not a radiograph"] >= 1
    assert facts.counts.images == sum(reasons.values()) + len(pd.read_parquet("external/predictions.parquet"))
    cells, counts = facts.scores.confusion, facts.counts
    abnormal = facts.scores.n_abnormal + counts.unanswered_abnormal
    assert facts.worst.sensitivity == pytest.approx(cells.true_positive / abnormal)
    assert facts.worst.specificity == pytest.approx(
        cells.true_negative / (facts.scores.n_studies - facts.scores.n_abnormal + counts.unanswered_normal)
    )
    page = Path("external/report.html").read_text()
    for why, number in reasons.items():
        assert re.search(rf"{re.escape(why)}</th><td class=\"n\">{number}<", page), why
    assert f"{facts.scores.auroc.value:.3f}" in page
    assert "It was not checked whether the model was made with some of these pictures" in page
    # Nothing but the report is an HTML file, and a second attempt gives the same.
    first = ExternalValidation.read(Path("external")).digest
    assert mura("evaluate", "--model", CHAMPION, "--archive", "other", "--out", "external")[0] == ExitCode.DONE
    assert ExternalValidation.read(Path("external")).digest == first


@pytest.mark.longest
def test_a_study_with_a_view_that_is_unlike_the_training_data_has_no_answer(
    wary: Registered, no_mlflow: pytest.MonkeyPatch, tmp_path: Path, mura: Mura
) -> None:
    no_mlflow.chdir(tmp_path)
    no_mlflow.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{wary.folder}/mlflow.db")
    files = archive(images(train=56, valid=28))
    # Of a study of two views, one is a blank plate.
    pairs = sorted(name for name in files if name.endswith("image2.png"))
    study = pairs[0].rpartition("/")[0]
    files[pairs[0]] = png(np.full((48, 64), 255, np.uint8))
    write_zip(tmp_path / "other.zip", files)
    code, said = mura("evaluate", "--model", CHAMPION, "--archive", "other.zip", "--out", "external")
    assert code == ExitCode.DONE, said
    refused = pd.read_csv("external/refused.csv").set_index("image")["why"]
    assert refused[pairs[0]] == "not like the training data"
    assert refused[f"{study}/image1.png"] == "another view of its study is not like the training data"
    found = pd.read_parquet("external/studies.parquet")
    assert study not in set(found["study"])
    counts = ExternalValidation.read(Path("external")).facts.counts
    assert len(found) + counts.unanswered_normal + counts.unanswered_abnormal == counts.studies


def test_what_cannot_be_measured_is_refused(here: Path, registered: Registered, mura: Mura) -> None:
    def ask(*words: str) -> tuple[int, str]:
        return mura("evaluate", "--model", CHAMPION, *words)

    one_label = {name: content for name, content in others().items() if "_negative" not in name}
    names = [name for name in one_label if name.endswith(".png")]
    write_zip(here / "one.zip", one_label | lists(names))
    code, said = ask("--archive", "one.zip", "--out", "external")
    assert (code, "expected abnormal and normal studies" in said) == (ExitCode.DATA, True), said
    assert not Path("external").exists()
    code, said = ask("--archive", "nothing.zip", "--out", "external")
    assert code == ExitCode.USAGE, said
    code, said = ask("--archive", "one.zip")
    assert (code, "--out DIR" in said) == (ExitCode.USAGE, True), said
    code, said = ask("--archive", "one.zip", "--out", "external", "--params", "params.yaml:evaluate")
    assert (code, "without --params" in said) == (ExitCode.USAGE, True), said
    write_zip(here / "unsafe.zip", others() | {f"{ROOT}/../x.png": b""})
    code, said = ask("--archive", "unsafe.zip", "--out", "external")
    assert (code, "x.png: an unsafe name" in said) == (ExitCode.DATA, True), said
    assert not Path("external").exists()
    path = write_zip(here / "two.zip", others())
    prove(manifest(path, here / "other_manifest"), here / "other_valid")
    code, said = ask("--archive", "two.zip", "--out", "external", "--manifest", "other_valid")
    assert (code, "Give the manifest of those data" in said) == (ExitCode.USAGE, True), said
    code, said = mura("evaluate", "--model", "models:/mura/7", "--archive", "two.zip", "--out", "external")
    assert (code, "has no version 7" in said) == (ExitCode.USAGE, True), said


def test_a_picture_that_vanishes_meanwhile_is_told(tmp_path: Path) -> None:
    place = write_directory(tmp_path / "archive", others())

    class Vanishing:
        """Digests that are known. Whoever asks for the first one finds the pictures gone."""

        def __contains__(self, _: object) -> bool:
            for path in place.rglob("*.png"):
                path.unlink()
            return False

    with pytest.raises(DataChanged, match=r"image\d\.png: removed from archive while it was read"):
        picture_answers.ask(cast(Predictor, None), Archive.read(place), Vanishing())
