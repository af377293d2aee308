"""What a run uses is resolved when it starts, and a step refuses what was made with something else."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import COMMIT, make_scores
from miniature import archive, images, manifest, pack, prove, use_cores, write_zip

from components.artifacts.artifact import Artifact
from components.artifacts.evaluation import Evaluation
from components.artifacts.manifest import Manifest
from components.artifacts.registration import RegisteredModel, Registration, RegistrationFacts
from components.artifacts.trained_model import TrainedModel
from components.base import code
from components.base.files import alone
from components.base.step import ANALYSES, STEPS
from components.cli import main, settings, steps

ROOT = Path(__file__).parents[2]
MURA = Path(sys.executable).with_name("mura")
# An ensemble needs two candidates: test_ensemble_settings.py.
EVERY = tuple(step for step in (*STEPS, *ANALYSES) if step != "ensemble")
NAME = "a $(touch PWNED) it's; 骨.zip"
OPINION = "study,old,new,source,reason\n{},{},{},me,plate\n"


class Here:
    """A directory with choices, an archive and an overlay, in which one stands."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = path / "settings"
        self.document: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
        self.document |= {"archive": NAME, "labels": {"overlay": "-over lay.csv"}}
        self.document["train"]["candidates"] = {"custom_cnn": {"architecture": "custom_cnn"}}
        self.document["stress"]["candidates"] = []
        self.document["ensembles"] = {}
        self.document["shard"] = {"image_size": 32, "images_per_shard": 10}
        write_zip(path / NAME, archive(images(train=10, valid=3)))
        (path / "-over lay.csv").write_text("study,old,new,source,reason\n")
        self.choose()

    def choose(self, **changes: Any) -> None:
        (self.path / "params.yaml").write_text(yaml.safe_dump(self.document | changes, allow_unicode=True))

    def resolve(self) -> dict[str, str]:
        """The settings, by the names of their files."""
        assert main.run(["settings", "--out", str(self.settings)]) == 0
        return {str(path.relative_to(self.settings)): path.read_text() for path in self.settings.rglob("*.json")}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.chdir(tmp_path)
    use_cores(1, monkeypatch)
    return Here(tmp_path)


def changed(change: dict[str, Any], section: str, **choices: Any) -> dict[str, Any]:
    return {section: change[section] | choices}


@pytest.mark.parametrize(
    ("change", "files"),
    [
        (lambda d: {"archive": "b.zip"}, {"ingest.json", "validate.json", "shard.json"}),
        (
            lambda d: {"seed": 7},
            {"ingest.json", "train/custom_cnn.json", "evaluate.json", "stress.json", "phantom.json"},
        ),
        (lambda d: changed(d, "ingest", tuning_fraction=0.1), {"ingest.json"}),
        (lambda d: changed(d, "evaluate", batch_size=3), {"evaluate.json"}),
        (lambda d: changed(d, "protocol", target=0.8), {"evaluate.json"}),
        (lambda d: changed(d, "protocol", min_auroc=0.8), {"evaluate.json"}),
        (lambda d: changed(d, "promote", alias="other"), {"promote.json"}),
        (lambda d: changed(d, "stress", jpeg=[5]), {"stress.json"}),
        (lambda d: changed(d, "kubeflow", user=7), set()),
        (
            lambda d: changed(d, "train", candidates={"custom_cnn": {"architecture": "custom_cnn", "epochs": 2}}),
            {"train/custom_cnn.json"},
        ),
        (
            lambda d: changed(d, "train", candidates={**d["train"]["candidates"], "wide": {"architecture": "vgg16"}}),
            {"train/wide.json", "register.json"},
        ),
        (
            lambda d: changed(d, "train", candidates={"wide": {"architecture": "vgg16"}}),
            {"train/custom_cnn.json", "train/wide.json", "register.json"},
        ),
    ],
)
def test_a_change_changes_the_files_of_the_stages_that_it_concerns(
    here: Here, made: dict[str, Any], change: Callable[[dict[str, Any]], dict[str, Any]], files: set[str]
) -> None:
    shutil.copytree(made["here"].settings, here.settings)
    shutil.copy(here.path / NAME, here.path / "b.zip")
    here.choose(**change(here.document))
    before, after = made["texts"], here.resolve()
    assert {name for name in {*before, *after} if before.get(name) != after.get(name)} == files


