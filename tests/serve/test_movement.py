"""`mura drift`: a log compared with what the model learned from."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from miniature import archive, images, manifest, prove, use_cores, write_zip

from components.artifacts.evaluation import STUDIES, Evaluation
from components.artifacts.manifest import ValidManifest
from components.artifacts.trained_model import TrainedModel
from components.base.errors import ExitCode
from components.cli import main
from components.serve.logbook import Entry, Looked

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> ValidManifest:
    folder = tmp_path_factory.mktemp("valid")
    with pytest.MonkeyPatch.context() as patch:
        use_cores(1, patch)
        path = write_zip(folder / "archive.zip", archive(images(train=70, valid=14)))
        return prove(manifest(path, folder / "manifest"), folder / "valid")


@pytest.fixture(scope="module")
def learned(valid: ValidManifest) -> list[list[dict[str, Any]]]:
    """The views of each study that was learned."""
    studies: dict[str, list[dict[str, Any]]] = {}
    for row in valid.table.to_dict("records"):
        if row["split"] == "train":
            studies.setdefault(row["study"], []).append(row)
    return list(studies.values())


class Case:
    """A reference, and a log that is to be written."""

    def __init__(
        self, folder: Path, valid: ValidManifest, learned: list[list[dict[str, Any]]], evaluation: Evaluation
    ) -> None:
        self.folder, self.evaluation, self._learned = folder, evaluation, learned
        shutil.copytree(valid.path, folder / "artifacts/valid_manifest")
        shutil.copytree(evaluation.path, folder / "artifacts/evaluation/vgg16")
        studies = pd.read_parquet(evaluation.path / STUDIES)
        self._probability = studies.loc[studies["split"] == "tuning", "probability"].to_numpy()
        self.entries = list(self._asked())

    def _asked(self) -> Iterator[Entry]:
        """The studies that were learned, drawn at random, with probabilities of the tuning split."""
        rng = np.random.default_rng(1)
        for number in range(300):
            rows = self._learned[rng.integers(len(self._learned))]
            views = tuple(
                Looked(kind="PNG", **{name: row[name] for name in Looked.model_fields if name != "kind"})
                for row in rows
            )
            probability = float(rng.choice(self._probability))
            abnormal = probability >= self.evaluation.facts.scores.threshold
            yield Entry(
                time="2026-01-01T00:00:00.000Z",
                input=f"{number:064x}",
                model="mura",
                version="3",
                model_digest=self.evaluation.facts.model_digest,
                body_part=rows[0]["body_part"],
                views=views,
                distance=None,
                probability=probability,
                verdict="abnormal" if abnormal else "normal",
                seconds=0.01,
            )

    def run(self, *words: str, entries: list[Entry] | None = None, more: str = "") -> int:
        log = self.folder / "log.jsonl"
        lines = [entry.model_dump_json() for entry in (self.entries if entries is None else entries)]
        log.write_text("\n".join([*lines, more, ""]))
        place = ("--reference", str(self.folder / "artifacts"), "--params", str(PARAMS))
        return main.run(["drift", str(log), *place, *words])


@pytest.fixture
def case(
    tmp_path: Path,
    valid: ValidManifest,
    learned: list[list[dict[str, Any]]],
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
) -> Case:
    model = make_model("vgg16", data_digest=valid.facts.data_digest)
    return Case(tmp_path / "case", valid, learned, make_evaluation(model))


def moved(out: str) -> set[str]:
    return {each["name"] for each in json.loads(out)["properties"] if each["moved"]}


def test_what_was_learned_has_not_moved(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    assert case.run("--json") == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)
    assert (found["version"], found["studies"], found["notes"]) == ("mura version 3", 300, [])
    assert {each["name"] for each in found["properties"]} == {
        *("body parts", "longer side", "shorter side", "mean grey level", "spread of grey levels", "contrast"),
        *("probability", "called abnormal"),
    }
    assert not any(each["moved"] for each in found["properties"])


def changed(entries: list[Entry], view: dict[str, float] | None = None, **fields: object) -> list[Entry]:
    def other(each: Looked) -> Looked:
        return each.model_copy(update={name: round(getattr(each, name) * by) for name, by in (view or {}).items()})

    return [entry.model_copy(update={"views": tuple(map(other, entry.views))} | fields) for entry in entries]


@pytest.mark.parametrize(
    ("view", "fields", "expected"),
    [
        ({"width": 4, "height": 4}, {}, {"longer side", "shorter side"}),
        ({"mean": 0.5}, {}, {"mean grey level"}),
        ({"high": 0.5}, {}, {"contrast"}),
        ({}, {"body_part": "other"}, {"body parts"}),
        ({}, {"body_part": None}, {"body parts"}),
        ({}, {"probability": 0.99, "verdict": "abnormal"}, {"probability", "called abnormal"}),
    ],
)
def test_what_moved_is_named(
    case: Case,
    view: dict[str, float],
    fields: dict[str, object],
    expected: set[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert case.run("--json", entries=changed(case.entries, view, **fields)) == ExitCode.DATA
    out, err = capsys.readouterr()
    assert moved(out) == expected
    assert all(name in err for name in expected)


def test_the_table_says_before_and_now(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    assert case.run(entries=changed(case.entries, {"width": 4, "height": 4})) == ExitCode.DATA
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("longer side"))
    assert "64 (64 to 64)" in line
    assert "256 (256 to 256)" in line
    assert line.endswith("moved")


def test_a_study_counts_once(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    """Asked a thousand times, one dark study is still one."""
    again = changed(case.entries[:1], {"mean": 0.2}) * 1000
    assert case.run("--json", entries=[*case.entries, *again]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["studies"] == 300


def test_few_studies_are_not_compared(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    assert case.run(entries=case.entries[:29]) == ExitCode.DONE
    assert "fewer than 30 studies" in capsys.readouterr().out


def test_only_the_last_version_is_compared(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    before = changed(case.entries, {"width": 4, "height": 4}, model_digest="00" * 32, version="2")
    assert case.run(entries=[*before, *case.entries]) == ExitCode.DONE
    assert "1 earlier version in the log not compared" in capsys.readouterr().out


def test_other_lines_are_counted(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    assert case.run(more='INFO serve: stopped\n{"time": 1}\n[]') == ExitCode.DONE
    assert "3 lines of the log not of predictions" in capsys.readouterr().out


def test_without_the_evaluation_probabilities_are_not_compared(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(case.folder / "artifacts/evaluation")
    assert case.run() == ExitCode.DONE
    out = capsys.readouterr().out
    assert "probabilities are not compared" in out
    assert "called abnormal" not in out


def test_an_ensemble_is_compared_too(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    (case.folder / "artifacts/ensemble").mkdir()
    (case.folder / "artifacts/evaluation").rename(case.folder / "artifacts/ensemble/evaluation")
    entries = changed(case.entries, probability=0.99, verdict="abnormal")
    assert case.run("--json", entries=entries) == ExitCode.DATA
    assert moved(capsys.readouterr().out) == {"probability", "called abnormal"}


@pytest.mark.parametrize("answered", [0, 29])
def test_few_probabilities_are_not_compared(case: Case, capsys: pytest.CaptureFixture[str], answered: int) -> None:
    unlike = changed(case.entries[answered:], probability=None, verdict="unlike")
    assert case.run(entries=[*case.entries[:answered], *unlike]) == ExitCode.DONE
    out = capsys.readouterr().out
    assert f"Note: {300 - answered} of 300 studies unlike the training data, without a probability" in out
    assert "nan" not in out
    assert "called abnormal" not in out


def test_a_log_without_predictions_is_refused(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    assert case.run(entries=[], more="hello") == ExitCode.USAGE
    assert "no prediction in it" in capsys.readouterr().err


def test_another_data_set_is_no_reference(
    case: Case, make_model: Callable[..., TrainedModel], make_evaluation: Callable[..., Evaluation],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    other = make_evaluation(make_model("vgg16", data_digest="00" * 32))
    shutil.rmtree(case.folder / "artifacts/evaluation")
    shutil.copytree(other.path, case.folder / "artifacts/evaluation/vgg16")
    entries = changed(case.entries, model_digest=other.facts.model_digest)
    assert case.run(entries=entries) == ExitCode.DATA
    assert "another data set" in capsys.readouterr().err
