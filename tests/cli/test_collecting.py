"""`mura collect` takes what was made of the same and refuses all else by name; a task knows its candidate."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from miniature import archive, images, manifest, pack, prove, use_cores, write_zip

from components.archive.overlay import Overlay
from components.artifacts.evaluation import Evaluation, EvaluationFacts, SecondOpinion
from components.artifacts.manifest import ValidManifest
from components.artifacts.shards import Shards
from components.artifacts.trained_model import TrainedModel
from components.cli import main, settings

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
NAMES = ("custom_cnn", "wide")
ARTIFACTS = Path("artifacts")
SETTINGS = ARTIFACTS / "settings"


def run_dvc(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "dvc", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project of DVC with two candidates, and shards that its stages made."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("project")
        patch.chdir(folder)
        use_cores(1, patch)
        shutil.copy(ROOT / "dvc.yaml", folder)
        document: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
        document |= {"archive": "a.zip", "labels": {"overlay": "overlay.csv"}}
        document["train"]["candidates"] = {name: {"architecture": "custom_cnn", "epochs": 5} for name in NAMES}
        document["stress"]["candidates"] = []
        document["ensembles"] = {}
        document["shard"] = {"image_size": 32, "images_per_shard": 10}
        (folder / "params.yaml").write_text(yaml.safe_dump(document))
        members = images(train=10, valid=3)
        study = members[0].partition("/")[2].rpartition("/")[0]
        (folder / "overlay.csv").write_text(f"study,old,new,source,reason\n{study},0,1,me,plate\n")
        write_zip(folder / "a.zip", archive(members))
        run_dvc("init", "--no-scm", "--quiet")
        ARTIFACTS.mkdir()
        assert main.run(["settings", "--out", str(SETTINGS)]) == 0
        first = manifest("a.zip", ARTIFACTS / "manifest", overlay=Overlay.read(Path("overlay.csv")))
        valid = prove(first, ARTIFACTS / "valid_manifest")
        for each in (first, valid, pack("a.zip", valid, ARTIFACTS / "shards")):
            settings.record(settings.read_for(each, SETTINGS), each.path, each)
        yield folder


def chosen(step: str, candidate: str, *names: str) -> dict[str, Any]:
    """What the settings of a step say of a candidate; nothing of one that params.yaml does not name."""
    if candidate not in NAMES:
        return {}
    inputs = settings.read(SETTINGS, step, candidate).inputs
    return {name: inputs[name] for name in names}


class Made:
    """What tasks made elsewhere: sealed without training, as only its digests matter."""

    def __init__(
        self,
        path: Path,
        make_model: Callable[..., TrainedModel],
        make_evaluation: Callable[..., Evaluation],
    ) -> None:
        self.path = path
        self._make_model, self._make_evaluation = make_model, make_evaluation
        self.shards = Shards.read(ARTIFACTS / "shards")
        self.manifest = ValidManifest.read(ARTIFACTS / "valid_manifest")

    def model(
        self, name: str, place: str = "model/{}", record: bool = True, weights: bytes | None = None, **facts: Any
    ) -> TrainedModel:
        known = {"shards_digest": self.shards.digest, "data_digest": self.shards.facts.data_digest}
        known |= chosen("train", name, "params", "seed")
        made = self._make_model("custom_cnn", weights=weights or name.encode(), candidate=name, **known | facts)
        return self._put(made, place.format(name), record)  # type: ignore[return-value]

    def evaluation(self, model: TrainedModel, place: str = "evaluation/{}", **facts: Any) -> Evaluation:
        made = self._make_evaluation(model)
        opinion = SecondOpinion(
            overlay_digest=str(self.manifest.facts.overlay_digest), studies=0, test=made.facts.scores.test
        )
        choices = chosen("evaluate", model.facts.candidate, "params", "protocol", "seed")
        known = made.facts.model_dump() | {"second_opinion": opinion} | choices | facts
        # The stage in dvc.yaml names all of its files.
        (made.path / "plots").mkdir(exist_ok=True)
        for file in PLOTS:
            (made.path / "plots" / file).write_text("{}")
        return self._put(Evaluation.seal(made.path, EvaluationFacts(**known)), place.format(model.facts.candidate))  # type: ignore[return-value]

    def _put(self, made: TrainedModel | Evaluation, place: str, record: bool = True) -> TrainedModel | Evaluation:
        folder = self.path / place
        folder.parent.mkdir(parents=True, exist_ok=True)
        moved = type(made).read(Path(shutil.move(made.path, folder)))
        if record and made.facts.candidate in NAMES:
            settings.record(settings.read_for(moved, SETTINGS), folder, moved)
        return moved

    def all(self) -> None:
        for name in NAMES:
            self.evaluation(self.model(name))


PLOTS = ("confusion.csv", "roc.png", "roc.csv", "calibration.png", "calibration.csv")


@pytest.fixture
def made(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
) -> Iterator[Made]:
    monkeypatch.chdir(project)
    assert main.run(["settings", "--out", str(SETTINGS)]) == 0
    yield Made(tmp_path / "made", make_model, make_evaluation)
    for kind in ("model", "evaluation"):
        shutil.rmtree(ARTIFACTS / kind, ignore_errors=True)
    (project / "dvc.lock").unlink(missing_ok=True)


def stale() -> dict[str, Any]:
    """Stages of the candidates that DVC would run."""
    return {stage: why for stage, why in json.loads(run_dvc("status", "--json")).items() if "@" in stage}


def test_results_are_taken_as_if_the_stages_had_made_them(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    made.all()
    assert set(stale()) == {f"{step}@{name}" for step in ("train", "evaluate") for name in NAMES}
    assert main.run(["collect", str(made.path)]) == 0
    assert "artifacts: 4 results, 4 of them new here; next: dvc repro" in capsys.readouterr().out
    assert stale() == {}
    for name in NAMES:
        here = TrainedModel.read(ARTIFACTS / "model" / name)
        assert here.digest == TrainedModel.read(made.path / "model" / name).digest
        # What a step checks before it reads them.
        settings.check_input(here, SETTINGS)
        settings.check_input(Evaluation.read(ARTIFACTS / "evaluation" / name), SETTINGS)
    assert main.run(["collect", str(made.path)]) == 0
    assert "artifacts: 4 results there already, nothing to do" in capsys.readouterr().out


@pytest.mark.longest
def test_a_part_may_be_taken_and_the_rest_later_from_anywhere(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = made.model("wide", "run/model/{}"), made.model("custom_cnn", "elsewhere/net")
    made.evaluation(other, "elsewhere/its numbers")
    assert main.run(["collect", str(one.path), str(made.path / "run")]) == 0
    assert set(stale()) == {"train@custom_cnn", "evaluate@custom_cnn", "evaluate@wide"}
    # Other artifacts beside them stay where they are.
    shutil.copytree(ARTIFACTS / "shards", made.path / "elsewhere" / "shards")
    assert main.run(["collect", str(made.path / "elsewhere")]) == 0
    assert set(stale()) == {"evaluate@wide"}
    # The evaluation's model is here.
    made.evaluation(one, "later")
    assert main.run(["collect", str(made.path / "later")]) == 0
    assert stale() == {}


def test_what_lies_in_the_workspace_already_is_only_told_to_dvc(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    made.all()
    for kind in ("model", "evaluation"):
        shutil.move(made.path / kind, ARTIFACTS / kind)
    assert main.run(["collect", str(ARTIFACTS)]) == 0
    assert "4 results, 0 of them new here" in capsys.readouterr().out
    assert stale() == {}


def edit(file: Path, *way: str, value: Any) -> None:
    document = json.loads(file.read_text())
    place = document
    for word in way[:-1]:
        place = place[word]
    place[way[-1]] = value
    file.write_text(json.dumps(document))


def partial(made: Made) -> None:
    work = made.path / "model" / ".wide.partial" / "checkpoint"
    work.mkdir(parents=True)
    shutil.rmtree(made.model("wide").path)


def without_a_card(made: Made) -> None:
    (made.model("wide").path / "card.json").unlink()


def of_another(made: Made, **facts: Any) -> None:
    made.evaluation(made.model("wide"), **facts)


OTHER = "0" * 64
WIDE = Path("model/wide")
RECORD = Path("model/wide.made.json")
REFUSED: dict[str, tuple[Callable[[Made], object], str]] = {
    "other shards": (lambda m: m.model("wide", shards_digest=OTHER), "model/wide: made of other shards (digest 0000"),
    "other seed": (
        lambda m: (m.model("wide"), edit(m.path / RECORD, "settings", "inputs", "seed", value=9)),
        "model/wide: made with seed 9, not 1 as in artifacts/settings/train/wide.json",
    ),
    "other params": (
        lambda m: (m.model("wide"), edit(m.path / RECORD, "settings", "inputs", "params", "epochs", value=9)),
        "model/wide: made with epochs 9, not 5 as in",
    ),
    "other code": (
        lambda m: (m.model("wide"), edit(m.path / RECORD, "settings", "code", value=OTHER)),
        "model/wide: made with other code than in artifacts/settings/train/wide.json",
    ),
    "no record": (lambda m: m.model("wide", record=False), "model/wide: wide.made.json, which says how it was made"),
    "another's record": (
        lambda m: (m.model("wide"), edit(m.path / RECORD, "digest", value=OTHER)),
        "model/wide: expected what train@wide made, digest 0000",
    ),
    "not finished": (partial, "model/wide: not whole (its task runs or was stopped; submit it again)"),
    "no card": (without_a_card, "model/wide: not whole (its task runs or was stopped; submit it again)"),
    "a card of nothing": (
        lambda m: (m.model("wide").path / "card.json").write_text("{"),
        "model/wide: not whole (card.json is no card)",
    ),
    "an edited card": (
        lambda m: edit(m.model("wide").path / "card.json", "facts", "seed", value=9),
        "model/wide: not whole (",
    ),
    "a missing file": (lambda m: (m.model("wide").path / "curves.csv").unlink(), "model/wide/curves.csv: is missing"),
    "tampered weights": (
        lambda m: (m.model("wide").path / "model.weights.h5").write_bytes(b"cut"),
        "model/wide/model.weights.h5: changed since its step wrote it",
    ),
    "two for one": (
        lambda m: (m.model("wide"), m.model("wide", "again/{}")),
        ": a second model of wide, beside",
    ),
    "an unknown one": (lambda m: m.model("deep"), "model/deep: of the candidate deep, and params.yaml has custom_cnn"),
    "an evaluation of another model": (
        lambda m: of_another(m, model_digest=OTHER),
        "evaluation/wide: made of other model (digest 0000",
    ),
    "an evaluation with other images": (
        lambda m: of_another(m, data_digest=OTHER),
        "evaluation/wide: made of other manifest (digest 0000",
    ),
    "an evaluation with other opinions": (
        lambda m: of_another(m, second_opinion=None),
        "evaluation/wide: made of other manifest (digest None",
    ),
    "an evaluation on other shards": (
        lambda m: of_another(m, shards_digest=OTHER),
        "evaluation/wide: made of other shards (digest 0000",
    ),
    "an evaluation without a model": (
        lambda m: shutil.rmtree(m.evaluation(m.model("wide", "away/{}")).path.parents[1] / "away"),
        "evaluation/wide: its model is neither here nor there",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_was_not_made_of_the_same_is_refused_by_name_and_nothing_is_taken(
    made: Made, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    made.model("custom_cnn")
    change, reason = REFUSED[what]
    change(made)
    capsys.readouterr()
    assert main.run(["collect", str(made.path)]) == 3
    told = capsys.readouterr().err
    assert reason in told
    assert told.splitlines()[-1] == "error: 1 result refused, nothing taken. The lines above say why."
    assert not (ARTIFACTS / "model").exists()
    assert not Path("dvc.lock").exists()


def test_all_that_is_refused_is_named_at_once(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    made.model("wide", shards_digest=OTHER)
    made.model("deep")
    made.model("custom_cnn", record=False)
    assert main.run(["collect", str(made.path)]) == 3
    told = capsys.readouterr().err
    assert all(f"model/{name}: " in told for name in ("wide", "deep", "custom_cnn"))
    assert "error: 3 results refused" in told


def test_choices_that_changed_since_the_tasks_began_refuse_their_results(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    made.all()
    text = Path("params.yaml").read_text()
    document = yaml.safe_load(text)
    try:
        document["train"]["candidates"]["wide"]["epochs"] = 3
        Path("params.yaml").write_text(yaml.safe_dump(document))
        assert main.run(["collect", str(made.path)]) == 3
        assert (
            "model/wide: made with epochs 5, not 3 as in artifacts/settings/train/wide.json" in capsys.readouterr().err
        )
        # The shards here are of other choices themselves.
        Path("params.yaml").write_text(yaml.safe_dump(document | {"shard": {"image_size": 48, "images_per_shard": 10}}))
        assert main.run(["collect", str(made.path)]) == 3
        assert "artifacts/shards: made with image_size 32, not 48" in capsys.readouterr().err
    finally:
        Path("params.yaml").write_text(text)


def test_another_model_of_the_same_choices_takes_the_place_of_the_one_here(made: Made) -> None:
    here = made.model("wide")
    assert main.run(["collect", str(here.path)]) == 0
    shutil.rmtree(made.path)
    # Another processor ends with other weights.
    other = made.model("wide", weights=b"other")
    assert main.run(["collect", str(made.path)]) == 0
    assert TrainedModel.read(ARTIFACTS / "model" / "wide").digest == other.digest
    assert set(stale()) == {"train@custom_cnn", "evaluate@custom_cnn", "evaluate@wide"}


def test_where_nothing_can_be_taken_the_usage_is_wrong(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main.run(["collect", str(tmp_path / "nowhere")]) == 2
    assert "nowhere: no such directory" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main.run(["collect", str(tmp_path / "empty")]) == 2
    assert "empty: no model and no evaluation" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert main.run(["collect", "empty"]) == 2
    assert "Run `mura collect` in the project's directory" in capsys.readouterr().err


TRAIN = ["train", "--settings", str(SETTINGS), "--shards", "artifacts/shards"]


def test_a_number_names_the_candidate_in_the_order_of_the_choices(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", f"{tmp_path}/{{candidate}}"]
    for number, name in enumerate(NAMES):
        made.model(name, f"../{name}")
        # What is made already shows which one was meant, without a training.
        assert main.run([*TRAIN, "--index", str(number), "--once", *out]) == 0
    for number in ("2", "99"):
        assert main.run([*TRAIN, "--index", number, *out]) == 2
        assert f"--index {number}: artifacts/settings has 2 candidates, 0 to 1" in capsys.readouterr().err
    assert main.run([*TRAIN, "--index", "-1", *out]) == 2
    assert main.run([*TRAIN, "--index", "0", "--candidate", "wide", *out]) == 2
    assert "leave one of them out" in capsys.readouterr().err
    for flags in (["--index", "0"], ["--once"]):
        words = ["train", "--shards", "artifacts/shards", "--params", "params.yaml:train.wide", *flags]
        assert main.run([*words, "--out", "x"]) == 2
        assert f"{flags[0]} needs --settings" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["other shards", "other params", "other code", "no record", "tampered weights"])
def test_what_is_there_is_made_again_if_it_was_not_made_of_the_same(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    REFUSED[what][0](made)
    out = made.path / "model" / "wide"
    # Nothing can be written beside it, so a training ends before it begins.
    out.with_name(".wide.partial").write_text("")
    assert main.run([*TRAIN, "--index", "1", "--once", "--out", str(out)]) != 0
    assert "is there, made of" not in capsys.readouterr().err


def test_an_evaluation_that_is_there_is_not_made_again(made: Made) -> None:
    made.all()
    words = ["evaluate", "--settings", str(SETTINGS), "--index", "0", "--once", "--shards", "artifacts/shards"]
    words += ["--manifest", "artifacts/valid_manifest", "--model", f"{made.path}/model/{{candidate}}"]
    made_before = (made.path / "evaluation" / NAMES[0] / "card.json").stat().st_mtime_ns
    assert main.run([*words, "--out", f"{made.path}/evaluation/{{candidate}}"]) == 0
    assert (made.path / "evaluation" / NAMES[0] / "card.json").stat().st_mtime_ns == made_before