def test_an_opinion_on_labels_concerns_the_reading_of_the_archive(here: Here, made: dict[str, Any]) -> None:
    before = made["texts"]
    (here.path / "-over lay.csv").write_text(OPINION.format("train/XR_WRIST/patient00001/study1_negative", 0, 1))
    after = here.resolve()
    assert {name for name in before if before[name] != after[name]} == {"ingest.json"}


def test_other_weights_to_start_from_concern_the_training(
    here: Here, made: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    weights = here.path / "backbone.weights.h5"
    weights.write_bytes(b"a")
    here.choose(train={"default": here.document["train"]["default"], "candidates": {"wide": VGG}})
    before = here.resolve()
    weights.write_bytes(b"b")
    words = ["train", "--settings", "settings", "--candidate", "wide", "--shards", made["shards"].location]
    assert main.run([*words, "--out", "model"]) == 3
    assert "backbone.weights.h5: changed since this run began" in capsys.readouterr().err
    after = here.resolve()
    assert {name for name in before if before[name] != after[name]} == {"train/wide.json"}


def weights(architecture: str, file: str) -> dict[str, Any]:
    default = yaml.safe_load((ROOT / "params.yaml").read_text())["train"]["default"]
    return {"train": {"default": default, "candidates": {"wide": {"architecture": architecture, "weights": file}}}}


def test_an_archive_on_s3_is_left_to_the_step(here: Here) -> None:
    here.choose(archive="s3://bucket/nowhere.zip")
    here.resolve()


VGG = {"architecture": "vgg16", "weights": "backbone.weights.h5"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seed": "1; touch PWNED"}, "seed: "),
        ({"seed": {"a": "$(touch PWNED)"}}, "seed: "),
        ({"archive": "~/MURA.zip"}, "archive: .*`~` is not expanded"),
        ({"labels": {"overlay": "~/labels.csv"}}, "labels.overlay: .*`~` is not expanded"),
        ({"labels": {"overlay": "nowhere.csv"}}, "nowhere.csv: cannot be read"),
        ({"archive": "no where.zip"}, "no where.zip: no such archive.*mura phantom --out 'no where.zip'.*mura import"),
        ({"archive": "data/phantom.zip"}, "data/phantom.zip: no such archive"),  # no stage here draws it
        (weights("custom_cnn", "imagenet"), "candidates.wide: weights imagenet: custom_cnn has no pretrained"),
        (weights("custom_cnn", "a.h5"), "candidates.wide: weights a.h5: custom_cnn has no pretrained"),
        (weights("vgg16", "nowhere.h5"), "train.candidates.wide: no weights file nowhere.h5; expected none, imagenet"),
        (weights("vgg16", "."), "train.candidates.wide: no weights file .; expected none, imagenet"),
        ({"train": {"default": {}, "candidates": {"a; touch PWNED": {}}}}, "train.candidates.a; touch PWNED"),
        ({"train": {"default": {}, "candidates": {"../up": {}}}}, "train.candidates.../up"),
        ({"train": {"default": {}, "candidates": {7: {}}}}, "train.candidates"),
        ({"shard": {"image_size": 8, "images_per_shard": 1}}, "shard.image_size"),
    ],
)
def test_wrong_choices_are_told_before_anything_runs(
    here: Here, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], reason: str
) -> None:
    here.choose(**changes)
    assert main.run(["settings", "--out", "settings"]) == 2
    told = capsys.readouterr().err
    assert re.search(reason, told), told
    assert told.count("\n") == 1
    assert not here.settings.exists()


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Any]]:
    """Settings, and an artifact of each kind with the record that its step leaves."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("made")
        patch.chdir(folder)
        use_cores(1, patch)
        here = Here(folder)
        texts = here.resolve()
        first = manifest(folder / NAME, folder / "manifest")
        valid = prove(first, folder / "valid_manifest")
        shards = pack(folder / NAME, valid, folder / "shards")
        yield {"here": here, "texts": texts, "manifest": first, "valid_manifest": valid, "shards": shards}


@pytest.fixture
def artifacts(
    made: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
) -> dict[str, Artifact[Any]]:
    monkeypatch.chdir(made["here"].path)
    for name, text in made["texts"].items():
        (made["here"].settings / name).parent.mkdir(parents=True, exist_ok=True)
        (made["here"].settings / name).write_text(text)
    model = make_model("custom_cnn", **chosen(made, "train", "params", "seed"))
    evaluation = make_evaluation(model)
    facts = evaluation.facts.model_copy(update=chosen(made, "evaluate", "params", "protocol", "seed"))
    evaluation = Evaluation.seal(evaluation.path, facts)
    version = RegisteredModel(
        model="mura", version=1, run_id="r", candidate="custom_cnn", architecture="custom_cnn",
        model_digest=model.digest, evaluation_digest=evaluation.digest, data_digest="c", code_revision=COMMIT,
        training_seconds=1.0, scores=make_scores(),
    )  # fmt: skip
    folder = made["here"].path / "registration"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "custom_cnn.json").write_text("{}")
    registration = Registration.seal(folder, RegistrationFacts(versions=(version,)))
    found = {name: each for name, each in made.items() if isinstance(each, Artifact)}
    found |= {"model": model, "evaluation": evaluation, "registration": registration}
    for each in found.values():
        one = "custom_cnn" if each.STEP in settings.BY_CANDIDATE else None
        settings.record(settings.read(made["here"].settings, each.STEP, one), each.path, each)
    return found


def chosen(made: dict[str, Any], step: str, *names: str) -> dict[str, Any]:
    """What the settings of a step say."""
    inputs = settings.read(made["here"].settings, step, "custom_cnn").inputs
    return {name: inputs[name] for name in names}


INPUTS = {
    "validate": ["manifest"],
    "shard": ["valid_manifest"],
    "train": ["shards"],
    "evaluate": ["valid_manifest", "shards", "model"],
    "stress": ["shards", "model", "evaluation"],
    "register": ["model", "evaluation"],
    "promote": ["registration"],
}


def words(step: str, artifacts: dict[str, Artifact[Any]], out: str = "out") -> list[str]:
    """The command of a stage."""
    flags = {"valid_manifest": "--manifest"}
    given = [word for name in INPUTS.get(step, ()) for word in (flags.get(name, f"--{name}"), artifacts[name].path)]
    one = ["--candidate", "custom_cnn"] if step in settings.BY_CANDIDATE else []
    return [str(word) for word in [step, "--settings", "settings", *one, *given, "--out", out]]


def test_every_artifact_that_a_step_reads_is_tried() -> None:
    for step in EVERY:
        read = [each for each in steps.inputs_of(steps.step_function(step)) if each.is_artifact and not each.optional]
        assert len(read) == len(INPUTS.get(step, ()))


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def edit(record: Path) -> None:
        document = json.loads(record.read_text())
        change(document)
        record.write_text(json.dumps(document))

    return edit


def of_params(document: dict[str, Any]) -> None:
    name, value = next(iter(document["settings"]["inputs"]["params"].items()))
    document["settings"]["inputs"]["params"][name] = f"not {value}"


OTHERWISE: dict[str, tuple[Callable[[Path], object], str]] = {
    "other parameters": (edited(of_params), "made with .*, not "),
    "another value": (edited(lambda d: d["settings"]["inputs"].update(seed=99)), "made with seed 99, not "),
    "another archive": (edited(lambda d: d["settings"]["inputs"].update(archive="b")), "made with archive 'b', not "),
    "other code": (edited(lambda d: d["settings"].update(code="0" * 64)), "made with other code than"),
    "another artifact": (edited(lambda d: d.update(digest="0" * 64)), "expected what .* made, digest 0000"),
    "no record": (Path.unlink, "says how it was made, is missing"),
    "a broken record": (lambda record: record.write_text("{"), "not the record of an artifact"),
}


def every_pair() -> Iterator[Any]:
    """Each input of each step made otherwise in each way; in the quick tests each input and each way at least once."""
    places = [(step, name) for step, names in INPUTS.items() for name in names]
    for number, place in enumerate(places):
        for way, otherwise in enumerate(OTHERWISE):
            quick = (number + way) % len(OTHERWISE) == 0
            yield pytest.param(*place, otherwise, marks=[] if quick else pytest.mark.long)


@pytest.mark.parametrize(("step", "name", "otherwise"), list(every_pair()))
def test_a_step_refuses_what_was_not_made_as_the_run_says(
    artifacts: dict[str, Artifact[Any]], capsys: pytest.CaptureFixture[str], step: str, name: str, otherwise: str
) -> None:
    change, reason = OTHERWISE[otherwise]
    place = artifacts[name].path
    change(place.with_name(f"{place.name}.made.json"))
    assert main.run(words(step, artifacts)) == 3
    told = capsys.readouterr().err.splitlines()[-1]
    stage = artifacts[name].STEP + ("@custom_cnn" if artifacts[name].STEP in settings.BY_CANDIDATE else "")
    assert re.search(reason, told), told
    assert f"dvc repro --force --single-item {stage}`" in told
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("evaluation", {"protocol": {"min_auroc": 0.0}}, "protocol.min_auroc"),
        ("evaluation", {"protocol": {"new": 1}}, "protocol.new"),
        ("evaluation", {"params": {"batch_size": 7}}, "params.batch_size"),
        ("evaluation", {"seed": 77}, "seed"),
        ("model", {"params": {"epochs": 99}}, "params.epochs"),
        ("model", {"seed": 77}, "seed"),
    ],
)
def test_a_card_that_tells_of_other_choices_than_the_run_is_refused_though_its_digest_is_right(
    artifacts: dict[str, Artifact[Any]],
    capsys: pytest.CaptureFixture[str],
    name: str,
    change: dict[str, Any],
    told: str,
) -> None:
    artifact, step = artifacts[name], "register"
    said = {
        key: getattr(artifact.facts, key) | value if isinstance(value, dict) else value for key, value in change.items()
    }
    sealed = type(artifact).seal(artifact.path, artifact.facts.model_copy(update=said))
    settings.record(settings.read(Path("settings"), artifact.STEP, "custom_cnn"), artifact.path, sealed)
    assert main.run(words(step, artifacts)) == 3
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"{artifact.path}: its card says other {told} than settings/" in line
    assert not Path("out").exists()


@pytest.mark.parametrize("step", EVERY)
def test_a_step_refuses_to_run_with_other_code_than_the_run_began_with(
    artifacts: dict[str, Artifact[Any]], capsys: pytest.CaptureFixture[str], step: str
) -> None:
    file = settings.file_of(Path("settings"), step, "custom_cnn")
    file.write_text(file.read_text().replace(code.digest(f"components.{step}"), "0" * 64))
    assert main.run(words(step, artifacts)) == 3
    assert f"The code of {step}" in (told := capsys.readouterr().err)
    assert "changed since this run began. Run `dvc repro` again." in told


@pytest.mark.parametrize("step", EVERY)
def test_a_step_takes_no_choice_besides_its_settings(
    artifacts: dict[str, Artifact[Any]], capsys: pytest.CaptureFixture[str], step: str
) -> None:
    for each in steps.inputs_of(steps.step_function(step)):
        if not each.is_artifact:
            assert main.run([*words(step, artifacts), each.flag, "1"]) == 2
            assert f"{each.flag} is in --settings: leave one of them out" in capsys.readouterr().err


@pytest.mark.parametrize("step", EVERY)
def test_without_settings_a_step_says_what_writes_them(
    artifacts: dict[str, Artifact[Any]], capsys: pytest.CaptureFixture[str], step: str
) -> None:
    shutil.rmtree("settings")
    assert main.run(words(step, artifacts)) == 2
    assert "`dvc repro`, or `mura settings`, writes it" in capsys.readouterr().err


def test_a_step_takes_what_the_run_began_with(here: Here) -> None:
    here.resolve()
    here.choose(seed=7, ingest={"tuning_fraction": 0.4}, archive="other.zip", labels={"overlay": "other.csv"})
    assert main.run(["ingest", "--settings", "settings", "--out", str(here.path / "made" / ".." / "manifest")]) == 0
    assert main.run(["shard", "--settings", "settings", "--manifest", "manifest", "--out", "shards"]) == 2
    expected = manifest(here.path / NAME, here.path / "expected", fraction=0.25, seed=1)
    assert Manifest.read(here.path / "manifest").digest == expected.digest
    record = json.loads((here.path / "manifest.made.json").read_text())
    assert record == {"digest": expected.digest, "settings": json.loads((here.settings / "ingest.json").read_text())}
    assert not (here.path / "PWNED").exists()


def test_the_record_is_written_before_another_process_may_write_the_result(here: Here) -> None:
    """Else the record of one could come to lie beside the result of the other."""
    here.resolve()
    out, held, watching = here.path / "manifest", [], True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event == "os.rename" and str(arguments[1]).endswith("manifest.made.json"):
            with (here.path / f".{out.name}.lock").open() as lock, pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held.append(out)

    sys.addaudithook(hook)
    assert main.run(["ingest", "--settings", "settings", "--out", "manifest"]) == 0
    watching = False
    assert held == [out]


def test_two_do_not_write_settings_at_once(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    before = here.resolve()
    here.choose(seed=7)
    with alone(here.settings):
        assert main.run(["settings", "--out", "settings"]) == 2
    assert "settings: another process is writing it" in capsys.readouterr().err
    assert before == {name: (here.settings / name).read_text() for name in before}


def test_an_overlay_that_changed_since_the_run_began_is_refused(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    here.resolve()
    (here.path / "-over lay.csv").write_text(OPINION.format("train/XR_WRIST/patient00001/study1_negative", 0, 1))
    assert main.run(["ingest", "--settings", "settings", "--out", "manifest"]) == 3
    assert "-over lay.csv: changed since this run began" in capsys.readouterr().err


def test_settings_that_change_while_a_step_runs_end_it(here: Here) -> None:
    here.resolve()
    command = [MURA, "ingest", "--settings", "settings", "--out", "manifest"]
    # On one core no worker process is started.
    one_core = partial(os.sched_setaffinity, 0, {min(os.sched_getaffinity(0))})
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=one_core) as step:
        while not (here.path / ".manifest.partial").exists() and step.poll() is None:
            time.sleep(0.01)
        here.choose(seed=7)
        here.resolve()
        told = step.communicate()[1]
    assert step.returncode == 3
    assert "ingest.json: changed while ingest ran. Run `dvc repro` again." in told
    assert not (here.path / "manifest").exists()


def test_a_step_of_each_candidate_must_be_told_which(
    artifacts: dict[str, Artifact[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    for step in set(settings.BY_CANDIDATE) & set(EVERY):
        given = [word for word in words(step, artifacts) if word not in ("--candidate", "custom_cnn")]
        assert main.run(given) == 2
        assert "--settings needs --candidate NAME" in capsys.readouterr().err
        for other in ("wide", "../ingest", "$(touch PWNED)"):
            assert main.run([*given, "--candidate", other]) == 2
            assert f"no candidate {other}; there are custom_cnn" in capsys.readouterr().err


def test_the_drawn_archive_has_settings_too(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    here.resolve()
    words = ["phantom", "--settings", "settings", "--out", "drawn.zip"]
    for flag in ("--studies", "--seed", "--difficulty"):
        assert main.run([*words, flag, "1" if flag != "--studies" else "20"]) == 2
        assert f"{flag} is in --settings: leave one of them out" in capsys.readouterr().err
    file = here.settings / "phantom.json"
    file.write_text(file.read_text().replace(code.digest(settings.PHANTOM_MODULE), "0" * 64))
    assert main.run(words) == 3
    assert "The code of phantom changed since this run began. Run `dvc repro` again." in capsys.readouterr().err
    assert not Path("drawn.zip").exists()
