"""`mura tune` on a miniature: the training is that of `mura train`, and a kill in the middle costs one trial's time."""

import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from miniature import archive, images, manifest, pack, prove, use_cores, write_zip

from components.artifacts.shards import Shards
from components.base.errors import UsageError
from components.cli import main
from components.params.document import read_params
from components.tune import command, fold_training

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
RATE = {"learning_rate": {"low": 0.0005, "high": 0.002}}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    with pytest.MonkeyPatch.context() as patch:
        use_cores(1, patch)
        place = tmp_path_factory.mktemp("packed")
        path = write_zip(place / "a.zip", archive(images(train=84, valid=2)))
        return pack(path, prove(manifest(path, place / "manifest"), place / "valid"), place / "shards")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Writes params.yaml with a small network into the directory in which one stands."""
    monkeypatch.chdir(tmp_path)

    def written(default: dict[str, Any] = RATE, **candidates: Any) -> None:
        document = yaml.safe_load((ROOT / "params.yaml").read_text())
        document["train"]["default"] |= {"epochs": 2, "width": 2, "flip": False, "precision": "float32"}
        document["train"]["candidates"]["custom_cnn"] = {"architecture": "custom_cnn"}
        document["tune"] = {"folds": 2, "default": default, "candidates": candidates}
        Path("params.yaml").write_text(yaml.safe_dump(document))

    written()
    return written


def trials() -> list[tuple[int, str, float | None, float | None]]:
    """Number, state, AUROC and learning rate of each trial in the database, if there is one."""
    try:
        with closing(sqlite3.connect("file:artifacts/tune/custom_cnn.db?mode=ro", uri=True)) as database:
            return database.execute(
                "select number, state, value, param_value from trials left join trial_values using (trial_id) "
                "left join trial_params using (trial_id) order by number"
            ).fetchall()
    except sqlite3.OperationalError:
        return []


@pytest.mark.longest
def test_a_killed_search_goes_on_and_its_result_is_written(
    shards: Shards, here: Callable[..., None], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tune", "custom_cnn", "--trials", "3", "--shards", str(shards.path)]
    process = subprocess.Popen([Path(sys.executable).with_name("mura"), *words])
    while [state for _, state, *_ in trials()] != ["COMPLETE", "RUNNING"]:
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert main.run(words) == 0
    assert "tune: the worker of trial 1 is gone; the trial begins again" in caplog.text
    found = trials()
    assert [(number, state) for number, state, *_ in found] == [
        (0, "COMPLETE"),
        (1, "FAIL"),
        (2, "COMPLETE"),
        (3, "COMPLETE"),
    ]
    # One number more has the values of the killed one.
    rates = [rate for *_, rate in found]
    assert rates[1] in (rates[2], None)
    assert "3 complete, 0 pruned, 0 diverged." in capsys.readouterr().err

    # The same again trains nothing more.
    assert main.run([*words, "--write"]) == 0
    assert trials() == found
    assert capsys.readouterr().out == ""
    _, _, _, best = max(found, key=lambda trial: trial[2] or 0)
    chosen = read_params(Path("params.yaml")).train.candidates["custom_cnn"].learning_rate
    assert chosen == pytest.approx(best, rel=0.01)


def test_a_fold_measures_the_same_whatever_was_trained_before_it(shards: Shards, here: Callable[..., None]) -> None:
    params = read_params(Path("params.yaml"))
    asked = command.ask(shards, params, yaml.safe_load(Path("params.yaml").read_text())["train"], "custom_cnn")
    curves = []
    for fold in (asked.folds[0], asked.folds[1], asked.folds[0]):
        curves.append([])
        fold_training.train_fold(fold, asked.params, 1, lambda _, area: curves[-1].append(area))
    assert curves[0] == curves[2]
    assert len(curves[0]) == 2


def test_what_has_no_effect_on_a_candidate_is_not_searched(shards: Shards, here: Callable[..., None]) -> None:
    def space(candidate: str) -> list[str]:
        section = yaml.safe_load(Path("params.yaml").read_text())["train"]
        return list(command.ask(shards, read_params(Path("params.yaml")), section, candidate).space)

    here(RATE | {"width": {"choices": [2, 4]}, "head_epochs": {"low": 0, "high": 2}})
    assert space("custom_cnn") == ["learning_rate", "width"]
    assert space("vgg16") == ["learning_rate"]
    here(RATE, vgg16={"width": {"choices": [2, 4]}})
    with pytest.raises(UsageError, match=r"^tune\.candidates\.vgg16\.width: width has no effect on vgg16"):
        space("vgg16")
    here({})
    with pytest.raises(UsageError, match="nothing is searched for custom_cnn"):
        space("custom_cnn")


def test_a_candidate_that_there_is_not_is_refused(
    shards: Shards, here: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["tune", "wide", "--trials", "1", "--shards", str(shards.path)]) == 2
    assert re.match(r"error: params\.yaml: no candidate wide; there are custom_cnn, ", capsys.readouterr().err)
    assert not Path("artifacts").exists()


def test_a_process_of_a_larger_training_is_refused(
    shards: Shards, here: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}')
    assert main.run(["tune", "custom_cnn", "--trials", "1", "--shards", str(shards.path)]) == 2
    assert "TF_CONFIG names several workers" in capsys.readouterr().err
