"""A golden set is answered again as it was, and says where it is not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import mean_network
from drawn_scores import make_scores

from components.artifacts import evidence, predictor
from components.artifacts.evaluation import Calibration
from components.artifacts.predictor import PredictorCard
from components.artifacts.trained_model import Offsets
from components.base.errors import DataRefused
from components.base.files import file_sha256
from components.golden import apart, golden_pictures, replaying
from components.xray import picture

ANSWERS = evidence.GOLDEN / "answers.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A version whose logit says how bright a picture is, with its golden set."""
    made = tmp_path / "version"
    (made / predictor.DATA).mkdir(parents=True)
    (made / predictor.ONNX).write_bytes(mean_network(32))
    card = PredictorCard(
        candidate="drawn",
        architecture="custom_cnn",
        model_digest="ab" * 32,
        evaluation_digest="cd" * 32,
        data_digest="ef" * 32,
        code_revision="0" * 40,
        image_size=32,
        flips=False,
        calibration=Calibration(intercept=0.125, slope=0.75, folds=5),
        offsets=Offsets(body_part={"wrist": 0.5}, pooled=0.0),
        operating_point="kappa",
        scores=make_scores(threshold=0.5),
        network_sha256="12" * 32,
        onnx_sha256=file_sha256(made / predictor.ONNX),
    )
    (made / predictor.CARD).write_text(card.model_dump_json())
    replaying.write(made)
    return made


def test_the_pictures_are_drawn_alike_and_differ_in_size_kind_and_part() -> None:
    drawn = golden_pictures.draw()
    assert drawn == golden_pictures.draw()
    assert len({picture.read(each.png).grey.shape for each in drawn}) == len(drawn)
    assert len({each.body_part for each in drawn}) == len(drawn)
    # The kind of colours stands in a PNG's 26th byte, the depth in the 25th.
    assert len({each.png[24:26] for each in drawn}) == 3
    assert sum(len(each.png) for each in drawn) < 50_000


def test_what_was_answered_is_answered_again(folder: Path) -> None:
    assert replaying.replay(folder) == apart.Replay(6, None)
    answers = json.loads((folder / ANSWERS).read_text())["answers"]
    assert len({each["logit"] for each in answers.values()}) == 6
    assert {each["distance"] for each in answers.values()} == {None}


def change_answer(folder: Path, by: float) -> None:
    said = json.loads((folder / ANSWERS).read_text())
    said["answers"]["hand-wide"]["logit"] += by
    (folder / ANSWERS).write_text(json.dumps(said))


def test_another_answer_is_told_and_another_rounding_is_not(folder: Path) -> None:
    change_answer(folder, 1e-4)
    assert replaying.replay(folder).difference is None
    change_answer(folder, 0.01)
    assert (found := replaying.replay(folder).difference) is not None
    assert found.startswith("hand-wide: logit ")


def test_another_network_is_told(folder: Path) -> None:
    (folder / predictor.ONNX).write_bytes(mean_network(64))
    assert replaying.replay(folder).difference is not None


def test_a_set_that_is_missing_or_damaged_is_refused(folder: Path) -> None:
    picture_file = folder / evidence.GOLDEN / "hand-wide.png"
    picture_file.write_bytes(b"no picture")
    with pytest.raises(DataRefused, match="a picture cannot be read"):
        replaying.replay(folder)
    picture_file.unlink()
    with pytest.raises(DataRefused, match="cannot be read"):
        replaying.replay(folder)
    (folder / ANSWERS).unlink()
    with pytest.raises(DataRefused, match=r"answers\.json is missing"):
        replaying.replay(folder)


@pytest.mark.long
def test_a_fresh_process_says_the_same_and_has_neither_tensorflow_nor_mlflow(folder: Path) -> None:
    assert apart.replay_apart(folder) == apart.Replay(6, None)
    change_answer(folder, 0.01)
    assert (found := apart.replay_apart(folder).difference) is not None
    assert found.startswith("hand-wide: logit ")
    (folder / ANSWERS).unlink()
    with pytest.raises(DataRefused, match=r"answers\.json is missing"):
        apart.replay_apart(folder)
    script = (
        "import sys; import components.golden.replaying; print({'tensorflow', 'keras', 'mlflow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
