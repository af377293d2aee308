"""What an ensemble's stages use, and what they refuse."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from miniature import archive, images, manifest, pack, prove, use_cores, write_zip

from components.artifacts.evaluation import Evaluation
from components.artifacts.trained_model import ENSEMBLE, Member, TrainedModel
from components.cli import lineage, main, settings

ROOT = Path(__file__).parents[2]
CNN = {"architecture": "custom_cnn"}
BOTH = {"members": "all", "flips": True}
SETTINGS = Path("settings")


class Here:
    """A directory with choices and an archive, in which one stands."""

    def __init__(self, path: Path) -> None:
        document: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
        self.document = document | {"archive": "a.zip", "labels": {"overlay": "overlay.csv"}}
        self.document["stress"]["candidates"] = []
        write_zip(path / "a.zip", archive(images(train=10, valid=3)))
        (path / "overlay.csv").write_text("study,old,new,source,reason\n")

    def choose(self, candidates: tuple[str, ...], **ensembles: Any) -> int:
        train = self.document["train"] | {"candidates": dict.fromkeys(candidates, CNN)}
        document = self.document | {"train": train, "ensembles": ensembles}
        Path("params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
        return main.run(["settings", "--out", str(SETTINGS)])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.chdir(tmp_path)
    use_cores(1, monkeypatch)
    return Here(tmp_path)


def files() -> dict[str, str]:
    return {str(path.relative_to(SETTINGS)): path.read_text() for path in SETTINGS.rglob("*.json")}


def test_an_ensemble_has_settings_of_its_own(here: Here) -> None:
    assert here.choose(("one", "two", "three"), both=BOTH) == 0
    before = files()
    inputs = json.loads(before["ensemble/both.json"])["inputs"]
    assert inputs == {"candidates": ["one", "two", "three"], "params": {"candidate": "both", **BOTH}}
    chosen = json.loads(before["register.json"])["inputs"]
    assert (chosen["candidates"], chosen["ensembles"]) == (["one", "two", "three"], ["both"])
    some = {"members": ["three", "one"], "flips": False}
    assert here.choose(("one", "two", "three"), both=some) == 0
    after = files()
    assert {name for name in after if before.get(name) != after[name]} == {"ensemble/both.json"}
    assert json.loads(after["ensemble/both.json"])["inputs"]["candidates"] == ["three", "one"]
    assert here.choose(("one", "two", "three")) == 0
    assert set(before) - set(files()) == {"ensemble/both.json"}


def test_networks_and_ensembles_are_evaluated_by_stages_of_their_own(here: Here) -> None:
    here.choose(("one", "two"), both=BOTH)
    stages = {name: settings.read(SETTINGS, "evaluate", name).stage for name in ("one", "both")}
    assert stages == {"one": "evaluate@one", "both": "evaluate_ensemble@both"}
    assert settings.read(SETTINGS, ENSEMBLE, "both").stage == "ensemble@both"
    for step, candidate in (("train", "both"), (ENSEMBLE, "one"), ("evaluate", "three")):
        words = [step, "--settings", "settings", "--candidate", candidate, "--out", "out", "--shards", "s"]
        words += ["--manifest", "m"] if step == "evaluate" else []
        words += ["--model", "m"] if step != "train" else []
        words = [word for word in words if step != ENSEMBLE or word not in ("--shards", "s")]
        words += ["--evaluation", "e"] if step == ENSEMBLE else []
        assert main.run(words) == 2


@pytest.mark.parametrize(
    ("candidates", "ensembles", "reason"),
    [
        (("one", "two"), {"one": BOTH}, "ensembles.one: a candidate of `train` has this name; rename one of them"),
        (
            ("one", "two"),
            {"both": {"members": ["one", "six"], "flips": True}},
            "ensembles.both.members: no candidate six",
        ),
        (("one",), {"both": BOTH}, "ensembles.both: expected two candidates or more, there is one alone"),
        (("one", "two"), {"both": {"members": ["one"], "flips": True}}, "ensembles.both.members: expected all, or"),
        (("one", "two"), {"both": {"members": ["one", "one"], "flips": True}}, "expected each member once"),
        (("one", "two"), {"both": {"members": "all"}}, "ensembles.both.flips: is missing; add it"),
        (
            ("one", "two"),
            {"both": {"members": "all", "flip": True}},
            "ensembles.both.flip: no such choice; did you mean",
        ),
        (("one", "two"), {"Both": BOTH}, "ensembles.Both.candidate: expected 1 to 40 of a-z"),
    ],
)
def test_wrong_choices_are_told_in_one_line(
    here: Here, capsys: pytest.CaptureFixture[str], candidates: tuple[str, ...], ensembles: dict[str, Any], reason: str
) -> None:
    assert here.choose(candidates, **ensembles) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line


def sealed(
    make_model: Callable[..., TrainedModel], make_evaluation: Callable[..., Evaluation], names: tuple[str, ...]
) -> None:
    """Models and evaluations with their records, as their stages leave them."""
    for name in names:
        model = make_model("custom_cnn", candidate=name, **chosen("train", name, "params", "seed"))
        evaluation = make_evaluation(model)
        facts = evaluation.facts.model_copy(update=chosen("evaluate", name, "params", "protocol", "seed"))
        for kind, made in (("model", model), ("evaluation", Evaluation.seal(evaluation.path, facts))):
            place = Path("artifacts") / kind / name
            place.parent.mkdir(parents=True, exist_ok=True)
            moved = type(made).read(made.path.rename(place))
            settings.record(settings.read_for(moved, SETTINGS), place, moved)


def chosen(step: str, candidate: str, *names: str) -> dict[str, Any]:
    """What the settings of a step say."""
    inputs = settings.read(SETTINGS, step, candidate).inputs
    return {name: inputs[name] for name in names}


WORDS = [
    "ensemble", "--settings", "settings", "--candidate", "both", "--model", "artifacts/model/{candidate}",
    "--evaluation", "artifacts/evaluation/{candidate}", "--out", "artifacts/ensemble/model/{candidate}",
]  # fmt: skip


def test_members_that_were_not_made_as_the_run_says_are_refused(
    here: Here,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    capsys: pytest.CaptureFixture[str],
) -> None:
    here.choose(("one", "two", "three"), both={"members": ["three", "one"], "flips": True})
    sealed(make_model, make_evaluation, ("one", "two", "three"))
    # One that is no member may be as it likes.
    Path("artifacts/model/two.made.json").unlink()
    record = Path("artifacts/evaluation/three.made.json")
    text = record.read_text()
    record.write_text(text.replace('"seed": 1', '"seed": 9'))
    assert main.run(WORDS) == 3
    told = capsys.readouterr().err.splitlines()[-1]
    assert "made with seed 9, not 1" in told
    assert "dvc repro --force --single-item evaluate@three" in told
    record.write_text(text)
    # Now all is well, up to the weights, which are none.
    assert main.run(WORDS) == 3
    assert (
        "artifacts/model/three/model.weights.h5: not the weights of custom_cnn"
        in capsys.readouterr().err.splitlines()[-1]
    )


def test_a_word_in_a_path_stands_for_members_and_for_ensembles(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    here.choose(("one", "two", "three"), both={"members": ["three", "one"], "flips": True})
    words = ["ensemble", "--params", "params.yaml:ensembles.both", "--model", "m/{candidate}"]
    assert main.run([*words, "--evaluation", "e/{candidate}", "--out", "out"]) == 2
    assert "m/three" in capsys.readouterr().err
    words = ["register", "--model", "m/{ensemble}", "--evaluation", "e/{ensemble}", "--out", "out"]
    assert main.run(words) == 2
    assert "m/both" in capsys.readouterr().err


def test_an_ensemble_tells_of_what_it_was_made(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
) -> None:
    use_cores(1, monkeypatch)
    path = write_zip(tmp_path / "a.zip", archive(images(train=10, valid=3)))
    shards = pack(path, prove(manifest(path, tmp_path / "manifest"), tmp_path / "valid"), tmp_path / "shards")
    models = [make_model(candidate=name) for name in ("one", "two")]
    evaluations = [make_evaluation(model) for model in models]
    members = [
        Member(
            candidate=model.facts.candidate, architecture="vgg16", params={}, seed=1, parameters=10,
            model_digest=model.digest, evaluation_digest=evaluation.digest, intercept=0.0, slope=slope,
        )
        for model, evaluation, slope in zip(models, evaluations, (1.0, 0.0), strict=True)
    ]  # fmt: skip
    training = {"seed": None, "epochs": 0, "best_epoch": 0, "phases": (), "tuning": {}}
    made = make_model(ENSEMBLE, candidate="both", members=members[:1], left_out=members[1:],
                      shards_digest=shards.digest, **training)  # fmt: skip
    assert lineage.difference(made, {"shards": shards, "models": models, "evaluations": evaluations}) is None
    other = make_model(candidate="two", image_size=64)
    said = lineage.difference(made, {"models": [models[0], other]})
    assert said is not None
    assert f"made of other models (digest {models[1].digest[:12]})" in said
