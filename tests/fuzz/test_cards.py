"""Cards, records of how a result was made, receipts, and parameters by value: whatever they say, the reader refuses
them in one line, or does what they mean."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import pytest
from conftest import around, make_scores
from fuzz_outcome import assert_one_line, assert_short_list, fuzz, mura, mutated
from miniature import archive, manifest, pack, prove, use_cores, write_zip

from components.artifacts.artifact import Artifact
from components.artifacts.evaluation import Evaluation
from components.artifacts.manifest import Manifest, ValidManifest
from components.artifacts.parts import ManifestPart, ShardsPart
from components.artifacts.promotion import Decision, Promotion, PromotionFacts
from components.artifacts.registration import RegisteredModel, Registration, RegistrationFacts
from components.artifacts.shards import Shards
from components.artifacts.stress import DROPS, REPORT, Disturbed, Stress, StressFacts
from components.artifacts.trained_model import TrainedModel
from components.base.errors import ExitCode, MuraError, printable
from components.base.files import json_sha256
from components.params.document import read_params, section

pytestmark = pytest.mark.long

STRANGE: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    10**30,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "\x1b[2J",
    "[bold]",
    "<!channel>",
    "../../x",
    "a" * 100_000,
    [],
    [[]] * 1000,
    {},
    {"a": {"b": 1}},
)
PART = ("--part", "1/1", "--out")
SHARD = {"image_size": 32, "images_per_shard": 10}
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an archive and what is made of it."""
    data = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(data):
        use_cores(1, patch)
        path = write_zip(data / "MURA-v1.1.zip", archive())
        pack(path, prove(manifest(path, data / "Manifest"), data / "ValidManifest"), data / "Shards")
        fraction = ("--params", '{"tuning_fraction": 0.25}')
        assert mura("ingest", "--archive", path, "--seed", "1", *fraction, *PART, "ManifestPart").code == 0
        shard = ("--manifest", "ValidManifest", "--params", json.dumps(SHARD))
        assert mura("shard", "--archive", path, *shard, *PART, "ShardsPart").code == 0
    return data


@pytest.fixture
def place(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    data: Path,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
) -> Path:
    """A directory with an artifact of each kind, in which one stands. MLflow is not asked."""
    use_cores(1, monkeypatch)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none/mlflow.db")
    place = tmp_path / "place"
    shutil.copytree(data, place)
    monkeypatch.chdir(place)
    model = make_model()
    evaluation = make_evaluation(model)
    version = RegisteredModel(
        model="mura",
        version=1,
        run_id="0" * 32,
        candidate="vgg16",
        architecture="vgg16",
        model_digest=model.digest,
        evaluation_digest=evaluation.digest,
        data_digest="da" * 32,
        code_revision="0" * 40,
        training_seconds=1.0,
        scores=make_scores(),
    )
    evaluation.path.rename(place / "Evaluation")
    model.path.rename(place / "TrainedModel")
    (place / "Registration").mkdir()
    Registration.seal(place / "Registration", RegistrationFacts(versions=(version,)))
    decision = Decision(outcome="promoted", reasons=("It is better.",))
    receipt = PromotionFacts(
        alias="champion", decision=decision, challenger=version, previous=None, current=version, candidates=(version,)
    )
    (place / "Promotion").mkdir()
    Promotion.seal(place / "Promotion", receipt)
    (place / "Stress").mkdir()
    (place / "Stress" / DROPS).write_text("{}")
    (place / "Stress" / REPORT).write_text("<p>report</p>")
    Stress.seal(place / "Stress", stressed(model, evaluation))
    return place


def stressed(model: TrainedModel, evaluation: Evaluation) -> StressFacts:
    """What two disturbances cost a model."""
    strengths = (("rotation", 5.0), ("inversion", 1.0))
    drop = {"auroc": 0.7, "cohen_kappa": None, "auroc_drop": around(0.1), "cohen_kappa_drop": around(0.2)}
    return StressFacts(
        candidate="vgg16",
        architecture="vgg16",
        model_digest=model.digest,
        shards_digest="5a" * 32,
        evaluation_digest=evaluation.digest,
        tuning_digest="71" * 32,
        code_revision="0" * 40,
        params={"rotation": [5], "inversion": [1]},
        seed=1,
        threshold=0.5,
        n_studies=100,
        n_abnormal=50,
        n_patients=90,
        auroc=0.8,
        cohen_kappa=0.6,
        disturbed=tuple(Disturbed(name=name, strength=strength, **drop) for name, strength in strengths),
    )


KINDS: tuple[type[Artifact[Any]], ...] = (
    Manifest,
    ValidManifest,
    Shards,
    ManifestPart,
    ShardsPart,
    TrainedModel,
    Evaluation,
    Registration,
    Promotion,
    Stress,
)


def test_a_damaged_card_is_refused(place: Path) -> None:
    def once(draw: Random) -> None:
        kind = draw.choice(KINDS)
        card = place / kind.__name__ / kind.CARD
        whole = card.read_bytes()
        harmed = mutated(whole, draw)
        card.write_bytes(harmed)
        try:
            refusal = read(kind, card.parent)
        finally:
            card.write_bytes(whole)
        if harmed == whole:
            assert refusal is None
        else:
            assert refusal is not None
            assert_one_line(str(refusal))
            assert str(card.parent) in str(refusal)
            assert refusal.exit_code in (ExitCode.USAGE, ExitCode.DATA)

    fuzz(once, place, place)


