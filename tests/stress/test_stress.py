"""`stress` measures the tuning studies with disturbed pictures, at the threshold of the evaluation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from html_page import Page, check_page
from miniature import archive, images, manifest, pack, prove, use_cores, write_zip

from components.artifacts.artifact import Artifact
from components.artifacts.evaluation import Evaluation
from components.artifacts.shards import Shards
from components.artifacts.stress import Stress
from components.artifacts.trained_model import WEIGHTS, TrainedModel
from components.base.errors import DataRefused
from components.params.stress import StressParams
from components.params.train import TrainParams
from components.stress import stress

DEMO = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
PARAMS = StressParams(
    candidates=(), rotation=(90, 10), brightness=(), contrast=(), jpeg=(90, 10), crop=(), inversion=(1.0,), noise=(),
    batch_size=7,
)  # fmt: skip


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    folder = tmp_path_factory.mktemp("packed")
    with pytest.MonkeyPatch.context() as patch:
        use_cores(1, patch)
        path = write_zip(folder / "MURA-v1.1.zip", archive(images(train=56, valid=7)))
        return pack(path, prove(manifest(path, folder / "manifest"), folder / "valid"), folder / "shards")


@pytest.fixture
def model(shards: Shards, make_model: Callable[..., TrainedModel], tmp_path: Path) -> TrainedModel:
    """A network with random weights, as the candidate `narrow`."""
    from components.network import architectures

    document = DEMO["train"]["default"] | {"candidate": "narrow", "architecture": "custom_cnn"}
    architectures.build(TrainParams(**document), 32, seed=1, augment=False).save_weights(tmp_path / WEIGHTS)
    facts = {"data_digest": shards.facts.data_digest, "shards_digest": shards.digest}
    return make_model("custom_cnn", (tmp_path / WEIGHTS).read_bytes(), candidate="narrow", params=document, **facts)


@pytest.mark.long
def test_a_stress_test_holds_what_each_disturbance_costs(
    shards: Shards, model: TrainedModel, make_evaluation: Callable[..., Evaluation], tmp_path: Path
) -> None:
    evaluation, out = make_evaluation(model), tmp_path / "out"
    out.mkdir()
    made = stress(shards, model, evaluation, PARAMS, 1, out)
    facts = made.facts
    trials = [(each.name, each.strength) for each in facts.disturbed]
    assert trials == [("rotation", 10), ("rotation", 90), ("jpeg", 90), ("jpeg", 10), ("inversion", 1)]
    assert facts.n_studies == shards.facts.splits["tuning"].studies
    assert facts.tuning_digest == shards.facts.splits["tuning"].digest
    assert facts.threshold == evaluation.facts.scores.threshold
    for each in facts.disturbed:
        assert each.auroc_drop.value == pytest.approx((facts.auroc or 0) - (each.auroc or 0))
    told = json.loads((out / "stress.json").read_text())
    assert told["undisturbed"]["auroc"] == facts.auroc
    assert [each["name"] for each in told["disturbed"]] == [name for name, _ in trials]
    assert Stress.read(out).digest == made.digest
    check_page(html := made.report.read_text())
    assert len(html) < 400_000
    words = Page(html).words
    assert "Stress test of narrow (custom CNN) on the tuning split" in words
    for label in ("Rotation 90°", "JPEG quality 10", "Inversion 100% of pictures"):
        assert words.count(label) >= 2  # in the table, and below an example
    assert "Noise" not in words
    # Five tuning patients of each class are too few.
    assert "Too few patients for intervals" in words


def wrong(shards: Shards, model: TrainedModel, make_model: Any, make_evaluation: Any) -> dict[str, Any]:
    size = make_model(data_digest=shards.facts.data_digest, image_size=64)
    other = make_model(data_digest=shards.facts.data_digest, shards_digest=shards.digest)
    return {
        "a model trained on the data of": (foreign := make_model(), make_evaluation(foreign)),
        "a model for the image size of": (size, make_evaluation(size)),
        "an evaluation on": (
            model,
            make_evaluation(make_model(data_digest=shards.facts.data_digest, shards_digest="0" * 64)),
        ),
        "the evaluation of": (model, make_evaluation(other)),
    }


@pytest.mark.long
@pytest.mark.parametrize(
    "reason",
    ["a model trained on the data of", "a model for the image size of", "an evaluation on", "the evaluation of"],
)
def test_what_does_not_belong_together_is_refused(
    shards: Shards,
    model: TrainedModel,
    make_model: Callable[..., TrainedModel],
    make_evaluation: Callable[..., Evaluation],
    tmp_path: Path,
    reason: str,
) -> None:
    found: tuple[Artifact[Any], ...] = wrong(shards, model, make_model, make_evaluation)[reason]
    with pytest.raises(DataRefused, match=f"expected {reason} "):
        stress(shards, *found, PARAMS, 1, tmp_path)  # type: ignore[call-arg, arg-type]
