"""An ensemble is the mean of its members' calibrated logits, and a model like any other."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import MEASURED_WITH
from html_page import Page, check_page
from miniature import archive, images, manifest, pack, prove, use_cores, write_zip
from numpy.typing import NDArray

from components.artifacts.evaluation import Evaluation
from components.artifacts.manifest import ValidManifest
from components.artifacts.shards import Shards
from components.artifacts.trained_model import WEIGHTS, Offsets, TrainedModel
from components.base.errors import DataRefused, UsageError
from components.ensemble import ensemble
from components.evaluate import evaluate
from components.network import batches
from components.params.ensemble import EnsembleParams
from components.params.evaluate import EvaluateParams
from components.params.protocol import ProtocolParams
from components.params.stress import StressParams
from components.params.train import TrainParams
from components.scores.studies import StudyLogits, auroc, sigmoid
from components.stress import stress

DEMO = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 1), dtype=np.uint8)
OFFSETS = (
    Offsets(body_part={"wrist": 0.4, "hand": -0.2}, pooled=0.1),
    Offsets(body_part={"wrist": 0.2}, pooled=0.3),
)

Member = Callable[..., TrainedModel]
Evaluated = Callable[..., Evaluation]
Given = tuple[list[TrainedModel], list[Evaluation]]


def params(members: Any = "all", flips: bool = True) -> EnsembleParams:
    return EnsembleParams(candidate="both", members=members, flips=flips)


@pytest.fixture
def member(make_model: Member, tmp_path: Path) -> Member:
    """Seals a small network with random weights: `member("one", seed=1)`."""
    from components.network import architectures

    def make(name: str, seed: int = 1, **facts: Any) -> TrainedModel:
        document = DEMO["train"]["default"] | {"candidate": name, "architecture": "custom_cnn", "width": 4}
        # Weights of a training, not of a beginning: batch normalisation has seen pictures.
        network = architectures.build(TrainParams(**document), 32, seed=seed, augment=False)
        network.get_layer("logit").bias.assign([seed / 2])
        network.save_weights(tmp_path / WEIGHTS)
        known = {"candidate": name, "params": document, "seed": seed, "parameters": network.count_params()}
        return make_model("custom_cnn", (tmp_path / WEIGHTS).read_bytes(), **known | facts)

    return make


@pytest.fixture
def given(member: Member, make_evaluation: Evaluated) -> Given:
    """Two members, whose evaluations give them different lines."""
    models = [member("one", 1, offsets=OFFSETS[0], seconds=10.0), member("two", 2, offsets=OFFSETS[1], seconds=5.0)]
    return models, [make_evaluation(model, auroc) for model, auroc in zip(models, (0.8, 0.7), strict=True)]


def made(tmp_path: Path, given: Given, chosen: EnsembleParams) -> TrainedModel:
    import keras

    # As in a process of its own: Keras counts the layers of a process, and writes their names into the file.
    keras.utils.clear_session()
    out = tmp_path / f"made-{len(list(tmp_path.glob('made-*')))}"
    out.mkdir()
    return ensemble(*given, chosen, out)


def answers(model: TrainedModel, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    from components.network import architectures

    return np.asarray(architectures.load(model).predict_on_batch(pixels))


def by_hand(given: Given, seen: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """The mean of a + b z over the members and over what each sees."""
    lines = [evaluation.facts.calibration for evaluation in given[1]]
    return np.mean(
        [
            line.intercept + line.slope * answers(model, pixels).astype(np.float64)
            for model, line in zip(given[0], lines, strict=True)
            for pixels in seen
        ],
        axis=0,
    )


@pytest.mark.long
def test_the_logit_is_the_mean_over_members_and_flips(tmp_path: Path, given: Given) -> None:
    lines = [evaluation.facts.calibration for evaluation in given[1]]
    assert lines[0].slope > lines[1].slope > 0
    mirrored = PIXELS[:, :, ::-1]
    for flips, seen in ((True, [PIXELS, mirrored]), (False, [PIXELS])):
        model = made(tmp_path, given, params(flips=flips))
        found = answers(model, PIXELS)
        assert found.shape == (4, 1)
        np.testing.assert_allclose(found, by_hand(given, seen), atol=1e-5)
        difference = np.abs(answers(model, mirrored) - found).max()
        assert (difference < 1e-5) == flips


@pytest.mark.long
def test_the_card_says_what_it_was_made_of(tmp_path: Path, given: Given) -> None:
    model = made(tmp_path, given, params())
    facts = model.facts
    assert (facts.candidate, facts.architecture, facts.params["flips"]) == ("both", "ensemble", True)
    assert [(each.candidate, each.seed, each.model_digest, each.evaluation_digest) for each in facts.members] == [
        (one.facts.candidate, one.facts.seed, one.digest, evaluation.digest)
        for one, evaluation in zip(*given, strict=True)
    ]
    line = given[1][1].facts.calibration
    assert (facts.members[1].intercept, facts.members[1].slope) == (line.intercept, line.slope)
    # A member has its pooled offset for a body part that did not train it.
    assert facts.offsets.body_part == pytest.approx({"wrist": 0.3, "hand": 0.05})
    assert facts.offsets.pooled == pytest.approx(0.2)
    assert facts.parameters == sum(each.facts.parameters for each in given[0])
    assert (facts.seed, facts.epochs, facts.tuning, facts.seconds) == (None, 0, {}, 15.0)
    assert {path.name for path in model.path.iterdir()} == {"card.json", WEIGHTS}
    assert (model.step, given[0][0].step) == ("ensemble", "train")
    # Read again it is the same, and so is one that is made again, whatever order things are given in.
    assert TrainedModel.read(model.path).digest == model.digest
    assert made(tmp_path, given, params()).digest == model.digest
    turned: Given = (given[0][::-1], given[1])
    assert made(tmp_path, turned, params(("one", "two"))).facts.members == facts.members
    assert made(tmp_path, given, params(flips=False)).digest != model.digest


@pytest.mark.long
def test_a_candidate_that_ranks_backwards_is_left_out(
    tmp_path: Path, member: Member, make_evaluation: Evaluated, caplog: pytest.LogCaptureFixture
) -> None:
    models = [member("one", 1), member("wrong", 3)]
    given = models, [make_evaluation(models[0], 0.8), make_evaluation(models[1], 0.2)]
    assert given[1][1].facts.calibration.slope == 0
    with caplog.at_level(logging.WARNING):
        model = made(tmp_path, given, params())
    assert "wrong left out: on tuning it ranks backwards" in caplog.text
    assert [each.candidate for each in model.facts.members] == ["one"]
    (left_out,) = model.facts.left_out
    assert (left_out.candidate, left_out.slope, left_out.model_digest) == ("wrong", 0, models[1].digest)
    alone = by_hand((given[0][:1], given[1][:1]), [PIXELS, PIXELS[:, :, ::-1]])
    np.testing.assert_allclose(answers(model, PIXELS), alone, atol=1e-5)
    both_wrong = models, [make_evaluation(each, 0.2) for each in models]
    with pytest.raises(DataRefused, match="one and wrong rank backwards on tuning, or not at all"):
        made(tmp_path, both_wrong, params())


@pytest.mark.long
@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"data_digest": "00" * 32}, "the data of one"),
        ({"shards_digest": "00" * 32}, "the shards of one"),
        ({"image_size": 64}, "the image size of one, 32, got 64"),
    ],
)
def test_members_that_saw_something_else_are_refused_by_name(
    tmp_path: Path, make_model: Member, make_evaluation: Evaluated, facts: dict[str, Any], what: str
) -> None:
    models = [make_model(candidate="one"), make_model(candidate="two", **facts)]
    with pytest.raises(DataRefused, match=f"expected two to be of {what}"):
        made(tmp_path, (models, [make_evaluation(each) for each in models]), params())


@pytest.mark.long
def test_what_is_missing_or_too_many_is_named(tmp_path: Path, make_model: Member, make_evaluation: Evaluated) -> None:
    models = [make_model(candidate=name) for name in ("one", "two", "three")]
    evaluations = [make_evaluation(each) for each in models]
    for given, members, reason in (
        ((models[:2], evaluations[:2]), ("one", "two", "four"), "got none of four"),
        ((models, evaluations), ("one", "two"), "each once, got three"),
        (([*models, models[0]], evaluations), "all", "each once, got 2 of one"),
        ((models[:1], evaluations[:1]), "all", "at least two members, got 1 model"),
        ((models, evaluations[:2]), "all", "has no evaluation among those given"),
        ((models[:2], evaluations), "all", "of a model that is not among those given"),
    ):
        with pytest.raises(UsageError, match=reason):
            made(tmp_path, given, params(members))


@pytest.mark.long
def test_a_damaged_file_is_refused(tmp_path: Path, given: Given) -> None:
    from components.network import architectures

    model = made(tmp_path, given, params())
    content = model.weights.read_bytes()
    model.weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataRefused, match=rf"{WEIGHTS}: changed since .* Run `mura ensemble` again"):
        TrainedModel.read(model.path)
    # Weights of something else, on a card that would fit.
    model.weights.write_bytes(given[0][0].weights.read_bytes())
    with pytest.raises(DataRefused, match="not the weights of ensemble"):
        architectures.load(model)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[ValidManifest, Shards]:
    folder = tmp_path_factory.mktemp("packed")
    with pytest.MonkeyPatch.context() as patch:
        use_cores(1, patch)
        path = write_zip(folder / "MURA-v1.1.zip", archive(images(train=56, valid=28)))
        valid = prove(manifest(path, folder / "manifest", seed=1), folder / "valid")
        return valid, pack(path, valid, folder / "shards")


@pytest.mark.longest
def test_it_is_measured_as_any_other_model_and_single_networks_may_flip_too(
    tmp_path: Path, packed: tuple[ValidManifest, Shards], member: Member, make_evaluation: Evaluated
) -> None:
    shards = packed[1]
    data = {"data_digest": shards.facts.data_digest, "shards_digest": shards.digest}
    models = [member("one", 1, **data), member("two", 2, **data)]
    given = models, [make_evaluation(each, 0.8) for each in models]
    both, rules = made(tmp_path, given, params()), ProtocolParams(**DEMO["protocol"])
    split = batches.read_split(shards, "tuning")
    pixels, order = np.asarray(split.pixels[np.arange(len(split))]), np.argsort(split.image)
    seen = [pixels, pixels[:, :, ::-1]]
    once, mirrored = (answers(models[0], each) for each in seen)
    # The flips of the evaluation are for single networks. An ensemble has its own choice, and flips once.
    for model, flips, expected in ((both, False, by_hand(given, seen)), (models[0], True, (once + mirrored) / 2)):
        (out := tmp_path / f"evaluated-{flips}").mkdir()
        found = evaluate(*packed, model, EvaluateParams(batch_size=8, flips=True, false_alarms=0.01), rules, 1, out)
        assert found.facts.flips == flips
        logit = pd.read_parquet(out / "predictions.parquet").query("split == 'tuning'")["logit"]
        np.testing.assert_allclose(logit, np.asarray(expected)[order, 0], atol=1e-5)
        check_page(html := found.report.read_text())
        words = Page(html).words
        assert ("the mean of those of the image and its mirror image; whoever uses" in words) == flips
        assert ("This model is an ensemble of 2 networks and was not trained itself." in words) != flips
        for other in ("What the network used", "How it was trained", "Seed training"):
            assert (other in words) == flips


@pytest.mark.longest
@pytest.mark.parametrize("flips", [False, True])
def test_it_is_disturbed_as_any_other_model_and_flips_are_kept(
    tmp_path: Path, packed: tuple[ValidManifest, Shards], member: Member, make_evaluation: Evaluated, flips: bool
) -> None:
    shards = packed[1]
    data = {"data_digest": shards.facts.data_digest, "shards_digest": shards.digest}
    models = [member("one", 1, **data), member("two", 2, **data)]
    given = models, [make_evaluation(each, 0.8) for each in models]
    split = batches.read_split(shards, "tuning")
    pixels = np.asarray(split.pixels[np.arange(len(split))])
    seen = [pixels, pixels[:, :, ::-1]] if flips else [pixels]
    none = dict.fromkeys(("rotation", "brightness", "contrast", "jpeg", "crop", "noise"), ())
    chosen = StressParams(candidates=(), inversion=(1.0,), batch_size=8, **none)  # type: ignore[arg-type]
    both = made(tmp_path, given, params(flips=flips))
    for model, logit in ((both, by_hand(given, seen)), (models[0], np.mean([answers(models[0], x) for x in seen], 0))):
        evaluation = make_evaluation(model, 0.8)
        facts = evaluation.facts.model_copy(update={"params": MEASURED_WITH | {"flips": flips}})
        (out := tmp_path / f"stress-{model.facts.candidate}").mkdir()
        found = stress(shards, model, Evaluation(evaluation.path, facts, evaluation.digest), chosen, 1, out)
        studies = StudyLogits.of_images(split.study, split.patient, split.body_part, split.abnormal, logit[:, 0])
        assert found.facts.auroc == pytest.approx(auroc(studies.abnormal, sigmoid(studies.logit)))


@pytest.mark.longest
def test_it_is_registered_and_loads_without_our_code(
    tmp_path: Path,
    member: Member,
    make_evaluation: Evaluated,
    mlflow_server: str,
    no_mlflow: pytest.MonkeyPatch,
) -> None:
    import mlflow.keras

    from components import tracking
    from components.params.register import RegisterParams
    from components.register import register

    no_mlflow.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    models = [member(name, seed, seconds=7.5) for seed, name in enumerate(("one", "two"), 1)]
    given = models, [make_evaluation(models[0], 0.8), make_evaluation(models[1], 0.7)]
    model = made(tmp_path, given, params())
    evaluation = make_evaluation(model, 0.8)
    versions = []
    for name in ("first", "again"):
        (out := tmp_path / name).mkdir()
        versions.append(register([model], [evaluation], RegisterParams(model="joined"), out).facts.versions)
    assert versions[0] == versions[1]
    ((version,), _) = versions
    assert (version.candidate, version.architecture, version.training_seconds) == ("both", "ensemble", 15.0)
    run = tracking.connect().get_run(version.run_id)
    assert run.data.params["members"] == "one, two"
    assert float(run.data.params["member.two.slope"]) == model.facts.members[1].slope
    assert not [name for name in run.data.metrics if name.startswith("epoch/")]
    loaded = mlflow.keras.load_model(f"models:/joined/{version.version}")
    assert "components" not in str(loaded.get_config())
    np.testing.assert_allclose(loaded.predict_on_batch(PIXELS), by_hand(given, [PIXELS, PIXELS[:, :, ::-1]]), atol=1e-5)