def test_a_card_that_says_something_strange_under_a_true_checksum_is_refused_or_read(
    place: Path, tmp_path: Path
) -> None:
    (place / "out").mkdir()
    for words in (words for several in READERS.values() for words in several):
        assert mura(*words).code == ExitCode.DONE  # and their libraries are imported

    def once(draw: Random) -> None:
        kind = draw.choice(KINDS)
        card = place / kind.__name__ / kind.CARD
        whole, status = card.read_bytes(), card.stat()
        try:
            forge(card, draw)
            if (refusal := read(kind, card.parent)) is not None:
                assert_one_line(printable(str(refusal)))
            for words in READERS.get(kind, ()):
                assert_short_list_of_lines(mura(*words))
        finally:
            card.write_bytes(whole)
            os.utime(card, ns=(status.st_atime_ns, status.st_mtime_ns))

    fuzz(once, tmp_path, place / "out")


READERS: dict[type[Artifact[Any]], tuple[tuple[str, ...], ...]] = {
    Shards: (
        ("shards", "verify", "Shards"),
        ("shards", "show", "Shards", "--sheet", "out/sheet.png"),
    ),
    ManifestPart: (("merge", "ManifestPart", "--archive", "MURA-v1.1.zip", "--out", "out/merged"),),
    ShardsPart: (("merge", "ShardsPart", "--out", "out/shards"),),
}
"""Commands that read an artifact and need no server."""


def read(kind: type[Artifact[Any]], path: Path) -> MuraError | None:
    """The refusal of an artifact; None if it is read."""
    try:
        kind.read(path)
    except MuraError as error:
        return error
    return None


def forge(card: Path, draw: Random) -> None:
    """Put something strange in some places of a card, and write its checksum anew."""
    document = json.loads(card.read_text())
    for _ in range(draw.randint(1, 3)):
        places = list(_places(document["facts"] if draw.random() < 0.8 else document))
        if places:  # everything may be gone by now
            holder, key = draw.choice(places)
            holder[key] = deepcopy(draw.choice((*STRANGE, holder[key])))
    document["checksum"] = json_sha256({key: value for key, value in document.items() if key != "checksum"})
    card.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _places(value: Any) -> Any:
    """Every entry at every depth: its holder and key."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def assert_short_list_of_lines(came: Any) -> None:
    """As `assert_short_list` where a command may print more than its error."""
    last = came.told.strip().splitlines()[-1:] or [""]
    assert_short_list(came._replace(told=last[0]))


@pytest.mark.parametrize("step", ["ingest", "validate", "shard", "train.custom_cnn", "evaluate", "register", "promote"])
def test_parameters_by_value_are_parsed_or_refused(place: Path, step: str) -> None:
    name = step.partition(".")[0]
    whole = section(read_params(ROOT / "params.yaml"), step, ROOT / "params.yaml").model_dump(mode="json")
    inputs = {
        "ingest": ("--archive", "MURA-v1.1.zip", "--seed", "1"),
        "validate": ("--archive", "MURA-v1.1.zip", "--manifest", "Manifest"),
        "shard": ("--archive", "MURA-v1.1.zip", "--manifest", "ValidManifest"),
        "train": ("--shards", "Shards", "--seed", "1"),
        "evaluate": ("--manifest", "ValidManifest", "--shards", "Shards", "--model", "TrainedModel", "--seed", "1"),
        "register": ("--model", "TrainedModel", "--evaluation", "Evaluation"),
        "promote": ("--registration", "Registration"),
    }
    # What holds something else is not replaced: the step is refused after its parameters are read, before it works.
    (place / "taken").mkdir()
    (place / "taken" / "letter.txt").write_text("keep me")

    def once(draw: Random) -> None:
        text = json.dumps(strange(whole, draw))
        if draw.random() < 0.5:
            text = mutated(text.encode(), draw).decode(errors="replace").replace("\0", "0")
        came = mura(name, *inputs[name], "--params", text, "--out", "taken")
        assert_short_list(came)
        assert came.code != ExitCode.DONE

    fuzz(once, place)


def strange(document: dict[str, Any], draw: Random) -> dict[str, Any]:
    """The same with something strange in one place."""
    changed = json.loads(json.dumps(document))
    holder, key = draw.choice(list(_places(changed)))
    holder[key] = deepcopy(draw.choice(STRANGE))
    return changed


def test_a_record_of_how_a_result_was_made_is_believed_only_as_it_was_written(place: Path) -> None:
    params = (ROOT / "params.yaml").read_text().replace("data/phantom.zip", "MURA-v1.1.zip")
    (place / "params.yaml").write_text(params.replace("data/overlay.csv", "overlay.csv"))
    (place / "overlay.csv").write_text("study,old,new,source,reason\n")
    assert mura("settings", "--out", "settings").code == 0
    assert mura("ingest", "--settings", "settings", "--out", "made").code == 0
    record = place / "made.made.json"
    whole = record.read_bytes()
    (place / "taken").mkdir()
    (place / "taken" / "letter.txt").write_text("keep me")

    def once(draw: Random) -> None:
        harmed = mutated(whole, draw)
        record.write_bytes(harmed)
        came = mura("validate", "--settings", "settings", "--manifest", "made", "--out", "taken")
        assert_short_list(came)
        assert ("made.made.json" in came.told or "made:" in came.told) == (harmed != whole), came

    fuzz(once, place, place)
    record.write_bytes(whole)
